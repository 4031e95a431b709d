package frontend

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"mailraft/mail"
	"mailraft/mail/reply"
	"mailraft/smtpd/handover"
)

const (
	routeTime = 10 * time.Second
	// routeLife is how long a recipient is remembered to be a boundary's. One
	// that moves meanwhile is refused there, and looked for anew.
	routeLife = 30 * time.Second
	routesMax = 10_000
)

// found is what the boundaries say of a recipient, in the order of the
// configuration.
type found struct {
	to    *boundary // the first that takes it; nil: none
	items []Verdict
}

// Verdict is what one boundary says of a recipient.
type Verdict struct {
	Boundary string      `json:"boundary"`
	Taken    bool        `json:"taken"`
	Refusal  *mail.Reply `json:"refusal,omitempty"`
	Why      string      `json:"why,omitempty"`
	Error    string      `json:"error,omitempty"` // it could not be asked
}

// temporary is a reason not to believe that nobody takes the recipient.
func (r *found) temporary() *mail.Reply {
	for _, v := range r.items {
		switch {
		case v.Error != "":
			return reply.Unasked.Reply()
		case v.Refusal != nil && v.Refusal.Temporary():
			return v.Refusal
		}
	}
	return nil
}

// refusal is what the client is told where none takes the recipient: that it is
// unknown, only when every boundary has said so.
func (r *found) refusal() *mail.Reply {
	if t := r.temporary(); t != nil {
		return t
	}
	var worst *mail.Reply
	for _, v := range r.items {
		// Whose the domain is knows better than who would have to relay to it.
		if worst == nil || worst.Enhanced == "5.7.1" {
			worst = v.Refusal
		}
	}
	return worst
}

// route finds the boundary that a recipient's mail goes to.
func (f *Frontend) route(ctx context.Context, c handover.Client, to mail.Address) (*boundary, error) {
	for _, b := range f.boundaries {
		if b.remembers(to) {
			return b, nil
		}
	}
	r := f.resolve(ctx, c, to, nil)
	if r.to == nil {
		return nil, r.refusal()
	}
	r.to.note(to)
	return r.to, nil
}

// resolve asks every boundary but one.
func (f *Frontend) resolve(ctx context.Context, c handover.Client, to mail.Address, but *boundary) found {
	var r found
	var asking []*boundary
	for _, b := range f.boundaries {
		if b != but {
			asking = append(asking, b)
		}
	}
	r.items = make([]Verdict, len(asking))
	var wg sync.WaitGroup
	for i, b := range asking {
		wg.Go(func() { r.items[i] = b.verdict(ctx, c, to) })
	}
	wg.Wait()
	for i, v := range r.items {
		if v.Taken {
			r.to = asking[i]
			break
		}
	}
	return r
}

// verdict asks a member of the boundary, and another one where that gives no
// answer.
func (b *boundary) verdict(ctx context.Context, c handover.Client, to mail.Address) Verdict {
	v := Verdict{Boundary: b.Name}
	var tried []*peer
	for range triesMax {
		p, err := b.choose(tried)
		if err != nil {
			v.Error = fmt.Sprintf("no member answers: %v", errors.Join(err))
			return v
		}
		r, err := call[handover.Route](ctx, b, p, handover.KindRoute, handover.RouteRequest{Address: to.String(), Relay: c.Relay}, routeTime)
		if err == nil {
			v.Taken, v.Refusal, v.Why, v.Error = r.Refusal == nil, r.Refusal, r.Why, ""
			return v
		}
		tried, v.Error = append(tried, p), err.Error()
	}
	return v
}

func (b *boundary) remembers(to mail.Address) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	at, ok := b.routes[to.String()]
	return ok && time.Since(at) < routeLife
}

func (b *boundary) note(to mail.Address) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.routes) >= routesMax {
		clear(b.routes)
	}
	b.routes[to.String()] = time.Now()
}

// forget has the next transaction look for a recipient anew.
func (f *Frontend) forget(to mail.Address) {
	for _, b := range f.boundaries {
		b.mu.Lock()
		delete(b.routes, to.String())
		b.mu.Unlock()
	}
}
