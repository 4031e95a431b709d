package fsm

import (
	"slices"
	"strings"

	"mailraft/mail"
)

// Health is what the majority of the members finds of copies, as the leader
// has counted it: proposed when a verdict changes, and at least once a minute
// for a copy that is healthy.
type Health struct {
	Term   uint64       `cbor:"1,keyasint"` // whose leader counted
	Copies []CopyHealth `cbor:"2,keyasint,omitempty"`
}

// CopyHealth is the verdict about one copy.
type CopyHealth struct {
	Database string `cbor:"1,keyasint"`
	Copy     string `cbor:"2,keyasint"`
	Addr     string `cbor:"3,keyasint"` // that was probed
	Healthy  bool   `cbor:"4,keyasint,omitempty"`
	Text     string `cbor:"5,keyasint,omitempty"` // the last error
}

// CopyRecord is what is known of a copy's health. A copy of which nothing is
// known, or whose address was changed since, has none.
type CopyRecord struct {
	Copy    string    `cbor:"1,keyasint" json:"copy"`
	Addr    string    `cbor:"2,keyasint" json:"address"`
	Healthy bool      `cbor:"3,keyasint,omitempty" json:"healthy"`
	Since   mail.Time `cbor:"4,keyasint" json:"since"`                   // of the verdict
	Seen    mail.Time `cbor:"5,keyasint,omitempty" json:"seen,omitzero"` // when it was last found healthy; zero: never
	Text    string    `cbor:"6,keyasint,omitempty" json:"text,omitempty"`
	// Through is what a copy that is declared live was complete up to then: not
	// more than the active one was.
	Through mail.Time `cbor:"7,keyasint,omitempty" json:"data_through,omitzero"`
}

// Health returns what is known of the copies of a database, by name of copy.
func (t Tables) Health(database string) (records []CopyRecord) {
	t.get(tab(tabHealth).text(strings.ToLower(database)), &records)
	return records
}

// healthOf returns the record of a copy; the zero record if nothing is known.
func (t Tables) healthOf(d Database, copy string) CopyRecord {
	for _, r := range t.Health(d.Name) {
		if r.Copy == copy {
			return r
		}
	}
	return CopyRecord{}
}

// health applies Health. A verdict of an earlier term may be older than what
// the present leader has found.
func (t *tx) health(c Health) Answer {
	if c.Term != t.at.Term {
		return refuse(450, "4.3.2", "found in term %d, and this is term %d", c.Term, t.at.Term)
	}
	n := 0
	for _, v := range c.Copies {
		d, ok := t.Database(v.Database)
		if !ok {
			continue
		}
		if x := d.copy(v.Copy); x != nil && x.Addr == v.Addr {
			t.record(d, v)
			n++
		}
	}
	return Answer{Count: n}
}

// record keeps a verdict about a copy that is there.
func (t *tx) record(d Database, v CopyHealth) {
	records := t.Health(d.Name)
	i, known := slices.BinarySearchFunc(records, v.Copy, func(r CopyRecord, name string) int { return strings.Compare(r.Copy, name) })
	if !known {
		records = slices.Insert(records, i, CopyRecord{Copy: v.Copy, Addr: v.Addr})
	}
	r := &records[i]
	if !known || r.Healthy != v.Healthy {
		e := HistoryEvent{Kind: HistoryUnhealthy, Copy: v.Copy, Text: v.Text}
		if v.Healthy {
			e.Kind = HistoryHealthy
		}
		t.note(d, e)
		r.Healthy, r.Since = v.Healthy, t.now()
	}
	if r.Text = cut(v.Text); v.Healthy {
		r.Text, r.Seen, r.Through = "", t.now(), t.completeTo(d)
	}
	t.putHealth(d, records)
}

// forgetHealth drops the records of copies that are gone or elsewhere now.
func (t *tx) forgetHealth(d Database) {
	records := t.Health(d.Name)
	n := len(records)
	records = slices.DeleteFunc(records, func(r CopyRecord) bool {
		c := d.copy(r.Copy)
		return c == nil || c.Addr != r.Addr
	})
	if len(records) != n {
		t.putHealth(d, records)
	}
}

func (t *tx) putHealth(d Database, records []CopyRecord) {
	k := tab(tabHealth).text(strings.ToLower(d.Name))
	if len(records) == 0 {
		t.delete(k)
		return
	}
	t.put(k, records)
}
