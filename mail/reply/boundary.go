package reply

// Of a member that takes no mail now; to the greeting and to MAIL. The client
// does well to try another member.
var (
	Stopping = define(Entry{Code: 421, Enhanced: "4.3.2", Text: "Service is shutting down, try another server", At: Connect,
		When: "the member is stopping: to new sessions, to those that have no transaction open, and to MAIL"})
	ShuttingDown = define(Entry{Code: 421, Enhanced: "4.3.2", Text: "this server is shutting down; try another", At: Connect,
		When: "the member begins to stop"})
	NoContact = define(Entry{Code: 421, Enhanced: "4.3.2", Text: "this server has no contact to a quorum of its boundary; try another", At: Connect,
		When: "the member has no lease"})
	NoVoters = define(Entry{Code: 421, Enhanced: "4.3.2", Text: "the boundary does not have its voters yet; try again", At: Connect,
		When: "fewer than `min-voters` members have joined yet"})
	NotTaking = define(Entry{Code: 421, Enhanced: "4.3.2", Text: "this server may not take mail now; try another", At: Connect,
		When: "the member is drained, no voter yet, or held to be down"})
	NotPrimary = define(Entry{Code: 421, Enhanced: "4.3.2", Text: "this member may not take mail now; try another", At: Message,
		When: "the same, as the entry was applied"})
)

// Of a member that has no room; to DATA, to BDAT or at the end of the message.
var (
	DiskFull = define(Entry{Code: 452, Enhanced: "4.3.1", Text: "the disk of %s is almost full; try another server", At: Data,
		When: "less than `disk.space-min` is free", Limit: "space-min"})
	MemoryShort = define(Entry{Code: 452, Enhanced: "4.3.1", Text: "%s is short of memory; try another server", At: Data,
		When: "live memory is above `pressure.memory-high`", Limit: "memory-high"})
	QueueLong = define(Entry{Code: 452, Enhanced: "4.3.1", Text: "the queue of %s is too long; try another server", At: Data,
		When: "more messages are active than `pressure.queue-high`", Limit: "queue-high"})
)

// Of a message that is whole and could not be made safe.
var (
	NoAnswer = define(Entry{Code: 421, Enhanced: "4.3.2", Text: "no quorum of the boundary answered in time; try another server", At: Message,
		When: "the entry was not known to be committed within `commit-timeout`"})
	NoQuorum = define(Entry{Code: 421, Enhanced: "4.3.2", Text: "no contact to a quorum of the boundary; try another server", At: Message,
		When: "the content reached no majority, and the member has no lease any more"})
	NoMajority = define(Entry{Code: 451, Enhanced: "4.4.0", Text: "too few members of the boundary could store the message; try again", At: Message,
		When: "the content reached no majority"})
	NoShadow = define(Entry{Code: 451, Enhanced: "4.4.0", Text: "no other member is up that could hold the shadow message; try again", At: Message,
		When: "there is nobody to be the shadow server, with `reject-message-on-shadow-failure`"})
	TooFewHold = define(Entry{Code: 451, Enhanced: "4.4.0", Text: "only %d of %d members hold the message; try again", At: Message,
		When: "as the entry was applied, fewer than a majority of the voters had the content"})
	TooFewToBe = define(Entry{Code: 451, Enhanced: "4.4.0", Text: "only %d of %d members to be hold the message; try again", At: Message,
		When: "the same, of the voters to be while they are being changed"})
	PrimaryLacks = define(Entry{Code: 451, Enhanced: "4.4.0", Text: "the member that took the message does not hold it; try again", At: Message,
		When: "as the entry was applied, the member itself was not among the holders"})
	ClosedLongAgo = define(Entry{Code: 451, Enhanced: "4.3.0", Text: "the upload was closed too long ago; send the message again", At: Message,
		When: "the entry was applied more than ten minutes after the message had come: its content may be gone"})
	TooFarAhead = define(Entry{Code: 451, Enhanced: "4.3.0", Text: "the not-after of the upload is too far ahead", At: Message,
		When: "the clocks of the members disagree"})
	FilterTooMuch = define(Entry{Code: 451, Enhanced: "4.3.0", Text: "what a filter changed cannot be kept: %v", At: Message,
		When: "a filter changed more of the header than an entry holds, or in a way that cannot be"})
	Empty = define(Entry{Code: 554, Enhanced: "5.5.1", Text: "no recipients", At: Message,
		When: "the entry has none; RCPT and DATA see to it that this does not happen"})
	RowTooLarge = define(Entry{Code: 452, Enhanced: "4.5.3", Text: "%d recipients; at most %d in one message", At: Message,
		When: "more recipients than one message of the boundary can have"})
)
