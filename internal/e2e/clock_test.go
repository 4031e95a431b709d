//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mailraft/internal/loopback"
)

const threeDays = 72 * time.Hour

// clocks are the wall clocks of the members, which the test bends.
type clocks struct {
	*boundary
	dir string
}

func newClocks(t *testing.T) *clocks {
	t.Helper()
	c := &clocks{dir: t.TempDir()}
	bent := filepath.Join(c.dir, "mailraft")
	if err := build(bent, "testclock"); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		c.put(t, i, 0)
	}
	c.boundary = startWith(t, 2*time.Minute, loopback.Options{Exe: bent,
		Wrap: func(i int) []string { return []string{"env", "MAILRAFT_TEST_CLOCK=" + c.file(i)} }})
	return c
}

func (c *clocks) file(i int) string { return filepath.Join(c.dir, fmt.Sprint(i)) }

func (c *clocks) put(t *testing.T, i int, off time.Duration) {
	t.Helper()
	tmp := c.file(i) + ".new"
	if err := os.WriteFile(tmp, []byte(off.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, c.file(i)); err != nil {
		t.Fatal(err)
	}
}

// set sets the clocks of the leader and of the two others.
func (c *clocks) set(leader, second, third time.Duration) {
	c.t.Helper()
	i := slices.Index(c.Members, c.leader())
	c.put(c.t, i, leader)
	c.put(c.t, (i+1)%3, second)
	c.put(c.t, (i+2)%3, third)
}

func (c *clocks) setAll(off time.Duration) {
	c.t.Helper()
	for i := range c.Members {
		c.put(c.t, i, off)
	}
}

// health waits for a health with a reason, as every member sees it.
func (b *boundary) health(health, reason string) {
	b.t.Helper()
	for _, m := range b.Members {
		b.eventually(fmt.Sprintf("%s says %s: %q", m.Name, health, reason), func() error {
			st, err := b.Status(b.ctx, m)
			if err == nil && (st.Health != health || !strings.Contains(strings.Join(st.Reasons, "; "), reason)) {
				err = fmt.Errorf("%s: %q", st.Health, st.Reasons)
			}
			return err
		})
	}
}

// count is the number of lines that a listing has.
func (b *boundary) count(args ...string) int {
	b.t.Helper()
	return len(strings.Fields(b.cli(append(args, "-o", "id")...)))
}

// ahead is how far the boundary's time is ahead of the real one.
func (b *boundary) ahead() time.Duration {
	b.t.Helper()
	st, err := b.Status(b.ctx, b.leader())
	if err != nil {
		b.t.Fatal(err)
	}
	return time.Until(st.Time.Std())
}

// Wall clocks go wrong in real processes, one after the other and together:
// time follows a majority or nobody, nothing ends early, and mail goes on.
func TestClocks(t *testing.T) {
	t.Parallel()
	c := newClocks(t)
	delivered := c.sender(20, 6, 0)
	delivered.Run(c.ctx)
	c.audit(delivered.Ledger)
	c.cli("queue", "suspend", "db/DB1", "--reason", "to wait for days")
	waiting := c.sender(30, 6, 0)
	waiting.Count = 10

	for _, step := range []struct {
		leader, second, third time.Duration
		health, reason        string
	}{
		{0, threeDays, 0, "degraded", "its clock differs by 3d"},
		{0, threeDays, -threeDays, "critical", "clocks of a majority do not agree"},
		{0, 0, 0, "healthy", ""}, // else the next step begins with two clocks that agree
		{threeDays, 0, 0, "critical", "clocks of a majority do not agree"}, // it jumps while it leads
		{0, 0, 0, "healthy", ""},
	} {
		c.set(step.leader, step.second, step.third)
		c.health(step.health, step.reason)
		waiting.Run(c.ctx)
		if off := c.ahead().Abs(); off > 10*time.Second {
			t.Fatalf("clocks %+v: time is off by %s", step, off)
		}
	}
	if n := c.count("safetynet", "list"); n != 20 {
		t.Errorf("%d of 20 deliveries are held", n)
	}

	// Off for three days: what waited is past its time, and tried all the same.
	for _, m := range c.Members {
		c.kill(m)
	}
	c.setAll(threeDays)
	for _, m := range c.Members {
		c.back(m)
	}
	c.ready()
	c.eventually("time follows", func() error {
		if off := c.ahead(); off < threeDays-time.Minute {
			return fmt.Errorf("%s ahead", off)
		}
		return nil
	})
	if n := c.count("message", "list", "--state", "active"); n != 50 {
		t.Errorf("%d of 50 messages wait", n)
	}
	c.cli("queue", "resume", "db/DB1")
	c.audit(waiting.Ledger)

	// The clocks were wrong, and are put right: time never goes back.
	c.setAll(0)
	c.health("degraded", "ahead of its members' clocks")
	last := c.sender(10, 6, 0)
	last.Run(c.ctx)
	c.audit(last.Ledger)
	if n := c.count("message", "list", "--state", "failed,expired"); n != 0 {
		t.Errorf("%d messages were given up", n)
	}
	c.sameState()
}
