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
	m       *Engine
	upTo    atomic.Uint64 // content is complete up to this index
	reset   atomic.Bool   // all rows are to be looked at
	mu      sync.Mutex
	missing map[mail.ContentID]*absent // guarded by mu
	next    mail.ID                    // rows before it were looked at; owned by run
	seen    uint64                     // index of the view that they were looked at in; owned by run
	due     []*absent                  // to be fetched, in the order of rows, active ones first; guarded by mu
	idle    []*absent                  // the same, of finished messages; guarded by mu
}

// absent is a content that is not here.
type absent struct {
	content mail.Content
	row     mail.ID // the first row that names it
	active  bool
	since   time.Time
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

func newRefill(m *Engine) *refill {
	return &refill{m: m, missing: map[mail.ContentID]*absent{}}
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
		r.want(&absent{content: c, active: true})
	}
}

// restored is told that the state was replaced: what it names is looked for
// from the beginning.
func (r *refill) restored() { r.reset.Store(true) }

// want puts a content at the end of its queue. The caller holds mu.
func (r *refill) want(a *absent) {
	r.missing[a.content.ID] = a
	if a.active {
		r.due = append(r.due, a)
	} else {
		r.idle = append(r.idle, a)
	}
}

// next takes the first content that has waited for its grace; nil: none.
func (r *refill) take() *absent {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, q := range []*[]*absent{&r.due, &r.idle} {
		if len(*q) > 0 && time.Since((*q)[0].since) >= uploadGrace {
			a := (*q)[0]
			*q = (*q)[1:]
			return a
		}
	}
	return nil
}

func (r *refill) fetch() {
	for r.m.ctx.Err() == nil {
		a := r.take()
		if a == nil {
			r.m.pause(refillEvery)
			continue
		}
		r.fetchOne(a)
	}
}

func (r *refill) run() {
	for range fetchesMax {
		r.m.work.Go(r.fetch)
	}
	for r.m.pause(refillEvery) {
		for r.scan() && r.m.ctx.Err() == nil {
		}
		r.settle()
	}
}

// scan looks at rows that are new since the last scan; true: there are more.
// Ids sort by time and then index, and time never goes back, so new rows are
// behind old ones.
func (r *refill) scan() (more bool) {
	if r.reset.Swap(false) { // before the view, which is then at least as new
		r.next, r.seen = mail.ID{}, 0
	}
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
			r.want(&absent{content: m.Content, row: m.ID, active: m.Active(), since: time.Now()})
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

func (r *refill) fetchOne(a *absent) {
	id := a.content.ID
	ctx, cancel := context.WithTimeout(r.m.ctx, fetchTime)
	defer cancel()
	err := r.m.replica.Pull(ctx, a.content) // nil at once if it came by itself
	v := r.m.fsm.View()
	_, wanted := v.HasContent(id)
	v.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil || !wanted {
		delete(r.missing, id)
		return
	}
	a.since = time.Now()
	r.want(a)
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
