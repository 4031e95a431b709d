package reply

// Of MAIL.
var (
	SenderOk = define(Entry{Code: 250, Enhanced: "2.1.0", Text: "Sender ok", At: MailFrom, When: "a transaction begins", Library: []string{"Roger, accepting mail from <"}})
	Nested   = define(Entry{Code: 503, Enhanced: "5.5.1", Text: "Nested MAIL command", At: MailFrom, When: "a transaction is open (RFC 5321 §4.1.4)"})

	Messages = define(Entry{Code: 421, Enhanced: "4.7.0", Text: "Too many messages in one session, closing connection", At: MailFrom,
		When: "`messages-per-session` transactions were begun; the client opens another", Limit: "messages-per-session"})
	MessageRate = define(Entry{Code: 450, Enhanced: "4.7.1", Text: "Too many messages from your address, try again later", At: MailFrom,
		When: "this IPv4 address or IPv6 /64 sends messages faster than `message-rate`", Limit: "message-rate"})

	MailSyntax = define(Entry{Code: 501, Enhanced: "5.5.2", Text: "Syntax: MAIL FROM:<address> and parameters", At: MailFrom,
		When: "the command cannot be read", Library: []string{"Was expecting MAIL arg syntax of FROM:<address>"}})
	MailParameters = define(Entry{Code: 501, Enhanced: "5.5.4", Text: "Malformed parameters of MAIL", At: MailFrom,
		When: "the parameters cannot be read", Library: []string{"Unable to parse MAIL ESMTP parameters"}})
	MailUnknown = define(Entry{Code: 555, Enhanced: "5.5.4", Text: "Parameter of MAIL not recognized", At: MailFrom,
		When: "the parameter belongs to no extension that is offered", Library: []string{"500 Unknown MAIL FROM argument"}})
	MailAuth = define(Entry{Code: 501, Enhanced: "5.5.4", Text: "Malformed AUTH parameter", At: MailFrom,
		When: "AUTH= is no mailbox in xtext (RFC 4954 §5)", Library: []string{"500 Malformed AUTH parameter"}})
	SizeSyntax = define(Entry{Code: 501, Enhanced: "5.5.4", Text: "SIZE wants a number", At: MailFrom,
		When: "SIZE= is none", Library: []string{"Unable to parse SIZE as an integer"}})
	BodySyntax = define(Entry{Code: 501, Enhanced: "5.5.4", Text: "BODY wants 7BIT or 8BITMIME", At: MailFrom,
		When: "BODY= is neither (RFC 6152)", Library: []string{"Unknown BODY value"}})
	NoBinary = define(Entry{Code: 504, Enhanced: "5.6.1", Text: "BINARYMIME is not offered", At: MailFrom,
		When: "BODY=BINARYMIME (RFC 3030 §3)", Library: []string{"BINARYMIME is not implemented"}})
	NoRequireTLS = define(Entry{Code: 504, Enhanced: "5.5.4", Text: "REQUIRETLS is not offered", At: MailFrom,
		When: "REQUIRETLS (RFC 8689): refused rather than promised for every hop behind this one", Library: []string{"REQUIRETLS is not implemented"}})
	ReturnSyntax = define(Entry{Code: 501, Enhanced: "5.5.4", Text: "RET wants FULL or HDRS", At: MailFrom,
		When: "RET= is neither (RFC 3461 §4.3)", Library: []string{"Unknown RET value"}})
	EnvelopeIDLong   = define(Entry{Code: 501, Enhanced: "5.5.4", Text: "ENVID is longer than %d characters", At: MailFrom, When: "it is"})
	EnvelopeIDSyntax = define(Entry{Code: 501, Enhanced: "5.5.4", Text: "Malformed ENVID", At: MailFrom,
		When: "ENVID= is no xtext of printable characters (RFC 3461 §4.4)", Library: []string{"Malformed ENVID parameter value"}})

	Sender = define(Entry{Code: 501, Enhanced: "5.1.7", Text: "Malformed sender address", At: MailFrom,
		When: "the address cannot be read in one way only"})
	UTF8 = define(Entry{Code: 553, Enhanced: "5.6.7", Text: "Address needs SMTPUTF8, which MAIL did not ask for", At: MailFrom,
		When: "an address of MAIL or RCPT is not ASCII, and MAIL has no SMTPUTF8 (RFC 6531 §3.4)"})
)

// Of RCPT.
var (
	RecipientOk = define(Entry{Code: 250, Enhanced: "2.1.5", Text: "Recipient ok", At: RcptTo, When: "mail to it is taken", Library: []string{"I'll make sure <"}})
	NoMail      = define(Entry{Code: 503, Enhanced: "5.5.1", Text: "Send MAIL first", At: RcptTo,
		When: "no transaction is open", Library: []string{"502 Missing MAIL FROM command."}})
	RcptSyntax = define(Entry{Code: 501, Enhanced: "5.5.2", Text: "Syntax: RCPT TO:<address> and parameters", At: RcptTo,
		When: "the command cannot be read", Library: []string{"Was expecting RCPT arg syntax of TO:<address>"}})
	RcptParameters = define(Entry{Code: 501, Enhanced: "5.5.4", Text: "Malformed parameters of RCPT", At: RcptTo,
		When: "the parameters cannot be read", Library: []string{"Unable to parse RCPT ESMTP parameters"}})
	RcptUnknown = define(Entry{Code: 555, Enhanced: "5.5.4", Text: "Parameter of RCPT not recognized", At: RcptTo,
		When: "the parameter belongs to no extension that is offered", Library: []string{"500 Unknown RCPT TO argument", "504 RRVS is not implemented",
			"504 DELIVERBY is not implemented", "504 MT-PRIORITY is not implemented"}})
	OriginalLong = define(Entry{Code: 501, Enhanced: "5.5.4", Text: "ORCPT is longer than %d characters", At: RcptTo, When: "it is"})
	NotifySyntax = define(Entry{Code: 501, Enhanced: "5.5.4", Text: "Malformed NOTIFY", At: RcptTo,
		When: "NOTIFY= is neither NEVER nor a list of SUCCESS, FAILURE and DELAY (RFC 3461 §4.1)", Library: []string{"Malformed NOTIFY parameter value"}})
	OriginalSyntax = define(Entry{Code: 501, Enhanced: "5.5.4", Text: "Malformed ORCPT", At: RcptTo,
		When: "ORCPT= is no address type with an address in xtext (RFC 3461 §4.2)", Library: []string{"Malformed ORCPT parameter value"}})

	Recipient = define(Entry{Code: 501, Enhanced: "5.1.3", Text: "Malformed recipient address", At: RcptTo,
		When: "the address cannot be read in one way only"})
	Relaying = define(Entry{Code: 550, Enhanced: "5.7.1", Text: "relaying to %s is not permitted", At: RcptTo,
		When: "the domain is not the boundary's own, and the client may not relay"})
	Routed = define(Entry{Code: 550, Enhanced: "5.7.1", Text: "a route in the local part is not permitted", At: RcptTo,
		When: "the local part has %, ! or @, which the next hop of a relay domain may take for another address, and the client may not relay"})
	NoRoute = define(Entry{Code: 451, Enhanced: "4.4.4", Text: "no route to %s: the directory has no default route", At: RcptTo,
		When: "the client may relay, and nobody has said where to"})
	NoMailbox = define(Entry{Code: 550, Enhanced: "5.1.1", Text: "no mailbox of this name", At: RcptTo,
		When: "the domain is the boundary's own and has no such mailbox, alias or group"})
	Unverified = define(Entry{Code: 451, Enhanced: "4.3.2", Text: "recipients cannot be verified without contact to a quorum; try again", At: RcptTo,
		When: "this member would refuse the recipient, and cannot make sure that its directory is the present one"})
	Recipients = define(Entry{Code: 452, Enhanced: "4.5.3", Text: "Too many recipients", At: RcptTo,
		When: "the message has `recipients-max` already; the client sends it to the others in another transaction", Limit: "recipients-max"})
	RecipientRate = define(Entry{Code: 450, Enhanced: "4.7.1", Text: "Too many recipients from your address, try again later", At: RcptTo,
		When: "this IPv4 address or IPv6 /64 names recipients faster than `recipient-rate`", Limit: "recipient-rate"})
	RecipientsFar = define(Entry{Code: 421, Enhanced: "4.7.0", Text: "Far too many recipients, closing connection", At: RcptTo,
		When: "ten times `recipients-max` were asked for in one transaction", Limit: "recipients-max"})
)
