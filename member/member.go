package member

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"mailraft/cluster"
	"mailraft/cluster/link"
	"mailraft/cluster/pki"
	"mailraft/cluster/port"
	"mailraft/cluster/replica"
	"mailraft/cluster/transport"
	"mailraft/deliver"
	"mailraft/fsm"
	"mailraft/mail"
	"mailraft/smtpd"
	"mailraft/store/content"
	"mailraft/store/raftlog"
	"mailraft/store/state"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// Member is a running member.
type Member struct {
	cfg     Config
	id      *Identity
	log     hclog.Logger
	started time.Time
	fatal   func(error)

	state     *state.DB
	fsm       *fsm.FSM
	content   *content.Store
	raftLog   *raftlog.Store
	port      *port.Port
	link      *link.Client
	node      *cluster.Node
	replica   *replica.Replica
	deliverer *deliver.Deliverer
	smtp      *smtpd.Server
	refill    *refill
	params    params

	restart  chan error      // see Restart
	ctx      context.Context // ends when Stop begins
	cancel   context.CancelFunc
	work     sync.WaitGroup
	draining atomic.Bool
	closers  []func() // of what was opened, in that order
	smtpAddr string
	httpAddr string

	withdrawals atomic.Int64 // submissions whose client was told 4xx with the outcome unknown
	tooLate     atomic.Int64 // of these: accepted all the same
}

// hang is how long a log write may take before the process gives up: a leader
// whose disk hangs must not stay leader (hashicorp/raft #503).
const hang = 10 * time.Second

// Start opens the data directory and runs the member. It returns when every
// part is running; whether mail is taken is for /readyz to say. fatal is
// called when the member cannot keep a promise any more; nil exits.
func Start(c Config, log hclog.Logger, fatal func(error)) (_ *Member, err error) {
	m := &Member{cfg: c, log: log, started: time.Now(), fatal: fatal, restart: make(chan error, 1)}
	if m.fatal == nil {
		m.fatal = func(err error) {
			log.Error("this member cannot go on, and stops", "error", c.remedy(err))
			os.Exit(1)
		}
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			m.cancel()
			m.close()
		}
	}()
	for _, step := range []func() error{m.openDirectory, m.openStores, m.openCluster, m.openMail, m.openAdmin} {
		if err := step(); err != nil {
			return nil, c.remedy(err)
		}
	}
	m.run()
	return m, nil
}

func (m *Member) onClose(f func()) { m.closers = append(m.closers, f) }

// close closes what was opened, last first.
func (m *Member) close() {
	for i := len(m.closers) - 1; i >= 0; i-- {
		m.closers[i]()
	}
	m.closers = nil
}

func (m *Member) openDirectory() error {
	release, err := lockDir(m.cfg.Dir)
	if err != nil {
		return err
	}
	m.onClose(release)
	m.id, err = openIdentity(m.cfg.Dir)
	if err != nil {
		return err
	}
	if m.id.Name != m.cfg.Name {
		return fmt.Errorf("data directory %s belongs to member %s, and the configuration says %s", m.cfg.Dir, m.id.Name, m.cfg.Name)
	}
	m.id.Addr = m.cfg.Cluster.Advertise
	return nil
}

func (m *Member) closed(what string, err error) {
	if err != nil {
		m.log.Error("not closed cleanly", "what", what, "error", err)
	}
}

func (m *Member) openCluster() (err error) {
	m.params.load(m.fsm)
	m.port, err = port.Listen(port.Config{Addr: m.cfg.Cluster.Listen, Credentials: func() port.Credentials { return m.id.credentials },
		Logger: m.log.Named("port")})
	if err != nil {
		return fmt.Errorf("open cluster port %s: %w", m.cfg.Cluster.Listen, err)
	}
	m.onClose(func() { m.closed("cluster port", m.port.Close()) })
	tr, err := transport.New(m.port, m.id.Addr, m.log.Named("raft"))
	if err != nil {
		return err
	}
	m.link = link.NewClient(func(ctx context.Context, addr string) (conn, error) { return m.port.Dial(ctx, addr, port.Link) }, m.log.Named("link"))
	m.onClose(m.link.Close)
	snaps, err := fsm.NewSnapshots(m.fsm, filepath.Join(m.cfg.Dir, "snapshots"))
	if err != nil {
		return err
	}
	m.refill = newRefill(m)
	if err := m.startNode(tr, snaps); err != nil {
		return err
	}
	m.replica = replica.New(replica.Config{Self: m.id.ID, Disk: replica.OnStore(m.content), Peers: m.peers,
		Dial:   func(ctx context.Context, addr string) (conn, error) { return m.port.Dial(ctx, addr, port.Content) },
		PeerOf: peerOf, Need: m.needHolders, Extra: m.wish, Damaged: m.damaged, Logger: m.log.Named("content")})
	m.onClose(m.replica.Close)
	return nil
}

func (m *Member) startNode(tr raft.Transport, snaps raft.SnapshotStore) error {
	logCache, err := raft.NewLogCache(512, m.raftLog)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	m.fsm.OnInstall(func(index, term uint64) error { return m.installed(logCache, index, term) })
	m.node, err = cluster.Start(cluster.Config{
		ID: m.id.ID, Name: m.id.Name, Addr: m.id.Addr,
		Machine: m.fsm, Log: logCache, Stable: m.raftLog, Snapshots: snaps, Transport: tr, Link: m.link,
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

// run starts what works in the background.
func (m *Member) run() {
	steward := cluster.NewSteward(m.node, m.fsm, m.log)
	m.node.OnLeader(steward.Run)
	m.work.Go(func() { m.replica.Serve(m.port.Listener(port.Content)) })
	m.work.Go(func() { m.serveJoins(m.port.Listener(port.Join)) })
	m.work.Go(func() { m.served("link", link.Serve(m.ctx, m.port.Listener(port.Link), m.handle)) })
	m.work.Go(m.followParams)
	m.work.Go(m.refill.run)
	m.work.Go(m.syncState)
	m.work.Go(m.sweep)
	m.work.Go(m.acknowledge)
	m.work.Go(func() {
		if err := m.found(m.ctx); err != nil && m.ctx.Err() == nil {
			m.fatal(err)
		}
	})
}

func (m *Member) served(what string, err error) {
	if err != nil && m.ctx.Err() == nil {
		m.log.Error("stopped serving", "what", what, "error", err)
	}
}

// handle answers requests of other members.
func (m *Member) handle(ctx context.Context, peer pki.Identity, kind byte, body []byte) ([]byte, error) {
	switch kind {
	case cluster.KindPropose:
		return m.node.HandlePropose(ctx, peer, body)
	case cluster.KindLease:
		return m.node.HandleLease(ctx, peer, body)
	case kindHash:
		return m.handleHash(ctx, body)
	case kindStatus:
		return m.handleStatus(ctx)
	case kindFresh:
		return m.handleFresh(ctx)
	}
	return nil, mail.Replyf(502, "5.5.1", "unknown request %d", kind)
}

// Propose carries out a command on whatever member leads.
func (m *Member) Propose(ctx context.Context, k fsm.Kind, body any) (fsm.Answer, error) {
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

// stopTime bounds each part of an orderly stop.
const stopTime = 15 * time.Second

// Stop ends the member in order: no new mail, running transactions finish,
// deliveries finish and are reported, then the rest.
func (m *Member) Stop() {
	m.draining.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	if err := m.smtp.Drain(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		m.log.Warn("SMTP sessions did not end in time", "error", err)
	}
	m.closed("SMTP", m.smtp.Close())
	m.stopDelivery() // its last reports need Raft
	m.cancel()
	m.close()
}
