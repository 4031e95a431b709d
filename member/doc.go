// Package member is one running member, put together: it opens the disk, the
// state machine, the Raft node, content replication, SMTP in, delivery out and
// the admin API, gives each what it asks for, and stops them in order.
//
// It owns the member's configuration file, the identity in its data directory,
// and the small loops that connect the parts: what is due, what is missing,
// what may be swept, what a shadow server acknowledges. It decides nothing
// about a message that the state machine could decide.
package member
