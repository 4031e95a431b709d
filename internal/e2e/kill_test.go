//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"mailraft/internal/loopback"
)

// Each member in turn is killed under load and brought back.
func TestKillEachMember(t *testing.T) {
	t.Parallel()
	b := start(t, 4*time.Minute, nil)
	s := b.sender(0, 6, 20*time.Millisecond)
	stop := b.load(s)
	for _, m := range b.Members {
		time.Sleep(2 * time.Second) // of load
		b.kill(m)
		time.Sleep(8 * time.Second) // of load on the others: beyond the takeover
		b.back(m)
		b.ready()
	}
	time.Sleep(time.Second)
	stop()
	b.audit(s.Ledger)
	b.sameState()
}

// All members lose their power at once.
func TestKillAllAtOnce(t *testing.T) {
	t.Parallel()
	b := start(t, 2*time.Minute, nil)
	s := b.sender(0, 6, 10*time.Millisecond)
	stop := b.load(s)
	for range 3 {
		time.Sleep(3 * time.Second)
		for _, m := range b.Members {
			if err := syscall.Kill(m.PID(), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		for _, m := range b.Members {
			for m.Running() {
				time.Sleep(10 * time.Millisecond)
			}
		}
		for _, m := range b.Members {
			b.back(m)
		}
		b.ready()
	}
	stop()
	b.audit(s.Ledger)
	b.sameState()
}

// A member stands still for 20 s, a follower first and then the leader: it
// must not go on where others have taken over.
func TestFrozenMember(t *testing.T) {
	t.Parallel()
	b := start(t, 3*time.Minute, nil)
	s := b.sender(0, 6, 20*time.Millisecond)
	stop := b.load(s)
	freeze := func(m *loopback.Member) {
		time.Sleep(2 * time.Second)
		for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT} {
			if err := m.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if sig == syscall.SIGSTOP {
				time.Sleep(20 * time.Second)
			}
		}
		b.ready()
	}
	leader := b.leader()
	follower := b.Members[(slices.Index(b.Members, leader)+1)%3]
	freeze(follower)
	freeze(b.leader())
	stop()
	b.audit(s.Ledger)
	b.sameState()
}

// Twenty leaders are killed under load, one after the other. How long it takes
// until mail is accepted again is what an operator feels of a dead leader: it is
// printed, to be laid beside docs/guarantees.md (other scenarios run meanwhile).
func TestTwentyLeadersKilled(t *testing.T) {
	t.Parallel()
	b := start(t, 8*time.Minute, nil)
	s := b.sender(0, 6, 20*time.Millisecond)
	stop := b.load(s)
	var gaps []time.Duration
	for range 20 {
		time.Sleep(time.Second)
		victim := b.leader()
		killed := time.Now()
		b.kill(victim)
		b.eventually("mail is accepted again", func() error {
			// Answers already on their way when the leader died do not count.
			first, ok := s.Ledger.FirstAck(killed.Add(200 * time.Millisecond))
			if !ok {
				return errNotYet
			}
			gaps = append(gaps, first.Sub(killed))
			return nil
		})
		b.back(victim)
		b.ready()
	}
	stop()
	slices.Sort(gaps)
	t.Logf("mail accepted again after a leader's death: median %s, longest %s, all %v", gaps[len(gaps)/2].Round(time.Millisecond),
		gaps[len(gaps)-1].Round(time.Millisecond), gaps)
	b.audit(s.Ledger)
	b.sameState()
}

// All members are restarted in turn under load, as for an upgrade: no client
// hears a permanent reply.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	b := start(t, 4*time.Minute, nil)
	s := b.sender(0, 6, 20*time.Millisecond)
	stop := b.load(s)
	for range 2 {
		for _, m := range b.Members {
			time.Sleep(time.Second)
			m.Stop()
			b.back(m)
			b.ready()
		}
	}
	stop()
	b.audit(s.Ledger)
	b.sameState()
}

// A member is away for ten thousand messages, and gets them all.
func TestAwayForTenThousand(t *testing.T) {
	b := start(t, 4*time.Minute, nil)
	away := b.Members[1]
	b.kill(away)
	s := b.sender(10_000, 16, 0)
	s.Targets = []string{b.Members[0].SMTP, b.Members[2].SMTP}
	s.Size = func(n int) int { return 500 + n%4000 }
	began := time.Now()
	s.Run(b.ctx)
	t.Logf("10,000 messages accepted in %s", time.Since(began).Round(time.Second))
	b.back(away)
	began = time.Now()
	b.ready()
	b.eventually("the member that was away has all content", func() error {
		st, err := b.Status(b.ctx, away)
		if err == nil && (st.Member.ContentMissing > 0 || st.Member.Lag > 0) {
			err = fmt.Errorf("%d contents are missing, %d entries behind", st.Member.ContentMissing, st.Member.Lag)
		}
		if err == nil && st.Members[1].Complete < uint64(10_000) {
			err = fmt.Errorf("complete up to %d", st.Members[1].Complete)
		}
		return err
	})
	t.Logf("refilled in %s", time.Since(began).Round(100*time.Millisecond))
	b.audit(s.Ledger)
	b.sameState()
}

func (b *boundary) kill(m *loopback.Member) {
	b.t.Helper()
	if err := m.Signal(syscall.SIGKILL); err != nil {
		b.t.Fatal(err)
	}
}

func (b *boundary) back(m *loopback.Member) {
	b.t.Helper()
	if err := m.Start(); err != nil {
		b.t.Fatal(err)
	}
}
