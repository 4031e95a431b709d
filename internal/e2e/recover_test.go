//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailraft/internal/loopback"
	"mailraft/member"
)

// mailraft runs a command on this host, and returns what it printed and how it
// ended.
func (b *boundary) mailraft(args ...string) (stdout, stderr string, code int) {
	b.t.Helper()
	var out, errs strings.Builder
	cmd := exec.CommandContext(b.ctx, exe, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		b.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// caughtUp waits until a member has everything that was committed before.
func (b *boundary) caughtUp(m *loopback.Member) {
	b.t.Helper()
	lead, err := b.Status(b.ctx, b.leader())
	if err != nil {
		b.t.Fatal(err)
	}
	b.eventually(m.Name+" has everything", func() error {
		s, err := b.Status(b.ctx, m)
		if err == nil && (s.Member.AppliedIndex < lead.Member.CommitIndex || s.Member.ContentMissing > 0) {
			err = fmt.Errorf("applied %d of %d, %d contents missing", s.Member.AppliedIndex, lead.Member.CommitIndex, s.Member.ContentMissing)
		}
		for _, x := range s.Members {
			if err == nil && x.ID == s.Member.ID && (x.Seen == nil || x.Seen.Complete < lead.Member.AppliedIndex) {
				err = errors.New("content not known to be complete")
			}
		}
		return err
	})
}

// Two of three are lost with their disks. The third goes on alone, as another
// generation, and delivers all that it had; the others join anew; an old
// directory that turns up again is nobody's.
func TestRecover(t *testing.T) {
	t.Parallel()
	b := start(t, 3*time.Minute, nil)
	b.cli("queue", "suspend", "--all")
	s := b.sender(120, 6, 0)
	s.Run(b.ctx)
	m := b.Members[2]
	b.caughtUp(m)
	for _, x := range b.Members {
		b.kill(x)
	}
	recover := []string{"boundary", "recover", "--config", m.Config}
	out, errs, code := b.mailraft(append(recover, "--dry-run", "-o", "json")...)
	var r member.Recovery
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 {
		t.Fatalf("dry run: %d, %v\n%s%s", code, err, out, errs)
	}
	if r.Active != 120 || len(r.Unheld) != 0 || len(r.Lost) != 2 || r.Lost[0].Active+r.Lost[1].Active == 0 || r.LastIndex < r.AppliedIndex || r.CertainIndex == 0 {
		t.Errorf("dry run says %s", out)
	}
	if out, errs, code := b.mailraft(append(recover, "--consent", "another")...); code != 77 || !strings.Contains(errs, `--consent "dev"`) {
		t.Errorf("without consent: %d\n%s%s", code, out, errs)
	}
	began := time.Now()
	if out, errs, code := b.mailraft(append(recover, "--consent", "dev", "--reason", "fire")...); code != 0 || !strings.Contains(out, "content not on this disk  0 messages") {
		t.Fatalf("recover: %d\n%s%s", code, out, errs)
	}
	if out, errs, code := b.mailraft(append(recover, "--consent", "dev")...); code != 0 || !strings.Contains(out, "was recovered") {
		t.Errorf("recover again: %d\n%s%s", code, out, errs)
	}
	b.back(m)
	b.eventually("it leads", func() error {
		_, err := b.Leader(b.ctx)
		return err
	})
	t.Logf("the survivor leads %s after it was told to recover", time.Since(began).Round(time.Millisecond))
	b.stopsForGoodWhenStarted(b.Members[0], "was lost", "boundary token --replace m1")
	b.cli("queue", "resume", "--all")
	b.audit(s.Ledger)
	if out, err := b.CLI(b.ctx, "status"); err == nil || !strings.Contains(out, "UNPROTECTED: one voter") {
		t.Errorf("status of a boundary with one voter: %v\n%s", err, out)
	}
	for _, x := range b.Members[:2] {
		if err := b.Replace(b.ctx, x); err != nil {
			t.Fatal(err)
		}
		b.eventually(x.Name+" is back", func() error { return x.Ready(b.ctx) })
	}
	b.settled("m1", "m2", "m3")
	b.ready()
	t.Logf("three voters again after %s", time.Since(began).Round(time.Millisecond))
	if out := b.cli("boundary", "former"); strings.Count(out, "lost") != 2 || strings.Count(out, "fire") != 2 {
		t.Errorf("former members: %s", out)
	}
	s = b.sender(30, 3, 0)
	s.Run(b.ctx)
	b.audit(s.Ledger)
	b.sameState()
}

// A member is dead, and content with it that another copy of was damaged: the
// voters cannot be changed before it is given up by name. Nothing is bounced.
func TestRemoveDead(t *testing.T) {
	t.Parallel()
	b := start(t, 3*time.Minute, nil)
	b.cli("queue", "suspend", "--all")
	dead, hurt, away := b.Members[0], b.Members[1], b.Members[2]
	b.kill(away)
	s := b.sender(20, 4, 0)
	s.Targets = s.Targets[:2]
	s.Run(b.ctx)
	b.kill(dead)
	b.kill(hurt)
	if err := os.RemoveAll(filepath.Join(hurt.Dir, "content")); err != nil {
		t.Fatal(err)
	}
	b.back(hurt)
	b.back(away)
	b.eventually("the dead member is noticed", func() error {
		for _, m := range b.members() {
			if m.Name == dead.Name && m.State == "down" {
				return nil
			}
		}
		return errNotYet
	})
	if out, err := b.CLI(b.ctx, "boundary", "remove", dead.Name, "--dead"); err == nil || !strings.Contains(err.Error(), "content of 20 messages") || !strings.Contains(err.Error(), "--consent m1") {
		t.Errorf("without consent: %v %s", err, out)
	}
	b.cli("boundary", "remove", dead.Name, "--dead", "--consent", dead.Name)
	b.eventually("two vote", func() error {
		st, err := b.Status(b.ctx, away)
		if err == nil && (st.Boundary.Voters != 2 || st.Queue.Waiting != 20) {
			err = fmt.Errorf("%d voters, %d messages wait for content", st.Boundary.Voters, st.Queue.Waiting)
		}
		return err
	})
	b.cli("queue", "resume", "--all")
	b.forget(dead)
	s = b.sender(10, 2, 0)
	s.Run(b.ctx)
	b.audit(s.Ledger)
	if out := b.cli("message", "list", "--state", "waiting-for-content", "-o", "id"); len(strings.Fields(out)) != 20 {
		t.Errorf("waiting: %s", out)
	}
	b.sameState()
}

// stopsForGoodWhenStarted starts a member that its boundary does not know any more.
func (b *boundary) stopsForGoodWhenStarted(m *loopback.Member, words ...string) {
	b.t.Helper()
	b.back(m)
	b.stopsForGood(m, words...)
}
