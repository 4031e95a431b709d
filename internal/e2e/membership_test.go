//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"mailraft/admin"
	"mailraft/internal/loopback"
)

// members asks the first running member who is there.
func (b *boundary) members() []admin.MemberInfo {
	b.t.Helper()
	for _, m := range b.Members {
		if !m.Running() {
			continue
		}
		c := admin.NewClient(m.Socket)
		defer c.Close()
		var l admin.List[admin.MemberInfo]
		if err := c.Get(b.ctx, "/v1/members", nil, &l); err == nil {
			return l.Items
		}
	}
	return nil
}

// settled waits until exactly these are up and vote, and nobody else is there.
func (b *boundary) settled(names ...string) {
	b.t.Helper()
	b.eventually("the voters are "+strings.Join(names, ", "), func() error {
		ms := b.members()
		text := ""
		for _, m := range ms {
			text += fmt.Sprintf("%s %s %s left=%d; ", m.Name, m.State, m.Role, m.Left)
		}
		if len(ms) != len(names) {
			return errors.New(text)
		}
		for i, m := range ms {
			if m.Name != names[i] || m.State != "up" || m.Role == "non-voter" {
				return errors.New(text)
			}
		}
		return nil
	})
}

// forget takes a member out of what the test talks to.
func (b *boundary) forget(m *loopback.Member) {
	m.Stop()
	var rest []*loopback.Member
	for _, x := range b.Members {
		if x != m {
			rest = append(rest, x)
		}
	}
	b.Members = rest
}

// A member loses its disk under load and comes back under its name: what it
// owned is delivered by others, and its old directory is nobody's any more.
func TestWipedMember(t *testing.T) {
	t.Parallel()
	b := start(t, 4*time.Minute, nil)
	s := b.sender(0, 6, 20*time.Millisecond)
	stop := b.load(s)
	for _, m := range []*loopback.Member{b.Members[2], b.leader()} {
		time.Sleep(3 * time.Second)
		began := time.Now()
		if err := b.Replace(b.ctx, m); err != nil {
			t.Fatal(err)
		}
		b.settled("m1", "m2", "m3")
		t.Logf("%s wiped: back and a voter after %s", m.Name, time.Since(began).Round(time.Millisecond))
		b.ready()
	}
	time.Sleep(2 * time.Second)
	stop()
	out := b.cli("boundary", "former", "-o", "jsonl")
	if strings.Count(out, `"how":"replaced"`) != 2 {
		t.Errorf("former members: %s", out)
	}
	if out := b.cli("boundary", "members"); strings.Count(out, "lost its Safety Net of before") != 2 {
		t.Errorf("the gaps are not shown: %s", out)
	}
	if out := b.cli("safetynet", "summary", "-o", "json"); !strings.Contains(out, `"gaps"`) {
		t.Errorf("the gaps are not in the summary: %s", out)
	}
	b.audit(s.Ledger)
	b.sameState()
}

// A fourth and a fifth member join under load; two leave, one of them dead.
func TestFiveAndBackToThree(t *testing.T) {
	t.Parallel()
	b := start(t, 5*time.Minute, nil)
	s := b.sender(0, 6, 20*time.Millisecond)
	stop := b.load(s)
	for range 2 {
		time.Sleep(2 * time.Second)
		began := time.Now()
		if _, err := b.Add(b.ctx); err != nil {
			t.Fatal(err)
		}
		b.eventually("the new member votes", func() error {
			ms := b.members()
			if n := len(b.Members); len(ms) != n || ms[n-1].State != "up" || ms[n-1].Role == "non-voter" {
				return fmt.Errorf("%v", ms)
			}
			return nil
		})
		t.Logf("%d voters after %s", len(b.Members), time.Since(began).Round(time.Millisecond))
	}
	b.settled("m1", "m2", "m3", "m4", "m5")
	b.ready()
	time.Sleep(2 * time.Second)

	first := b.Members[0] // one that takes mail and may lead
	began := time.Now()
	b.cli("boundary", "remove", first.Name, "--reason", "test")
	others := &boundary{&loopback.Boundary{Options: b.Options, Members: b.Members[1:]}, t, b.ctx}
	others.settled("m2", "m3", "m4", "m5")
	t.Logf("%s removed after %s", first.Name, time.Since(began).Round(time.Millisecond))
	b.forget(first)

	dead := b.Members[3]
	b.kill(dead)
	b.eventually("the dead member is noticed", func() error {
		for _, m := range b.members() {
			if m.Name == dead.Name && m.State == "down" {
				return nil
			}
		}
		return errNotYet
	})
	b.cli("boundary", "remove", dead.Name)
	b.settled("m2", "m3", "m4")
	// It was away when it was removed: it is refused when it comes back.
	b.back(dead)
	time.Sleep(5 * time.Second)
	if err := dead.Ready(b.ctx); err == nil {
		t.Error("a removed member takes mail")
	}
	b.forget(dead)
	b.ready()
	time.Sleep(2 * time.Second)
	stop()
	b.audit(s.Ledger)
	b.sameState()
}

// A member is drained under load, hands leadership on, and takes mail again.
func TestDrain(t *testing.T) {
	t.Parallel()
	b := start(t, 3*time.Minute, nil)
	s := b.sender(0, 6, 20*time.Millisecond)
	stop := b.load(s)
	time.Sleep(2 * time.Second)
	leader := b.leader()
	var to *loopback.Member
	for _, m := range b.Members {
		if m != leader {
			to = m
		}
	}
	if out := b.cli("boundary", "transfer-leader", to.Name); !strings.Contains(out, to.Name+" leads") {
		t.Errorf("transfer: %s", out)
	}
	began := time.Now()
	b.cli("boundary", "drain", leader.Name, "--reason", "new disk")
	b.eventually("it is drained", func() error {
		for _, m := range b.members() {
			if m.Name == leader.Name && m.State == "draining" && m.Drained != 0 && m.Left == 0 {
				return nil
			}
		}
		return fmt.Errorf("%+v", b.members())
	})
	t.Logf("drained after %s", time.Since(began).Round(time.Millisecond))
	if err := leader.Ready(b.ctx); err == nil || !strings.Contains(err.Error(), "drain") {
		t.Errorf("a drained member is ready: %v", err)
	}
	time.Sleep(time.Second)
	b.cli("boundary", "undrain", leader.Name)
	b.ready()
	time.Sleep(time.Second)
	stop()
	b.audit(s.Ledger)
	b.sameState()
}
