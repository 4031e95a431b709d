package fsm

import (
	"slices"

	"mailraft/mail"

	"github.com/hashicorp/raft"
)

// Recover makes another generation of a boundary that has lost its majority
// for good: what this member has is the boundary from here on, and it alone
// votes. It is written into the log of a member that does not run, behind
// everything that is there and behind a configuration of that member alone.
type Recover struct {
	Generation uint64        `cbor:"1,keyasint"` // the new one
	Survivor   mail.MemberID `cbor:"2,keyasint"`
	Certain    uint64        `cbor:"3,keyasint"` // entries up to there were known to be committed
	By         string        `cbor:"4,keyasint,omitempty"`
	Reason     string        `cbor:"5,keyasint,omitempty"`
}

// Recovery is what the boundary remembers of how its generation began.
type Recovery struct {
	Generation uint64        `cbor:"1,keyasint" json:"generation"`
	At         mail.Time     `cbor:"2,keyasint" json:"at"`
	Index      uint64        `cbor:"3,keyasint" json:"index"`
	Certain    uint64        `cbor:"4,keyasint" json:"certain_index"` // what lies between the two was only in the log of the survivor
	Survivor   mail.MemberID `cbor:"5,keyasint" json:"survivor"`
	By         string        `cbor:"6,keyasint,omitempty" json:"by,omitempty"`
	Reason     string        `cbor:"7,keyasint,omitempty" json:"reason,omitempty"`
}

// recover applies Recover. Everybody else is a former member: what they owned
// goes the way of any retired member's, once a lease that they may still hold
// is over.
func (t *tx) recover(c Recover) Answer {
	b, _ := t.Boundary()
	self, ok := t.Member(c.Survivor)
	switch {
	case !ok || self.Retired != 0:
		return refuse(550, "5.1.0", "there is no member %s to go on with", c.Survivor)
	case c.Generation != b.Generation+1:
		return refuse(550, "5.5.0", "generation %d does not follow %d", c.Generation, b.Generation)
	case !slices.Equal(b.Voters, []mail.MemberID{c.Survivor}):
		return refuse(550, "5.5.0", "%s is not the only voter", self.Name)
	}
	b.Generation = c.Generation
	b.Recovery = &Recovery{Generation: c.Generation, At: t.now(), Index: t.at.Index, Certain: c.Certain, Survivor: c.Survivor, By: c.By, Reason: c.Reason}
	t.put(tab(tabBoundary), b)
	if self.Draining { // there is nobody that it could give anything to
		self.Draining, self.Leaving, self.Drained, self.Left, self.Found, self.Walk = false, false, 0, 0, 0, nil
		self.Handed++
		t.put(tab(tabMember).mem(self.ID), self)
	}
	for _, m := range slices.Collect(t.Members()) {
		if m.ID != c.Survivor && m.Retired == 0 {
			t.retire(m, Former{How: HowLost, By: c.By, Reason: c.Reason})
		}
	}
	return Answer{Count: 1}
}

// IsRecover reports whether an entry of the log is a Recover.
func IsRecover(l *raft.Log) bool {
	if l.Type != raft.LogCommand {
		return false
	}
	kind, _, _, err := header(l.Data)
	return err == nil && kind == KindRecover
}

// Preview is the state as it would be behind more entries; nothing is written.
// The entries are applied in the order of their indexes.
func (f *FSM) Preview(logs func(yield func(*raft.Log) bool)) (t Tables, end func()) {
	x := f.begin()
	for l := range logs {
		x.replay(l)
	}
	x.put(tab(tabApplied), x.at)
	x.known = nil
	return x.Tables, x.rows.Discard
}

// Replay applies entries that Raft will not hand over: those of a log to which
// nobody but this member has a word any more.
func (f *FSM) Replay(logs func(yield func(*raft.Log) bool)) {
	const batch = 1000
	x, n := f.begin(), 0
	for l := range logs {
		x.replay(l)
		if n++; n%batch == 0 {
			f.commit(x)
			x = f.begin()
		}
	}
	f.commit(x)
	f.Sync()
}

// replay applies what Raft would have handed over.
func (t *tx) replay(l *raft.Log) {
	if l.Index > t.at.Index && (l.Type == raft.LogCommand || l.Type == raft.LogConfiguration) {
		t.at.Index, t.at.Term = l.Index, l.Term
		t.applyLog(l)
	}
}
