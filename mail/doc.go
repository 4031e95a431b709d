// Package mail holds the nouns that every part of mailraft speaks of: the
// queue id, content, envelope, submission, outcome, reply and address.
//
// It is a leaf. It knows nothing of disks, networks or Raft, reads no clock
// and draws no random number: both are passed in. What a message is doing at
// a moment (its row) is the business of package fsm.
package mail
