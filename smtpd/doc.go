// Package smtpd is SMTP in: a go-smtp server behind the connections of package
// wire, with our policy, limits and replies. It turns a transaction into an
// upload, streaming, and answers 250 when the queue says that the message is
// committed.
//
// It knows neither Raft nor store. What it needs it asks of a Queue (which
// takes messages), a Directory (which knows recipients) and a Gate (which
// knows whether this member may take mail at all). A *mail.Reply that one of
// them returns is the answer to the client as it stands; any other error is an
// operating error, logged here, and temporary for the client.
//
// The Received field is not written into the content: the content is the bytes
// as received, and mail.Trace carries what the field will say.
package smtpd
