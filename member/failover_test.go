package member

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"mailraft/fsm"
	"mailraft/internal/ledger"
)

// store is a house whose database DB1 has two copies: b is a real copy of a,
// taken earlier, and a has had more mail since.
type store struct {
	*house
	ledger *ledger.Ledger
}

const (
	beforeMail = 40 // messages that both copies have
	sinceMail  = 40 // that only the active copy has
	lateMail   = 20 // that come while it is dead
)

func newStore(t *testing.T, set map[string]string) *store {
	s := &store{house: newHouse(t, 3), ledger: ledger.New()}
	params := map[string]string{"failover-after": "1s", "replication-slack": "1s", "unresponsive-primary-timeout": "2s"}
	for k, v := range set {
		params[k] = v
	}
	s.propose(fsm.KindConfigure, fsm.Configure{Set: params})
	s.post(beforeMail)
	s.arrived(s.mail(), beforeMail)
	s.until("its deliveries are recorded", func() bool { return s.members[0].activeMessages(1) == 0 })
	_, now := s.members[0].fsm.Applied()
	if err := os.CopyFS(s.copy(), os.DirFS(s.mail())); err != nil {
		t.Fatal(err)
	}
	s.propose(fsm.KindDatabase, fsm.DatabaseChange{Op: "copy-add", Name: "DB1",
		Copies: []fsm.Copy{{Name: "b", Addr: "maildir:" + s.copy(), DataThrough: now}}})
	s.until("the slack is over", func() bool { _, at := s.members[0].fsm.Applied(); return at > now.Add(time.Second) })
	s.post(sinceMail)
	s.arrived(s.mail(), beforeMail+sinceMail)
	s.until("both copies were seen healthy", func() bool {
		v := s.members[0].fsm.View()
		defer v.Close()
		records := v.Health("DB1")
		return len(records) == 2 && records[0].Healthy && records[1].Healthy
	})
	return s
}

func (s *store) copy() string { return filepath.Join(s.dir, "copy") }

// post sends messages, and returns when all are accepted.
func (s *store) post(n int) {
	s.t.Helper()
	sender := &ledger.Sender{Ledger: s.ledger, From: "s@example.org", Count: n, Sessions: 4, Pause: 50 * time.Millisecond,
		Recipient: func(n int) string { return fmt.Sprintf("u%d@example.test", n%5) }, Size: func(n int) int { return 100 + n*997%20_000 }}
	for _, m := range s.members {
		if m != nil {
			sender.Targets = append(sender.Targets, m.smtpAddrs[0])
		}
	}
	sender.Run(s.ctx)
}

// arrived waits until a copy has so many messages.
func (s *store) arrived(dir string, n int) {
	s.t.Helper()
	var a ledger.Audit
	s.until(fmt.Sprintf("%d messages arrive in %s", n, filepath.Base(dir)), func() bool {
		var err error
		if a, err = s.ledger.Audit(dir); err != nil {
			s.t.Fatal(err)
		}
		return a.Delivered >= n
	})
	if len(a.Damaged) > 0 || a.Duplicates > 0 || a.Accepted != n {
		s.t.Errorf("audit of %s: %+v", dir, a)
	}
}

// lose makes the directory of the active copy useless: a file is in its place.
func (s *store) lose() {
	s.t.Helper()
	if err := os.Rename(s.mail(), s.mail()+"-lost"); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(s.mail(), nil, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// kill ends a member as others see it when its host dies: nothing that it does
// from now on leaves it. gone returns when it could be started again.
func (h *house) kill(i int) (gone func()) {
	m := h.members[i]
	h.closed("cluster port", m.port.Close())
	h.members[i] = nil
	stopped := make(chan struct{})
	go func() { m.Stop(); close(stopped) }()
	gone = func() { <-stopped }
	h.t.Cleanup(gone)
	return gone
}

func (h *house) closed(what string, err error) {
	h.t.Helper()
	if err != nil {
		h.t.Errorf("close %s: %v", what, err)
	}
}

// request is the request of the present activation, as some member has it.
func (s *store) request() (d fsm.Database, r fsm.Request, ok bool) {
	v := s.any().fsm.View()
	defer v.Close()
	d, _ = v.Database("DB1")
	r, ok = v.Request(d.Request)
	return d, r, ok
}

// completed waits for the request of the activation of copy b, and checks what
// it has done.
func (s *store) completed(at fsm.RequestState) fsm.Request {
	s.t.Helper()
	var r fsm.Request
	s.until("the request is completed", func() bool {
		_, r, _ = s.request()
		return r.ID != 0 && !r.Open()
	})
	if r.State != at {
		s.t.Errorf("request: %+v", r)
	}
	return r
}

func (s *store) settled() {
	s.t.Helper()
	s.arrived(s.copy(), beforeMail+sinceMail+lateMail)
	s.sameState()
	v := s.any().fsm.View()
	defer v.Close()
	h, _ := v.History("DB1")
	if !slices.ContainsFunc(h.Events, func(e fsm.HistoryEvent) bool { return e.Kind == fsm.HistoryFailover && e.From == "a" && e.Copy == "b" }) {
		s.t.Errorf("history: %+v", h.Events)
	}
}

// The active copy is lost: another is activated without anybody's doing, and
// is sent what it lacks, all of it and nothing twice; mail that waited for the
// lost copy does not wait any longer.
func TestFailover(t *testing.T) {
	s := newStore(t, nil)
	s.lose()
	s.post(lateMail)
	s.until("copy b is activated", func() bool { d, _, _ := s.request(); return d.Active == "b" })
	r := s.completed(fsm.RequestCompleted)
	if r.Activation != 2 || r.Counts.Sent < sinceMail || r.Counts.Failed != 0 || r.Counts.Delivered != r.Counts.Sent {
		t.Errorf("request: %+v", r)
	}
	s.settled()
}

// The leader is killed after it has activated the copy, while what that lacks
// is being sent: the next leader goes on, others deliver what the killed member
// had taken on, and nothing is lost or there twice.
func TestFailoverAndLeaderKilled(t *testing.T) {
	s := newStore(t, map[string]string{"resubmit-rate": "10/s", "replication-slack": "0s"})
	s.lose()
	s.post(lateMail)
	s.until("some of what copy b lacks was sent", func() bool { _, r, _ := s.request(); return r.Counts.Sent >= 10 })
	if _, r, _ := s.request(); !r.Open() || r.Walked {
		t.Fatalf("too late to kill anybody: %+v", r)
	}
	leader, _ := s.any().node.Leader()
	i := slices.IndexFunc(s.members, func(m *Member) bool { return m.id.ID == leader })
	gone := s.kill(i)
	s.completed(fsm.RequestCompleted)
	gone()
	s.start(i)
	s.ready()
	s.settled()
}
