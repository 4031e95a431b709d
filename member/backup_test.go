package member

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailraft/backup"
	"mailraft/fsm"
	"mailraft/internal/ledger"
	"mailraft/mail"
)

// oneWithMail is a boundary of one, with mail that was delivered and mail that
// was not.
func oneWithMail(t *testing.T, delivered, queued int) (h *house, s *ledger.Sender) {
	h = newHouse(t, 1)
	h.propose(fsm.KindConfigure, fsm.Configure{Set: map[string]string{"reject-message-on-shadow-failure": "false"}})
	s = &ledger.Sender{Ledger: ledger.New(), From: "s@example.org", Count: delivered, Sessions: 4, Pause: 50 * time.Millisecond,
		Targets: []string{h.members[0].smtpAddrs[0]}, Recipient: func(int) string { return "u@example.test" },
		Size: func(n int) int { return 100 + n*90_001%900_000 }}
	run := func(count int) {
		if s.Count = count; count > 0 { // none is not: for ever
			s.Run(h.ctx)
		}
	}
	run(delivered)
	h.finished()
	h.propose(fsm.KindQueue, fsm.QueueChange{Key: "db/DB1", Suspend: true})
	run(queued)
	return h, s
}

func (h *house) save() []byte {
	h.t.Helper()
	var out bytes.Buffer
	if err := h.any().Save(h.ctx, &out); err != nil {
		h.t.Fatal(err)
	}
	return out.Bytes()
}

// audit waits until all acknowledged mail is there, each message once.
func (h *house) audit(l *ledger.Ledger) {
	h.t.Helper()
	var a ledger.Audit
	h.until("all that was accepted is there", func() (ok bool) {
		var err error
		a, err = l.Audit(h.mail())
		return err == nil && len(a.Lost) == 0
	})
	if len(a.Damaged) > 0 || a.Duplicates > a.Explained {
		h.t.Errorf("audit: %+v", a)
	}
}

// A boundary is saved while mail comes in, and restored as another one. That
// one delivers nothing before it is told to, then everything, and what was
// delivered before is in its Safety Net.
func TestBackup(t *testing.T) {
	h, s := oneWithMail(t, 12, 20)
	more := &ledger.Sender{Ledger: ledger.New(), From: s.From, Count: 40, Sessions: 4, Pause: s.Pause, Targets: s.Targets, Recipient: s.Recipient, Size: s.Size}
	done := make(chan struct{})
	go func() { more.Run(h.ctx); close(done) }()
	saved := h.save()
	<-done
	h.stop(0)

	i := h.configure()
	r, err := Restore(h.configs[i], bytes.NewReader(saved), RestoreOrder{Name: "second", By: "op", Reason: "fire"}, quiet)
	if err != nil || r.Unheld != 0 || r.Counts.Active < 20 || r.Counts.Finished != 12 || r.Name != "second" || r.Boundary == r.Of.Boundary {
		t.Fatalf("%v, %+v", err, r)
	}
	h.start(i)
	m := h.members[i]
	h.until("the others' messages are the new member's", func() bool {
		v := m.fsm.View()
		defer v.Close()
		n := int64(0)
		for range v.Active(m.id.ID) {
			n++
		}
		return n == r.Counts.Active && m.node.Lease().Valid()
	})
	v := m.fsm.View()
	b, _ := v.Boundary()
	stops := 0
	for x := range v.Suspensions() {
		if x.Key == "" && strings.HasPrefix(x.Reason, "restored from the backup of "+r.Of.Time.String()) {
			stops++
		}
	}
	v.Close()
	if !b.Restored.Suspended() || b.Restored.Was != r.Of.Boundary || stops != 1 {
		t.Errorf("boundary %+v, %d orders to wait", b.Restored, stops)
	}
	if a, err := s.Ledger.Audit(h.mail()); err != nil || a.Delivered != 12 {
		t.Errorf("before it is told to deliver: %+v, %v", a, err)
	}
	for _, key := range []string{"", "db/DB1"} {
		h.propose(fsm.KindQueue, fsm.QueueChange{Key: key})
	}
	h.audit(s.Ledger)
	h.finished()
	// What a mailbox server lacks is sent again, from before the backup too.
	boxes, err := filepath.Glob(filepath.Join(h.mail(), "*")) // the copy itself stays: without it nothing is delivered
	if err != nil || len(boxes) == 0 {
		t.Fatal(boxes, err)
	}
	for _, box := range boxes {
		if err := os.RemoveAll(box); err != nil {
			t.Fatal(err)
		}
	}
	h.propose(fsm.KindRequestAdd, fsm.RequestAdd{Database: "DB1"})
	h.audit(s.Ledger)
	h.stop(i)
	h.start(i) // like any member
	h.until("it leads again", func() bool { return h.members[i].node.Lease().Valid() })
}

// A file that is not whole makes no member, and the directory can be used for
// one that is. A directory that is in use is left alone.
func TestRestoreRefuses(t *testing.T) {
	h, _ := oneWithMail(t, 3, 3)
	saved := h.save()
	c := h.configs[h.configure()]
	for _, damage := range []func([]byte) []byte{
		func(b []byte) []byte { return b[:len(b)-1] },
		func(b []byte) []byte { return b[:len(b)/2] },
		func(b []byte) []byte { b[len(b)/2] ^= 4; return b },
		func(b []byte) []byte { b[600] ^= 4; return b },
		func([]byte) []byte { return nil },
	} {
		_, err := Restore(c, bytes.NewReader(damage(bytes.Clone(saved))), RestoreOrder{}, quiet)
		if !errors.Is(err, backup.ErrDamaged) {
			t.Errorf("damaged: %v", err)
		}
		if _, err := Start(c, quiet, nil); !errors.Is(err, ErrNoIdentity) {
			t.Errorf("a directory that was not restored: %v", err)
		}
	}
	if r, err := Restore(c, bytes.NewReader(saved), RestoreOrder{}, quiet); err != nil || r.Name != "test" {
		t.Errorf("after those: %+v, %v", r, err)
	}
	if _, err := Restore(c, bytes.NewReader(saved), RestoreOrder{}, quiet); err == nil || !strings.Contains(err.Error(), "is a member already") {
		t.Errorf("again: %v", err)
	}
	used := h.configs[h.configure()]
	if err := os.MkdirAll(filepath.Join(used.Dir, dirState), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := Restore(used, bytes.NewReader(saved), RestoreOrder{}, quiet); err == nil || !strings.Contains(err.Error(), "empty data directory") {
			t.Errorf("where something is: %v", err)
		}
	}
}

// hook is a writer that does something once, in the middle of a backup.
type hook struct {
	bytes.Buffer
	once func()
}

func (w *hook) Write(p []byte) (int, error) {
	if w.once != nil && w.Len() > 100_000 {
		w.once()
		w.once = nil
	}
	return w.Buffer.Write(p)
}

// All of the Safety Net expires while it is saved: the backup has all of it,
// and the space comes back afterwards.
func TestExpiryWhileSaving(t *testing.T) {
	h, s := oneWithMail(t, 30, 0)
	m := h.members[0]
	gone := func() bool {
		v := m.fsm.View()
		defer v.Close()
		for range v.Contents(mail.ContentID{}) {
			return false
		}
		return true
	}
	w := &hook{once: func() {
		h.propose(fsm.KindConfigure, fsm.Configure{Set: map[string]string{"safety-net-hold-time": "1s", "shadow-redundancy-enabled": "false"}})
		h.until("the Safety Net lets go of everything", gone)
		h.sweep(2 * time.Hour)
	}}
	if err := m.Save(h.ctx, w); err != nil {
		t.Fatal(err)
	}
	if _, tail, err := backup.Check(&w.Buffer, nil); err != nil || tail.Contents != int64(s.Ledger.Accepted()) || tail.Absent+tail.Expired != 0 {
		t.Errorf("%+v, %v", tail, err)
	}
	h.until("the disk is empty", func() bool { h.sweep(2 * time.Hour); return h.stored() == 0 })
}

// Content that is nowhere is named in the backup, and given up where that is
// restored: its messages wait.
func TestBackupWithoutContent(t *testing.T) {
	h, _ := oneWithMail(t, 0, 9)
	h.stop(0)
	if err := os.RemoveAll(h.configs[0].path(dirContent)); err != nil {
		t.Fatal(err)
	}
	h.start(0)
	saved := h.save()
	_, tail, err := backup.Check(bytes.NewReader(saved), nil)
	if err != nil || tail.Absent != 9 || len(tail.AbsentFirst) != 9 || tail.Contents != 0 || tail.Counts.Active != 9 {
		t.Fatalf("%+v, %v", tail, err)
	}
	c := h.configs[h.configure()]
	r, err := Restore(c, bytes.NewReader(saved), RestoreOrder{}, quiet)
	if err != nil || r.Unheld != 9 {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, voters, lost := generationOf(t, c); voters != 1 || lost != 9 {
		t.Errorf("%d voters, %d given up", voters, lost)
	}
}
