package deliver

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailraft/mail"
)

// silent answers nothing for as long as a connection may take.
func silent(ctx context.Context, a *Attempt) []Answer {
	select {
	case <-time.After(5 * time.Minute):
	case <-ctx.Done():
	}
	return down(a)
}

// Hundreds of destinations that never answer, mail for each: the one that does
// gets its mail at its rate, as soon as it is known, and is known soon.
func TestManySilentDestinations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.deliver = func(ctx context.Context, a *Attempt) []Answer {
			if a.Destination.Key != "live" {
				return silent(ctx, a)
			}
			time.Sleep(10 * time.Millisecond)
			return reply(a, 250, "2.0.0")
		}
		for n := range 220 {
			for range 3 {
				w.add(fmt.Sprintf("silent%d", n), 1)
			}
		}
		w.add("live", 1) // the last in line
		d := w.start(t)
		rest(30 * time.Second)
		if n := w.results()[mail.Delivered]; n != 1 {
			t.Fatalf("%d delivered while the others are found out: %+v", n, d.Status())
		}
		for range 1000 {
			w.add("live", 1)
		}
		rest(2 * time.Second)
		if n := w.results()[mail.Delivered]; n != 1001 {
			t.Fatalf("%d delivered", n)
		}
		if n := d.Status().Running; n > (lamesMax+1)*runningMax {
			t.Errorf("%d deliveries at once", n)
		}
	})
}

// A few tarpits with mail for many recipients each take neither all places nor
// all recipients that may be open.
func TestTarpits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.deliver = func(_ context.Context, a *Attempt) []Answer {
			if a.Destination.Key != "live" {
				time.Sleep(2 * time.Minute)
			}
			return reply(a, 250, "2.0.0")
		}
		for n := range 20 {
			for range 200 {
				w.add(fmt.Sprintf("tarpit%d", n), 100)
			}
		}
		w.add("live", 1)
		d := w.start(t)
		for range 20 {
			rest(time.Minute)
			before := w.results()[mail.Delivered]
			tarred := w.tried("live")
			for range 100 {
				w.add("live", 1)
			}
			rest(10 * time.Second)
			if n := w.tried("live") - tarred; n != 100 {
				t.Fatalf("%d of 100 delivered in ten seconds, %d before, %d open", n, before, d.Status().Open)
			}
		}
	})
}

// A server with a limit on connections is used up to it, and asked for more
// now and then; what it did not let in has lost no attempt.
func TestCrowded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		var mu sync.Mutex
		open, refused, top := 0, 0, 0
		w.deliver = func(_ context.Context, a *Attempt) []Answer {
			mu.Lock()
			if open == 4 {
				refused++
				mu.Unlock()
				answers := down(a)
				answers[0].Busy = true
				return answers
			}
			open++
			top = max(top, open)
			mu.Unlock()
			time.Sleep(100 * time.Millisecond)
			mu.Lock()
			open--
			mu.Unlock()
			return reply(a, 250, "2.0.0")
		}
		for range 4000 {
			w.add("db", 1)
		}
		w.start(t)
		rest(2 * time.Minute)
		got := w.results()
		if got[mail.Delivered] != 4000 || got[mail.Deferred] != 0 || top != 4 || refused > 10 {
			t.Fatalf("%v, %d at once, %d refused", got, top, refused)
		}
	})
}

// A host that others have filled is no failure of this destination.
func TestNotLetIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		asked := 0
		w.deliver = func(_ context.Context, a *Attempt) []Answer {
			if asked++; asked < 10 {
				return []Answer{{Busy: true}}
			}
			return reply(a, 250, "2.0.0")
		}
		w.add("db", 1)
		w.start(t)
		rest(9*crowdedWait - 100*time.Millisecond)
		if n := len(w.results()); n != 0 {
			t.Fatalf("%v", w.results())
		}
		rest(time.Second)
		if n := w.results()[mail.Delivered]; n != 1 || asked != 10 {
			t.Fatalf("%v after %d", w.results(), asked)
		}
	})
}
