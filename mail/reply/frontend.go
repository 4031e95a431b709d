package reply

// Of a front end, and between it and a member.
var (
	NoMember = define(Entry{Code: 421, Enhanced: "4.3.2", Text: "no server of this service takes mail now; try again later", At: Connect,
		When: "no member behind this front end takes mail: to the greeting and to MAIL"})
	Drained = define(Entry{Code: 421, Enhanced: "4.3.2", Text: "this front end is being drained; try another server", At: Connect,
		When: "an operator drains the front end: to the greeting and to MAIL"})
	OtherBoundary = define(Entry{Code: 452, Enhanced: "4.5.3", Text: "mail for this recipient goes to other servers than for those before; send it in another transaction", At: RcptTo,
		When: "behind a front end, the recipient belongs to another boundary than the first one that was accepted"})
	Unasked = define(Entry{Code: 451, Enhanced: "4.4.3", Text: "not every server that could take mail for this recipient answers; try again", At: RcptTo,
		When: "behind a front end, no boundary takes the recipient, and one could not be asked"})
	Unexpected = define(Entry{Code: 451, Enhanced: "4.3.0", Text: "the server that takes the message said what was not expected; try again", At: RcptTo,
		When: "a member does not take transactions from this front end; its log says why"})
	Broke = define(Entry{Code: 451, Enhanced: "4.4.2", Text: "the connection to the server that takes the message broke; send it again", At: Message,
		When: "a front end lost the member in the middle of a transaction, or was told that the message was not accepted; also to RCPT and DATA"})

	WhoseOk = define(Entry{Code: 250, Enhanced: "2.0.0", Text: "Go on for this client", At: Other,
		When: "XCLIENT: a front end has told whose the next transaction is"})
	WhoseSyntax = define(Entry{Code: 501, Enhanced: "5.5.4", Text: "Malformed attributes of a client", At: Other,
		When: "XCLIENT: what a front end told cannot be read"})
	WhoseOrder = define(Entry{Code: 503, Enhanced: "5.5.1", Text: "A transaction is open", At: Other,
		When: "XCLIENT: the one before is not over"})
	Submission = define(Entry{Code: 250, Enhanced: "2.0.0", Text: "submission %s", At: Chunk,
		When: "to the first chunk from a front end: what it can ask by when it does not hear the answer"})
)
