//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailraft/backup"
)

// A boundary is saved while mail flows, and all three members are lost. One is
// restored, the others join it; nothing is delivered before it is told to. Then
// everything is that was accepted before the backup, once; and what mailboxes
// lack is sent again from the Safety Net.
func TestBackup(t *testing.T) {
	t.Parallel()
	b := start(t, 2*time.Minute, nil)
	s := b.sender(60, 6, 0)
	s.Run(b.ctx)
	b.delivered()
	b.cli("queue", "suspend", "db/DB1")
	s.Run(b.ctx)
	before, err := s.Ledger.Audit(b.mail())
	if err != nil {
		t.Fatal(err)
	}

	flow := b.sender(0, 4, 20*time.Millisecond)
	stop := b.load(flow)
	file := filepath.Join(t.TempDir(), "boundary.backup")
	out := b.cli("snapshot", "save", file, "-o", "json")
	stop()
	var saved struct {
		Backup   backup.Head `json:"backup"`
		Contents backup.Tail `json:"contents"`
	}
	if err := json.Unmarshal([]byte(out), &saved); err != nil || saved.Contents.Absent != 0 || saved.Contents.Counts.Active < 60 {
		t.Fatalf("%v\n%s", err, out)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if out, errs, code := b.mailraft("snapshot", "inspect", file); code != 0 || !strings.Contains(out, saved.Contents.SHA256) || !strings.Contains(out, "DB1") {
		t.Errorf("inspect: %d\n%s%s", code, out, errs)
	}
	for _, m := range b.Members {
		b.kill(m)
		for _, name := range []string{"identity", "state", "content", "raft", "snapshots", "LOCK"} {
			if err := os.RemoveAll(filepath.Join(m.Dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}

	began := time.Now()
	first := b.Members[0]
	if out, errs, code := b.mailraft("snapshot", "restore", file, "--config", first.Config, "--reason", "fire"); code != 0 || !strings.Contains(out, "Nothing is delivered yet") {
		t.Fatalf("restore: %d\n%s%s", code, out, errs)
	}
	b.back(first)
	b.eventually("it leads", func() error {
		_, err := b.Leader(b.ctx)
		return err
	})
	for _, m := range b.Members[1:] {
		if err := b.Replace(b.ctx, m); err != nil {
			t.Fatal(err)
		}
	}
	b.ready()
	t.Logf("three members again %s after the loss", time.Since(began).Round(time.Millisecond))
	if out, err := b.CLI(b.ctx, "status"); err == nil || !strings.Contains(out, "restored from the backup of "+saved.Backup.Time.String()) {
		t.Errorf("status: %v\n%s", err, out)
	}
	if a, err := s.Ledger.Audit(b.mail()); err != nil || a.Delivered != before.Delivered {
		t.Errorf("before it is told to deliver: %+v, %v; at the backup: %+v", a, err, before)
	}
	b.cli("queue", "resume", "--all")
	if a := b.audit(s.Ledger); a.Duplicates > a.Explained {
		t.Errorf("%d duplicates", a.Duplicates)
	}
	b.delivered()
	boxes, err := filepath.Glob(filepath.Join(b.mail(), "DB1", "a", "*")) // the copy itself stays: without it nothing is delivered
	if err != nil || len(boxes) == 0 {
		t.Fatal(boxes, err)
	}
	for _, box := range boxes {
		if err := os.RemoveAll(box); err != nil {
			t.Fatal(err)
		}
	}
	b.cli("resubmit", "add", "--database", "DB1", "--reason", "the mailboxes were lost too")
	b.audit(s.Ledger)
	b.eventually("all have the same state", func() error {
		if out, err := b.CLI(b.ctx, "state", "hash"); err != nil {
			return errors.New(out)
		}
		return nil
	})
}
