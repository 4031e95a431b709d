package simulation

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// counts are the figures of a run.
type counts struct {
	acked     atomic.Int64 // messages acknowledged
	refused   atomic.Int64 // attempts told 4xx for certain
	delivered atomic.Int64 // recipients that the mailbox server took
	crashes   atomic.Int64
	stops     atomic.Int64 // processes that stopped themselves
	marks     atomic.Int64 // comparisons of state hashes
	takeovers atomic.Int64 // members declared down
	snapshots atomic.Int64 // installed
	notices   atomic.Int64 // non-delivery reports that arrived

	mu      sync.Mutex
	faults  map[string]int
	windows map[string]int // duplicates, by what explains them
}

func (c *counts) fault(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.faults == nil {
		c.faults = map[string]int{}
	}
	c.faults[name]++
}

func (c *counts) duplicate(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.windows == nil {
		c.windows = map[string]int{}
	}
	c.windows[why]++
}

// window explains why the mailbox server got a message again: the outcome of
// the first delivery was not part of the state when the second began, which
// the referee has made sure of, because...
func (c *counts) window(first delivery, second *process) {
	switch {
	case first.uncertain:
		c.duplicate("its answer was lost")
	case first.by.dead():
		c.duplicate("who delivered it crashed")
	case first.by != second:
		c.duplicate("who delivered it was taken for down")
	default:
		c.duplicate("NOT EXPLAINED: delivered again by the same process")
	}
}

// Result is what a run came to.
type Result struct {
	Virtual    time.Duration
	Acked      int64
	Delivered  int64
	Crashes    int64
	Stops      int64
	Marks      int64
	Takeovers  int64
	Snapshots  int64
	Notices    int64
	Faults     map[string]int
	Duplicates map[string]int
	Violations []string
}

// String is the figures in one line.
func (r Result) String() string {
	faults := 0
	for _, n := range r.Faults {
		faults += n
	}
	var windows []string
	for _, why := range slices.Sorted(maps.Keys(r.Duplicates)) {
		windows = append(windows, fmt.Sprintf("%d (%s)", r.Duplicates[why], why))
	}
	var done []string
	for _, what := range memberChanges {
		if n := r.Faults[what]; n > 0 {
			done = append(done, fmt.Sprintf("%d × %s", n, what))
		}
	}
	return fmt.Sprintf("%v virtual, %d acknowledged, %d delivered, %d faults (%s), %d crashes, %d stops, %d takeovers, %d snapshots, %d notices, %d marks; duplicates: %s",
		r.Virtual.Round(time.Second), r.Acked, r.Delivered, faults, strings.Join(done, ", "), r.Crashes, r.Stops, r.Takeovers, r.Snapshots, r.Notices, r.Marks, strings.Join(windows, ", "))
}

// Run simulates one boundary. It must be called in a synctest bubble.
func Run(o Options) Result {
	w := newWorld(o)
	if err := w.found(); err != nil {
		w.violate("%v", err)
	} else {
		w.live()
		w.heal()
		w.ops.finish()
		w.check()
	}
	for _, m := range w.machines {
		m.stop()
	}
	w.tasks.Wait()
	w.net.tasks.Wait()
	c := &w.count
	return Result{Virtual: time.Since(w.began), Acked: c.acked.Load(), Delivered: c.delivered.Load(), Crashes: c.crashes.Load(), Stops: c.stops.Load(),
		Marks: c.marks.Load(), Takeovers: c.takeovers.Load(), Snapshots: c.snapshots.Load(), Notices: c.notices.Load(), Faults: c.faults, Duplicates: c.windows, Violations: w.violations}
}

// live lets clients work while things break.
func (w *world) live() {
	if w.Without == "sync" {
		for _, m := range w.machines {
			m.device().set(diskUnsafe)
		}
	}
	stop := make(chan struct{})
	var work sync.WaitGroup
	for n := range w.Clients {
		work.Go(func() { w.client(n, stop) })
	}
	work.Go(func() { w.watch(stop) })
	work.Go(func() { w.compare(stop) })
	work.Go(func() { w.revive(stop) })
	if w.Only == "" {
		w.ops.wg.Go(func() { w.ops.run(stop) })
	}
	f := &faults{world: w, rng: rand.New(rand.NewPCG(uint64(w.Seed), 0)), stop: stop, end: time.Now().Add(w.Length)}
	f.run()
	close(stop)
	work.Wait()
}
