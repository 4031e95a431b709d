package reply

import "mailraft/mail"

// Of mail filters (milters).
var (
	Discarded = define(Entry{Code: 250, Enhanced: "2.0.0", Text: "Ok: taken as %s", At: Message,
		When: "a filter wants the message to vanish, or has removed all its recipients: it is not kept, and the log says so. The id is the session's with a number"})
	FilterReject = define(Entry{Code: 550, Enhanced: "5.7.1", Text: "Rejected by a mail filter", At: Message,
		When: "a filter refuses without words of its own: the message, to MAIL the sender or the client, to RCPT the recipient. With words of its own, its code, enhanced code and text are given instead, from 400 to 599"})
	FilterTempfail = define(Entry{Code: 451, Enhanced: "4.7.1", Text: "A mail filter asks to try again later", At: Message,
		When: "the same, for now"})
	FilterShutdown = define(Entry{Code: 421, Enhanced: "4.7.0", Text: "A mail filter ends the session", At: Message,
		When: "a filter wants the session to end"})
	FilterAway = define(Entry{Code: 451, Enhanced: "4.7.1", Text: "A mail filter of this server does not answer, try again later", At: Message,
		When: "a filter with `when-away` tempfail could not be reached, took too long, went away in the middle, or said what cannot be; to MAIL, RCPT, DATA or the message"})
	FilterGone = define(Entry{Code: 421, Enhanced: "4.7.1", Text: "A mail filter of this server is away, try another server", At: Message,
		When: "the same, for the second time in a session, or for more than ten seconds"})
	FilterHeader = define(Entry{Code: 552, Enhanced: "5.3.4", Text: "Header is too large for the mail filters", At: Message,
		When: "a field has more than 60 KiB, or the header more than 256 KiB, and the listener has filters"})
)

// OfFilter is a reply in the words of a filter.
func OfFilter(code int, enhanced, text string) *mail.Reply {
	return &mail.Reply{Code: code, Enhanced: enhanced, Text: text}
}
