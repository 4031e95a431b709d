package member

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"mailraft/cluster"
	"mailraft/cluster/pki"
	"mailraft/cluster/replica"
	"mailraft/deliver"
	"mailraft/fsm"
	"mailraft/mail"
	"mailraft/resubmit"
	"mailraft/store/content"
	"mailraft/store/raftlog"
	"mailraft/store/state"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// Engine is what a member does with mail: uploads and acceptance, what is due,
// refill, acknowledgements, sweeps. It is put together by Member, which gives
// it files, ports and certificates, or by a simulation, which gives it disks
// and a network of its own.
type Engine struct {
	cfg   Config
	id    *Identity
	log   hclog.Logger
	fatal func(error)

	state     *state.DB
	fsm       *fsm.FSM
	content   *content.Store
	raftLog   *raftlog.Store
	node      *cluster.Node
	caller    cluster.Caller // asks other members
	replica   *replica.Replica
	deliverer *deliver.Deliverer
	refill    *refill
	scrub     *scrub
	pressure  *pressure
	watch     *resubmit.Watch
	manager   *resubmit.Manager
	driver    *resubmit.Driver
	hand      *hand // nil: nothing is kept of what is in hand
	params    params
	pins      pins

	restart  chan error      // see Restart
	ctx      context.Context // ends when Stop begins
	cancel   context.CancelFunc
	work     sync.WaitGroup
	draining atomic.Bool
	closers  []func() // of what was opened, in that order

	withdrawals atomic.Int64 // submissions whose client was told 4xx with the outcome unknown
	tooLate     atomic.Int64 // of these: accepted all the same
}

// Wires are an Engine's ways to other members.
type Wires struct {
	Received  string // directory for snapshots on their way in
	Transport raft.Transport
	Link      cluster.Caller
	Content   func(ctx context.Context, addr string) (net.Conn, error)
	PeerOf    func(net.Conn) (mail.MemberID, bool) // nil: a peer is believed
	Clock     cluster.Clock                        // nil is the machine's
}

func newEngine(c Config, id *Identity, log hclog.Logger, fatal func(error)) *Engine {
	e := &Engine{cfg: c, id: id, log: log, fatal: fatal, restart: make(chan error, 1)}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e
}

// OpenEngine opens an engine on the tables and the content below c.Dir in fs,
// and on a log, which it closes. Serve makes it work, Deliver makes it deliver,
// Close ends it.
func OpenEngine(c Config, id *Identity, fs vfs.FS, raftLog *raftlog.Store, w Wires, log hclog.Logger, fatal func(error)) (*Engine, error) {
	if err := c.quantities(); err != nil {
		return nil, err
	}
	e := newEngine(c, id, log, fatal)
	for _, step := range []func() error{
		func() error { return e.openTables(fs) },
		func() error { return e.useLog(raftLog) },
		func() error {
			e.onClose(e.work.Wait) // as in Member.openStores
			return e.openNode(w)
		},
	} {
		if err := step(); err != nil {
			e.cancel()
			e.close()
			return nil, err
		}
	}
	return e, nil
}

func (m *Engine) onClose(f func()) { m.closers = append(m.closers, f) }

// close closes what was opened, last first.
func (m *Engine) close() {
	for i := len(m.closers) - 1; i >= 0; i-- {
		m.closers[i]()
	}
	m.closers = nil
}

func (m *Engine) closed(what string, err error) {
	if err != nil {
		m.log.Error("not closed cleanly", "what", what, "error", err)
	}
}

// openNode starts Raft and the replication of content.
func (m *Engine) openNode(w Wires) error {
	m.params.load(m.fsm)
	snaps, err := fsm.NewSnapshots(m.fsm, w.Received)
	if err != nil {
		return err
	}
	m.refill, m.scrub, m.pressure = newRefill(m), newScrub(m), newPressure(m)
	m.manager, m.caller = resubmit.NewManager(m.log.Named("manager")), w.Link
	m.driver = resubmit.NewDriver(m.boundaryPressure, m.log.Named("driver"))
	if err := m.startNode(w, snaps); err != nil {
		return err
	}
	m.replica = replica.New(replica.Config{Self: m.id.ID, Disk: replica.OnStore(m.content), Peers: m.peers, Dial: w.Content,
		PeerOf: w.PeerOf, Need: m.needHolders, Enough: m.enough, Extra: m.wish, Damaged: func(_ mail.ContentID, err error) { m.damaged(err) }, Logger: m.log.Named("content")})
	m.onClose(m.replica.Close)
	return nil
}

func (m *Engine) startNode(w Wires, snaps raft.SnapshotStore) error {
	logCache, err := raft.NewLogCache(512, m.raftLog)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	m.fsm.OnInstall(func(index, term uint64) error { return m.installed(logCache, index, term) })
	m.node, err = cluster.Start(cluster.Config{
		ID: m.id.ID, Name: m.id.Name, Addr: m.id.Addr,
		Machine: m.fsm, Log: logCache, Stable: m.raftLog, Snapshots: snaps, Transport: w.Transport, Link: w.Link, Clock: w.Clock,
		Logger: m.log.Named("cluster"), Fatal: m.fatal, Starts: m.id.Starts,
		Term: func(term uint64) []byte {
			e, err := fsm.Encode(fsm.KindTermStart, fsm.TermStart{Term: term, Leader: m.id.ID})
			if err != nil {
				m.fatal(err)
			}
			return e
		},
		Down:        m.isDown,
		Span:        func() time.Duration { return m.params.get().ShadowResubmitTimeSpan },
		LongestSpan: m.longestSpan,
		Complete:    m.refill.complete,

		TrailingLogs: m.cfg.Log.EntriesMax, SnapshotThreshold: m.cfg.Log.SnapshotEntries, SnapshotInterval: m.cfg.Log.snapshotEvery,
		LogFit: m.logFit,
	})
	if err != nil {
		return err
	}
	m.onClose(func() {
		ctx, cancel := context.WithTimeout(context.Background(), hang)
		defer cancel()
		m.closed("raft", m.node.Shutdown(ctx))
	})
	return nil
}

// Deliver begins to deliver under a lease, which is the node's own.
func (m *Engine) Deliver(transports map[string]deliver.Transport, lease deliver.Lease) {
	config := deliver.Config{Self: m.id.ID, Host: m.cfg.Hostname, Queue: &due{Engine: m}, Source: m, Reporter: m, Uploader: m,
		Lease: lease, Held: true, Transports: transports, Now: m.now, Running: m.cfg.Deliver.ConnectionsMax, Logger: m.log.Named("deliver")}
	if m.hand != nil {
		config.Hand = m.hand
	}
	m.deliverer = deliver.Start(config)
	m.onClose(m.stopDelivery)
	m.work.Go(func() { m.drainSelf(lease) })
	m.watch = m.newWatch(transports)
	m.work.Go(func() { m.watch.Run(m.ctx) })
	m.work.Go(m.pressure.run) // which tells by the watch
	if m.hand != nil {
		m.work.Go(m.reportCrashes)
	}
}

func (m *Engine) stopDelivery() {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	m.deliverer.Stop(ctx)
}

// Serve starts what works in the background; contents brings the connections
// of other members that send or want content.
func (m *Engine) Serve(contents net.Listener) {
	steward := cluster.NewSteward(m.node, m.fsm, m.log)
	m.node.OnLeader(steward.Run)
	m.node.OnLeader(m.lead)
	m.work.Go(func() { m.replica.Serve(contents) })
	m.work.Go(m.followParams)
	m.work.Go(m.refill.run)
	m.work.Go(m.scrub.run)
	m.work.Go(m.syncState)
	m.work.Go(m.sweep)
	m.work.Go(m.acknowledge)
	m.work.Go(m.seekLost)
	m.work.Go(m.tellNowhere)
	m.work.Go(m.noteDelays)
}

// Close ends the engine. Deliveries under way have until the end of ctx.
func (m *Engine) Close(ctx context.Context) {
	m.draining.Store(true)
	if m.deliverer != nil {
		m.deliverer.Stop(ctx)
	}
	m.cancel()
	m.close()
}

// Node is the engine's part in Raft.
func (m *Engine) Node() *cluster.Node { return m.node }

// State is the replicated state as of this member.
func (m *Engine) State() *fsm.FSM { return m.fsm }

// Content is this member's content.
func (m *Engine) Content() *content.Store { return m.content }

// Handle answers the requests of other members that an engine knows.
func (m *Engine) Handle(ctx context.Context, peer pki.Identity, kind byte, body []byte) ([]byte, error) {
	switch kind {
	case cluster.KindPropose:
		return m.node.HandlePropose(ctx, peer, body)
	case cluster.KindLease:
		return m.node.HandleLease(ctx, peer, body)
	case kindHash:
		return m.handleHash(ctx, body)
	case kindLack:
		return m.handleLack(body)
	case kindFindings:
		return m.handleFindings(peer, body)
	}
	return nil, mail.Replyf(502, "5.5.1", "unknown request %d", kind)
}

// Propose carries out a command on whatever member leads.
func (m *Engine) Propose(ctx context.Context, k fsm.Kind, body any) (fsm.Answer, error) {
	entry, err := fsm.Encode(k, body)
	if err != nil {
		return fsm.Answer{}, err
	}
	b, err := m.node.Propose(ctx, entry)
	if err != nil {
		return fsm.Answer{}, err
	}
	return fsm.DecodeAnswer(b)
}
