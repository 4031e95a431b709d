// Package remote hands messages to mailbox servers and next hops by LMTP
// (RFC 2033) and SMTP (RFC 5321), with go-smtp's client.
//
// It keeps connections for the next message, answers for each recipient by
// what the peer said of that recipient, and sends the final dot only after
// asking whether it still may. It decides nothing about when to try again.
package remote
