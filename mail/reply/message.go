package reply

// Of DATA and BDAT.
var (
	GoAhead = define(Entry{Code: 354, Text: "Go ahead, end with CRLF.CRLF", At: Data,
		When: "the message may be sent; the queue was asked before", Library: []string{"Go ahead. End your data with <CR><LF>.<CR><LF>"}})
	DataArgument = define(Entry{Code: 501, Enhanced: "5.5.4", Text: "DATA takes no argument", At: Data,
		When: "it has one", Library: []string{"DATA command should not have any arguments"}})
	NoRecipients = define(Entry{Code: 503, Enhanced: "5.5.1", Text: "Send RCPT first", At: Data,
		When: "no recipient was accepted; the same for BDAT", Library: []string{"502 Missing RCPT TO command."}})
	Early = define(Entry{Code: 421, Enhanced: "4.5.0", Text: "Message sent without waiting for 354, closing connection", At: Data,
		When: "DATA was refused and more had come behind it: that is the text of a message, and must not be run"})

	ChunkOk     = define(Entry{Code: 250, Enhanced: "2.0.0", Text: "%d octets received", At: Chunk, When: "a chunk was read, and is not the last (RFC 3030 §2)"})
	ChunkSyntax = define(Entry{Code: 501, Enhanced: "5.5.4", Text: "Malformed BDAT, closing connection", At: Chunk,
		When: "its size cannot be read, so nobody knows where the next command begins"})
	ChunkOrder = define(Entry{Code: 503, Enhanced: "5.5.1", Text: "Only BDAT or RSET in the middle of a message", At: Chunk,
		When: "another command came between two chunks"})
)

// Of a message.
var (
	Queued = define(Entry{Code: 250, Enhanced: "2.0.0", Text: "Ok: queued as %s", At: Message,
		When: "the message is on the disks of a majority, and so is the entry that names it. The id is that of every view and of the Received field"})
	TooLarge = define(Entry{Code: 552, Enhanced: "5.3.4", Text: "Message is larger than %d bytes", At: Message,
		When: "it is larger than `message-size-max` (RFC 1870); also to MAIL with SIZE=, and to a BDAT that goes beyond it", Limit: "message-size-max"})
	Bare = define(Entry{Code: 550, Enhanced: "5.6.11", Text: "Bare CR or LF, or NUL, in message", At: Message,
		When: "CR or LF stand outside a CRLF, or there is a NUL, and such mail is to be refused; by default it is mended"})
	Loop = define(Entry{Code: 554, Enhanced: "5.4.6", Text: "Too many hops, the message is in a loop", At: Message,
		When: "it has more than `hops-max` Received fields (RFC 5321 §6.3)", Limit: "hops-max"})
	LoopHere = define(Entry{Code: 554, Enhanced: "5.4.6", Text: "The message was here too often, it is in a loop", At: Message,
		When: "more than `own-hops-max` of its Received fields were written by members of this boundary: it is sent out, and comes back", Limit: "own-hops-max"})
	Slow = define(Entry{Code: 421, Enhanced: "4.4.2", Text: "Message did not come in time, closing connection", At: Message,
		When: "nothing came for `block-time`, less than `rate-min` octets a second on average, or the whole took longer than `transaction-time`", Limit: "transaction-time"})
	Lost = define(Entry{Code: 421, Enhanced: "4.4.2", Text: "Connection lost", At: Message,
		When: "the client is gone; for the log only"})
	Failure = define(Entry{Code: 451, Enhanced: "4.3.0", Text: "Temporary failure on this server, try again later", At: Message,
		When: "something failed that nobody foresaw; the log says what. Never 5xx"})
)
