package resubmit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"

	"mailraft/mail"
)

// Bounds of driving.
const (
	pieceRows  = 64   // deliveries that one piece looks at
	pendingMax = 2000 // recipients of one request that are sent to and not finished
	driveEvery = 200 * time.Millisecond
	errorMin   = 100 * time.Millisecond // pause after an error
	errorMax   = 5 * time.Second
	hearTime   = 2 * intervalMax // a new leader has heard of all members by then
)

// Request is a resubmit request that is not ended, its shadow requests with it.
type Request struct {
	ID         uint64
	Activation bool // made by an activation
	Rate       int  // recipients a second; 0: the parameter alone
	Suspended  bool
	Auto       bool // suspended by back pressure
	Ready      bool // Advance would do something now
	Waking     bool // that is to let mail that waits for the database be tried at once
	Pending    int  // recipients sent to that have no outcome yet
}

// Piece is what one piece of a request has done.
type Piece struct {
	Made int  // recipients sent to
	More bool // another piece can follow at once
}

// Requests are what a Driver moves on, in one term of its member. Proposals are
// refused once the term is over.
type Requests interface {
	// Open lists the requests that are not ended, and resubmit-rate.
	Open() (list []Request, rate int)
	// Advance sends the next piece of a request: of at most so many deliveries.
	Advance(ctx context.Context, id uint64, rows int) (Piece, error)
	// Suspend suspends a request on account of back pressure, or resumes one
	// that was suspended so.
	Suspend(ctx context.Context, id uint64, on bool, reason string) error
}

// Driver moves resubmit requests on, on the leader: those of activations first,
// then the oldest, one piece at a time, at the rate that they may have. It
// stops each before its queue gets long, and all of them under back pressure.
type Driver struct {
	pressure func() (Level, string)
	log      hclog.Logger
}

// NewDriver makes a Driver; pressure is the highest level among the members,
// and why. It drives with Run.
func NewDriver(pressure func() (Level, string), log hclog.Logger) *Driver {
	return &Driver{pressure: pressure, log: log}
}

// drive is one term's work.
type drive struct {
	*Driver
	r     Requests
	all   bucket             // resubmit-rate
	own   map[uint64]*bucket // of those with a rate of their own
	empty map[uint64]bool    // by id: the last piece made nothing
	tired map[uint64]time.Time
	wait  time.Duration // after an error
	began time.Time
}

// Run drives until ctx, the term, ends.
func (d *Driver) Run(ctx context.Context, r Requests) {
	w := drive{Driver: d, r: r, own: map[uint64]*bucket{}, empty: map[uint64]bool{}, tired: map[uint64]time.Time{}, began: time.Now()}
	for ctx.Err() == nil {
		pause, err := w.step(ctx)
		if err != nil && ctx.Err() == nil {
			w.wait = min(max(2*w.wait, errorMin), errorMax)
			w.log.Debug("not done, will be tried again", "error", err, "in", w.wait)
			pause = w.wait
		} else {
			w.wait = 0
		}
		if pause <= 0 {
			continue
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// step does one piece, if any may be done, and returns when to come again.
func (w *drive) step(ctx context.Context) (time.Duration, error) {
	list, rate := w.r.Open()
	if len(list) == 0 {
		clear(w.own)
		clear(w.empty)
		clear(w.tired)
		return driveEvery, nil
	}
	level, reason := w.pressure()
	if err := w.yield(ctx, list, level, reason); err != nil {
		return driveEvery, err
	}
	if level >= Medium { // mail that may go keeps the queue no longer than mail that waits
		list = slices.DeleteFunc(list, func(q Request) bool { return !q.Waking })
	}
	now := time.Now()
	w.all.fill(now, rate)
	next, pause := w.choose(list, now)
	if next == nil {
		return pause, nil
	}
	return w.advance(ctx, next, now)
}

// yield suspends what sends under pressure, and resumes it afterwards; a new
// leader not before it can have heard of all members.
func (w *drive) yield(ctx context.Context, list []Request, level Level, reason string) error {
	on := level >= Medium
	if !on && time.Since(w.began) < hearTime {
		return nil
	}
	for _, q := range list {
		if on && (q.Suspended || q.Waking) || !on && !q.Auto {
			continue
		}
		err := w.r.Suspend(ctx, q.ID, on, reason)
		if err != nil && !refused(err) {
			return fmt.Errorf("back pressure on request %d: %w", q.ID, err)
		}
		if err == nil {
			w.log.Info("back pressure", "request", q.ID, "suspended", on, "reason", reason)
		}
	}
	return nil
}

func refused(err error) bool {
	r := (*mail.Reply)(nil)
	return errors.As(err, &r)
}

// choose picks the request whose turn it is; none: there is nothing to do for
// the time returned.
func (w *drive) choose(list []Request, now time.Time) (*Request, time.Duration) {
	class := func(q Request) int {
		if q.Activation {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(list, func(a, b Request) int { return cmp.Or(cmp.Compare(class(a), class(b)), cmp.Compare(a.ID, b.ID)) })
	pause := driveEvery
	for i := range list {
		q := &list[i]
		if q.Suspended || !q.Ready || q.Pending+pieceRows > pendingMax || now.Before(w.tired[q.ID]) {
			continue
		}
		wait := w.all.wait()
		if q.Rate > 0 {
			b := w.bucket(q.ID)
			b.fill(now, q.Rate)
			wait = max(wait, b.wait())
		}
		if wait <= 0 {
			return q, 0
		}
		pause = min(pause, wait)
	}
	return nil, pause
}

func (w *drive) bucket(id uint64) *bucket {
	b := w.own[id]
	if b == nil {
		b = &bucket{}
		w.own[id] = b
	}
	return b
}

// advance does a piece of a request. Messages are paid for after they were
// made: nobody knows before how many of the deliveries are left out. So a piece
// is as large as can be paid for, but whole where the last one made nothing.
func (w *drive) advance(ctx context.Context, q *Request, now time.Time) (time.Duration, error) {
	rows := pieceRows
	if !w.empty[q.ID] {
		rows = min(rows, w.all.whole())
		if q.Rate > 0 {
			rows = min(rows, w.bucket(q.ID).whole())
		}
	}
	p, err := w.r.Advance(ctx, q.ID, rows)
	if refused(err) {
		// It ended meanwhile, or the state knows better; others go on.
		w.log.Debug("a request was not moved on", "request", q.ID, "error", err)
		w.tired[q.ID] = now.Add(errorMax)
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("advance request %d: %w", q.ID, err)
	}
	w.all.take(p.Made)
	if q.Rate > 0 {
		w.bucket(q.ID).take(p.Made)
	}
	w.empty[q.ID] = p.Made == 0 && !q.Waking
	if !p.More {
		w.tired[q.ID] = now.Add(driveEvery)
	}
	return 0, nil
}

// bucket holds what may be sent now: it fills at a rate, up to what a beat
// brings, and may be overdrawn by one piece.
type bucket struct {
	tokens float64
	rate   int
	filled time.Time
}

func (b *bucket) fill(now time.Time, rate int) {
	most := max(1, float64(rate)*driveEvery.Seconds())
	if b.filled.IsZero() {
		b.tokens = most
	}
	b.tokens = min(most, b.tokens+now.Sub(b.filled).Seconds()*float64(rate))
	b.rate, b.filled = rate, now
}

// wait is how long until it is worth while to send some: a twentieth of a
// second's, but a piece at most; 0: now.
func (b *bucket) wait() time.Duration {
	need := float64(min(max(b.rate/20, 1), pieceRows))
	if b.tokens >= need || b.rate <= 0 {
		return 0
	}
	return max(time.Duration((need-b.tokens)/float64(b.rate)*float64(time.Second)), time.Millisecond)
}

func (b *bucket) whole() int { return max(1, int(b.tokens)) }

func (b *bucket) take(n int) { b.tokens -= float64(n) }
