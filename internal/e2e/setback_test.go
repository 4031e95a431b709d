//go:build e2e

package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A member's disk image is restored: the others refuse it, and its log and
// theirs name the way back, which works.
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
	b.eventually("the member is refused, with the remedy", func() error {
		text, err := os.ReadFile(filepath.Join(b.Members[0].Dir, "mailraft.log"))
		if err == nil && !strings.Contains(string(text), "set back") {
			err = errors.New("nothing of it in the log")
		}
		if err == nil && !strings.Contains(string(text), "boundary token --replace m3") {
			err = errors.New("no remedy in the log")
		}
		return err
	})
	time.Sleep(3 * time.Second)
	if err := m.Ready(b.ctx); err == nil {
		t.Error("it takes mail")
	}
	if err := b.Replace(b.ctx, m); err != nil {
		t.Fatal(err)
	}
	b.settled("m1", "m2", "m3")
	b.ready()
	stop()
	b.audit(s.Ledger)
	b.sameState()
}
