package reply

// Of the connection and of every command.
var (
	Greeting = define(Entry{Code: 220, Text: "%s ESMTP Service Ready", At: Connect, When: "the session is let in"})

	Busy = define(Entry{Code: 421, Enhanced: "4.7.0", Text: "Too many connections, try again later", At: Connect,
		When: "`sessions-max` sessions are open", Limit: "sessions-max"})
	BusyYou = define(Entry{Code: 421, Enhanced: "4.7.0", Text: "Too many connections from your address, try again later", At: Connect,
		When: "`sessions-per-client` sessions are open from this IPv4 address or IPv6 /64", Limit: "sessions-per-client"})

	ConnectionRate = define(Entry{Code: 421, Enhanced: "4.7.0", Text: "Too many new connections from your address, try again later", At: Connect,
		When: "this IPv4 address or IPv6 /64 makes connections faster than `connection-rate`", Limit: "connection-rate"})
	EarlyTalker = define(Entry{Code: 554, Enhanced: "5.5.0", Text: "You talked before the greeting, closing connection", At: Connect,
		When: "the client sent something before its turn (RFC 5321 §3.1), as programs do that only send spam", Limit: "early-talkers"})
	Unsynchronized = define(Entry{Code: 554, Enhanced: "5.5.0", Text: "Commands sent ahead of the answer to EHLO, closing connection", At: Hello,
		When: "something came behind EHLO or HELO before its answer: nothing has offered PIPELINING yet (RFC 2920 §3.1)", Limit: "early-talkers"})

	Framing = define(Entry{Code: 500, Enhanced: "5.5.2", Text: "Bare CR, bare LF or NUL in command, closing connection", At: Any,
		When: "a command line has CR, LF or NUL elsewhere than in the CRLF that ends it (RFC 5321 §2.3.8): it may come out of a message that another server let through. The connection ends"})
	Long = define(Entry{Code: 500, Enhanced: "5.5.2", Text: "Command line too long", At: Any,
		When: "a command line has more than 2,048 octets; it is dropped"})
	Unknown = define(Entry{Code: 500, Enhanced: "5.5.2", Text: "Command not recognized", At: Any,
		When: "there is no such command"})
	HelloFirst = define(Entry{Code: 503, Enhanced: "5.5.1", Text: "Send EHLO first", At: Any,
		When: "MAIL, RCPT, DATA or BDAT before EHLO or HELO, also after STARTTLS"})
	TLSFirst = define(Entry{Code: 530, Enhanced: "5.7.0", Text: "Must issue a STARTTLS command first", At: Any,
		When: "this listener requires TLS, and it is not on (RFC 3207 §4)"})
	Commands = define(Entry{Code: 421, Enhanced: "4.7.0", Text: "Too many commands without a message, closing connection", At: Any,
		When: "more than `commands-max` commands since the last accepted message brought none nearer", Limit: "commands-max"})
	Errors = define(Entry{Code: 421, Enhanced: "4.7.0", Text: "Too many errors, closing connection", At: Any,
		When: "more than `errors-max` commands were refused since the last accepted message", Limit: "errors-max"})
	Idle = define(Entry{Code: 421, Enhanced: "4.4.2", Text: "No command came in time, closing connection", At: Any,
		When: "no command came for `command-time`", Limit: "command-time", Library: []string{"Idle timeout, bye bye"}})
	TransactionSlow = define(Entry{Code: 421, Enhanced: "4.4.2", Text: "Transaction took too long, closing connection", At: Any,
		When: "the transaction that MAIL began is older than `transaction-time`, and its message has not begun", Limit: "transaction-time"})
	Internal = define(Entry{Code: 421, Enhanced: "4.3.0", Text: "Internal error on this server, closing connection", At: Any,
		When: "this server has a fault; the log says which", Library: []string{"Internal server error"}})

	HelloName = define(Entry{Code: 501, Enhanced: "5.5.4", Text: "EHLO and HELO want a domain or an address literal", At: Hello,
		When: "the argument is missing", Library: []string{"Domain/address argument required for HELO"}})

	TLSReady = define(Entry{Code: 220, Enhanced: "2.0.0", Text: "Ready to start TLS", At: StartTLS,
		When: "the handshake may begin; what the client sent ahead of it is dropped (RFC 3207 §5)"})
	TLSOn  = define(Entry{Code: 503, Enhanced: "5.5.1", Text: "TLS is already on", At: StartTLS, When: "TLS is on"})
	TLSNot = define(Entry{Code: 502, Enhanced: "5.5.1", Text: "STARTTLS is not offered", At: StartTLS,
		When: "this listener has no certificate"})
	TLSNotNow = define(Entry{Code: 454, Enhanced: "4.7.0", Text: "TLS is not available at the moment, try again later", At: StartTLS,
		When: "the certificate cannot be read (RFC 3207 §4)"})
	TLSArgument = define(Entry{Code: 501, Enhanced: "5.5.4", Text: "STARTTLS takes no argument", At: StartTLS, When: "it has one"})

	Nothing = define(Entry{Code: 250, Enhanced: "2.0.0", Text: "Ok", At: Other, When: "NOOP", Library: []string{"I have successfully done nothing"}})
	Reset   = define(Entry{Code: 250, Enhanced: "2.0.0", Text: "Reset", At: Other, When: "RSET", Library: []string{"Session reset"}})
	Bye     = define(Entry{Code: 221, Enhanced: "2.0.0", Text: "Bye", At: Other, When: "QUIT", Library: []string{"Bye"}})
	Verify  = define(Entry{Code: 252, Enhanced: "2.5.0", Text: "Addresses are not verified; send the message", At: Other,
		When: "VRFY: who has a mailbox is not told here", Library: []string{"Cannot VRFY user, but will accept message"}})
	NoExpand = define(Entry{Code: 502, Enhanced: "5.5.1", Text: "EXPN is not offered", At: Other, When: "EXPN", Library: []string{"EXPN command not implemented"}})
	NoHelp   = define(Entry{Code: 502, Enhanced: "5.5.1", Text: "HELP is not offered", At: Other, When: "HELP", Library: []string{"HELP command not implemented"}})
)
