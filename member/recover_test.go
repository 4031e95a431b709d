package member

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailraft/cluster/pki"
	"mailraft/fsm"
	"mailraft/internal/ledger"
	"mailraft/mail"

	"github.com/hashicorp/go-hclog"
)

var quiet = hclog.NewNullLogger()

// lastOfTwo is a boundary of two whose first member is lost, with mail that
// was not delivered. It returns the directory of the second as it was left.
func lastOfTwo(t *testing.T, messages int) (h *house, s *ledger.Sender) {
	h = newHouse(t, 2)
	h.propose(fsm.KindQueue, fsm.QueueChange{Suspend: true})
	s = &ledger.Sender{Ledger: ledger.New(), From: "s@example.org", Count: messages, Sessions: 4, Pause: 50 * time.Millisecond,
		Targets: []string{h.members[0].smtpAddrs[0], h.members[1].smtpAddrs[0]}, Recipient: func(int) string { return "u@example.test" },
		Size: func(n int) int { return 100 + n*9001%400_000 }}
	s.Run(h.ctx)
	h.stop(0)
	h.stop(1)
	return h, s
}

// copied is the configuration of a member whose directory is a copy, at other
// addresses.
func copied(t *testing.T, c Config) Config {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(dir, os.DirFS(c.Dir)); err != nil {
		t.Fatal(err)
	}
	c.Dir, c.Socket = dir, filepath.Join(dir, "mailraft.sock")
	return c
}

func consent() RecoverOrder { return RecoverOrder{Consent: "test", By: "op", Reason: "fire"} }

func generationOf(t *testing.T, c Config) (generation uint64, voters, lost int) {
	t.Helper()
	m := &Member{Engine: newEngine(c, nil, quiet, func(err error) { t.Error(err) })}
	defer m.close()
	if err := m.openOffline(); err != nil {
		t.Fatal(err)
	}
	v := m.fsm.View()
	defer v.Close()
	b, _ := v.Boundary()
	for range v.Lost() {
		lost++
	}
	return b.Generation, len(b.Voters), lost
}

// What is asked for is asked for; what is looked at is not changed; done twice
// it is done.
func TestRecoverWantsConsent(t *testing.T) {
	h, _ := lastOfTwo(t, 12)
	c := h.configs[1]
	other, err := net.Listen("tcp", h.configs[0].Cluster.Listen)
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]RecoverOrder{
		"dry run":              {DryRun: true, Consent: "test"},
		"without consent":      {},
		"consent to another":   {Consent: "m1"},
		"somebody answers":     consent(),
		"dry run, and answers": {DryRun: true},
	} {
		r, err := Recover(c, o, quiet)
		if !errors.Is(err, ErrConsent) || r.Done || r.Active != 12 || len(r.Unheld) != 0 || len(r.Lost) != 1 || r.Lost[0].Name != "m1" || !r.Lost[0].Voter || !r.Lost[0].Answers {
			t.Errorf("%s: %v, %+v", name, err, r)
		}
	}
	other.Close()
	if g, voters, _ := generationOf(t, c); g != 1 || voters != 2 {
		t.Fatalf("generation %d with %d voters after looking", g, voters)
	}
	r, err := Recover(c, consent(), quiet)
	if err != nil || !r.Done || r.Lost[0].Answers || r.CertainIndex > r.LastIndex {
		t.Fatalf("%v, %+v", err, r)
	}
	if r, err := Recover(c, RecoverOrder{}, quiet); err != nil || !r.Done || r.Generation != 2 {
		t.Errorf("again: %v, %+v", err, r)
	}
	one := h.configs[0] // m1 knows nothing of it, and is refused by what m2 says
	own, err := readIdentity(one.Dir)
	if err != nil {
		t.Fatal(err)
	}
	h.start(1)
	err = h.members[1].allow(pki.Identity{Role: pki.RoleMember, Member: own.ID, Name: "m1"})
	if !errors.Is(err, ErrFormer) || !strings.Contains(err.Error(), "boundary token --replace m1") {
		t.Errorf("the lost member: %v", err)
	}
}

// The process ends at any step: what is left is the old boundary or the new
// one, and either a start or another recover finishes it.
func TestRecoverIsCutShort(t *testing.T) {
	h, _ := lastOfTwo(t, 8)
	step := func(c Config, f func(m *Member)) {
		t.Helper()
		m := &Member{Engine: newEngine(c, nil, quiet, func(err error) { t.Error(err) })}
		defer m.close()
		if err := m.openOffline(); err != nil {
			t.Fatal(err)
		}
		f(m)
	}
	// The term is written, the entries are not.
	c := copied(t, h.configs[1])
	step(c, func(m *Member) {
		if err := m.raftLog.SetUint64([]byte("CurrentTerm"), 99); err != nil {
			t.Fatal(err)
		}
	})
	if g, voters, _ := generationOf(t, c); g != 1 || voters != 2 {
		t.Errorf("term only: generation %d, %d voters", g, voters)
	}
	if r, err := Recover(c, consent(), quiet); err != nil || !r.Done {
		t.Errorf("then recovered: %v, %+v", err, r)
	}
	// The entries are written, and not applied: also after a crash in the middle
	// of that, which keeps a prefix.
	written := copied(t, h.configs[1])
	step(written, func(m *Member) {
		p, err := m.planRecovery()
		if err != nil {
			t.Fatal(err)
		}
		defer p.end()
		logs, err := p.entries(consent())
		if err == nil {
			err = m.raftLog.Extend(p.report.AppliedIndex, p.report.appliedTerm, logs)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	again := copied(t, written)
	if r, err := Recover(again, RecoverOrder{}, quiet); err != nil || !r.Done || r.Generation != 2 {
		t.Errorf("recovered again: %v, %+v", err, r)
	}
	h.configs[1] = written
	h.start(1)
	if b := h.members[1].fsm.Settings().Boundary; b.Generation != 2 || len(b.Voters) != 1 {
		t.Errorf("started: %+v", b)
	}
	h.until("it leads", func() bool { return h.members[1].node.Lease().Valid() })
}

// Content that is not there is given up by name; nobody waits for it, and when
// it turns up its messages are delivered.
func TestRecoverWithoutContent(t *testing.T) {
	h, s := lastOfTwo(t, 20)
	c := h.configs[1]
	away := filepath.Join(t.TempDir(), "content")
	if err := os.CopyFS(away, os.DirFS(c.path(dirContent))); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(c.path(dirContent)); err != nil {
		t.Fatal(err)
	}
	r, err := Recover(c, consent(), quiet)
	if err != nil || len(r.Unheld) != 20 || r.UnheldCount != 20 || r.UnheldBytes == 0 {
		t.Fatalf("%v, %+v", err, r)
	}
	if g, voters, lost := generationOf(t, c); g != 2 || voters != 1 || lost != 20 {
		t.Errorf("generation %d, %d voters, %d given up", g, voters, lost)
	}
	h.start(1)
	m := h.members[1]
	h.propose(fsm.KindQueue, fsm.QueueChange{})
	h.until("nobody waits for what was given up", func() bool {
		at, _ := m.fsm.Applied()
		all, due := m.refill.complete()
		return all > r.LastIndex && due > r.LastIndex && at >= all
	})
	v := m.fsm.View()
	waiting := 0
	for e := range v.Messages(mail.ID{}) {
		if e.WaitsForContent() {
			waiting++
		}
	}
	v.Close()
	if waiting == 0 {
		t.Error("no message waits for content")
	}
	h.stop(1)
	if err := os.RemoveAll(c.path(dirContent)); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(c.path(dirContent), os.DirFS(away)); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	h.start(1)
	h.until("all that was accepted is delivered", func() bool {
		a, err := s.Ledger.Audit(h.mail())
		return err == nil && len(a.Lost) == 0 && a.Accepted == 20
	})
}

// There must be something to recover.
func TestNothingToRecover(t *testing.T) {
	h := newHouse(t, 1)
	h.stop(0)
	if _, err := Recover(h.configs[0], consent(), quiet); err == nil || !strings.Contains(err.Error(), "only voter") {
		t.Errorf("a boundary of one: %v", err)
	}
	c := h.configs[0]
	c.Dir = t.TempDir()
	if _, err := Recover(c, consent(), quiet); !errors.Is(err, ErrNoIdentity) {
		t.Errorf("an empty directory: %v", err)
	}
	h.start(0)
	if _, err := Recover(h.configs[0], consent(), quiet); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a member that runs: %v", err)
	}
}
