package member

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"mailraft/fsm"
	"mailraft/mail"
)

func rowID(n byte) mail.ID { return mail.NewID(mail.Time(n), uint64(n), 0) }

func TestRangesAreMerged(t *testing.T) {
	r := func(a, b byte) span { return span{rowID(a), rowID(b)} }
	for name, c := range map[string]struct{ in, want []span }{
		"none":        {},
		"one":         {[]span{r(1, 2)}, []span{r(1, 2)}},
		"apart":       {[]span{r(5, 6), r(1, 2)}, []span{r(1, 2), r(5, 6)}},
		"touching":    {[]span{r(1, 2), r(2, 3)}, []span{r(1, 3)}},
		"one in both": {[]span{r(1, 9), r(2, 3)}, []span{r(1, 9)}},
	} {
		if got := merge(slices.Clone(c.in)); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
	var many []span
	for n := range byte(100) {
		many = append(many, r(2*n+1, 2*n+2))
	}
	got := merge(slices.Clone(many))
	if len(got) > spansMax || got[0].Low != many[0].Low || got[len(got)-1].High != many[99].High {
		t.Errorf("%d ranges from %v to %v", len(got), got[0].Low, got[len(got)-1].High)
	}
}

// What is to be delivered, then fewest copies, then the newest; what could not
// be had waits longer each time, and holds nothing up.
func TestOrderOfRefill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &refill{missing: map[mail.ContentID]*absent{}}
		lack := func(n byte, active bool, copies int) *absent {
			return &absent{content: mail.Content{ID: mail.ContentID{n}}, row: rowID(n), active: active, copies: copies}
		}
		r.add([]*absent{lack(1, false, 3), lack(2, false, 2), lack(3, false, 3), lack(4, true, 3), lack(5, false, 2), lack(6, true, 3)})
		r.add([]*absent{lack(7, false, 3), lack(4, true, 3)})
		order := func() (got []byte) {
			for a := r.take(); a != nil; a = r.take() {
				got = append(got, a.content.ID[0])
			}
			return got
		}
		if got, want := order(), []byte{4, 6, 5, 2, 7, 3, 1}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		failed := lack(8, true, 1)
		for failed.tries = range 8 {
			failed.since = time.Now()
			r.due = []*absent{failed}
			r.idle = []*absent{lack(9, false, 1)}
			if got := order(); !slices.Equal(got, []byte{9}) {
				t.Errorf("after %d tries: got %v", failed.tries, got)
			}
			time.Sleep(retryMost)
			if got := order(); !slices.Equal(got, []byte{8}) {
				t.Errorf("a minute after %d tries: got %v", failed.tries, got)
			}
		}
	})
}

func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pace{rate: 1000}
		start := time.Now()
		for range 11 {
			if !p.wait(t.Context(), 500) {
				t.Fatal("not let through")
			}
		}
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("10 × 500 bytes at 1000 a second took %v", took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		if p.wait(ctx, 1); p.wait(ctx, 1) {
			t.Error("let through although ended")
		}
	})
}

// A member that is started again goes on where it was, and looks at all rows
// only if its content may not be what it was, or the state is another.
func TestRefillGoesOnWhereItWas(t *testing.T) {
	h := newHouse(t, 3)
	h.send(40)
	done := func() {
		h.until("everything is here", func() bool {
			m := h.members[1]
			v := m.fsm.View()
			defer v.Close()
			return m.refill.upTo.Load() >= v.Tables.Applied().Index-10 && m.refill.status().Missing == 0
		})
	}
	done()
	h.stop(1)
	h.start(1)
	h.ready()
	done()
	if n := h.members[1].refill.looked.Load(); n > 5 {
		t.Errorf("looked at %d rows after an orderly restart", n)
	}
	h.members[1].refill.restored()
	h.until("all rows are looked at", func() bool { return h.members[1].refill.looked.Load() >= 40 })
	done()
	h.propose(fsm.KindTick, fsm.Tick{})
}

// A new member votes when it has the content of undelivered mail. Its Safety
// Net is filled afterwards, slowly here, and nobody takes it for filled.
func TestNewMemberVotesBeforeItsSafetyNetIsFilled(t *testing.T) {
	h := newHouse(t, 3)
	h.send(30)
	h.propose(fsm.KindQueue, fsm.QueueChange{Key: "db/DB1", Suspend: true})
	first := h.members[0]
	var waiting []mail.ID
	for range 5 {
		u, err := first.Begin(h.ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.Write(make([]byte, 100_000)); err != nil {
			t.Fatal(err)
		}
		id, err := u.Commit(h.ctx, mail.Submission{Envelope: mail.Envelope{Recipients: []string{"u1@example.test"}}})
		if err != nil {
			t.Fatal(err)
		}
		waiting = append(waiting, id)
	}
	i := h.configure(func(c *Config) { c.Content.RefillRate = "1KiB" })
	h.join(i)
	m := h.members[i]
	h.until("it votes", func() bool { return first.fsm.Settings().Voter(m.id.ID) })
	v := m.fsm.View()
	defer v.Close()
	for _, id := range waiting {
		row, ok := v.Message(id)
		if !ok {
			t.Fatalf("no row %s", id)
		}
		if _, ok := m.content.Stat(row.Content.ID); !ok {
			t.Errorf("the content of %s is not here", id)
		}
	}
	var row fsm.Member
	h.until("the state says so", func() bool {
		row = *m.fsm.Settings().Member(m.id.ID)
		return row.CompleteActive >= waiting[4].Index()
	})
	if s := m.refill.status(); s.Missing == 0 || row.Complete >= waiting[0].Index() {
		t.Errorf("%d contents are missing, and the state says complete up to %d", s.Missing, row.Complete)
	}
}
