package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"mailraft/mail"
)

// witness is the transport that Raft gets. It notes, for each peer, when the
// last AppendEntries that the peer answered under our term was sent. Raft's
// own VerifyLeader is not enough for a lease: it counts the answer to a
// heartbeat that was sent long before the question (a process that was stopped
// finds such answers waiting in its sockets when it wakes), and it counts
// answers of non-voters.
//
// It also holds three remedies in place whatever transport is given: heartbeats
// take no fast path past the main loop (hashicorp/raft #695, safety), nothing
// is pipelined (#612, a follower wedges after one failed append), and no
// snapshot of a later term than the sender's goes out.
type witness struct {
	raft.Transport
	prevote raft.WithPreVote
	clock   Clock

	mu    sync.Mutex
	term  uint64
	sent  map[raft.ServerID]time.Duration // boot time of sending
	moved chan struct{}                   // closed at the next note
}

func newWitness(t raft.Transport, clock Clock) *witness {
	return &witness{
		Transport: t,
		prevote:   t.(raft.WithPreVote),
		clock:     clock,
		sent:      map[raft.ServerID]time.Duration{},
		moved:     make(chan struct{}),
	}
}

// AppendEntries implements raft.Transport.
func (w *witness) AppendEntries(id raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	term, sent := req.Term, w.clock.Boot()
	if err := w.Transport.AppendEntries(id, to, req, resp); err != nil {
		return err
	}
	// Whether the entries fitted does not matter here: answering with our term
	// says that the peer had voted for no later one.
	if resp.Term == term {
		w.note(term, id, sent)
	}
	return nil
}

var errLaterTerm = errors.New("this member has lost its term: its snapshot is of a later one")

// InstallSnapshot implements raft.Transport. A snapshot is read from the live
// state, which may have come to a later term while a leader that was deposed is
// still sending. Its receiver would have a state of a term that its log, and so
// its next vote, does not know of; it could not be started again.
func (w *witness) InstallSnapshot(id raft.ServerID, to raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if req.LastLogTerm > req.Term {
		return errLaterTerm
	}
	return w.Transport.InstallSnapshot(id, to, req, resp, data)
}

// SetHeartbeatHandler implements raft.Transport, and does nothing.
func (w *witness) SetHeartbeatHandler(func(raft.RPC)) {}

// AppendEntriesPipeline implements raft.Transport.
func (w *witness) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// RequestPreVote implements raft.WithPreVote.
func (w *witness) RequestPreVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return w.prevote.RequestPreVote(id, to, req, resp)
}

// Close implements raft.WithClose.
func (w *witness) Close() error {
	if c, ok := w.Transport.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

func (w *witness) note(term uint64, id raft.ServerID, sent time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if term < w.term {
		return
	}
	if term > w.term {
		w.term = term
		clear(w.sent)
	}
	if last, ok := w.sent[id]; !ok || sent > last {
		w.sent[id] = sent
		close(w.moved)
		w.moved = make(chan struct{})
	}
}

// confirmed reports whether a majority of the voters, self counted as one of
// them, has answered under term to something sent at since or later.
func (w *witness) confirmed(term uint64, since time.Duration, self mail.MemberID, voters []mail.MemberID) (bool, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, id := range voters {
		if sent, ok := w.sent[raft.ServerID(id.String())]; id == self || w.term == term && ok && sent >= since {
			n++
		}
	}
	return n > len(voters)/2, w.moved
}

// rounds lets all who ask at the same time share one verification. Who asks
// while one is under way waits for the next, because the one under way may
// prove only a moment before the question.
type rounds struct {
	mu   sync.Mutex
	next *round
	kick chan struct{} // holds one
}

type round struct {
	lead *leadership
	done chan struct{}
	err  error
}

// confirm returns nil if, at some moment after the call, this member was still
// the leader of l's term.
func (n *Node) confirm(ctx context.Context, l *leadership) error {
	r, err := n.verify.join(l)
	if err != nil {
		return err
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return fmt.Errorf("confirm leadership: %w", ctx.Err())
	case <-l.ctx.Done():
		return fmt.Errorf("confirm leadership: %w", ErrNotLeader)
	}
}

func (v *rounds) join(l *leadership) (*round, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.next == nil || v.next.lead.term < l.term {
		v.next = &round{lead: l, done: make(chan struct{})} // those of an older term see its end
	}
	if v.next.lead != l {
		return nil, fmt.Errorf("confirm leadership: %w", ErrNotLeader)
	}
	select {
	case v.kick <- struct{}{}:
	default:
	}
	return v.next, nil
}

func (v *rounds) take() *round {
	v.mu.Lock()
	defer v.mu.Unlock()
	r := v.next
	v.next = nil
	return r
}

// confirmRounds runs one verification after the other while there are askers.
func (n *Node) confirmRounds() {
	for {
		select {
		case <-n.verify.kick:
		case <-n.ctx.Done():
			return
		}
		if r := n.verify.take(); r != nil {
			r.err = n.confirmOnce(r.lead)
			close(r.done)
		}
	}
}

// confirmOnce asks Raft, which sends heartbeats at once, and then waits until
// the answers of a majority are to heartbeats sent after this call began.
func (n *Node) confirmOnce(l *leadership) error {
	since := n.clock.Boot()
	ctx, cancel := context.WithTimeout(l.ctx, 2*n.cfg.Timeouts.Election)
	defer cancel()
	if _, err := await(ctx, n, n.raft.VerifyLeader); err != nil {
		return fmt.Errorf("confirm leadership: %w", errors.Join(ErrNotLeader, err))
	}
	for {
		ok, moved := n.witness.confirmed(l.term, since, n.cfg.ID, n.Voters())
		if ok {
			break
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("confirm leadership: no answer of a majority: %w", ErrNotLeader)
		}
	}
	// Our own vote: had we given it away, our term would have moved on.
	if n.raft.State() != raft.Leader || n.raft.CurrentTerm() != l.term {
		return fmt.Errorf("confirm leadership: %w", ErrNotLeader)
	}
	l.grants.able(n.clock.Boot(), n.cfg.Span())
	return nil
}
