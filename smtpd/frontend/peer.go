package frontend

import (
	"bufio"
	"context"
	"fmt"
	"sync"
	"time"

	"mailraft/cluster/port"
	"mailraft/smtpd/handover"
)

const (
	dialTime = 5 * time.Second
	// idleMax is how many streams to one member are kept open for the next
	// transaction.
	idleMax = 256
)

// peer is a member as the front end sees it.
type peer struct {
	b    *boundary
	addr string // of its cluster port

	mu     sync.Mutex
	state  handover.State // guarded by mu; what it said last
	heard  time.Time      // when it said so; zero: never
	err    error          // why it did not answer since
	since  time.Time      // of err
	others int            // transactions there that are not ours, when it was heard
	open   int            // ours
	busy   map[*stream]struct{}
	idle   []*stream // last used last
	handed int64     // transactions handed over, in all
	gone   bool      // no member any more
}

func newPeer(b *boundary, addr string) *peer {
	return &peer{b: b, addr: addr, busy: map[*stream]struct{}{}}
}

// ready is why the member is given no transaction; nil: it is.
func (p *peer) ready(now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.gone:
		return fmt.Errorf("is no member any more")
	case p.heard.IsZero() && p.err == nil:
		return fmt.Errorf("was not asked yet")
	case p.heard.IsZero() || p.silent(now):
		return fmt.Errorf("does not answer: %w", p.err)
	case p.state.Refusal != nil:
		return p.state.Refusal
	}
	return nil
}

// silent reports, with mu held, that the member has not answered for long.
func (p *peer) silent(now time.Time) bool { return p.err != nil && now.Sub(p.heard) > silentTime }

// load is how much the member has to do: what others gave it, and what we did.
func (p *peer) load() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.others + p.open
}

// saw takes what the member says of itself, or that it does not answer.
func (p *peer) saw(s handover.State, err error, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		if p.err == nil {
			p.since = now
		}
		p.err = err
		if p.silent(now) {
			p.cutAll()
		}
		return
	}
	p.state, p.heard, p.err = s, now, nil
	p.others = max(s.Open-len(p.busy), 0)
	if s.Refusal != nil {
		p.closeIdle(0)
	}
}

// cutAll ends, with mu held, what is under way with a member that stands still.
func (p *peer) cutAll() {
	for s := range p.busy {
		s.cut()
	}
	p.closeIdle(0)
}

// closeIdle closes, with mu held, the idle streams that were used last before
// some time ago; zero: all.
func (p *peer) closeIdle(longer time.Duration) {
	n := 0
	for n < len(p.idle) && (longer == 0 || time.Since(p.idle[n].since) > longer) {
		go p.idle[n].nc.Close() // TLS says goodbye, and may wait
		n++
	}
	p.idle = p.idle[n:]
}

// take gives a stream: an idle one, or with anew a new one.
func (p *peer) take(ctx context.Context, anew bool) (*stream, error) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 && !anew {
		s := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.begin(s)
		p.mu.Unlock()
		return s, nil
	}
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	nc, err := p.b.dial(ctx, p.addr, port.SMTP)
	if err != nil {
		return nil, err
	}
	s := &stream{to: p, nc: nc, r: bufio.NewReaderSize(nc, 2<<10), fresh: true}
	if err := s.greet(p.b.hostname); err != nil {
		nc.Close()
		return nil, fmt.Errorf("greet %s: %w", p.addr, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begin(s)
	return s, nil
}

func (p *peer) begin(s *stream) {
	p.busy[s] = struct{}{}
	p.open++
	p.handed++
}

// give takes a stream back: for the next transaction if it is fit for one.
func (p *peer) give(s *stream, fit bool) {
	p.mu.Lock()
	delete(p.busy, s)
	p.open--
	fit = fit && !p.gone && p.err == nil && len(p.idle) < idleMax
	if s.fresh, s.since = false, time.Now(); fit {
		p.idle = append(p.idle, s)
	}
	p.mu.Unlock()
	if !fit {
		s.cut() // no farewell: the member may not read
		s.nc.Close()
	}
}
