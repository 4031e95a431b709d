package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"mailraft/mail"
)

// epoch is a stretch of time with one leader, as this member has heard it.
type epoch struct {
	leader mail.MemberID // zero for none
	addr   string
	ctx    context.Context // ends when another leader, or none, is heard of
	end    context.CancelFunc
}

func newEpoch(parent context.Context, leader mail.MemberID, addr string) *epoch {
	e := &epoch{leader: leader, addr: addr}
	e.ctx, e.end = context.WithCancel(parent)
	return e
}

// leadership is one term in which this member leads.
type leadership struct {
	term   uint64
	ctx    context.Context // ends when it is over
	end    context.CancelFunc
	ready  chan struct{} // closed when the entry that opens the term is applied here
	index  uint64        // of that entry; set before ready is closed
	time   *timekeeper
	grants *grants
}

// leading is the present leadership once it is ready, else nil.
func (n *Node) leading() *leadership {
	l := n.lead.Load()
	if l == nil {
		return nil
	}
	select {
	case <-l.ready:
		return l
	default:
		return nil
	}
}

// watch follows Raft: who leads, and whether it is this member.
func (n *Node) watch() {
	heard := make(chan raft.Observation, 1) // full means: look again, so nothing is lost
	o := raft.NewObserver(heard, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	})
	n.raft.RegisterObserver(o)
	defer n.raft.DeregisterObserver(o)
	defer n.endTerm()
	n.heed()
	for {
		select {
		case is := <-n.raft.LeaderCh():
			// The channel keeps only the last word: true after true is another
			// term with a loss between.
			n.endTerm()
			if is {
				n.beginTerm()
			}
			n.heed()
		case <-heard:
			n.heed()
		case <-n.ctx.Done():
			return
		}
	}
}

// heed takes note of the leader that Raft knows now.
func (n *Node) heed() {
	addr, server := n.raft.LeaderWithID()
	id, _ := mail.ParseMemberID(string(server)) // none known: zero
	old := n.began.Load()
	if old.leader == id && old.addr == string(addr) {
		return
	}
	n.began.Store(newEpoch(n.ctx, id, string(addr)))
	old.end()
}

func (n *Node) beginTerm() {
	_, now := n.cfg.Machine.Applied()
	began := n.clock.Boot()
	l := &leadership{
		term:   n.raft.CurrentTerm(),
		ready:  make(chan struct{}),
		time:   newTimekeeper(n.clock, n.cfg.ID, now),
		grants: newGrants(began, n.members(false)),
	}
	// A voter that is alone is a majority: its clock counts from its first entry
	// on, the one that founds a boundary among them.
	l.time.report(n.cfg.ID, n.clock.Wall(), n.Voters())
	l.ctx, l.end = context.WithCancel(n.ctx)
	n.lead.Store(l)
	n.work.Go(func() { n.openTerm(l) })
}

func (n *Node) endTerm() {
	l := n.lead.Swap(nil)
	if l == nil {
		return
	}
	l.end()
	n.announce(nil)
}

// openTerm proposes the entry that opens the term until it is applied. From
// then on this member's state contains whatever an earlier leader committed,
// and nothing that is in the log before it can become committed later.
func (n *Node) openTerm(l *leadership) {
	for l.ctx.Err() == nil {
		o, err := n.enter(l.ctx, l, n.cfg.Term(l.term))
		if err == nil {
			n.termOpened(l, o.index)
			return
		}
		n.log.Debug("term not opened yet", "term", l.term, "error", err)
		select {
		case <-time.After(retryMin):
		case <-l.ctx.Done():
		}
	}
}

func (n *Node) termOpened(l *leadership, index uint64) {
	// Leadership may have been lost and won again before the entry got in: then
	// it stands in a later term than it says, and that term opens anew.
	if n.raft.State() != raft.Leader || n.raft.CurrentTerm() != l.term {
		return
	}
	_, now := n.cfg.Machine.Applied()
	l.time.raise(now)
	l.grants.older = leaseTime(n.cfg.LongestSpan())
	l.index = index
	close(l.ready)
	if n.lead.Load() == l {
		n.log.Info("leading", "term", l.term, "index", index)
		n.announce(l)
	}
}

func (n *Node) announce(l *leadership) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lastLead = l
	close(n.leadCh)
	n.leadCh = make(chan struct{})
}

// OnLeader runs f whenever this member leads and is ready. ctx ends when it
// stops leading; the next f begins only when the one before has returned.
// What f decides from leases must be proposed with ProposeTerm.
func (n *Node) OnLeader(f func(ctx context.Context, term uint64)) {
	n.work.Go(func() {
		for n.ctx.Err() == nil {
			n.mu.Lock()
			l, changed := n.lastLead, n.leadCh
			n.mu.Unlock()
			if l != nil && l.ctx.Err() == nil {
				f(l.ctx, l.term)
				<-l.ctx.Done()
				continue
			}
			select {
			case <-changed:
			case <-n.ctx.Done():
			}
		}
	})
}

// TransferLeadership asks another voter to lead: the given one, or with zero
// the one that has come furthest. It must be heard of and keep up, since no
// entry is taken until it has caught up.
func (n *Node) TransferLeadership(to mail.MemberID) error {
	id, addr, err := n.successor(to)
	if err != nil {
		return fmt.Errorf("transfer leadership: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*n.cfg.Timeouts.Election)
	defer cancel()
	_, err = await(ctx, n, func() raft.Future { return n.raft.LeadershipTransferToServer(id, addr) })
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		n.cfg.Fatal(fmt.Errorf("transfer leadership: no result within %v", 2*n.cfg.Timeouts.Election))
	}
	return fmt.Errorf("transfer leadership: %w", err)
}

// successor is a voter that could lead at once.
func (n *Node) successor(to mail.MemberID) (raft.ServerID, raft.ServerAddress, error) {
	if n.leading() == nil {
		return "", "", ErrNotLeader
	}
	c := n.Configuration()
	var best *raft.Server
	least := uint64(lagMax) + 1
	for _, r := range n.Reports() {
		if r.Member == n.cfg.ID || to != 0 && r.Member != to || r.Stalled || r.Lag >= least ||
			n.clock.Boot()-r.At > 2*freshTime || n.cfg.Down(r.Member) {
			continue
		}
		for i, s := range c.Servers {
			if s.ID == raft.ServerID(r.Member.String()) && s.Suffrage == raft.Voter {
				best, least = &c.Servers[i], r.Lag
			}
		}
	}
	if best == nil {
		return "", "", ErrNoSuccessor
	}
	return best.ID, best.Address, nil
}

// ErrNoSuccessor: the one asked for, or any, cannot lead now.
var ErrNoSuccessor = errors.New("it is no other voter that is up and has caught up")

// transferGuard watches for a transfer that does not end. One that is
// interrupted can leave a goroutine of Raft's stuck and its mark set, although
// the future was answered: the node then refuses all entries for ever, in
// later terms too (hashicorp/raft #696). Refusals without a pause for twice
// the election timeout stop the process.
type transferGuard struct {
	mu    sync.Mutex
	first time.Duration // of refusals without a pause
	last  time.Duration
}

func (t *transferGuard) look(n *Node, refused bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !refused {
		t.last = 0
		return
	}
	now := n.clock.Boot()
	if t.last == 0 || now-t.last > 4*retryMax {
		t.first = now
	}
	t.last = now
	if now-t.first > 2*n.cfg.Timeouts.Election {
		n.cfg.Fatal(fmt.Errorf("entries are refused since %v because of a transfer of leadership that does not end", now-t.first))
		t.first = now
	}
}
