package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"mailraft/mail"
)

// steward declares members down and up, as a boundary's would.
func (h *host) steward() {
	n := h.node
	n.OnLeader(func(ctx context.Context, term uint64) {
		for ctx.Err() == nil {
			for _, id := range n.Overdue(h.w.span) {
				if n.Deciding(id) {
					h.decide(ctx, n, term, toyEntry(kindDown, uint64(id), term))
				}
				n.Decided(id)
			}
			index, _ := h.machine.Applied()
			for _, r := range n.Reports() {
				if h.machine.isDown(r.Member) && n.clock.Boot()-r.At < 3*second && !r.Stalled && r.Applied+5 > index {
					h.decide(ctx, n, term, toyEntry(kindUp, uint64(r.Member)))
				}
			}
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	})
}

// decide proposes until the outcome is known or the term is over.
func (h *host) decide(ctx context.Context, n *Node, term uint64, entry []byte) {
	for ctx.Err() == nil {
		_, err := n.ProposeTerm(ctx, term, entry)
		var none *NoQuorumError
		if err == nil || errors.As(err, &none) && !none.Unknown {
			return
		}
	}
}

// referee holds leases against the log: from the first application of a
// member's going down, on whatever host, to the first of its coming up, that
// member must not have a good lease; and no message has two members that both
// own it in their own states and have good leases.
type referee struct {
	w     *world
	mu    sync.Mutex
	last  map[mail.MemberID]uint64 // index of the last such entry
	down  map[mail.MemberID]bool
	downs int
	good  int // looks that found a good lease
	bad   map[string]bool
}

func (r *referee) watch(ctx context.Context) {
	for _, h := range r.w.hosts {
		h.machine.mu.Lock()
		h.machine.told = r.told
		h.machine.mu.Unlock()
	}
	r.w.tasks.Go(func() {
		for ctx.Err() == nil {
			r.look()
			time.Sleep(10 * time.Millisecond)
		}
	})
}

func (r *referee) told(id mail.MemberID, down bool, index uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if index <= r.last[id] {
		return // some other host was first
	}
	if down && !r.down[id] {
		r.downs++
	}
	r.last[id], r.down[id] = index, down
	r.w.tasks.Go(r.look) // at this very moment, but not under the machine's lock
}

func (r *referee) look() {
	var deliverer [6]mail.MemberID
	for i, h := range r.w.hosts {
		n := r.w.node(i)
		if n == nil {
			continue
		}
		// What the log says is read on both sides of the lease, so that a member
		// that comes up between is not taken for an offender; what the member's
		// own state says is read after it, as a delivery would.
		before := r.isDown(h.id)
		if n.Lease().Left() <= 0 {
			continue
		}
		owners := h.machine.owners()
		r.mu.Lock()
		r.good++
		if before && r.down[h.id] {
			r.bad[fmt.Sprintf("%v has a lease, and is down since index %d", h.id, r.last[h.id])] = true
		}
		for m, owner := range owners {
			if owner == h.id && deliverer[m] != 0 {
				r.bad[fmt.Sprintf("%v and %v both deliver message %d", deliverer[m], h.id, m)] = true
			}
			if owner == h.id {
				deliverer[m] = h.id
			}
		}
		r.mu.Unlock()
	}
}

func (r *referee) isDown(id mail.MemberID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.down[id]
}

// Members are cut off one way and both, messages are slow, members die and
// their states hang, boot-time clocks differ by two in a hundred: never has a
// member a lease that the log says is down, and afterwards all have one.
func TestNoLeaseWhileDown(t *testing.T) {
	for seed := range uint64(3) {
		for _, span := range []time.Duration{6 * second, 30 * second} {
			t.Run(fmt.Sprintf("%d/%v", seed, span), func(t *testing.T) {
				inWorldOf(t, 3, seed, span, func(w *world) {
					r := &referee{w: w, last: map[mail.MemberID]uint64{}, down: map[mail.MemberID]bool{}, bad: map[string]bool{}}
					ctx, cancel := context.WithCancel(context.Background())
					r.watch(ctx)
					for _, h := range w.hosts {
						h.started = h.steward
						h.steward()
						w.tasks.Go(func() { w.traffic(ctx, h) })
					}
					w.isolate(w.leader()) // one takeover is sure
					time.Sleep(2*span + leaseMax)
					w.chaos(ctx, 5*time.Minute)
					w.heal()
					time.Sleep(3 * time.Minute)
					for i, h := range w.hosts {
						if r.isDown(h.id) || !w.node(i).Lease().Valid() {
							t.Errorf("host %d has no lease though all is well: down %v", i, r.isDown(h.id))
						}
					}
					cancel()
					if len(r.bad) > 0 {
						t.Errorf("leases: %v", r.bad)
					}
					if r.downs == 0 || r.good == 0 {
						t.Errorf("nothing was tested: %d times down, %d good leases seen", r.downs, r.good)
					}
					t.Logf("%d times down, %d good leases seen", r.downs, r.good)
				})
			})
		}
	}
}

// traffic keeps the log moving.
func (w *world) traffic(ctx context.Context, h *host) {
	for key := uint64(h.i + 1); ctx.Err() == nil; key += 3 {
		if n := w.node(h.i); n != nil {
			bound, cancel := context.WithTimeout(ctx, 5*second)
			_, _ = n.Propose(bound, toyEntry(kindAdd, key)) // whether it comes about does not matter
			cancel()
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// chaos does one thing after another for the given time.
func (w *world) chaos(ctx context.Context, length time.Duration) {
	for end := time.Now().Add(length); time.Now().Before(end); {
		w.mu.Lock()
		h, what := w.hosts[w.rng.IntN(len(w.hosts))], w.rng.IntN(8)
		pause := time.Duration(w.rng.Int64N(int64(2 * w.span)))
		slow := time.Duration(w.rng.Int64N(int64(4 * second)))
		w.mu.Unlock()
		switch what {
		case 0, 1:
			w.isolate(h)
		case 2: // one way
			w.mu.Lock()
			w.cuts[[2]int{h.i, (h.i + 1) % len(w.hosts)}] = true
			w.mu.Unlock()
		case 3:
			w.slowTo(slow)
		case 4:
			h.stop()
			time.Sleep(pause / 2)
			h.start()
		case 5:
			release := h.machine.stop()
			time.Sleep(pause)
			release()
		default:
			w.heal()
		}
		time.Sleep(pause)
	}
}
