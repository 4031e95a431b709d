package reply

// Of AUTH.
var (
	AuthOk = define(Entry{Code: 235, Enhanced: "2.7.0", Text: "Authentication succeeded", At: Auth,
		When: "name and password belong together (RFC 4954 §4)"})
	Challenge = define(Entry{Code: 334, Text: "%s", At: Auth,
		When: "the mechanism wants the next response; the text is base64"})
	AuthNot = define(Entry{Code: 502, Enhanced: "5.5.1", Text: "AUTH is not offered", At: Auth,
		When: "this listener asks nobody for a password"})
	AuthClear = define(Entry{Code: 538, Enhanced: "5.7.11", Text: "Encryption required for requested authentication mechanism", At: Auth,
		When: "TLS is not on: no password is read in clear text"})
	AuthHello = define(Entry{Code: 503, Enhanced: "5.5.1", Text: "Send EHLO before AUTH", At: Auth,
		When: "the client said HELO"})
	AuthDone = define(Entry{Code: 503, Enhanced: "5.5.1", Text: "Already authenticated", At: Auth,
		When: "it succeeded in this session before"})
	AuthTransaction = define(Entry{Code: 503, Enhanced: "5.5.1", Text: "AUTH is not possible inside a transaction", At: Auth,
		When: "MAIL was accepted, and the message is not over"})
	AuthSyntax = define(Entry{Code: 501, Enhanced: "5.5.4", Text: "Syntax: AUTH mechanism and an initial response", At: Auth,
		When: "the command cannot be read"})
	AuthMechanism = define(Entry{Code: 504, Enhanced: "5.5.4", Text: "Authentication mechanism not recognized", At: Auth,
		When: "it is neither PLAIN nor LOGIN"})
	AuthBase64 = define(Entry{Code: 501, Enhanced: "5.5.2", Text: "Response is not base64", At: Auth,
		When: "a response cannot be decoded"})
	AuthResponse = define(Entry{Code: 501, Enhanced: "5.5.2", Text: "Malformed authentication response", At: Auth,
		When: "a response is not what the mechanism wants (RFC 4616 §2)"})
	AuthCancelled = define(Entry{Code: 501, Enhanced: "5.7.0", Text: "Authentication cancelled", At: Auth,
		When: "the client answered a challenge with *"})
	AuthLong = define(Entry{Code: 500, Enhanced: "5.5.6", Text: "Authentication exchange line is too long", At: Auth,
		When: "a response has more than 2,048 octets"})
	AuthDenied = define(Entry{Code: 535, Enhanced: "5.7.8", Text: "Authentication credentials invalid", At: Auth,
		When: "the name is unknown or the password wrong; which of the two is not told, nor to be seen from the time it takes"})
	AuthDeniedEnd = define(Entry{Code: 421, Enhanced: "4.7.0", Text: "Too many failed authentications, closing connection", At: Auth,
		When: "the same, for the third time in one session"})
	AuthAway = define(Entry{Code: 454, Enhanced: "4.7.0", Text: "Temporary authentication failure, try again later", At: Auth,
		When: "nobody can say at the moment: the file cannot be read, Dovecot does not answer, too many hashes are being computed"})
	AuthOften = define(Entry{Code: 454, Enhanced: "4.7.0", Text: "Too many failed authentications, try again later", At: Auth,
		When: "20 attempts from this IPv4 address or IPv6 /64, or for this name from elsewhere than where it has succeeded, failed in the last 15 to 30 minutes. The password is not looked at"})
)

// Of MAIL, from clients that have to prove who they are.
var (
	AuthFirst = define(Entry{Code: 530, Enhanced: "5.7.0", Text: "Authentication required", At: MailFrom,
		When: "this listener takes mail only after AUTH (RFC 4954 §6)"})
	SenderNotYours = define(Entry{Code: 553, Enhanced: "5.7.1", Text: "You may not send as this address", At: MailFrom,
		When: "the address is neither that of the user nor one of those that it may send as, and the listener has `sender-login-check`"})
)
