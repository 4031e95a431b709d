// Package maildir delivers into real Maildirs below one directory, which is
// one copy of a mailbox database.
//
// A mailbox is a folder PATH/<local part> with tmp, new and cur. Besides them
// it holds three files of ours: who the mailbox is, what was delivered lately
// (so that a resubmission shows no mail twice), and a lock. They lie inside
// the copy, so a copy that is restored from a backup has the record of just
// the messages that it has.
//
// It knows nothing of queues or members. Several processes may deliver into
// the same copy at once.
package maildir
