package member

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mailraft/admin"
	"mailraft/cluster/enroll"
	"mailraft/directory"
	"mailraft/fsm"
	"mailraft/internal/fixedport"
	"mailraft/internal/ledger"
	"mailraft/mail"

	"github.com/hashicorp/go-hclog"
)

// house is a boundary in one process.
type house struct {
	t       *testing.T
	ctx     context.Context
	dir     string
	configs []Config
	members []*Member
}

func freeAddr(t testing.TB) string {
	t.Helper()
	addr, err := fixedport.Addr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

func newHouse(t *testing.T, n int, tune ...func(*Config)) *house {
	t.Helper()
	t.Parallel()                                                   // they mostly wait
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // on a machine with other work
	t.Cleanup(cancel)
	h := &house{t: t, ctx: ctx, dir: t.TempDir()}
	for range n {
		h.configure(tune...)
	}
	if _, err := Init(h.configs[0], "test", map[string]string{"min-voters": fmt.Sprint(n), "shadow-resubmit-time-span": "3s", "shadow-heartbeat-frequency": "1s"}); err != nil {
		t.Fatal(err)
	}
	h.start(0)
	h.until("the first member leads", func() bool { return h.members[0].node.Lease().Valid() })
	h.propose(fsm.KindDatabase, fsm.DatabaseChange{Op: "add", Name: "DB1", Copies: []fsm.Copy{{Name: "a", Addr: "maildir:" + h.mail()}}})
	h.propose(fsm.KindDirectory, fsm.Directory{Domains: []directory.Domain{{Name: "example.test", Kind: directory.Accepted, AnyMailbox: true, Database: "DB1"}}})
	for i := 1; i < n; i++ {
		h.join(i)
	}
	h.ready()
	return h
}

// configure makes the configuration of one more member, and returns its number.
func (h *house) configure(tune ...func(*Config)) int {
	h.t.Helper()
	n := len(h.configs) + 1
	c := Config{Name: fmt.Sprintf("m%d", n), Hostname: fmt.Sprintf("m%d.example.test", n), Dir: filepath.Join(h.dir, fmt.Sprint(n))}
	c.SMTP.Listen, c.Cluster.Listen, c.HTTP.Listen, c.Disk.SpaceMin = freeAddr(h.t), freeAddr(h.t), freeAddr(h.t), "1MiB"
	c.SMTP.Limits.ExemptNetworks = []string{"127.0.0.0/8"}
	for _, f := range tune {
		f(&c)
	}
	if err := c.complete(); err != nil {
		h.t.Fatal(err)
	}
	h.configs, h.members = append(h.configs, c), append(h.members, nil)
	return n - 1
}

// join lets a configured member in by a token of the first one, and starts it.
func (h *house) join(i int) {
	h.t.Helper()
	token, err := h.members[0].NewToken(h.ctx, "member", "", 1, time.Hour)
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := Join(h.ctx, h.configs[i], h.configs[0].Cluster.Listen, token); err != nil {
		h.t.Fatal(err)
	}
	h.start(i)
	if _, err := Join(h.ctx, h.configs[i], h.configs[0].Cluster.Listen, token); err == nil || !strings.Contains(err.Error(), "in use") {
		h.t.Fatalf("join of a directory that runs: %v", err)
	}
}

func (h *house) mail() string { return filepath.Join(h.dir, "mail") }

func (h *house) start(i int) {
	h.t.Helper()
	m, err := Start(h.configs[i], hclog.New(&hclog.LoggerOptions{Name: h.configs[i].Name, Level: hclog.Warn, Output: os.Stderr}),
		func(err error) {
			if !errors.Is(err, ErrUnusable) { // a member that was removed learns so, and would end
				panic(err)
			}
		})
	if err != nil {
		h.t.Fatal(err)
	}
	h.members[i] = m
	h.t.Cleanup(func() {
		if h.members[i] == m {
			m.Stop()
		}
	})
}

func (h *house) stop(i int) {
	h.members[i].Stop()
	h.members[i] = nil
}

func (h *house) any() *Member {
	for _, m := range h.members {
		if m != nil {
			return m
		}
	}
	h.t.Fatal("no member runs")
	return nil
}

func (h *house) propose(k fsm.Kind, body any) fsm.Answer {
	h.t.Helper()
	a, err := h.any().Propose(h.ctx, k, body)
	if err != nil || a.Refused != nil {
		h.t.Fatalf("kind %d: %v %v", k, err, a.Refused)
	}
	return a
}

func (h *house) until(what string, f func() bool) {
	h.t.Helper()
	for !f() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-h.ctx.Done():
			h.t.Fatalf("%s: %v", what, h.ctx.Err())
		}
	}
}

func (h *house) ready() {
	h.t.Helper()
	h.until("all members are ready", func() bool {
		for _, m := range h.members {
			if m != nil && m.Ready() != nil {
				return false
			}
		}
		return true
	})
}

// send sends messages to all running members, and waits until all are there.
func (h *house) send(n int) {
	h.t.Helper()
	s := &ledger.Sender{Ledger: ledger.New(), From: "s@example.org", Count: n, Sessions: 4, Pause: 50 * time.Millisecond,
		Recipient: func(n int) string { return fmt.Sprintf("u%d@example.test", n%3) },
		Size:      func(n int) int { return 100 + n*9001%400_000 }}
	for _, m := range h.members {
		if m != nil {
			s.Targets = append(s.Targets, m.smtpAddrs[0])
		}
	}
	s.Run(h.ctx)
	var a ledger.Audit
	h.until("all mail arrives", func() bool {
		var err error
		if a, err = s.Ledger.Audit(h.mail()); err != nil {
			h.t.Fatal(err)
		}
		return len(a.Lost) == 0
	})
	if len(a.Damaged) > 0 || a.Accepted != n || a.Duplicates > a.Explained {
		h.t.Errorf("audit: %+v", a)
	}
}

// finished waits until what has arrived is also recorded as delivered.
func (h *house) finished() {
	h.t.Helper()
	h.until("no message is active", func() bool {
		v := h.any().fsm.View()
		defer v.Close()
		for m := range v.Members() {
			for range v.Active(m.ID) {
				return false
			}
		}
		return true
	})
}

func (h *house) sameState() {
	h.t.Helper()
	var hashes []admin.MemberHash
	h.until("all members have a hash", func() (all bool) { // one may get the marking entry by a snapshot
		var err error
		if hashes, err = h.any().StateHash(h.ctx); err != nil {
			h.t.Fatal(err)
		}
		return !slices.ContainsFunc(hashes, func(x admin.MemberHash) bool { return x.Hash == "" })
	})
	for _, x := range hashes {
		if x.Hash != hashes[0].Hash {
			h.t.Errorf("hashes of the state: %+v", hashes)
		}
	}
}

func TestThreeMembers(t *testing.T) {
	h := newHouse(t, 3)
	h.send(60)
	h.sameState()
	for _, path := range []string{"/livez", "/readyz?verbose", "/metrics", "/status"} {
		h.until(path+" is answered", func() bool { // a lease of a second may be over for a moment
			resp, err := http.Get("http://" + h.members[1].httpAddr + path)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		})
	}
	h.until("shadow servers acknowledge what is delivered", func() bool {
		v := h.members[0].fsm.View()
		defer v.Close()
		for m := range v.Messages([15]byte{}) {
			if !m.Acked {
				return false
			}
		}
		return true
	})

	// One is away: mail goes on, and what it lacks it fetches on its return.
	h.stop(1)
	h.send(40)
	h.start(1)
	h.ready()
	h.until("the member that was away has all content", func() bool {
		v := h.members[1].fsm.View()
		defer v.Close()
		n := 0
		for c := range v.Contents([16]byte{}) {
			n++
			if _, ok := h.members[1].content.Stat(c.ID); !ok {
				return false
			}
		}
		return n == 100
	})
	h.sameState()
}

// A start that fails says why, and leaves nothing running.
func TestFailedStart(t *testing.T) {
	h := newHouse(t, 1)
	h.stop(0)
	l, err := net.Listen("tcp", h.configs[0].HTTP.Listen)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := Start(h.configs[0], hclog.NewNullLogger(), nil); err == nil || m != nil || !strings.Contains(err.Error(), "health listener") {
		t.Fatalf("start with a port in use: %v", err)
	}
	if c, err := net.Dial("tcp", h.configs[0].SMTP.Listen); err == nil {
		c.Close()
		t.Error("SMTP still listens")
	}
	l.Close()
	h.start(0)
	h.ready()
}

// The answer to a joiner is lost: it asks again as the same, with the same
// token, and the name is not taken by its own ghost.
func TestJoinAgain(t *testing.T) {
	h := newHouse(t, 1)
	token, err := h.members[0].NewToken(h.ctx, "member", "", 1, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c := h.configs[0]
	c.Name, c.Dir, c.Cluster.Listen = "m2", t.TempDir(), freeAddr(t)
	c.Cluster.Advertise = c.Cluster.Listen
	lost, _, csr, err := pendingIdentity(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.members[0].letJoin(enroll.Request{Token: token, Member: c.row(lost.ID, ""), CSR: csr}); err != nil {
		t.Fatal(err)
	}
	id, err := Join(h.ctx, c, h.configs[0].Cluster.Listen, token)
	if err != nil || id.ID != lost.ID {
		t.Fatalf("again: %v, %v; want %s", id, err, lost.ID)
	}
}

// A boundary of one, for trying things out: content on one disk is a majority,
// and there is nobody to shadow.
func TestOneMember(t *testing.T) {
	h := newHouse(t, 1)
	if b := h.members[0].fsm.Settings().Boundary; time.Since(b.Created.Std()).Abs() > time.Hour || b.HoldSince != 0 {
		t.Errorf("founded %v, all is held since %v", b.Created, b.HoldSince)
	}
	h.propose(fsm.KindConfigure, fsm.Configure{Set: map[string]string{"reject-message-on-shadow-failure": "false"}})
	h.send(10)
	h.stop(0)
	h.start(0)
	h.ready()
	h.send(10)
	h.sameState()
}

// A follower that is asked for a decision reads at an index that the leader
// has named after a quorum confirmed it; without a quorum it does not decide.
func TestFreshRead(t *testing.T) {
	h := newHouse(t, 3)
	for _, m := range h.members {
		before, _ := h.members[0].fsm.Applied()
		h.propose(fsm.KindTick, fsm.Tick{})
		if err := m.fresh(h.ctx); err != nil {
			t.Fatal(err)
		}
		if at, _ := m.fsm.Applied(); at <= before {
			t.Errorf("read at %d what was committed after %d", at, before)
		}
	}
	h.stop(1)
	h.stop(2)
	ctx, cancel := context.WithTimeout(h.ctx, 3*time.Second)
	defer cancel()
	if err := h.members[0].fresh(ctx); err == nil {
		t.Error("a member alone read as if it led")
	}
}

// Whatever member is asked, right after a domain was made on another: it does
// not refuse for good what it has not heard of yet.
func TestVerifyKnowsWhatIsCommitted(t *testing.T) {
	h := newHouse(t, 3)
	for i := range 30 {
		domain := fmt.Sprintf("d%d.test", i)
		h.propose(fsm.KindDirectory, fsm.Directory{Domains: []directory.Domain{{Name: domain, Kind: directory.Accepted, AnyMailbox: true, Database: "DB1"}}})
		for _, m := range h.members {
			h.until(domain+" is known", func() bool { // a lease of a second may be over for a moment
				err := m.Verify(h.ctx, mail.Address{Local: "u", Domain: domain}, false)
				if r := (*mail.Reply)(nil); errors.As(err, &r) && r.Permanent() {
					t.Fatalf("%s: %s: %v", m.cfg.Name, domain, err)
				}
				return err == nil
			})
		}
	}
	err := h.members[2].Verify(h.ctx, mail.Address{Local: "u", Domain: "elsewhere.example"}, false)
	if r := (*mail.Reply)(nil); !errors.As(err, &r) || r.Code != 550 {
		t.Errorf("a foreign domain: %v", err)
	}
}
