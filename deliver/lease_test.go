package deliver

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// A job that was begun under one lease reaches its final step under another one:
// the message may have been taken over, and delivered, between the two.
func TestJobOutlivesItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		handed := 0
		w.deliver = func(_ context.Context, a *Attempt) []Answer {
			time.Sleep(2 * time.Minute) // a large message to a slow server
			if a.Final() != nil {
				return make([]Answer, len(a.Recipients))
			}
			handed++
			return reply(a, 250, "2.0.0")
		}
		w.add("a", 1)
		w.start(t)
		rest(time.Second)
		w.set(func() { w.lease = false; w.runs.Add(1) })               // cut off
		rest(40 * time.Second)                                         // MemberDown, Takeover, the heir delivers
		w.set(func() { clear(w.rows); clear(w.next); w.lease = true }) // MemberUp, own state says: not mine any more
		rest(5 * time.Minute)
		if handed != 0 {
			t.Errorf("handed over %d times what another member owns", handed)
		}
	})
}
