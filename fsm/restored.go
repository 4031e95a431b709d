package fsm

import (
	"bytes"
	"fmt"
	"io"
	"slices"

	"mailraft/mail"
)

// Refound makes another boundary of the state of a backup: with an identity and
// a CA of its own, and with one member, which has the content. It is written
// into the log of that member before it is started for the first time, behind a
// configuration of it alone.
type Refound struct {
	Boundary string `cbor:"1,keyasint"`           // identity, as random as in Found
	Name     string `cbor:"2,keyasint,omitempty"` // empty: as it was
	CA       []byte `cbor:"3,keyasint"`           // certificate, DER
	CAKey    []byte `cbor:"4,keyasint"`           // sealed
	First    Member `cbor:"5,keyasint"`
	Index    uint64 `cbor:"6,keyasint"` // that the backup ends at
	By       string `cbor:"7,keyasint,omitempty"`
	Reason   string `cbor:"8,keyasint,omitempty"`
}

// Restored is what a boundary remembers of the backup that it was made from.
type Restored struct {
	Was     string    `cbor:"1,keyasint" json:"was"`                        // identity of the boundary that the backup is of
	Index   uint64    `cbor:"2,keyasint" json:"index"`                      // of the backup
	Cut     mail.Time `cbor:"3,keyasint" json:"cut"`                        // its time: what happened later is not known here
	Resumed mail.Time `cbor:"4,keyasint,omitempty" json:"resumed,omitzero"` // since when mail is delivered; zero: not yet
	By      string    `cbor:"5,keyasint,omitempty" json:"by,omitempty"`
	Reason  string    `cbor:"6,keyasint,omitempty" json:"reason,omitempty"`
}

// refound applies Refound. Everybody who was a member is a former one: what
// they owned goes the way of any retired member's. Nothing is delivered before
// somebody says so, since what was delivered after the cut is not known here.
func (t *tx) refound(c Refound) Answer {
	b, _ := t.Boundary()
	_, was := t.Member(c.First.ID)
	_, former := t.Former(c.First.ID)
	switch {
	case b.Boundary == "":
		return refuse(550, "5.5.0", "there is no boundary to restore")
	case c.Boundary == "" || c.Boundary == b.Boundary || c.First.ID == 0 || c.First.Name == "":
		return refuse(501, "5.5.4", "a restored boundary needs an identity of its own, and a first member")
	case was || former:
		return refuse(550, "5.5.0", "%s was a member of the boundary that the backup is of", c.First.ID)
	case !slices.Equal(b.Voters, []mail.MemberID{c.First.ID}):
		return refuse(550, "5.5.0", "%s is not the only voter", c.First.Name)
	}
	why := fmt.Sprintf("restored from the backup of %s", t.now())
	b.Restored = &Restored{Was: b.Boundary, Index: c.Index, Cut: t.now(), By: c.By, Reason: c.Reason}
	b.Boundary, b.CA, b.CAKey, b.Rotation, b.Opened = c.Boundary, c.CA, c.CAKey, nil, false
	if c.Name != "" {
		b.Name = c.Name
	}
	t.put(tab(tabBoundary), b)
	for _, m := range slices.Collect(t.Members()) {
		if m.Retired == 0 {
			t.retire(m, Former{How: HowLost, By: c.By, Reason: why})
		}
	}
	m := c.First
	m.Joined, m.Since, m.Up, m.Draining, m.Phase, m.Cursor, m.Token = t.now(), t.now(), false, false, PhaseDone, nil, nil
	m.Complete, m.CompleteActive = t.at.Index, 0 // what is not there was given up by name before this entry
	t.put(tab(tabMember).mem(m.ID), m)
	t.inheritName(m)
	t.deleteRange(tab(tabToken), tab(tabToken).end())       // they have the pin of a CA that is not believed any more
	t.deleteRange(tab(tabFrontend), tab(tabFrontend).end()) // and so have their certificates
	t.put(tab(tabQueueStop).text(""), Suspension{Reason: why, By: c.By, At: t.now()})
	t.openBoundary()
	return Answer{Count: 1}
}

// resumed notes that the mail of a restored boundary is delivered from here on.
func (t *tx) resumed() {
	b, _ := t.Boundary()
	if b.Restored != nil && b.Restored.Resumed == 0 {
		r := *b.Restored
		r.Resumed = t.now()
		b.Restored = &r
		t.put(tab(tabBoundary), b)
	}
}

// Suspended reports whether the boundary was restored, and nobody has said yet
// that its mail is to be delivered. Until then nothing is decided by itself.
func (r *Restored) Suspended() bool { return r != nil && r.Resumed == 0 }

// keeps reports whether nothing of the Safety Net expires because the boundary
// was restored: until its mail is delivered, and for a hold time afterwards, so
// that what the mailbox servers lack can be found out, and sent.
func (t Tables) keeps(now mail.Time) (r *Restored, ok bool) {
	s := t.Settings()
	r = s.Boundary.Restored
	return r, r != nil && (r.Suspended() || now < r.Resumed.Add(s.Params.SafetyNetHoldTime))
}

// WriteBackup writes the rows as a snapshot has them, without the key of the
// CA: a boundary that is restored gets a CA of its own. ReadBackup reads them.
func (t Tables) WriteBackup(w io.Writer) error {
	return writeRows(w, func(yield func(k, v []byte) bool) {
		for k, v := range t.Scan(ReplicatedLow, ReplicatedHigh) {
			if bytes.Equal(k, tab(tabBoundary)) {
				v = t.withoutKeys(v)
			}
			if !yield(k, v) {
				return
			}
		}
	})
}

func (t Tables) withoutKeys(v []byte) []byte {
	var b Boundary
	t.decode(tab(tabBoundary), v, &b)
	b.CAKey = nil
	if b.Rotation != nil {
		r := *b.Rotation
		r.CAKey = nil
		b.Rotation = &r
	}
	out, err := enc.Marshal(b)
	if err != nil {
		t.fatal(fmt.Errorf("encode state row: %w", err))
	}
	return out
}

// ReadBackup fills an empty state with the rows that WriteBackup wrote, all or
// none.
func (f *FSM) ReadBackup(r io.Reader) error {
	if at, _ := f.Applied(); at != 0 {
		return fmt.Errorf("the state is not empty: it ends at entry %d", at)
	}
	return f.Restore(io.NopCloser(r))
}
