// Package simulation runs a boundary of real members in virtual time, breaks
// what can break, and then asks whether the promises were kept.
//
// The members are made of the parts that a member is made of: the state
// machine over its tables, the content segments, Raft behind the guard of its
// log, leases, the steward, the replication of content, delivery. Only what
// lies outside is a double: disks that lose what was not synced, a network that
// delays, cuts and breaks, clocks that are wrong, a mailbox server, clients.
// Those clients and that server keep the record that the checks go by.
//
// Run belongs into a testing/synctest bubble. Chance comes from a seed, but
// goroutines run in the order they like: a seed tells what is done to the
// boundary and when, and a failure comes again most of the time, not always.
package simulation
