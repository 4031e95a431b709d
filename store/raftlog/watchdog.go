package raftlog

import (
	"fmt"
	"sync"
	"time"
)

// ticksMax is how many ticks a write may see: the watchdog ticks ticksMax
// times in Hang, so a write is given up between Hang and Hang plus one tick.
const ticksMax = 10

// watchdog notices writes that do not end. It counts its own ticks and never
// looks at a clock: a process that was stopped for a minute (SIGSTOP, a paused
// virtual machine) sees one late tick on waking, since a ticker does not queue
// what nobody received, and goes on; a clock would say that a minute is over.
type watchdog struct {
	hang  time.Duration
	fatal func(error)
	quit  chan struct{}
	gone  chan struct{}
	once  sync.Once

	mu      sync.Mutex
	pending map[*pending]struct{}
}

type pending struct {
	what  string
	ticks int
}

func newWatchdog(hang time.Duration, ticker func(time.Duration) *time.Ticker, fatal func(error)) *watchdog {
	w := &watchdog{
		hang: hang, fatal: fatal,
		quit: make(chan struct{}), gone: make(chan struct{}),
		pending: map[*pending]struct{}{},
	}
	go w.run(ticker(hang / ticksMax))
	return w
}

// begin registers a write; the returned function ends it.
func (w *watchdog) begin(what string) func() {
	p := &pending{what: what}
	w.mu.Lock()
	w.pending[p] = struct{}{}
	w.mu.Unlock()
	return func() {
		w.mu.Lock()
		delete(w.pending, p)
		w.mu.Unlock()
	}
}

func (w *watchdog) run(t *time.Ticker) {
	defer close(w.gone)
	defer t.Stop()
	for {
		select {
		case <-w.quit:
			return
		case <-t.C:
			if what, over := w.tick(); over {
				w.fatal(fmt.Errorf("%s: not done after %v; the disk hangs", what, w.hang))
				return
			}
		}
	}
}

// tick ages every pending write and names one that is too old.
func (w *watchdog) tick() (what string, over bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for p := range w.pending {
		if p.ticks++; p.ticks > ticksMax {
			what, over = p.what, true
		}
	}
	return what, over
}

func (w *watchdog) stop() {
	w.once.Do(func() { close(w.quit) })
	<-w.gone
}
