package member

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"mailraft/admin"
	"mailraft/cluster"
	"mailraft/fsm"
	"mailraft/mail"
	"mailraft/resubmit"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
)

// Version is what this binary is; set when a release is linked.
var Version = "0.1.0-dev"

// openAdmin opens the command line's socket and the health listener.
func (m *Member) openAdmin() error {
	raftMetrics, err := admin.RaftMetrics()
	if err != nil {
		return err
	}
	s := admin.New(admin.Config{State: m.fsm, Proposer: proposer{m}, Contents: contents{m}, Host: host{m}, Boundary: m, CA: m, Backup: m, Fresh: m.fresh,
		Metrics: []prometheus.Collector{raftMetrics, collector{m}}, ProposeTime: m.params.get().CommitTimeout, Logger: m.log.Named("admin")})
	socket, err := admin.Listen(m.cfg.Socket)
	if err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	m.serveHTTP("socket", socket, s.API())
	health, err := net.Listen("tcp", m.cfg.HTTP.Listen)
	if err != nil {
		return fmt.Errorf("open health listener: %w", err)
	}
	m.httpAddr = health.Addr().String()
	m.serveHTTP("health", health, m.withProfiles(s.Health()))
	m.onClose(s.Stop) // first: who waits for something to happen holds the servers up
	return nil
}

// handlersTime is how long requests under way may take when the member stops.
const handlersTime = 3 * time.Second

// withProfiles adds Go's profiles where the configuration asks for them. They
// show the code at work, and no mail; but they cost time, and are for nobody
// but the operator.
func (m *Member) withProfiles(h http.Handler) http.Handler {
	if !m.cfg.HTTP.Pprof {
		return h
	}
	mux := http.NewServeMux()
	mux.Handle("/", h)
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

func (m *Member) serveHTTP(what string, l net.Listener, h http.Handler) {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog: m.log.Named(what).StandardLogger(nil)}
	m.work.Go(func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			m.served(what, err)
		}
	})
	m.onClose(func() {
		ctx, cancel := context.WithTimeout(context.Background(), handlersTime)
		defer cancel()
		_ = srv.Shutdown(ctx) // handlers that read the state end before it is closed
		_ = srv.Close()
	})
}

// proposer is Propose with the error that admin knows.
type proposer struct{ m *Member }

func (p proposer) Propose(ctx context.Context, k fsm.Kind, body any) (fsm.Answer, error) {
	a, err := p.m.Propose(ctx, k, body)
	if errors.Is(err, cluster.ErrNoQuorum) {
		err = fmt.Errorf("%w: %w", admin.ErrNoQuorum, err)
	}
	if err == nil {
		// Whoever changed something sees it in what he asks this member next.
		err = p.m.waitApplied(ctx, a.Index)
	}
	return a, err
}

type contents struct{ m *Member }

func (c contents) Unheld(ctx context.Context, but mail.MemberID) ([]admin.Unheld, error) {
	return c.m.Unheld(ctx, but)
}

func (c contents) Open(_ context.Context, id mail.ContentID) (io.ReadSeekCloser, error) {
	return c.m.Open(id)
}

// host tells admin about this member.
type host struct{ m *Member }

// Ready are the conditions of taking mail now, as SMTP goes by them.
func (h host) Ready() []admin.Check {
	m := h.m
	v := m.fsm.View()
	defer v.Close()
	b, _ := v.Boundary()
	self, _ := v.Member(m.id.ID)
	free, pressure := m.content.Stats().Free, m.Pressure()
	check := func(name string, ok bool, reason string) admin.Check {
		return admin.Check{Name: name, OK: ok, Reason: reason}
	}
	return []admin.Check{
		check("quorum", m.node.Lease().Valid(), "no lease: no contact to a quorum, or the state lags behind"),
		check("voters", b.Opened, fmt.Sprintf("%d of %d voters (min-voters) are there", len(b.Voters), v.Params().MinVoters)),
		check("member", self.Up, "the boundary has this member down"),
		check("disk", free < 0 || free >= m.cfg.Disk.spaceMin, fmt.Sprintf("%d bytes are free in %s, space-min is %s", free, m.cfg.Dir, m.cfg.Disk.SpaceMin)),
		check("pressure", pressure.Level < resubmit.High, "back pressure is high: "+pressure.Reason()),
		check("draining", !m.draining.Load() && !self.Draining, "shutting down or draining"),
	}
}

// Status implements admin.Host.
func (h host) Status(ctx context.Context) admin.MemberStatus {
	m := h.m
	raft := m.node.Stats()
	number := func(name string) uint64 { n, _ := strconv.ParseUint(raft[name], 10, 64); return n }
	leader, addr := m.node.Leader()
	applied, _ := m.fsm.Applied()
	disk := m.content.Stats()
	refill := m.refill.status()
	s := admin.MemberStatus{ID: m.id.ID, Name: m.cfg.Name, Version: Version, Role: roleOf(raft["state"]), Leader: leader,
		Term: number("term"), CommitIndex: number("commit_index"), AppliedIndex: applied,
		Lag:       number("last_log_index") - min(number("last_log_index"), max(applied, number("applied_index"))),
		LeaseLeft: mail.Duration(max(m.node.Lease().Left(), 0).Milliseconds()), DiskFree: disk.Free, DiskTotal: diskTotal(m.cfg.Dir),
		ContentBytes: disk.Bytes, ContentSegments: disk.Segments, ContentMissing: int(refill.Missing), Refill: refill, Scrub: m.scrub.status(),
		StateBytes: m.state.Size(), LogBytes: m.raftLog.Size(), SMTPCerts: m.smtpCertificates(), CertNotAfter: mail.At(m.id.credentials.Load().Cert.Leaf.NotAfter),
		Pressure: pressureView(m.Pressure()), Sessions: m.smtp.Counts().Open, Uptime: mail.Duration(time.Since(m.started).Milliseconds()), Draining: m.draining.Load(),
		Milters: m.milterViews()}
	seen := m.leaderView(ctx, leader, addr)
	s.TimeTrusted, s.TimeAhead, s.Peers, s.Stuck, s.WaitingWhy = seen.Trusted, seen.Ahead, seen.Peers, seen.Stuck, seen.Waiting
	s.Refills = m.progress(ctx)
	return s
}

func (m *Member) smtpCertificates() (list []admin.Certificate) {
	for _, l := range m.certificates.Lives() {
		list = append(list, admin.Certificate{File: l.File, NotBefore: mail.At(l.From), NotAfter: mail.At(l.Until)})
	}
	return list
}

// pressureView is back pressure as admin shows it.
func pressureView(p resubmit.Pressure) admin.Pressure {
	v := admin.Pressure{Level: p.Level.String()}
	for _, r := range p.Resources {
		v.Resources = append(v.Resources, admin.Resource{Name: r.Name, Value: r.Value, Level: r.Level.String(), Medium: r.Medium, High: r.High, Left: r.Left})
	}
	return v
}

func stuckView(x resubmit.Stuck) admin.Stuck {
	why := x.Why
	if x.Text != "" {
		why += ": " + x.Text
	}
	return admin.Stuck{Database: x.Database, Why: why, Since: mail.At(x.Since), Waits: x.Waits}
}

func roleOf(raftState string) string {
	switch raftState {
	case "Leader":
		return "leader"
	case "Candidate":
		return "candidate"
	case "Shutdown":
		return "stopped"
	}
	return "follower"
}

func diskTotal(dir string) int64 {
	var s unix.Statfs_t
	if err := unix.Statfs(filepath.Clean(dir), &s); err != nil {
		return -1
	}
	return int64(s.Blocks) * s.Bsize
}

// leaderView is what only the leader knows of the members.
type leaderView struct {
	Trusted bool               `json:"trusted"`
	Ahead   mail.Duration      `json:"ahead"`
	Peers   []admin.PeerStatus `json:"peers"`
	Stuck   []admin.Stuck      `json:"stuck,omitempty"`
	Waiting string             `json:"waiting,omitempty"` // why requests do
}

// leaderViewTime bounds the question to a leader that may be gone.
const leaderViewTime = time.Second

func (m *Member) leaderView(ctx context.Context, leader mail.MemberID, addr string) leaderView {
	if leader == m.id.ID {
		return m.ownView()
	}
	var lv leaderView
	if leader == 0 {
		return lv
	}
	ctx, cancel := context.WithTimeout(ctx, leaderViewTime)
	defer cancel()
	b, err := m.link.Call(ctx, addr, kindStatus, nil)
	if err == nil {
		err = json.Unmarshal(b, &lv)
	}
	if err != nil {
		m.log.Debug("the leader does not say how the members are", "error", err)
	}
	return lv
}

func (m *Member) handleStatus(context.Context) ([]byte, error) { return json.Marshal(m.ownView()) }

func (m *Member) ownView() leaderView {
	var lv leaderView
	ahead, trusted := m.node.Trusted()
	lv.Trusted, lv.Ahead = trusted, mail.Duration(max(ahead, 0).Milliseconds())
	for _, x := range m.Stuck() {
		lv.Stuck = append(lv.Stuck, stuckView(x))
	}
	_, lv.Waiting = m.boundaryPressure()
	now := cluster.BootTime()
	for _, r := range m.node.Reports() {
		p := admin.PeerStatus{ID: r.Member, AppliedIndex: r.Applied, Complete: r.Complete}
		if at, ok := m.node.LastGrant(r.Member); ok {
			p.LastLease = mail.Duration((now - at).Milliseconds())
		}
		offset := r.Wall.Add(now - r.At).Sub(mail.At(cluster.WallTime()))
		p.ClockOffset = mail.Duration(max(offset, -offset).Milliseconds())
		lv.Peers = append(lv.Peers, p)
	}
	slices.SortFunc(lv.Peers, func(a, b admin.PeerStatus) int { return cmp.Compare(a.ID, b.ID) })
	return lv
}
