package frontend

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"mailraft/cluster/link"
	"mailraft/cluster/pki"
	"mailraft/cluster/port"
	"mailraft/mail"
	"mailraft/smtpd"
	"mailraft/smtpd/handover"

	"github.com/hashicorp/go-hclog"
)

// house is boundaries of members that keep what they take in memory, and a
// front end before them, all on loopback and without certificates.
type house struct {
	t      *testing.T
	f      *Frontend
	addr   string // of the front end
	logs   []*boundaryLog
	mu     sync.Mutex
	wrap   func(net.Conn) net.Conn // guarded by mu: of new streams
	member map[string]*member      // guarded by mu while boundaries are made
}

// boundaryLog is what a boundary agrees on: the answer to each submission, the
// first one stands.
type boundaryLog struct {
	name   string
	domain string
	mu     sync.Mutex
	given  map[mail.ContentID]handover.Fate
	taken  []message
	silent bool // nobody learns what became of a submission
}

type message struct {
	env   mail.Envelope
	trace mail.Trace
	text  string
}

// answer records the first answer to a submission.
func (l *boundaryLog) answer(id mail.ContentID, m *message) handover.Fate {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a, ok := l.given[id]; ok {
		return a
	}
	a := handover.Fate{Refusal: mail.Replyf(451, "4.3.0", "withdrawn")}
	if m != nil {
		a = handover.Fate{ID: mail.NewID(1, uint64(len(l.given)+1), 0)}
		l.taken = append(l.taken, *m)
	}
	l.given[id] = a
	return a
}

func (l *boundaryLog) take() []message {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.taken
	l.taken = nil
	return m
}

// member is one of them: queue, directory and gate of a real SMTP server.
type member struct {
	name, site string
	log        *boundaryLog
	smtp       *smtpd.Server
	front      net.Addr
	handed     net.Addr

	mu      sync.Mutex
	refusal *mail.Reply
	begin   error
	commit  error
	load    int
	away    bool // it answers nobody
	begun   int
}

func (m *member) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

func (m *member) Ready() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refusal != nil {
		return m.refusal
	}
	return nil
}

func (m *member) Verify(_ context.Context, a mail.Address, relay bool) error {
	m.log.mu.Lock()
	domain := m.log.domain
	m.log.mu.Unlock()
	switch {
	case strings.EqualFold(a.Domain, domain) && !strings.HasPrefix(a.Local, "no"):
		return nil
	case strings.EqualFold(a.Domain, domain):
		return mail.Replyf(550, "5.1.1", "no mailbox of this name")
	case relay:
		return nil
	}
	return mail.Replyf(550, "5.7.1", "relaying to %s is not permitted", a.Domain)
}

func (m *member) Begin(context.Context) (smtpd.Upload, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.begin != nil {
		return nil, m.begin
	}
	m.begun++
	var id mail.ContentID
	copy(id[:], fmt.Sprintf("%s%12d", m.name, m.begun))
	return &upload{m: m, id: id}, nil
}

type upload struct {
	m    *member
	id   mail.ContentID
	text bytes.Buffer
}

func (u *upload) Submission() mail.ContentID { return u.id }

func (u *upload) Write(p []byte) (int, error) { return u.text.Write(p) }
func (u *upload) Abort()                      {}
func (u *upload) Commit(_ context.Context, s mail.Submission) (mail.ID, error) {
	u.m.mu.Lock()
	err := u.m.commit
	u.m.mu.Unlock()
	if err != nil {
		return mail.ID{}, err
	}
	a := u.m.log.answer(u.id, &message{s.Envelope, s.Trace, u.text.String()})
	if a.Refusal != nil {
		return mail.ID{}, a.Refusal
	}
	return a.ID, nil
}

// handle answers what the front end asks.
func (m *member) handle(ctx context.Context, _ pki.Identity, kind byte, body []byte) ([]byte, error) {
	m.mu.Lock()
	away, refusal, load := m.away, m.refusal, m.load
	m.mu.Unlock()
	if away {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	switch kind {
	case handover.KindState:
		return json.Marshal(handover.State{Member: m.name, Site: m.site, Refusal: refusal, Open: load, SizeMax: 10 << 20})
	case handover.KindRoute:
		var q handover.RouteRequest
		if err := json.Unmarshal(body, &q); err != nil {
			return nil, err
		}
		a, err := mail.ParseAddress(q.Address)
		if err != nil {
			return nil, err
		}
		r := handover.Route{Why: "by " + m.name}
		errors.As(m.Verify(ctx, a, q.Relay), &r.Refusal)
		return json.Marshal(r)
	case handover.KindFate:
		var q handover.FateRequest
		if err := json.Unmarshal(body, &q); err != nil {
			return nil, err
		}
		m.log.mu.Lock()
		silent := m.log.silent
		m.log.mu.Unlock()
		if silent {
			return nil, mail.Replyf(451, "4.4.0", "no quorum")
		}
		return json.Marshal(m.log.answer(q.Submission, nil))
	}
	return nil, mail.Replyf(502, "5.5.1", "unknown")
}

// newHouse has boundaries with so many members each; their domains are
// b1.example, b2.example.
func newHouse(t *testing.T, boundaries, members int) *house {
	t.Helper()
	h := &house{t: t, member: map[string]*member{}}
	cfg := Config{Name: "fe1", Hostname: "fe1.example", Site: "east", Dir: t.TempDir()}
	cfg.SMTP.Listen, cfg.SMTP.Limits.EarlyTalkers = "127.0.0.1:0", "allow"
	if err := cfg.complete(); err != nil {
		t.Fatal(err)
	}
	h.f = &Frontend{cfg: cfg, log: hclog.NewNullLogger(), started: time.Now()}
	h.f.ctx, h.f.cancel = context.WithCancel(context.Background())
	for i := range boundaries {
		l := &boundaryLog{name: fmt.Sprintf("b%d", i+1), domain: fmt.Sprintf("b%d.example", i+1), given: map[mail.ContentID]handover.Fate{}}
		h.logs = append(h.logs, l)
		c := BoundaryConfig{Name: l.name, Only: true}
		for j := range members {
			m := h.open(fmt.Sprintf("%sm%d", l.name, j+1), l)
			c.Members = append(c.Members, m.name)
		}
		id := &identity{}
		id.credentials.Store(&port.Credentials{Cert: tls.Certificate{Leaf: new(x509.Certificate)}})
		b := newBoundary(c, &cfg, id, h.dial, hclog.NewNullLogger())
		h.f.boundaries = append(h.f.boundaries, b)
		ctx, cancel := context.WithCancel(h.f.ctx)
		b.meet(ctx, c.Members)
		t.Cleanup(func() { cancel(); b.work.Wait(); b.link.Close() })
	}
	if err := h.f.openSMTP(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.f.smtp.Close()
		h.f.cancel()
		for _, m := range h.member {
			m.smtp.Close()
		}
	})
	h.addr = h.f.smtpAddrs[0]
	h.until("all members are ready", func() bool {
		for _, b := range h.f.boundaries {
			for _, p := range b.list() {
				if p.ready(time.Now()) != nil {
					return false
				}
			}
		}
		return true
	})
	return h
}

func (h *house) open(name string, l *boundaryLog) *member {
	m := &member{name: name, log: l}
	m.smtp = smtpd.New(smtpd.Config{Hostname: name + ".example", Queue: m, Directory: m, Gate: m})
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			h.t.Fatal(err)
		}
		return l
	}
	front, handed := listen(), listen()
	m.front, m.handed = front.Addr(), handed.Addr()
	ctx, cancel := context.WithCancel(context.Background())
	h.t.Cleanup(cancel)
	go link.Serve(ctx, front, m.handle)
	go m.smtp.ServeHandedOver(handed, nil)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.member[name] = m
	return m
}

func (h *house) dial(ctx context.Context, name, proto string) (net.Conn, error) {
	h.mu.Lock()
	m := h.member[name]
	h.mu.Unlock()
	addr := m.front
	if proto == port.SMTP {
		addr = m.handed
	}
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr.String())
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil && proto == port.SMTP && h.wrap != nil {
		nc = h.wrap(nc)
	}
	return nc, err
}

// wrapping has the next streams pass f; those that wait are closed.
func (h *house) wrapping(f func(net.Conn) net.Conn) {
	h.mu.Lock()
	h.wrap = f
	h.mu.Unlock()
	for _, b := range h.f.boundaries {
		for _, p := range b.list() {
			p.mu.Lock()
			p.closeIdle(0)
			p.mu.Unlock()
		}
	}
}

func (h *house) until(what string, ok func() bool) {
	h.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(end) {
			h.t.Fatalf("never: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// client speaks SMTP to the front end.
type client struct {
	t *testing.T
	*textproto.Conn
	nc net.Conn
}

func (h *house) client() *client {
	h.t.Helper()
	nc, err := net.Dial("tcp", h.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(time.Minute))
	return &client{h.t, textproto.NewConn(nc), nc}
}

// say sends text and returns the replies to it, one for each line wanted.
func (c *client) say(text string, replies int) []string {
	c.t.Helper()
	if _, err := io.WriteString(c.nc, text); err != nil {
		c.t.Fatal(err)
	}
	var got []string
	for range replies {
		got = append(got, c.reply())
	}
	return got
}

// reply is the next one; how the connection ended, if it did.
func (c *client) reply() string {
	code, text, err := c.ReadResponse(0)
	if p := (*textproto.Error)(nil); err != nil && !errors.As(err, &p) {
		return err.Error()
	}
	return fmt.Sprintf("%d %s", code, text)
}

// want checks how replies begin.
func want(t *testing.T, got []string, begin ...string) {
	t.Helper()
	for i, b := range begin {
		if i >= len(got) || !strings.HasPrefix(got[i], b) {
			t.Fatalf("answered %q, want %q", got, begin)
		}
	}
}
