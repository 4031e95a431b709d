package resubmit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
)

const after = 30 * time.Second

// outside is what a Watch sees: addresses that answer or not, and a leader.
type outside struct {
	mu      sync.Mutex
	targets []Target
	after   time.Duration
	down    map[string]error         // what a probe of the address says
	slow    map[string]time.Duration // how long a probe takes
	probed  map[string]int
	sent    []time.Time
	last    []Finding
	refuse  error         // of Send
	stopped time.Duration // a probe stands still for so long, deaf to its context
}

func watch(t *testing.T, targets ...Target) (*Watch, *outside) {
	o := &outside{targets: targets, after: after, down: map[string]error{}, slow: map[string]time.Duration{}, probed: map[string]int{}}
	w := &Watch{Targets: o.list, Probe: o.probe, Send: o.send, Logger: hclog.NewNullLogger()}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { w.Run(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	synctest.Wait()
	return w, o
}

func (o *outside) list() ([]Target, time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.targets, o.after
}

func (o *outside) probe(ctx context.Context, addr string) error {
	o.mu.Lock()
	o.probed[addr]++
	err, slow, stopped := o.down[addr], o.slow[addr], o.stopped
	o.mu.Unlock()
	if stopped > 0 {
		time.Sleep(stopped)
		return errors.New("timed out")
	}
	select {
	case <-time.After(slow):
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (o *outside) send(_ context.Context, found []Finding) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.refuse != nil {
		return o.refuse
	}
	o.sent, o.last = append(o.sent, time.Now()), found
	return nil
}

func (o *outside) set(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f()
}

func (o *outside) probes(addr string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.probed[addr]
}

func (o *outside) sends() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.sent)
}

// said is what the leader has been told last.
func (o *outside) said() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var b strings.Builder
	for _, f := range o.last {
		word := "healthy"
		if !f.Healthy {
			word = "fails"
		}
		fmt.Fprintf(&b, "%s/%s %s %v %s\n", f.Database, f.Copy, word, f.For.Std().Round(time.Second), f.Text)
	}
	return b.String()
}

func rest(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, o := watch(t, Target{"DB2", "b", "lmtp://b"}, Target{"DB1", "a", "lmtp://a"}, Target{"DB1", "b", "lmtp://b"})
		if got := o.said(); got != "DB1/a healthy 0s \nDB1/b healthy 0s \nDB2/b healthy 0s \n" {
			t.Errorf("at first: %s", got)
		}
		rest(time.Minute)
		if a, b := o.probes("lmtp://a"), o.probes("lmtp://b"); a != 13 || b != 13 {
			t.Errorf("probes in a minute: %d, %d; an address is probed once, however many copies it is", a, b)
		}
		if got := o.said(); got != "DB1/a healthy 1m0s \nDB1/b healthy 1m0s \nDB2/b healthy 1m0s \n" {
			t.Errorf("after a minute: %s", got)
		}
		o.set(func() { o.down["lmtp://a"] = errors.New("connection\r\nrefused") })
		rest(5 * time.Second)
		if got := o.said(); !strings.HasPrefix(got, "DB1/a fails 0s connection refused\n") {
			t.Errorf("down: %s", got)
		}
		rest(20 * time.Second)
		if got := o.said(); !strings.HasPrefix(got, "DB1/a fails 20s connection refused\nDB1/b healthy 1m25s") {
			t.Errorf("down for a while: %s", got)
		}
		o.set(func() { delete(o.down, "lmtp://a") })
		rest(5 * time.Second)
		if got := o.said(); !strings.HasPrefix(got, "DB1/a healthy 0s \n") {
			t.Errorf("back: %s", got)
		}
		o.set(func() { o.targets = []Target{{"DB1", "c", "lmtp://c"}} })
		rest(6 * time.Second)
		n := o.probes("lmtp://a")
		rest(time.Minute)
		if got := o.said(); !strings.HasPrefix(got, "DB1/c healthy") || strings.Contains(got, "DB1/a") || o.probes("lmtp://a") != n {
			t.Errorf("another copy in place of all: %s, probes %d and then %d", got, n, o.probes("lmtp://a"))
		}
		if found := w.Findings(); len(found) != 1 || found[0].Copy != "c" {
			t.Errorf("findings: %+v", found)
		}
	})
}

// A copy that takes connections and says nothing has been silent since the
// probe began, and other copies are probed meanwhile.
func TestWatchTheMute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, o := watch(t, Target{"DB1", "a", "lmtp://a"}, Target{"DB1", "b", "lmtp://b"})
		o.set(func() { o.slow["lmtp://a"] = time.Hour })
		rest(after + 3*Interval(after))
		got := o.said()
		if !strings.HasPrefix(got, "DB1/a fails 40s context deadline exceeded\nDB1/b healthy 45s") {
			t.Errorf("%s", got)
		}
		if a, b := o.probes("lmtp://a"), o.probes("lmtp://b"); a > 5 || b != 10 {
			t.Errorf("probes: %d, %d", a, b)
		}
	})
}

// Findings are sent though nothing changes, and what changes is sent at once.
func TestWatchTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, o := watch(t, Target{"DB1", "a", "lmtp://a"})
		rest(time.Second)
		told := o.sends()
		w.Tell()
		synctest.Wait()
		if o.sends() != told+1 {
			t.Error("not told when asked to")
		}
		o.set(func() { o.after = time.Second }) // interval of one second
		rest(10 * time.Second)
		n := o.sends()
		rest(10 * time.Second)
		if got := o.sends() - n; got != 10 {
			t.Errorf("sent %d times in ten seconds", got)
		}
		o.set(func() { o.refuse = errors.New("no leader"); o.down["lmtp://a"] = errors.New("gone") })
		rest(30 * time.Second)
		o.set(func() { o.refuse = nil })
		rest(time.Second)
		if got := o.said(); got != "DB1/a fails 30s gone\n" {
			t.Errorf("to the next leader: %s", got)
		}
	})
}

// A process that was stopped in a probe has learnt nothing of the copy.
func TestWatchStoodStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, o := watch(t, Target{"DB1", "a", "lmtp://a"})
		rest(time.Minute)
		o.set(func() { o.stopped = time.Minute })
		rest(70 * time.Second)
		if got := o.said(); strings.Contains(got, "fails") {
			t.Errorf("the copy is blamed: %s", got)
		}
	})
}

func TestIntervals(t *testing.T) {
	for _, c := range []struct{ after, interval, timeout time.Duration }{
		{time.Second, time.Second, 2 * time.Second}, {12 * time.Second, 2 * time.Second, 4 * time.Second},
		{30 * time.Second, 5 * time.Second, 10 * time.Second}, {24 * time.Hour, 5 * time.Second, 10 * time.Second},
	} {
		if i, to := Interval(c.after), Timeout(c.after); i != c.interval || to != c.timeout {
			t.Errorf("failover-after %v: every %v, at most %v", c.after, i, to)
		}
	}
}
