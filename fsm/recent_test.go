package fsm

import (
	"math/rand/v2"
	"testing"
	"time"

	"mailraft/mail"
)

// What is said to be absent is absent: ids of members whose clocks differ, more
// of them than are remembered, and those that were there before.
func TestRecentIsNeverWrong(t *testing.T) {
	m := newMachine(t)
	m.boundary()
	before := m.submission(1, m1, m1, m2)
	before.Content.ID = idAt(begin, 1)
	m.must(KindAccept, Accept{before})
	v := m.f.View()
	defer v.Close()
	var r recent
	rng := rand.New(rand.NewPCG(1, 2))
	named := map[mail.ContentID]bool{before.Content.ID: true}
	known := 0
	for n := range 3 * recentMax {
		skew := []time.Duration{0, -time.Second, 3 * time.Second}[rng.IntN(3)]
		id := idAt(begin.Add(time.Duration(n)*time.Millisecond+skew), rng.Uint64())
		if r.absent(v.Tables, id) {
			known++
		}
		r.note(id)
		named[id] = true
		if n%1000 == 0 {
			for id := range named {
				if r.absent(v.Tables, id) {
					t.Fatalf("after %d: %s is said to be absent", n, id)
				}
			}
		}
	}
	if known < 2*recentMax {
		t.Errorf("of %d new ids only %d were known to be", 3*recentMax, known)
	}
}

func idAt(at mail.Time, random uint64) mail.ContentID {
	var b [10]byte
	for i := range b {
		b[i] = byte(random >> (8 * (i % 8)))
	}
	id, err := mail.NewContentID(at, &oneRead{b[:]})
	if err != nil {
		panic(err)
	}
	return id
}

type oneRead struct{ b []byte }

func (o *oneRead) Read(p []byte) (int, error) { return copy(p, o.b), nil }

// The first answer stands when what is remembered is lost with the process, and
// when the rows are exchanged by a snapshot.
func TestRecentIsForgottenWithTheRows(t *testing.T) {
	m, other := newMachine(t), newMachine(t)
	m.boundary()
	fill := m.submission(5, m1, m1, m2) // so that something is remembered
	m.must(KindAccept, Accept{fill})
	s := m.submission(7, m1, m1, m2)
	first := m.must(KindAccept, Accept{s})
	other.boundary()
	other.must(KindAccept, Accept{fill})
	m.install(other)
	other.log, other.now = m.log, m.now
	again := other.do(KindAccept, Accept{s})
	m.f.Sync()
	_ = m.crash(rand.New(rand.NewPCG(1, 1)))
	for what, a := range map[string]Answer{"installed": again, "restarted": m.do(KindAccept, Accept{s})} {
		if a.ID != first.ID || a.Refused != nil {
			t.Errorf("%s: answer %+v, first was %+v", what, a, first)
		}
	}
}
