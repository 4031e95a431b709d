//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"mailraft/admin"
	"mailraft/internal/fixedport"
	"mailraft/internal/loopback"
	"mailraft/member"
)

// protected waits until every active message has an owner, a shadow and copies
// without the member that is lost, and returns how long it took since then.
func (b *boundary) protected(without *loopback.Member, since time.Time) time.Duration {
	b.t.Helper()
	b.eventually("every message has its copies again", func() error {
		if n := b.count("message", "list", "--member", without.Name, "--state", "active"); n > 0 {
			return fmt.Errorf("%d messages name %s", n, without.Name)
		}
		if n := b.count("message", "list", "--state", "without-shadow,fewer-copies,waiting-for-content"); n > 0 {
			return fmt.Errorf("%d messages lack something", n)
		}
		return nil
	})
	return time.Since(since).Round(100 * time.Millisecond)
}

// complete waits until a member has the content of everything, and returns how
// long it took.
func (b *boundary) complete(m *loopback.Member, since time.Time) time.Duration {
	b.t.Helper()
	b.eventually(m.Name+" has all content", func() error {
		st, err := b.Status(b.ctx, m)
		if err == nil && (st.Member.ContentMissing > 0 || st.Member.Refill.Counting || st.Member.Lag > 0) {
			err = fmt.Errorf("%d contents are missing, %d entries behind", st.Member.ContentMissing, st.Member.Lag)
		}
		return err
	})
	return time.Since(since).Round(100 * time.Millisecond)
}

// The leader is killed, and later its disk is wiped, while thousands of
// messages wait: how long it takes until each of them has two members that
// would deliver it, and until all three have everything, is in
// docs/benchmarks.md.
func TestProtectedAgain(t *testing.T) {
	b := start(t, 2*time.Minute, nil)
	b.cli("queue", "suspend", "db/DB1")
	s := b.sender(2000, 16, 0)
	s.Size = func(n int) int { return 500 + n%20_000 }
	s.Run(b.ctx)

	lost := b.leader()
	mine := b.count("message", "list", "--member", lost.Name, "--state", "active")
	killed := time.Now()
	b.kill(lost)
	t.Logf("2,000 messages wait, %d of them with the leader as owner or shadow server; killed: all have two members again after %s",
		mine, b.protected(lost, killed))

	wiped := time.Now()
	if err := b.Replace(b.ctx, lost); err != nil {
		t.Fatal(err)
	}
	b.settled("m1", "m2", "m3")
	voter := time.Since(wiped).Round(100 * time.Millisecond)
	t.Logf("wiped: a voter with all that is to be delivered after %s, with everything after %s", voter, b.complete(lost, wiped))

	// What the wiped member has fetched is worth something: another one is lost.
	b.kill(b.Members[0])
	b.cli("queue", "resume", "db/DB1")
	b.audit(s.Ledger)
}

// member is what the boundary knows of a member.
func (b *boundary) member(name string) (admin.MemberInfo, error) {
	b.t.Helper()
	for _, m := range b.members() {
		if m.Name == name {
			return m, nil
		}
	}
	return admin.MemberInfo{}, fmt.Errorf("there is no member %s", name)
}

// Members move to other addresses: one that voted, and one that nobody could
// reach at the address that it joined with.
func TestMoveMember(t *testing.T) {
	t.Parallel()
	const nowhere = "127.0.0.1:1"
	b := startWith(t, 2*time.Minute, loopback.Options{Edit: func(i int, text string) string {
		if i == 3 {
			text = strings.Replace(text, "\n\n[http]", fmt.Sprintf("\nadvertise = %q\n\n[http]", nowhere), 1)
		}
		return text
	}})
	s := b.sender(0, 4, 20*time.Millisecond)
	stop := b.load(s)

	moved, err := b.member("m2")
	if err != nil {
		t.Fatal(err)
	}
	to, err := fixedport.Addr()
	if err != nil {
		t.Fatal(err)
	}
	b.edit(b.Members[1], moved.Address, to) // nobody finds it there yet
	b.cli("boundary", "set", "m2", "--address", to, "--reason", "another rack")
	b.ready()
	if m, err := b.member("m2"); err != nil || m.Address != to || m.State != "up" || m.Role == "non-voter" {
		t.Errorf("%+v, %v", m, err)
	}

	learner, err := b.Add(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	b.eventually("it is a non-voter at an address where nobody is", func() error {
		m, err := b.member(learner.Name)
		if err == nil && (m.Role != "non-voter" || m.Address != nowhere) {
			err = fmt.Errorf("%+v", m)
		}
		return err
	})
	b.edit(learner, fmt.Sprintf("advertise = %q\n", nowhere), "")
	c, err := member.Load(learner.Config)
	if err != nil {
		t.Fatal(err)
	}
	b.cli("boundary", "set", learner.Name, "--address", c.Cluster.Listen)
	b.settled("m1", "m2", "m3", "m4")
	b.ready()
	stop()
	b.audit(s.Ledger)
	b.sameState()
}
