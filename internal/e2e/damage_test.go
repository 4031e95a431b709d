//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailraft/internal/loopback"
)

// spoil changes one bit in each of some places of a file.
func (b *boundary) spoil(path string, at func(size int) []int) {
	b.t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, i := range at(len(data)) {
		data[i] ^= 1
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// verify runs "mailraft verify" on a member that does not run.
func (b *boundary) verify(m *loopback.Member) (text string, ok bool) {
	b.t.Helper()
	out, err := exec.Command(b.Exe, "verify", "--dir", m.Dir).CombinedOutput()
	return string(out), err == nil
}

// Bits flip in the content of one member: it is found by verify, and made good
// from the others while mail goes on. Then one flips in its log: the process
// ends with the remedy, and the others go on.
func TestDamage(t *testing.T) {
	t.Parallel()
	b := start(t, 2*time.Minute, nil)
	s := b.sender(0, 4, 20*time.Millisecond)
	stop := b.load(s)
	m := b.Members[2]
	time.Sleep(4 * time.Second) // of load
	m.Stop()
	if text, ok := b.verify(m); !ok {
		t.Fatalf("a whole directory:\n%s", text)
	}
	segments, err := filepath.Glob(filepath.Join(m.Dir, "content", "*.seg"))
	if err != nil || len(segments) == 0 {
		t.Fatal(segments, err)
	}
	b.spoil(segments[0], func(n int) []int { return []int{n / 5, n / 2, n - n/7} })
	if err := os.Remove(strings.TrimSuffix(segments[0], ".seg") + ".idx"); err != nil {
		t.Fatal(err)
	}
	if text, ok := b.verify(m); ok || !strings.Contains(text, "DAMAGED content") {
		t.Errorf("verify: %v\n%s", ok, text)
	}
	b.back(m)
	b.ready()
	time.Sleep(3 * time.Second) // of load
	stop()
	b.audit(s.Ledger)
	b.sameState()

	m.Stop()
	b.spoil(filepath.Join(m.Dir, "raft", "raft.db"), func(int) []int { return []int{4096 + 20} })
	if text, ok := b.verify(m); ok || !strings.Contains(text, "DAMAGED log") || strings.Contains(text, "DAMAGED content") {
		t.Errorf("verify: %v\n%s", ok, text)
	}
	out, err := exec.Command(b.Exe, "serve", "--config", m.Config).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "boundary token --replace "+m.Name) {
		t.Errorf("serve: %v\n%s", err, out)
	}
	after := b.sender(50, 4, 10*time.Millisecond)
	after.Targets = after.Targets[:2]
	after.Run(b.ctx)
	b.audit(after.Ledger)
}
