package member

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mailraft/cluster/replica"
	"mailraft/mail"
)

// refill fetches the content that rows name and this member lacks: what is to
// be delivered first, then what fewest members were known to have, newest
// first. It knows up to which applied index nothing is missing: what the
// leader goes by when it chooses who may take a message over.
//
// What was looked at, and what is missing of it, is in a row of this member's
// own (refill_scan.go), so that a restart does not begin anew.
type refill struct {
	m     *Engine
	upTo  atomic.Uint64 // content is complete up to this index
	dueTo atomic.Uint64 // and that of active messages up to this one
	reset atomic.Bool   // all rows are to be looked at
	pace  pace
	scan  scan // owned by run

	looked atomic.Int64 // rows, since the start

	mu      sync.Mutex
	missing map[mail.ContentID]*absent // guarded by mu
	due     []*absent                  // to be delivered; guarded by mu
	idle    []*absent                  // of finished messages; guarded by mu
	parked  int                        // of both: could not be fetched yet; guarded by mu
	survey  survey                     // guarded by mu
	counts  RefillCounts               // guarded by mu
}

// RefillCounts is what was done since the member was started.
type RefillCounts struct {
	Fetched      int64 // contents
	FetchedBytes int64
	Damaged      int64 // copies here that did not pass their checksums
	Repaired     int64 // of these, fetched again
}

// absent is a content that is not here.
type absent struct {
	content mail.Content
	row     mail.ID // the first row that names it; zero: not known
	active  bool
	damaged bool // it was here
	lost    bool // it was given up: nobody waits for it
	copies  int  // members that had it when it was accepted
	since   time.Time
	tries   int
	nowhere int // how often in a row all other members have said that they lack it
}

const (
	refillEvery = 250 * time.Millisecond
	// uploadGrace is how long a missing content may still come by itself: the
	// entry overtakes the last bytes when this member is not in the majority
	// that the entry waited for.
	uploadGrace = 2 * time.Second
	saveEvery   = 2 * time.Second
	retryMost   = time.Minute // between two tries of what nobody up has
	fetchesMax  = 4
	fetchTime   = 5 * time.Minute
	windowMax   = 2000    // contents known to be missing and not yet tried
	parkedMax   = 100_000 // that could not be fetched yet
)

func newRefill(m *Engine) *refill {
	return &refill{m: m, missing: map[mail.ContentID]*absent{}, pace: pace{rate: m.cfg.Content.refillRate}}
}

func (r *refill) complete() (all, active uint64) {
	all = r.upTo.Load()
	return all, max(all, r.dueTo.Load())
}

// restored is told that the state was replaced, or content lost: what the
// state names is looked for from the beginning.
func (r *refill) restored() { r.reset.Store(true) }

// lost notes a content that was here and is damaged.
func (r *refill) lost(id mail.ContentID) {
	v := r.m.fsm.View()
	c, ok := v.HasContent(id)
	v.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts.Damaged++
	if ok && r.missing[id] == nil {
		r.want(&absent{content: c, active: true, damaged: true})
	}
}

// want puts a content into its queue. The caller holds mu.
func (r *refill) want(a *absent) {
	r.missing[a.content.ID] = a
	if a.active {
		r.due = append(r.due, a)
	} else {
		r.idle = append(r.idle, a)
	}
}

// full reports whether enough is known to be missing for now.
func (r *refill) full(window int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.missing)-r.parked >= window || r.parked >= parkedMax
}

// take takes the first content whose time has come; nil: none.
func (r *refill) take() *absent {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, q := range []*[]*absent{&r.due, &r.idle} {
		for i, a := range *q {
			wait := min(uploadGrace<<min(a.tries, 8), retryMost)
			if time.Since(a.since) < wait {
				continue
			}
			*q = slices.Delete(*q, i, i+1)
			return a
		}
	}
	return nil
}

func (r *refill) isDue(a *absent) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return a.active
}

func (r *refill) fetch() {
	for r.m.ctx.Err() == nil {
		a := r.take()
		if a == nil {
			r.m.pause(refillEvery)
			continue
		}
		if r.isDue(a) || r.pace.wait(r.m.ctx, a.content.Size) {
			r.fetchOne(a)
		}
	}
}

func (r *refill) run() {
	for range fetchesMax {
		r.m.work.Go(r.fetch)
	}
	r.load()
	for r.m.pause(refillEvery) {
		for r.look() && r.m.ctx.Err() == nil {
		}
		r.settle()
	}
	r.save()
}

func (r *refill) fetchOne(a *absent) {
	id := a.content.ID
	_, came := r.m.content.Stat(id) // by itself
	ctx, cancel := context.WithTimeout(r.m.ctx, fetchTime)
	defer cancel()
	err := r.m.replica.Pull(ctx, a.content)
	v := r.m.fsm.View()
	_, wanted := v.HasContent(id)
	v.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil && !came {
		r.counts.Fetched++
		r.counts.FetchedBytes += a.content.Size
		r.survey.fetched(a.content.Size)
	}
	if err == nil && a.damaged {
		r.counts.Repaired++
		r.m.log.Info("damaged content was fetched again from another member", "content", id.String(), "bytes", a.content.Size)
	}
	if err == nil || !wanted || a.lost { // given up: wanted again when a member has found it
		if delete(r.missing, id); a.tries > 0 {
			r.parked--
		}
		return
	}
	if a.tries++; a.tries == 1 {
		r.parked++
	}
	if a.nowhere++; !errors.Is(err, replica.ErrNotFound) {
		a.nowhere = 0
	}
	a.since = time.Now()
	r.want(a)
	if r.m.ctx.Err() == nil {
		r.m.log.Warn("content is missing here and could not be fetched yet", "content", id.String(), "id", a.row.String(), "tries", a.tries, "error", err)
	}
}

// settle computes up to where content is complete, of all messages and of
// those that are to be delivered, and notes where the next start goes on.
func (r *refill) settle() {
	upTo, dueTo := r.scan.seen, r.scan.seen
	for _, s := range r.scan.todo {
		upTo = min(upTo, before(s.Low))
	}
	if !r.scan.active.done {
		dueTo = 0
	}
	r.mu.Lock()
	for _, a := range r.missing {
		if a.lost {
			continue
		}
		upTo = min(upTo, before(a.row))
		if a.active {
			dueTo = min(dueTo, before(a.row))
		}
	}
	r.survey.over = len(r.scan.todo) == 0
	r.mu.Unlock()
	r.upTo.Store(upTo)
	r.dueTo.Store(dueTo)
	if time.Since(r.scan.savedAt) > saveEvery {
		r.save()
	}
}

// before is the last index of which nothing lies at or behind a row.
func before(id mail.ID) uint64 { return max(id.Index(), 1) - 1 }
