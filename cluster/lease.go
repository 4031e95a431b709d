package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"mailraft/mail"
)

// leaseMax is the longest lease, whatever the takeover span. A new leader
// knows of the old one's grants nothing but this bound.
const leaseMax = 10 * time.Second

// leaseTime is how long leases are while the takeover span is span. A third:
// the owner must have stopped well before anybody may take over, though its
// clock runs a little slower than the leader's.
func leaseTime(span time.Duration) time.Duration { return min(leaseMax, span/3) }

// Lease is a member's permission to deliver. It is good when some grant that
// is not over named an applied index that this member's own state has reached:
// then the state contains every change of owner that was made before the
// grant, and no other can be made before the lease is over.
type Lease struct {
	clock   Clock
	applied func() uint64

	mu      sync.Mutex
	until   time.Duration // boot time
	run     uint64        // counts the stretches of time without a gap
	waiting []grant       // not reached yet, oldest first
}

// grant is what a leader gave, in the member's own boot time.
type grant struct {
	index uint64
	until time.Duration
}

// waitingMax bounds the grants of a member whose state lags behind. Several
// must be kept: with the newest alone a member that always lags by more than
// one request would never reach any.
const waitingMax = 16

func newLease(clock Clock, applied func() uint64) *Lease {
	return &Lease{clock: clock, applied: applied}
}

// Valid reports whether this member may deliver now. It is asked before a
// delivery begins and again before the final dot.
func (l *Lease) Valid() bool { return l.Left() > 0 }

// Run names the stretch of time without a gap in which the lease is good now;
// zero if it is not. What was begun in one run must not be ended in another.
func (l *Lease) Run() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settle()
	if l.until <= l.clock.Boot() {
		return 0
	}
	return l.run
}

// Left is how long the lease is good for yet; zero or less if it is not.
func (l *Lease) Left() time.Duration { return l.Until() - l.clock.Boot() }

// Until is the end of the lease in boot time; zero if there never was one.
func (l *Lease) Until() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settle()
	return l.until
}

// add takes a grant of length for a request sent at sent.
func (l *Lease) add(index uint64, sent, length time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == waitingMax {
		l.waiting = slices.Delete(l.waiting, 0, 1)
	}
	l.waiting = append(l.waiting, grant{index, leaseEnd(sent, length)})
	l.settle()
}

// settle lets the grants count whose index has been reached. An earlier lease
// stays good for its time.
func (l *Lease) settle() {
	if len(l.waiting) == 0 {
		return
	}
	applied, now := l.applied(), l.clock.Boot()
	l.waiting = slices.DeleteFunc(l.waiting, func(g grant) bool {
		if g.index <= applied {
			if l.until <= now && g.until > now {
				l.run++ // there was a gap: what is ours may have been others' meanwhile
			}
			l.until = max(l.until, g.until)
		}
		return g.index <= applied || g.until <= now
	})
}

// leaseRequest is what a member says of itself whenever it asks for a lease.
// Numbers are never reused.
type leaseRequest struct {
	Member   mail.MemberID `cbor:"1,keyasint"`
	Applied  uint64        `cbor:"2,keyasint"`
	Complete uint64        `cbor:"3,keyasint"` // content is complete up to this applied index
	Commit   uint64        `cbor:"4,keyasint"` // highest commit index known to the member
	Wall     mail.Time     `cbor:"5,keyasint"`
	Starts   uint64        `cbor:"6,keyasint"`
	Active   uint64        `cbor:"7,keyasint,omitempty"` // as Complete, for active messages
}

// leaseAnswer is a grant, or why there is none.
type leaseAnswer struct {
	Index   uint64        `cbor:"1,keyasint,omitempty"`
	Length  time.Duration `cbor:"2,keyasint,omitempty"` // nanoseconds; zero is no grant
	Refused string        `cbor:"3,keyasint,omitempty"`
}

// Bounds on how often a lease is asked for, and how long an answer is waited
// for: an answer that comes later would not be worth much.
const (
	askMin    = 100 * time.Millisecond
	askMax    = leaseMax / 4
	answerMin = time.Second
	answerMax = leaseMax / 2
)

// keepLease asks for leases as long as the node runs: four times in a lease,
// sooner after a failure, at once when another leader is heard of.
func (n *Node) keepLease() {
	for n.ctx.Err() == nil {
		length := leaseTime(n.cfg.Span())
		e := n.began.Load()
		pause := bound(length/4, askMin, askMax)
		if err := n.askLease(e, bound(length/2, answerMin, answerMax)); err != nil {
			n.log.Debug("no lease", "leader", e.leader, "error", err)
			pause = max(pause/4, askMin)
		}
		next := time.NewTimer(pause)
		select {
		case <-next.C:
		case <-e.ctx.Done():
			next.Stop()
		}
	}
}

func bound(d, low, high time.Duration) time.Duration { return min(max(d, low), high) }

// askLease sends one request. The lease is counted from before it was sent,
// so that no delay on the way, in this process or in the leader's, makes it
// look fresher than it is.
func (n *Node) askLease(e *epoch, wait time.Duration) error {
	if e.leader == 0 {
		return ErrNotLeader
	}
	ctx, cancel := context.WithTimeout(e.ctx, wait)
	defer cancel()
	sent := n.clock.Boot()
	applied, _ := n.cfg.Machine.Applied()
	all, active := n.cfg.Complete()
	answer, err := n.requestLease(ctx, e, leaseRequest{
		Member:   n.cfg.ID,
		Applied:  applied,
		Complete: all,
		Active:   active,
		Commit:   n.raft.CommitIndex(),
		Wall:     n.clock.Wall(),
		Starts:   n.cfg.Starts,
	})
	if err != nil {
		return fmt.Errorf("ask for a lease: %w", err)
	}
	if answer.Length <= 0 {
		return fmt.Errorf("ask for a lease: refused: %s", answer.Refused)
	}
	n.lease.add(answer.Index, sent, min(answer.Length, leaseMax))
	return nil
}

// requestLease goes to the leader; a leader's own request takes the same path
// but for the wire.
func (n *Node) requestLease(ctx context.Context, e *epoch, req leaseRequest) (leaseAnswer, error) {
	if e.leader == n.cfg.ID {
		return n.answerLease(ctx, req), nil
	}
	body, err := cbor.Marshal(req)
	if err != nil {
		return leaseAnswer{}, err
	}
	body, err = n.cfg.Link.Call(ctx, e.addr, KindLease, body)
	if err != nil {
		return leaseAnswer{}, err
	}
	var answer leaseAnswer
	if err := cbor.Unmarshal(body, &answer); err != nil {
		return leaseAnswer{}, errors.Join(errors.New("malformed answer"), err)
	}
	return answer, nil
}
