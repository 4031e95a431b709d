package maildir

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestProbe(t *testing.T) {
	dir := t.TempDir()
	tr := &Transport{Host: "mx"}
	if err := tr.Probe(t.Context(), "maildir:"+dir); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, filepath.Join(dir, "away")} {
		if err := tr.Probe(t.Context(), "maildir:"+path); err == nil {
			t.Errorf("%s can take mail", path)
		}
	}
}

// A file system that hangs is asked once, however often the copy is probed,
// and believed again as soon as it answers.
func TestProbeOfHungFileSystem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan error)
		var asked atomic.Int32
		tr := &Transport{Host: "mx", probe: func(string) error { asked.Add(1); return <-hang }}
		probe := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return tr.Probe(ctx, "maildir:/mnt/mail")
		}
		for range 5 {
			if err := probe(); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("probe: %v", err)
			}
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("%d probes hang", n)
		}
		time.AfterFunc(time.Millisecond, func() { hang <- nil })
		if err := probe(); err != nil {
			t.Errorf("after it answered: %v", err)
		}
		time.AfterFunc(time.Millisecond, func() { hang <- os.ErrPermission })
		if err := probe(); !errors.Is(err, os.ErrPermission) || asked.Load() != 2 {
			t.Errorf("the next one: %v", err)
		}
	})
}
