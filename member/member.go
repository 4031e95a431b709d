package member

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"mailraft/cluster"
	"mailraft/cluster/link"
	"mailraft/cluster/pki"
	"mailraft/cluster/port"
	"mailraft/cluster/transport"
	"mailraft/smtpd"
	"mailraft/smtpd/ingress"
	"mailraft/smtpd/milter"

	"github.com/hashicorp/go-hclog"
)

// Member is a running member.
type Member struct {
	*Engine
	started time.Time

	port         *port.Port
	link         *link.Client
	smtp         *smtpd.Server
	smtpAddrs    []string // in the order of the listeners
	certificates ingress.Certificates
	milters      []*milter.Filter // in the order of the file
	httpAddr     string
}

// hang is how long a log write may take before the process gives up: a leader
// whose disk hangs must not stay leader (hashicorp/raft #503).
const hang = 10 * time.Second

// Start opens the data directory and runs the member. It returns when every
// part is running; whether mail is taken is for /readyz to say. fatal is
// called when the member cannot keep a promise any more; nil exits.
func Start(c Config, log hclog.Logger, fatal func(error)) (_ *Member, err error) {
	if fatal == nil {
		fatal = func(err error) {
			log.Error("this member cannot go on, and stops", "error", c.remedy(err))
			os.Exit(ExitCode(err))
		}
	}
	m := &Member{Engine: newEngine(c, nil, log, fatal), started: time.Now(), certificates: ingress.Certificates{Log: log.Named("smtp")}}
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

func (m *Member) openCluster() (err error) {
	m.port, err = port.Listen(port.Config{Addr: m.cfg.Cluster.Listen, Credentials: func() port.Credentials { return *m.id.credentials.Load() },
		Allow: m.allow, Gone: m.gone, Now: cluster.WallTime, Logger: m.log.Named("port")})
	if err != nil {
		return fmt.Errorf("open cluster port %s: %w", m.cfg.Cluster.Listen, err)
	}
	m.onClose(func() { m.closed("cluster port", m.port.Close()) })
	tr, err := transport.New(m.port, m.id.Addr, m.log.Named("raft"), transport.WithHello(newHello(m.Engine)))
	if err != nil {
		return err
	}
	m.link = link.NewClient(func(ctx context.Context, addr string) (conn, error) { return m.port.Dial(ctx, addr, port.Link) }, m.log.Named("link"))
	m.onClose(m.link.Close)
	return m.openNode(Wires{Received: m.cfg.path("snapshots"), Transport: tr, Link: m.link,
		Content: func(ctx context.Context, addr string) (conn, error) { return m.port.Dial(ctx, addr, port.Content) }, PeerOf: peerOf})
}

// run starts what works in the background.
func (m *Member) run() {
	m.Serve(m.port.Listener(port.Content))
	m.work.Go(func() { m.serveJoins(m.port.Listener(port.Join)) })
	m.serveFrontends()
	m.work.Go(m.followFormers)
	m.work.Go(m.keepCertificate)
	m.work.Go(m.introduce)
	m.work.Go(func() { m.served("link", link.Serve(m.ctx, m.port.Listener(port.Link), m.handle)) })
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
	case kindProgress:
		return json.Marshal(m.refill.status())
	case kindStatus:
		return m.handleStatus(ctx)
	case kindFresh:
		return m.handleFresh(ctx)
	case kindLead:
		return m.handleLead(body)
	}
	return m.Handle(ctx, peer, kind, body)
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
