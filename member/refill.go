package member

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"mailraft/mail"
)

// refill fetches the content that rows name and this member lacks, and knows
// up to which applied index nothing is missing: what the leader goes by when
// it chooses who may take a message over.
type refill struct {
	m        *Member
	upTo     atomic.Uint64 // content is complete up to this index
	mu       sync.Mutex
	missing  map[mail.ContentID]*absent // guarded by mu
	next     mail.ID                    // rows before it were looked at; owned by run
	seen     uint64                     // index of the view that they were looked at in; owned by run
	fetching chan struct{}              // bounds the fetches under way
}

// absent is a content that is not here.
type absent struct {
	content mail.Content
	row     mail.ID // the first row that names it
	since   time.Time
	busy    bool
}

const (
	refillEvery = 250 * time.Millisecond
	// uploadGrace is how long a missing content may still come by itself: the
	// entry overtakes the last bytes when this member is not in the majority
	// that the entry waited for.
	uploadGrace = 2 * time.Second
	fetchesMax  = 4
	scanMax     = 20_000 // rows looked at in one view, which pins disk space
	fetchTime   = 5 * time.Minute
)

func newRefill(m *Member) *refill {
	return &refill{m: m, missing: map[mail.ContentID]*absent{}, fetching: make(chan struct{}, fetchesMax)}
}

func (r *refill) complete() uint64 { return r.upTo.Load() }

// lost notes a content that was here and is damaged.
func (r *refill) lost(id mail.ContentID) {
	v := r.m.fsm.View()
	c, ok := v.HasContent(id)
	v.Close()
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.missing[id] == nil {
		r.missing[id] = &absent{content: c}
	}
}

func (r *refill) run() {
	for r.m.pause(refillEvery) {
		for r.scan() && r.m.ctx.Err() == nil {
		}
		r.fetch()
		r.settle()
	}
}

// scan looks at rows that are new since the last scan; true: there are more.
// Ids sort by time and then index, and time never goes back, so new rows are
// behind old ones.
func (r *refill) scan() (more bool) {
	v := r.m.fsm.View()
	defer v.Close()
	at := v.Tables.Applied().Index
	if at == r.seen {
		return false
	}
	n := 0
	for m := range v.Messages(r.next) {
		if n++; n > scanMax {
			return true
		}
		r.next = after(m.ID)
		if _, ok := r.m.content.Stat(m.Content.ID); ok {
			continue
		}
		r.mu.Lock()
		if r.missing[m.Content.ID] == nil {
			r.missing[m.Content.ID] = &absent{content: m.Content, row: m.ID, since: time.Now()}
		}
		r.mu.Unlock()
	}
	r.seen = at
	return false
}

func after(id mail.ID) mail.ID {
	for i := len(id) - 1; i >= 0; i-- {
		if id[i]++; id[i] != 0 {
			break
		}
	}
	return id
}

// fetch begins to fetch what is missing, as far as fetches are free.
func (r *refill) fetch() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, a := range r.missing {
		if _, ok := r.m.content.Stat(id); ok {
			delete(r.missing, id)
			continue
		}
		if a.busy || time.Since(a.since) < uploadGrace {
			continue
		}
		select {
		case r.fetching <- struct{}{}:
		default:
			return
		}
		a.busy = true
		r.m.work.Go(func() { r.fetchOne(id, a) })
	}
}

func (r *refill) fetchOne(id mail.ContentID, a *absent) {
	defer func() { <-r.fetching }()
	ctx, cancel := context.WithTimeout(r.m.ctx, fetchTime)
	defer cancel()
	err := r.m.replica.Pull(ctx, a.content)
	v := r.m.fsm.View()
	_, wanted := v.HasContent(id)
	v.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	a.busy, a.since = false, time.Now()
	if err == nil || !wanted {
		delete(r.missing, id)
		return
	}
	r.m.log.Warn("content is missing here and could not be fetched yet", "content", id.String(), "id", a.row.String(), "error", err)
}

// settle computes up to where content is complete.
func (r *refill) settle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	upTo := r.seen
	for _, a := range r.missing {
		if i := a.row.Index(); i > 0 {
			upTo = min(upTo, i-1)
		} else {
			upTo = min(upTo, r.upTo.Load())
		}
	}
	r.upTo.Store(upTo)
}
