// Package link carries requests and their answers between two members over
// one connection of the cluster port: many at a time, in any order, in frames
// whose length is checked before anything is allocated.
//
// What a caller needs to know after a failure is whether the other side may
// have acted. So there are two errors for a broken connection: ErrUnreachable,
// nothing was sent, and ErrUnknownOutcome, it was and nobody knows. A peer
// that falls silent (a cut cable, a stopped process) is noticed within about
// five seconds by counting our own ticks, which a stop of our own process does
// not advance.
//
// It knows nothing of what the requests mean, and of the port only that its
// connections can say who the peer is.
package link
