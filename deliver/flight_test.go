package deliver

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"mailraft/mail"
)

// A database is activated elsewhere while messages are on their way to the old
// copy: whatever that does, they are delivered to the new one, and soon.
func TestActivationInFlight(t *testing.T) {
	const old, fresh = "lmtp://db/DB1", "lmtp://new"
	for name, c := range map[string]struct {
		old      func(ctx context.Context, a *Attempt) []Answer // how the old copy takes it
		soon     time.Duration                                  // after the activation
		reported map[mail.Result]int
	}{
		"mute": {func(ctx context.Context, a *Attempt) []Answer {
			<-ctx.Done()
			return down(a)
		}, time.Second, map[mail.Result]int{mail.Delivered: 10}},
		"hangs, whatever is done": {func(_ context.Context, a *Attempt) []Answer {
			time.Sleep(time.Hour)
			if a.Final() == nil {
				t.Error("a final step at a copy that was replaced")
			}
			return reply(a, 250, "2.0.0")
		}, recallWait + time.Second, map[mail.Result]int{mail.Delivered: 10}},
		"takes it, and is slow to say so": {func(_ context.Context, a *Attempt) []Answer {
			if a.Final() != nil {
				t.Error("no final step before the activation")
			}
			time.Sleep(4 * time.Second)
			return reply(a, 250, "2.0.0")
		}, 4 * time.Second, map[mail.Result]int{mail.Delivered: 20}},
		"was asked, and does not say": {func(ctx context.Context, a *Attempt) []Answer {
			if a.Final() != nil {
				t.Error("no final step before the activation")
			}
			<-ctx.Done()
			answers := reply(a, 451, "4.4.2")
			for i := range answers {
				answers[i].Uncertain = true
			}
			return answers
		}, time.Second, map[mail.Result]int{mail.Delivered: 10}},
		"refuses for good, dying": {func(_ context.Context, a *Attempt) []Answer {
			time.Sleep(4 * time.Second)
			return reply(a, 550, "5.2.1")
		}, 4 * time.Second, map[mail.Result]int{mail.Delivered: 10}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				at := map[string]int{}
				w.deliver = func(ctx context.Context, a *Attempt) []Answer {
					if a.Destination.Addr == old {
						return c.old(ctx, a)
					}
					if a.Final() != nil {
						t.Error("no final step at the new copy")
					}
					w.mu.Lock()
					at[a.Destination.Addr]++
					w.mu.Unlock()
					return reply(a, 250, "2.0.0")
				}
				d := w.start(t)
				for range 10 {
					w.add("db/DB1", 1)
				}
				d.mu.Lock()
				d.circuit(Destination{Key: "db/DB1", Addr: old, Activation: 1}).width = 10
				d.mu.Unlock()
				rest(time.Second)
				w.activate("db/DB1", fresh)
				rest(c.soon)
				w.mu.Lock()
				arrived := at[fresh]
				w.mu.Unlock()
				if n := w.waiting("db/DB1"); n != 0 || arrived != 10 {
					t.Errorf("%d of ten wait, %d were delivered to the new copy", n, arrived)
				}
				rest(2 * time.Hour)
				for r, n := range w.results() {
					if n != c.reported[r] {
						t.Errorf("reported %d %s, want %d", n, r, c.reported[r])
					}
				}
				s := d.Status()
				if s.Running != 0 || s.Open != 0 || len(s.Destinations) != 1 || s.Destinations[0].Addr != fresh {
					t.Errorf("afterwards: %+v", s)
				}
			})
		})
	}
}

// A job that hung at the old copy ends while the same message is under way to
// the new one: they are two.
func TestLeftBehindIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.deliver = func(_ context.Context, a *Attempt) []Answer {
			if a.Destination.Activation == 1 {
				time.Sleep(20 * time.Second)
			} else {
				time.Sleep(time.Minute)
			}
			return reply(a, 250, "2.0.0")
		}
		j := w.add("db/DB1", 3)
		d := w.start(t)
		rest(time.Second)
		w.activate("db/DB1", "lmtp://new")
		rest(30 * time.Second) // the first has ended by now
		if s := d.Status(); s.Running != 1 || s.Open != 3 || !d.InFlight(j.ID) {
			t.Errorf("while the second runs: %+v", s)
		}
		rest(time.Minute)
		if n := w.results()[mail.Delivered]; n != 3 || w.tried("db/DB1") != 2 {
			t.Errorf("%d delivered in %d attempts", n, w.tried("db/DB1"))
		}
	})
}

// What is held back because its row did not change is not held back for
// another activation; nor is there a wait for a copy that came back.
func TestActivationHoldsNothingBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.deaf = true
		w.add("db/DB1", 1)
		d := w.start(t)
		rest(10 * time.Minute)
		before := w.tried("db/DB1")
		if before > 10 {
			t.Fatalf("tried %d times", before)
		}
		w.set(func() { w.deaf = false })
		w.activate("db/DB1", "lmtp://new")
		rest(time.Second)
		if w.waiting("db/DB1") != 0 {
			t.Error("held back by what was delivered to the old copy")
		}

		w.set(func() { w.deliver = func(_ context.Context, a *Attempt) []Answer { return down(a) } })
		w.add("db/DB2", 1)
		rest(time.Hour)
		w.set(func() { w.deliver = func(_ context.Context, a *Attempt) []Answer { return reply(a, 250, "2.0.0") } })
		w.activate("db/DB2", "lmtp://db/DB2") // restored where it was
		rest(time.Second)
		if w.waiting("db/DB2") != 0 {
			t.Error("the circuit of the last activation is still open")
		}
		if n := len(d.Status().Destinations); n != 2 {
			t.Errorf("%d destinations are remembered", n)
		}
	})
}

// A queue of resubmissions has a small share, however much waits in it.
func TestResubmissionsYield(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.deliver = func(_ context.Context, a *Attempt) []Answer {
			time.Sleep(100 * time.Millisecond)
			return reply(a, 250, "2.0.0")
		}
		for range 200 {
			w.add("resubmit/DB1", 1, func(j *Job) { j.Destination.Yields = true })
		}
		d := w.start(t)
		for most := 0; ; {
			rest(50 * time.Millisecond)
			s := d.Status()
			most = max(most, s.Running)
			if w.waiting("resubmit/DB1") == 0 {
				if most != yieldingMax {
					t.Errorf("%d at once", most)
				}
				break
			}
		}
	})
}
