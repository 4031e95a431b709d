package deliver

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailraft/mail"
)

// fists is a Hand that remembers.
type fists struct {
	mu   sync.Mutex
	in   map[mail.ID]bool
	most int // suspects at once
	now  int
}

func (h *fists) Take(id mail.ID, suspect bool) func() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.in[id] = true
	if suspect {
		h.now++
		h.most = max(h.most, h.now)
	}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.in, id)
		if suspect {
			h.now--
		}
	}
}

// A message is in hand from before its delivery until its outcome is known.
// Suspects are handled one at a time, beside all others; one that is slow does
// not hold the rest up.
func TestSuspectsAreAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, h := newWorld(), &fists{in: map[mail.ID]bool{}}
		w.deliver = func(_ context.Context, a *Attempt) []Answer {
			if h.mu.Lock(); !h.in[a.ID] {
				t.Error("delivered and not in hand")
			}
			h.mu.Unlock()
			time.Sleep(time.Second)
			if a.Suspect && a.Fields.Subject == "slow" {
				time.Sleep(time.Hour)
			}
			return reply(a, 250, "2.0.0")
		}
		c := w.config()
		c.Hand = h
		d := Start(c)
		for i := range 6 {
			w.add(fmt.Sprintf("DB%d", i), 1, func(j *Job) { j.Suspect = true })
			w.add("other", 1)
		}
		rest(5 * time.Second)
		if h.most != 1 {
			t.Errorf("%d suspects at once", h.most)
		}
		if n := w.waiting("other"); n != 0 {
			t.Errorf("%d others wait", n)
		}
		rest(5 * time.Second)
		w.add("slow", 1, func(j *Job) { j.Suspect, j.Fields.Subject = true, "slow" })
		rest(time.Second)
		w.add("last", 1, func(j *Job) { j.Suspect = true })
		rest(5 * time.Second)
		if w.tried("last") != 0 {
			t.Error("a suspect was not alone")
		}
		rest(10 * time.Second)
		if w.waiting("last") != 0 || w.waiting("slow") != 1 {
			t.Error("a slow suspect holds up the next one")
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Hour)
		defer cancel()
		d.Stop(ctx)
		if len(h.in) != 0 {
			t.Errorf("in hand at the end: %v", h.in)
		}
	})
}

// A suspect that has to wait does not hold up who is behind it in its queue.
func TestWaitingSuspectIsPassedBy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.deliver = func(_ context.Context, a *Attempt) []Answer {
			if a.Destination.Key == "slow" {
				time.Sleep(time.Minute)
			}
			return reply(a, 250, "2.0.0")
		}
		w.add("slow", 1, func(j *Job) { j.Suspect = true })
		w.start(t)
		rest(time.Second)
		for range 3 {
			w.add("DB1", 1, func(j *Job) { j.Suspect = true })
		}
		w.add("DB1", 1)
		rest(time.Second)
		if n := w.waiting("DB1"); n != 3 {
			t.Errorf("%d wait", n)
		}
		rest(10 * time.Second)
		if n := w.waiting("DB1"); n != 0 {
			t.Errorf("%d still wait", n)
		}
	})
}

// Who is bounced or redirected while he is being delivered is not given up, nor
// tried elsewhere, before that delivery has had its say.
func TestOneWordAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.deaf = true // its rows are one message to us, and none to it
		w.deliver = func(_ context.Context, a *Attempt) []Answer {
			time.Sleep(time.Minute)
			return reply(a, 250, "2.0.0")
		}
		w.start(t)
		j := w.add("DB1", 2)
		rest(time.Second)
		same := func(c *Job) { c.ID = j.ID }
		w.add("fail", 1, same, func(c *Job) { c.Destination, c.Recipients[0].Index = Destination{Key: "fail"}, 1 })
		w.add("DB2", 1, same, func(c *Job) { c.Recipients[0] = Recipient{Index: 2, Address: "r0@example.test", After: []int{0}} })
		w.add("DB3", 1, same, func(c *Job) { c.Recipients[0].Index = 3 })
		rest(30 * time.Second)
		if w.tried("DB2") != 0 || len(w.reports) != 0 || w.tried("DB3") != 1 {
			t.Errorf("tried %v, reports %v", w.attempts, w.reports)
		}
	})
}

// A panic, a wrong number of answers and content that is damaged everywhere are
// faults; what a server says and what cannot be reached are not, nor is content
// that cannot be read now. A fault is never a reason to give up, and neither is
// that.
func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		deliver func(*Attempt) []Answer
		fault   bool
	}{
		"panic":      {func(*Attempt) []Answer { panic("odd") }, true},
		"miscounted": {func(*Attempt) []Answer { return nil }, true},
		"damaged": {func(a *Attempt) []Answer {
			r, err := a.Open()
			if err == nil {
				_, err = io.ReadAll(r)
			}
			return reply(a, 451, fmt.Sprint(err)[:5])
		}, true},
		"not there": {func(a *Attempt) []Answer {
			_, err := a.Open()
			return reply(a, 451, fmt.Sprint(err)[:5])
		}, false},
		"refused": {func(a *Attempt) []Answer { return reply(a, 451, "4.2.0") }, false},
		"down":    {func(a *Attempt) []Answer { return down(a) }, false},
	} {
		for _, old := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.damaged, w.absent = name == "damaged", name == "not there"
				w.deliver = func(_ context.Context, a *Attempt) []Answer { return c.deliver(a) }
				w.start(t)
				w.add("DB1", 1, func(j *Job) {
					if old {
						j.Accepted, j.Expires = j.Accepted.Add(-72*time.Hour), j.Accepted.Add(-24*time.Hour)
					}
				})
				rest(time.Second)
				if len(w.reports) == 0 {
					t.Fatalf("%s: no report", name)
				}
				o := w.reports[0].Outcomes[0]
				want := mail.Deferred
				if old && !c.fault && !w.absent {
					want = mail.Expired
				}
				if o.Fault != c.fault || o.Result != want {
					t.Errorf("%s, old %t: %+v", name, old, o)
				}
			})
		}
	}
}
