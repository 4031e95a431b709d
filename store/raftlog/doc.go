// Package raftlog is a member's Raft log and vote on disk: raft-boltdb behind
// a guard.
//
// The guard adds what Raft relies on and the file alone does not give. A write
// that fails is never tried again: whether its pages reached the disk is
// unknown, and a second sync may report success for data that the kernel has
// already dropped, so the process stops. A write that hangs stops the process
// too, because a leader with a hung disk goes on sending heartbeats and would
// stay leader for ever (hashicorp/raft #503). And term and candidate of a vote
// are one record (hashicorp/raft #661).
//
// Before the file stands a journal, which takes an append in one sync; bbolt
// gets the entries many at a time.
//
// It knows nothing of what the entries mean, and reads no clock.
package raftlog
