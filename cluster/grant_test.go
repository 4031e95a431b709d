package cluster

import (
	"context"
	"slices"
	"testing"
	"time"

	"mailraft/mail"
)

// ask sends a request to n as if it came from a member, and returns the index
// that was granted, or zero.
func (w *world) ask(n *Node, member int, applied uint64) leaseAnswer {
	return n.answerLease(w.bound(time.Minute), leaseRequest{Member: mail.MemberID(member + 1), Applied: applied, Wall: n.clock.Wall()})
}

func TestNoGrantBeforeTheTermIsOpen(t *testing.T) {
	inWorld(t, 3, 1, func(w *world) {
		old := w.leader()
		var releases []func()
		for _, h := range w.hosts {
			if h != old {
				releases = append(releases, h.machine.stop())
			}
		}
		old.stop()
		time.Sleep(20 * time.Second) // somebody has been elected, and nobody is ready
		elected := 0
		for _, h := range w.hosts {
			if h == old {
				continue
			}
			if h.node.lead.Load() != nil {
				elected++
			}
			if a := w.ask(h.node, h.i, 1); a.Length != 0 || h.node.IsLeader() || h.node.Lease().Valid() {
				t.Errorf("host %d: granted %v before its term is open", h.i, a)
			}
		}
		if elected != 1 {
			t.Fatalf("%d leaders elected", elected)
		}
		for _, release := range releases {
			release()
		}
		next := w.leader(old)
		l := next.node.leading()
		applied, _ := next.machine.Applied()
		if a := w.ask(next.node, next.i, applied); a.Length != leaseTime(w.span) || a.Index < l.index {
			t.Errorf("granted %v by a leader whose term opened at %d", a, l.index)
		}
	})
}

func TestGrantIsNotValidBeforeItsIndexIsApplied(t *testing.T) {
	inWorld(t, 3, 2, func(w *world) {
		leader := w.leader()
		h := w.hosts[(leader.i+1)%3]
		time.Sleep(5 * time.Second)
		if !h.node.Lease().Valid() {
			t.Fatal("no lease though all is well")
		}
		release := h.machine.stop()
		propose := func(key uint64) {
			if _, err := leader.node.Propose(w.bound(time.Minute), toyEntry(kindAdd, key)); err != nil {
				t.Fatal(err)
			}
		}
		propose(1)
		// Grants come, all for an index that the state has not reached.
		time.Sleep(4 * time.Second)
		until := h.node.Lease().Until()
		time.Sleep(4 * time.Second)
		if got := h.node.Lease().Until(); got != until {
			t.Errorf("the lease went on from %v to %v without the state", until, got)
		}
		time.Sleep(until - h.clock.Boot() + time.Second)
		if h.node.Lease().Valid() {
			t.Error("valid after its end")
		}
		release()
		time.Sleep(time.Second)
		if !h.node.Lease().Valid() {
			t.Error("not valid though the state has reached the index")
		}
	})
}

// A leader that is cut off loses its own lease, as everybody does.
func TestLeaderCutOffLosesItsLease(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		h := w.leader()
		time.Sleep(5 * time.Second)
		if !h.node.Lease().Valid() {
			t.Fatal("the leader has no lease though all is well")
		}
		w.isolate(h)
		time.Sleep(leaseMax + time.Second)
		if h.node.Lease().Valid() {
			t.Error("still valid")
		}
		next := w.leader(h)
		if got := next.node.Overdue(w.span); len(got) != 0 {
			t.Errorf("%v overdue before the span is over", got)
		}
		time.Sleep(w.span)
		if got := next.node.Overdue(w.span); !slices.Equal(got, []mail.MemberID{h.id}) {
			t.Errorf("overdue %v, want %v", got, h.id)
		}
		if _, ok := next.node.LastGrant(h.id); ok {
			t.Error("granted to a member that is cut off")
		}
	})
}

func TestGrantRefusals(t *testing.T) {
	inWorld(t, 3, 4, func(w *world) {
		n := w.leader().node
		time.Sleep(5 * time.Second)
		applied, _ := n.cfg.Machine.Applied()
		follower := (int(n.cfg.ID)) % 3
		id := mail.MemberID(follower + 1)
		granted := func() bool { return w.ask(n, follower, applied+1000).Length > 0 }
		if !granted() {
			t.Fatal("refused though all is well")
		}
		n.Deciding(id)
		if granted() {
			t.Error("granted while it is being decided")
		}
		term, _ := n.Term()
		if _, err := n.ProposeTerm(context.Background(), term, toyEntry(kindDown, uint64(id), term)); err != nil {
			t.Fatal(err)
		}
		n.Decided(id)
		if granted() {
			t.Error("granted to a member that is down")
		}
		if _, err := n.Propose(w.bound(time.Minute), toyEntry(kindUp, uint64(id))); err != nil {
			t.Fatal(err)
		}
		if !granted() {
			t.Error("refused after it came up")
		}
		if _, err := n.RemoveServer(w.bound(time.Minute), id, 0); err != nil {
			t.Fatal(err)
		}
		if granted() {
			t.Error("granted to a member that was removed")
		}
		if ids := n.Reports(); len(ids) != 3 {
			t.Errorf("%d reports", len(ids))
		}
	})
}

// The leader's clocks in a running boundary.
func TestTimeIsOutvoted(t *testing.T) {
	inWorld(t, 3, 5, func(w *world) {
		h := w.leader()
		time.Sleep(10 * time.Second)
		if _, ok := h.node.Trusted(); !ok {
			t.Fatal("not trusted though all clocks are right")
		}
		off := func() time.Duration {
			now, _ := h.node.Time()
			return now.Sub(mail.At(time.Now())).Abs()
		}
		h.clock.set(72 * time.Hour)
		time.Sleep(10 * time.Second)
		if _, ok := h.node.Trusted(); ok || off() > agreement {
			t.Errorf("the leader's clock jumped: trusted %v, time is off by %v", ok, off())
		}
		h.clock.set(0)
		w.hosts[(h.i+1)%3].clock.set(72 * time.Hour)
		time.Sleep(10 * time.Second)
		if _, ok := h.node.Trusted(); !ok || off() > agreement {
			t.Errorf("a follower's clock jumped: trusted %v, time is off by %v", ok, off())
		}
	})
}
