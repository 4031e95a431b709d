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

// A member's disk image is restored: it learns that from the others, and stops
// for good with the way back in the text, which works.
func TestDirectorySetBack(t *testing.T) {
	t.Parallel()
	b := start(t, 3*time.Minute, nil)
	s := b.sender(0, 4, 20*time.Millisecond)
	stop := b.load(s)
	m := b.Members[2]
	time.Sleep(2 * time.Second)
	m.Stop()
	image := filepath.Join(t.TempDir(), "image")
	if err := os.CopyFS(image, os.DirFS(m.Dir)); err != nil {
		t.Fatal(err)
	}
	b.back(m)
	b.ready()
	time.Sleep(4 * time.Second)
	b.kill(m)
	if err := os.RemoveAll(m.Dir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(m.Dir, os.DirFS(image)); err != nil {
		t.Fatal(err)
	}
	b.back(m)
	b.stopsForGood(m, "set back", "boundary token --replace m3")
	if err := b.Replace(b.ctx, m); err != nil {
		t.Fatal(err)
	}
	b.settled("m1", "m2", "m3")
	b.ready()
	stop()
	b.audit(s.Ledger)
	b.sameState()
}

// stopsForGood waits until a member has ended by itself, and starts it again:
// it ends at once, with the exit code of a bad configuration, and says why.
func (b *boundary) stopsForGood(m *loopback.Member, words ...string) {
	b.t.Helper()
	b.eventually(m.Name+" stops", func() error {
		if m.Running() {
			return errNotYet
		}
		return nil
	})
	cmd := exec.CommandContext(b.ctx, exe, "serve", "--config", m.Config)
	out, _ := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != 78 {
		b.t.Errorf("started again, %s ends with %d:\n%s", m.Name, code, out)
	}
	for _, w := range words {
		if !strings.Contains(string(out), w) {
			b.t.Errorf("%q is not in what %s says:\n%s", w, m.Name, out)
		}
	}
}
