package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"mailraft/cluster/link"
)

// Kinds of link requests that this package sends and answers.
const (
	KindPropose byte = 1 // HandlePropose
	KindLease   byte = 2 // HandleLease
)

const (
	entryHead = 10           // kind, version, eight bytes of time
	entryMax  = 1<<20 - 1024 // a forwarded entry with its head fits the link's 1 MiB

	retryMin = 10 * time.Millisecond
	retryMax = 250 * time.Millisecond
)

var (
	// ErrNotLeader: this member does not lead, or not yet. What was asked for
	// was surely not done.
	ErrNotLeader = errors.New("not the leader")
	// ErrNoQuorum is what every NoQuorumError is.
	ErrNoQuorum = errors.New("no quorum")
	// ErrEntry refuses an entry that is too long or has no head.
	ErrEntry = errors.New("malformed entry")
)

// NoQuorumError says that a proposal had no outcome in the time given.
type NoQuorumError struct {
	Unknown bool  // it may have been committed, or may yet be; false: it surely was not, and will not be
	Cause   error // of the last attempt
}

// Error implements error.
func (e *NoQuorumError) Error() string {
	if e.Unknown {
		return fmt.Sprintf("no quorum, outcome unknown: %v", e.Cause)
	}
	return fmt.Sprintf("no quorum: %v", e.Cause)
}

// Is makes errors.Is(err, ErrNoQuorum) true.
func (e *NoQuorumError) Is(target error) bool { return target == ErrNoQuorum }

// Unwrap gives the cause.
func (e *NoQuorumError) Unwrap() error { return e.Cause }

// errUnknown marks an attempt that may have been committed.
var errUnknown = errors.New("outcome unknown")

// Propose gets an entry committed and returns the result of applying it, on
// whatever member it is called. It tries again until ctx ends, after outcomes
// that are unknown too: the entry may be applied more than once, so it must be
// one whose second application changes nothing. A NoQuorumError is returned
// when ctx ends first, ErrEntry for what can never be proposed.
func (n *Node) Propose(ctx context.Context, entry []byte) ([]byte, error) {
	if err := checkEntry(entry); err != nil {
		return nil, err
	}
	unknown := false
	for wait := retryMin; ; wait = min(2*wait, retryMax) {
		e := n.began.Load()
		result, err := n.attempt(ctx, e, entry)
		if err == nil || errors.Is(err, ErrEntry) {
			return result, err
		}
		unknown = unknown || errors.Is(err, errUnknown)
		pause := time.NewTimer(wait/2 + rand.N(wait))
		select {
		case <-pause.C:
		case <-e.ctx.Done(): // another leader, or none, or shutdown
			pause.Stop()
			wait = retryMin
		case <-ctx.Done():
			pause.Stop()
		}
		if ctx.Err() != nil || n.ctx.Err() != nil {
			return nil, &NoQuorumError{Unknown: unknown, Cause: err}
		}
	}
}

func checkEntry(entry []byte) error {
	if len(entry) < entryHead || len(entry) > entryMax {
		return fmt.Errorf("propose %d bytes: %w", len(entry), ErrEntry)
	}
	return nil
}

// attempt proposes once, here or at the leader that e names.
func (n *Node) attempt(ctx context.Context, e *epoch, entry []byte) ([]byte, error) {
	if l := n.lead.Load(); l != nil {
		return n.proposeHere(ctx, l, entry)
	}
	if e.leader == 0 || e.leader == n.cfg.ID {
		return nil, ErrNotLeader
	}
	// A leader that stands still with its connections open is given up when
	// this member hears of its end.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.ctx, cancel)()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	answer, err := n.cfg.Link.Call(ctx, e.addr, KindPropose, forward(ctx, entry))
	switch {
	case err == nil:
		return parseAnswer(answer)
	case errors.Is(err, link.ErrUnreachable):
		return nil, err
	}
	return nil, errors.Join(errUnknown, err)
}

// ProposeTerm proposes once, on this member, if it leads in this very term.
// For entries that rest on what this leader alone knows, leases above all:
// the same entry taken up by a later leader, after it has granted leases of
// its own, would be wrong. The entry should carry the term, and the machine
// refuse it unless that term's opening entry was the last: only this excludes
// a loss and return of leadership between the check here and the log.
func (n *Node) ProposeTerm(ctx context.Context, term uint64, entry []byte) ([]byte, error) {
	if err := checkEntry(entry); err != nil {
		return nil, err
	}
	l := n.leading()
	if l == nil || l.term != term {
		return nil, &NoQuorumError{Cause: ErrNotLeader}
	}
	result, err := n.proposeHere(ctx, l, entry)
	if err != nil {
		return nil, &NoQuorumError{Unknown: errors.Is(err, errUnknown), Cause: err}
	}
	return result, nil
}

// proposeHere waits until the term is open, so that a new leader answers the
// proposals that found it early, and enters the entry.
func (n *Node) proposeHere(ctx context.Context, l *leadership, entry []byte) ([]byte, error) {
	select {
	case <-l.ready:
	case <-l.ctx.Done():
		return nil, ErrNotLeader
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	o, err := n.enter(ctx, l, entry)
	return o.result, err
}

// proposal is an entry on its way into Raft.
type proposal struct {
	lead  *leadership
	entry []byte
	done  chan outcome // buffered: who waits may have left
}

type outcome struct {
	result []byte
	index  uint64
	err    error
}

// enter hands an entry to Raft under the leadership l and waits for its
// result. An error that is not errUnknown means: surely not committed.
func (n *Node) enter(ctx context.Context, l *leadership, entry []byte) (outcome, error) {
	p := &proposal{lead: l, entry: slices.Clone(entry), done: make(chan outcome, 1)}
	select {
	case n.proposals <- p:
	case <-l.ctx.Done():
		return outcome{}, ErrNotLeader
	case <-ctx.Done():
		return outcome{}, ctx.Err()
	}
	select {
	case o := <-p.done:
		return o, o.err
	case <-ctx.Done():
		return outcome{}, errors.Join(errUnknown, ctx.Err())
	case <-n.ctx.Done():
		return outcome{}, errors.Join(errUnknown, raft.ErrRaftShutdown)
	}
}

// enterProposals is the one place where entries get their time and enter Raft:
// the order of the stamps is the order of the log. It waits for nothing but
// room in Raft's queue; the results are waited for by those who proposed.
func (n *Node) enterProposals() {
	for {
		select {
		case p := <-n.proposals:
			if !n.futures.begin() {
				p.done <- outcome{err: raft.ErrRaftShutdown}
				continue
			}
			if p.lead.ctx.Err() != nil {
				n.futures.end()
				p.done <- outcome{err: ErrNotLeader}
				continue
			}
			binary.BigEndian.PutUint64(p.entry[2:], uint64(p.lead.time.now()))
			f := n.raft.Apply(p.entry, 0) // no timeout: the queue moves, or Raft is shut down
			go func() {
				defer n.futures.end()
				p.done <- n.outcomeOf(f)
			}()
		case <-n.ctx.Done():
			return
		}
	}
}

func (n *Node) outcomeOf(f raft.ApplyFuture) outcome {
	err := f.Error()
	n.transfer.look(n, errors.Is(err, raft.ErrLeadershipTransferInProgress))
	switch {
	case err == nil:
	case notEntered(err):
		return outcome{err: fmt.Errorf("%w: %w", ErrNotLeader, err)}
	default: // leadership lost, or the log was not written: some follower may have it
		return outcome{err: errors.Join(errUnknown, err)}
	}
	result, ok := f.Response().([]byte)
	if !ok {
		err := fmt.Errorf("apply entry %d: the machine answered a %T", f.Index(), f.Response())
		n.cfg.Fatal(err)
		return outcome{err: errors.Join(errUnknown, err)}
	}
	return outcome{result: result, index: f.Index()}
}

// notEntered: errors that Raft gives before it has put anything in its log.
// ErrRaftShutdown is none of them: committed entries on their way to the
// machine end with it too.
func notEntered(err error) bool {
	return errors.Is(err, raft.ErrNotLeader) ||
		errors.Is(err, raft.ErrLeadershipTransferInProgress) ||
		errors.Is(err, raft.ErrEnqueueTimeout)
}
