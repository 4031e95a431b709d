package fsm

import (
	"bytes"
	"encoding/binary"
	"iter"
	"slices"

	"mailraft/mail"
)

// Destinations walks the destinations that have messages of this primary
// server waiting, by key. Its cost is one seek for each, however many wait.
func (t Tables) Destinations(primary mail.MemberID) iter.Seq[string] {
	return func(yield func(string) bool) {
		base := tab(tabDue).mem(primary)
		low := base
		for {
			dest, ok := "", false
			for k := range t.Scan(low, base.end()) {
				rest := k[len(base):]
				dest, ok = string(rest[:bytes.IndexByte(rest, 0)]), true
				break
			}
			if !ok || !yield(dest) {
				return
			}
			low = slices.Clone(base).str(dest).end()
		}
	}
}

// Waiting is a message that waits for an attempt.
type Waiting struct {
	ID   mail.ID
	Next mail.Time // not before
}

// Due walks the messages of a primary server that wait for a destination, the
// earliest attempt first.
func (t Tables) Due(primary mail.MemberID, destination string) iter.Seq[Waiting] {
	return func(yield func(Waiting) bool) {
		base := tab(tabDue).mem(primary).str(destination)
		for k := range t.Scan(base, base.end()) {
			if !yield(Waiting{ID: lastID(k), Next: mail.Time(binary.BigEndian.Uint64(k[len(base):]))}) {
				return
			}
		}
	}
}

// CountActive counts the active messages of the boundary, up to most.
func (t Tables) CountActive(most int64) (n int64) {
	for range t.Scan(tab(tabOwner), tab(tabOwner).end()) {
		if n++; n >= most {
			break
		}
	}
	return n
}
