package fsm

import (
	"slices"

	"mailraft/mail"
)

// VotersChange announces another set of voters, one more or one less, before
// Raft is told. From here until the configuration (or VotersAbort) applies a
// message needs a majority of both sets. DESIGN.md, argument 6.
type VotersChange struct {
	Voters []mail.MemberID `cbor:"1,keyasint"`
	Prev   uint64          `cbor:"2,keyasint"` // index of the configuration that it changes
}

// VotersAbort calls off the change that was announced at an index. It is
// proposed only when Raft's latest configuration is the committed one, and by
// the leader that would have entered the next.
type VotersAbort struct {
	At   uint64 `cbor:"1,keyasint"`
	Term uint64 `cbor:"2,keyasint"`
}

// votersChange applies VotersChange. The answer's index is what the content of
// a majority of the new set must be complete up to before Raft is told.
func (t *tx) votersChange(c VotersChange) Answer {
	b, _ := t.Boundary()
	next := slices.Compact(slices.Sorted(slices.Values(c.Voters)))
	switch {
	case b.NextAt != 0:
		return refuse(450, "4.3.2", "a change of the voters is under way since entry %d", b.NextAt)
	case c.Prev != b.ConfigAt:
		return refuse(450, "4.3.2", "the configuration is that of entry %d, not %d", b.ConfigAt, c.Prev)
	case len(next) == 0 || differ(next, b.Voters) != 1:
		return refuse(501, "5.5.4", "voters change one at a time")
	}
	for _, id := range next {
		if m, ok := t.Member(id); !slices.Contains(b.Voters, id) && (!ok || m.Retired != 0) {
			return refuse(550, "5.1.0", "there is no member %s to become a voter", id)
		}
	}
	b.Next, b.NextAt, b.NextPrev = next, t.at.Index, b.ConfigAt
	t.put(tab(tabBoundary), b)
	return Answer{Count: 1}
}

// differ counts those in one set and not in the other.
func differ(a, b []mail.MemberID) (n int) {
	for _, id := range a {
		if !slices.Contains(b, id) {
			n++
		}
	}
	for _, id := range b {
		if !slices.Contains(a, id) {
			n++
		}
	}
	return n
}

// votersAbort applies VotersAbort, of the present term only: an earlier leader
// may have entered a configuration that the later one has not seen committed.
func (t *tx) votersAbort(c VotersAbort) Answer {
	b, _ := t.Boundary()
	if b.NextAt == 0 || b.NextAt != c.At {
		return Answer{}
	}
	if c.Term != t.at.Term {
		return refuse(450, "4.3.2", "decided in term %d, and this is term %d", c.Term, t.at.Term)
	}
	b.Next, b.NextAt, b.NextPrev = nil, 0, 0
	t.put(tab(tabBoundary), b)
	return Answer{Count: 1}
}

// Quorum reports whether those that have something are a majority of the
// voters: while these are being changed, of the old set and of the new.
func (b *Boundary) Quorum(has func(mail.MemberID) bool) bool {
	return majority(b.Voters, has) && (b.NextAt == 0 || majority(b.Next, has))
}

func majority(voters []mail.MemberID, has func(mail.MemberID) bool) bool {
	return count(voters, has) > len(voters)/2
}

func count(ids []mail.MemberID, has func(mail.MemberID) bool) (n int) {
	for _, id := range ids {
		if has(id) {
			n++
		}
	}
	return n
}
