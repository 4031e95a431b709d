package resubmit

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"mailraft/mail"
)

// Bounds of probing.
const (
	intervalMin = time.Second
	intervalMax = 5 * time.Second
	probesMax   = 256 // at once
	textMax     = 200 // bytes of an error
	textsMax    = 1000
)

// Interval is how often a copy is probed, and how often findings are sent: a
// sixth of failover-after, from one second to five.
func Interval(failoverAfter time.Duration) time.Duration {
	return min(max(failoverAfter/6, intervalMin), intervalMax)
}

// Timeout is how long one probe may take.
func Timeout(failoverAfter time.Duration) time.Duration { return 2 * Interval(failoverAfter) }

// Target is a copy that is to be watched.
type Target struct {
	Database, Copy string
	Addr           string
}

// Finding is what one member finds of one copy.
type Finding struct {
	Database string        `json:"database"`
	Copy     string        `json:"copy"`
	Addr     string        `json:"address"`
	Healthy  bool          `json:"healthy"`
	For      mail.Duration `json:"for"`            // how long it has been so, without a break
	Text     string        `json:"text,omitempty"` // why not; the last error
}

// Watch probes the copies of all databases from this member, and hands on what
// it finds. Fill in the fields before Run.
type Watch struct {
	// Targets are what is to be watched now, and failover-after.
	Targets func() ([]Target, time.Duration)
	// Probe asks an address whether it could take mail now. It ends with ctx.
	Probe func(ctx context.Context, addr string) error
	// Send hands the findings to the leader.
	Send   func(ctx context.Context, found []Finding) error
	Logger hclog.Logger

	mu      sync.Mutex
	targets []Target
	after   time.Duration
	probes  map[string]*probe // by address: copies may share one
	places  chan struct{}
	kick    chan struct{} // a finding has changed
	work    sync.WaitGroup
}

// probe is what is known of one address.
type probe struct {
	addr    string
	stop    context.CancelFunc
	known   bool
	healthy bool
	since   time.Time // since when it is so
	noted   time.Time // of the last result
	text    string
}

// Run watches until ctx ends.
func (w *Watch) Run(ctx context.Context) {
	w.mu.Lock()
	w.probes, w.places, w.kick = map[string]*probe{}, make(chan struct{}, probesMax), make(chan struct{}, 1)
	w.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer w.work.Wait()
	defer cancel()
	for ctx.Err() == nil {
		every := w.follow(ctx)
		begin := time.Now()
		w.send(ctx, every)
		w.pause(ctx, every-time.Since(begin))
	}
}

// follow begins to probe what is new and stops with what is gone.
func (w *Watch) follow(ctx context.Context) time.Duration {
	targets, after := w.Targets()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.targets, w.after = targets, after
	wanted := map[string]bool{}
	for _, t := range targets {
		wanted[t.Addr] = true
		if w.probes[t.Addr] == nil {
			p := &probe{addr: t.Addr}
			w.probes[t.Addr] = p
			var probing context.Context
			probing, p.stop = context.WithCancel(ctx)
			w.work.Go(func() { w.repeat(probing, p) })
		}
	}
	for addr, p := range w.probes {
		if !wanted[addr] {
			p.stop()
			delete(w.probes, addr)
		}
	}
	return Interval(after)
}

// pause waits for the next time to send; a finding that changed does not wait.
func (w *Watch) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(max(d, intervalMin/10))
	defer t.Stop()
	select {
	case <-t.C:
	case <-w.kick:
	case <-ctx.Done():
	}
}

func (w *Watch) send(ctx context.Context, within time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if err := w.Send(ctx, w.Findings()); err != nil && !errors.Is(ctx.Err(), context.Canceled) {
		w.Logger.Debug("the leader is not told of the copies", "error", err)
	}
}

// repeat probes one address until ctx ends.
func (w *Watch) repeat(ctx context.Context, p *probe) {
	for ctx.Err() == nil {
		w.mu.Lock()
		after := w.after
		w.mu.Unlock()
		if !w.enter(ctx) {
			return
		}
		begin, timeout := time.Now(), Timeout(after)
		err := w.once(ctx, p.addr, timeout)
		<-w.places
		if ctx.Err() != nil {
			return
		}
		took := time.Since(begin)
		if took > 2*timeout {
			// This process stood still, not the copy: nothing was learnt.
			w.forget(p)
			continue
		}
		w.note(p, begin, err, after)
		select {
		case <-time.After(max(Interval(after)-took, Interval(after)/4)):
		case <-ctx.Done():
		}
	}
}

// enter waits for a place among the probes that run.
func (w *Watch) enter(ctx context.Context) bool {
	select {
	case w.places <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (w *Watch) once(ctx context.Context, addr string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return w.Probe(ctx, addr)
}

func (w *Watch) forget(p *probe) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p.known = false
}

// note takes a result. A failure counts from when the probe began: for so long
// nobody has answered.
func (w *Watch) note(p *probe, begin time.Time, err error, after time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	broken := now.Sub(p.noted) > 2*(Interval(after)+Timeout(after)) // nobody has looked for a while
	if !p.known || broken || p.healthy != (err == nil) {
		p.since = now
		if err != nil {
			p.since = begin
		}
		if p.known && err != nil && p.healthy {
			w.Logger.Warn("a copy does not answer", "address", p.addr, "error", err)
		} else if p.known && err == nil && !p.healthy {
			w.Logger.Info("a copy answers again", "address", p.addr)
		}
		w.tell()
	}
	p.known, p.healthy, p.noted, p.text = true, err == nil, now, ""
	if err != nil {
		p.text = clip(err.Error())
	}
}

// Tell sends the findings now; nothing while the Watch does not run.
func (w *Watch) Tell() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tell()
}

// tell is Tell. The caller holds mu.
func (w *Watch) tell() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// clip bounds the text of an error, and keeps it on one line.
func clip(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > textMax {
		s = s[:textMax]
	}
	return strings.ToValidUTF8(s, "")
}

// Findings are what this member finds now, by database and copy. What was not
// probed yet is not among them.
func (w *Watch) Findings() []Finding {
	w.mu.Lock()
	defer w.mu.Unlock()
	now, texts := time.Now(), 0
	found := []Finding{}
	for _, t := range w.targets {
		p := w.probes[t.Addr]
		if p == nil || !p.known {
			continue
		}
		f := Finding{Database: t.Database, Copy: t.Copy, Addr: t.Addr, Healthy: p.healthy,
			For: mail.Duration(now.Sub(p.since).Milliseconds())}
		if p.text != "" && texts < textsMax { // all of them must fit one request
			texts++
			f.Text = p.text
		}
		found = append(found, f)
	}
	slices.SortFunc(found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Database, b.Database), cmp.Compare(a.Copy, b.Copy))
	})
	return found
}
