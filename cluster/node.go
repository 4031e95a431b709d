// Package cluster runs one member's part of the boundary: its Raft node, the
// proposals of all members and their way to the leader, the leases under
// which members deliver, and the leader's state machine time.
//
// It owns no state but Raft's. What an entry means is the business of the
// Machine; the only bytes of an entry that are known here are its kind, its
// version and the eight bytes of time that the leader stamps. It knows no
// SMTP, no store and no content. How bytes get from member to member is given
// to it: a raft.Transport for Raft, a Caller for everything else.
//
// DESIGN.md beside this file has the arguments.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"mailraft/mail"
)

// Machine is the replicated state machine. The result of applying a command
// is always a []byte. Applied moves for configuration entries too; its time is
// the largest that any applied entry carried, so that an entry with an older
// stamp does not take time back.
type Machine interface {
	raft.BatchingFSM
	Applied() (index uint64, now mail.Time)
	Changed() <-chan struct{} // closed when Applied moves next; call again
}

// Caller sends one request to a member and waits for the answer: a
// *link.Client.
type Caller interface {
	Call(ctx context.Context, addr string, kind byte, body []byte) ([]byte, error)
}

// Config is what a node needs. Fields below Fatal may be left zero.
type Config struct {
	ID   mail.MemberID // the Raft server id is its text
	Name string
	Addr string // advertised cluster address

	Machine   Machine
	Log       raft.LogStore
	Stable    raft.StableStore
	Snapshots raft.SnapshotStore
	Transport raft.Transport // must implement raft.WithPreVote
	Link      Caller
	Logger    hclog.Logger

	Term func(term uint64) []byte    // the entry that opens a term, "TermStart"
	Down func(id mail.MemberID) bool // is the member down in this member's state
	Span func() time.Duration        // shadow-resubmit-time-span in this member's state
	// LongestSpan is the longest takeover span by which leases that may still be
	// good were granted, in this member's state: it differs from Span after the
	// parameter was changed. Asked when a term opens; nil: leases of leaseMax.
	LongestSpan func() time.Duration
	// Complete is up to which applied index this member has all content, and that
	// of active messages.
	Complete func() (all, active uint64)
	Starts   uint64      // how often this data directory was started
	Fatal    func(error) // a broken promise: must not return in production; nil exits the process

	Clock             Clock    // nil is the machine's own
	Timeouts          Timeouts // zero fields take the defaults
	TrailingLogs      uint64   // entries kept behind a snapshot
	SnapshotThreshold uint64   // entries between two
	SnapshotInterval  time.Duration
	// LogFit is how many of the newest log entries are to be kept when the log
	// has grown over its size; nil: any size will do.
	LogFit func() (entries uint64, over bool)
}

// Timeouts are Raft's. Heartbeats go through the follower's main loop, behind
// its log writes, so all three must be above the worst write that is to be
// tolerated.
type Timeouts struct {
	Heartbeat time.Duration // 2 s
	Election  time.Duration // 2 s
	Lease     time.Duration // 1.5 s
}

// Entries are small: the trailing log may cover days, so that a member that
// was away catches up from the log and not from a snapshot.
const (
	trailingLogs      = 2_000_000
	snapshotThreshold = 50_000
	snapshotInterval  = time.Minute
)

// Node is one running member of the boundary's Raft group.
type Node struct {
	cfg     Config
	log     hclog.Logger
	clock   Clock
	raft    *raft.Raft
	witness *witness
	lease   *Lease

	ctx       context.Context // ends when Shutdown begins
	cancel    context.CancelFunc
	work      sync.WaitGroup // goroutines of ours
	futures   flights        // answers that Raft owes us
	proposals chan *proposal
	lead      atomic.Pointer[leadership] // nil unless Raft says that we lead
	began     atomic.Pointer[epoch]      // who leads, as far as we have heard
	verify    rounds
	transfer  transferGuard

	mu       sync.Mutex
	lastLead *leadership   // the one that callbacks look at
	leadCh   chan struct{} // closed when lastLead changes
}

// Start opens the node. The machine must hold its recovered state: snapshots
// are not restored on start, the log behind Applied is replayed.
func Start(cfg Config) (*Node, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("start raft node: %w", err)
	}
	n := &Node{
		cfg:       cfg,
		log:       cfg.Logger,
		clock:     cfg.Clock,
		witness:   newWitness(cfg.Transport, cfg.Clock),
		proposals: make(chan *proposal),
		leadCh:    make(chan struct{}),
		verify:    rounds{kick: make(chan struct{}, 1)},
	}
	n.lease = newLease(cfg.Clock, func() uint64 { index, _ := cfg.Machine.Applied(); return index })
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.began.Store(newEpoch(n.ctx, 0, ""))
	r, err := raft.NewRaft(cfg.raft(), cfg.Machine, cfg.Log, cfg.Stable, cfg.Snapshots, n.witness)
	if err != nil {
		n.cancel()
		return nil, fmt.Errorf("start raft node: %w", err)
	}
	n.raft = r
	n.work.Go(n.watch)
	n.work.Go(n.enterProposals)
	n.work.Go(n.confirmRounds)
	n.work.Go(n.keepLease)
	if cfg.LogFit != nil {
		n.work.Go(n.keepLogSmall)
	}
	return n, nil
}

// complete checks what must be there and fills in defaults.
func (c *Config) complete() error {
	if c.ID == 0 || c.Machine == nil || c.Link == nil || c.Logger == nil {
		return errors.New("id, machine, link and logger are needed")
	}
	if c.Term == nil || c.Down == nil || c.Span == nil || c.Complete == nil {
		return errors.New("the callbacks Term, Down, Span and Complete are needed")
	}
	if _, ok := c.Transport.(raft.WithPreVote); !ok {
		return errors.New("the transport has no pre-vote: a member that was cut off would depose the leader on its return")
	}
	if c.Fatal == nil {
		logger := c.Logger
		c.Fatal = func(err error) {
			logger.Error("cannot go on", "error", err)
			os.Exit(1)
		}
	}
	if c.Clock == nil {
		c.Clock = systemClock{}
	}
	if c.LongestSpan == nil {
		c.LongestSpan = func() time.Duration { return 3 * leaseMax }
	}
	fill(&c.Timeouts.Heartbeat, 2*time.Second)
	fill(&c.Timeouts.Election, 2*time.Second)
	fill(&c.Timeouts.Lease, 1500*time.Millisecond)
	fill(&c.TrailingLogs, trailingLogs)
	fill(&c.SnapshotThreshold, snapshotThreshold)
	fill(&c.SnapshotInterval, snapshotInterval)
	return nil
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c *Config) raft() *raft.Config {
	r := raft.DefaultConfig()
	r.LocalID = raft.ServerID(c.ID.String())
	r.HeartbeatTimeout = c.Timeouts.Heartbeat
	r.ElectionTimeout = c.Timeouts.Election
	r.LeaderLeaseTimeout = c.Timeouts.Lease
	// Group commit: without the buffer entries trickle in one per disk write.
	// The price: what lies in it when Raft shuts down is never answered, so
	// every wait here has a bound.
	r.BatchApplyCh = true
	r.TrailingLogs = c.TrailingLogs
	r.SnapshotThreshold = c.SnapshotThreshold
	r.SnapshotInterval = c.SnapshotInterval
	r.NoSnapshotRestoreOnStart = true
	r.NoLegacyTelemetry = true
	// A leader that removed itself becomes a follower without a vote. With
	// true Raft would shut down under us and leave futures unanswered.
	r.ShutdownOnRemove = false
	r.Logger = c.Logger.Named("raft")
	return r
}

// Lease is this member's own lease.
func (n *Node) Lease() *Lease { return n.lease }

// Leader names the leader as far as this member has heard; zero for none.
func (n *Node) Leader() (id mail.MemberID, addr string) {
	e := n.began.Load()
	return e.leader, e.addr
}

// IsLeader reports whether this member leads and has applied the entry that
// opens its term. It may have been deposed without knowing: Linearize knows.
func (n *Node) IsLeader() bool { return n.leading() != nil }

// Term is the term of this member's leadership; false if it does not lead.
func (n *Node) Term() (uint64, bool) {
	l := n.leading()
	if l == nil {
		return 0, false
	}
	return l.term, true
}

// Stats are Raft's own figures, for people.
func (n *Node) Stats() map[string]string { return n.raft.Stats() }

// Shutdown stops the node. Proposals under way end with an unknown outcome.
// It returns when everything has stopped or ctx ends; a Raft that hangs on its
// disk does not stop, and the process should then exit.
func (n *Node) Shutdown(ctx context.Context) error {
	n.cancel()
	// What Raft still owes is waited for while it can still answer: a leader
	// without a quorum gives up after its lease, a follower at once.
	drain, done := context.WithTimeout(ctx, 2*n.cfg.Timeouts.Election)
	defer done()
	if err := n.futures.stop(drain); err != nil {
		n.log.Warn("raft did not answer before shutdown", "error", err)
	}
	stopped := make(chan error, 1)
	go func() {
		err := n.raft.Shutdown().Error()
		n.work.Wait()
		stopped <- err
	}()
	select {
	case err := <-stopped:
		if err != nil {
			return fmt.Errorf("shut down raft: %w", err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("shut down raft: %w", ctx.Err())
	}
}
