package deliver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailraft/mail"
)

// Whatever servers, lease and reports do for a while: in the end every
// recipient has exactly one final outcome, nobody whose server said 250 was
// sent the message again, and the bounds held all the time.
func TestRandom(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { randomRun(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

type chaos struct {
	dice    dice
	mu      sync.Mutex
	calm    bool
	taken   map[string]int
	running map[string]int
	fail    func(string, ...any)
}

// dice are thrown by many goroutines.
type dice struct {
	mu  sync.Mutex
	rng *rand.Rand
}

func (d *dice) intN(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.IntN(n)
}

func (c *chaos) isCalm() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calm
}

func (c *chaos) deliver(ctx context.Context, a *Attempt) []Answer {
	c.mu.Lock()
	key := a.Destination.Key
	if c.running[key]++; c.running[key] > widthMax {
		c.fail("%d deliveries at once to %s", c.running[key], key)
	}
	what, pause := c.dice.intN(12), time.Duration(c.dice.intN(3000))*time.Millisecond
	if c.calm {
		what, pause = 11, 0
	}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.running[key]--
		c.mu.Unlock()
	}()
	time.Sleep(pause)
	switch what {
	case 0:
		panic("odd")
	case 1, 2, 3:
		return down(a)
	case 4:
		return reply(a, 451, "4.2.0")
	case 5:
		return reply(a, 550, "5.1.1")
	case 6:
		return nil
	}
	if a.Final() != nil {
		return make([]Answer, len(a.Recipients))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	answers := reply(a, 250, "")
	for i, r := range a.Recipients {
		if what == 7 && i%2 == 1 {
			answers[i].Reply.Code = 452
			continue
		}
		who := a.ID.String() + "/" + fmt.Sprint(r.Index)
		if c.taken[who]++; c.taken[who] > 1 {
			c.fail("%s was delivered %d times", who, c.taken[who])
		}
	}
	return answers
}

func randomRun(t *testing.T, rng *rand.Rand) {
	w := newWorld()
	c := &chaos{dice: dice{rng: rng}, taken: map[string]int{}, running: map[string]int{}, fail: t.Errorf}
	w.deliver = c.deliver
	w.report = func([]mail.Report) error {
		if !c.isCalm() && c.dice.intN(3) == 0 {
			return errors.New("no quorum")
		}
		return nil
	}
	d := w.start(t)
	recipients := 0
	for range 200 {
		n := 1 + c.dice.intN(5)
		w.add(fmt.Sprint("db", c.dice.intN(4)), n)
		recipients += n
		if c.dice.intN(10) == 0 {
			w.set(func() { w.lease = c.dice.intN(3) > 0 })
		}
		rest(time.Duration(c.dice.intN(2000)) * time.Millisecond)
		if s := d.Status(); s.Open > openMax || s.Running > runningMax {
			t.Fatalf("bounds: %+v", s)
		}
	}
	c.mu.Lock()
	c.calm = true
	c.mu.Unlock()
	w.set(func() { w.lease = true })
	rest(2 * time.Hour)
	final := map[string]int{}
	for _, r := range w.reports {
		for _, o := range r.Outcomes {
			if o.Result.Final() {
				final[r.ID.String()+"/"+fmt.Sprint(o.Recipient)]++
			}
		}
	}
	for who, n := range final {
		if n != 1 {
			t.Errorf("%s has %d final outcomes", who, n)
		}
	}
	if s := d.Status(); len(final) != recipients || s.Open != 0 || s.Running != 0 {
		t.Errorf("%d of %d finished, %+v", len(final), recipients, s)
	}
}
