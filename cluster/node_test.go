package cluster

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailraft/cluster/pki"
	"mailraft/mail"
)

func TestLeaderDiesAndAnotherTakesOver(t *testing.T) {
	inWorld(t, 3, 1, func(w *world) {
		old := w.leader()
		if _, err := old.node.Propose(w.bound(time.Minute), toyEntry(kindAdd, 1)); err != nil {
			t.Fatal(err)
		}
		old.stop()
		next := w.leader(old)
		answer, err := next.node.Propose(w.bound(time.Minute), toyEntry(kindAdd, 2))
		if err != nil {
			t.Fatal(err)
		}
		index, err := next.node.Linearize(w.bound(time.Minute))
		if err != nil || index < binary.BigEndian.Uint64(answer) {
			t.Fatalf("read at %d, %v, after an entry at %d", index, err, binary.BigEndian.Uint64(answer))
		}
		if next.machine.added[1] == 0 {
			t.Error("the new leader lacks what the old one had committed")
		}
		old.start()
		if _, err := old.node.Propose(w.bound(time.Minute), toyEntry(kindAdd, 3)); err != nil {
			t.Fatal("from the member that came back:", err)
		}
	})
}

// Every proposal gets one outcome, the same at whatever member and however
// often it was tried, while leaders come and go.
func TestProposalsSurviveLeaderChanges(t *testing.T) {
	inWorld(t, 3, 2, func(w *world) {
		w.slowTo(20 * time.Millisecond)
		w.leader()
		var key, done atomic.Uint64
		var got sync.Map
		ctx, cancel := context.WithCancel(context.Background())
		for i := range w.hosts {
			for range 8 {
				w.tasks.Go(func() {
					for ctx.Err() == nil {
						n := w.node(i)
						if n == nil {
							time.Sleep(time.Second)
							continue
						}
						k := key.Add(1)
						answer, err := n.Propose(w.bound(time.Minute), toyEntry(kindAdd, k))
						if err == nil {
							got.Store(k, binary.BigEndian.Uint64(answer))
							done.Add(1)
						} else if n.ctx.Err() == nil {
							t.Errorf("key %d: %v", k, err)
						}
						time.Sleep(50 * time.Millisecond)
					}
				})
			}
		}
		for range 3 {
			time.Sleep(5 * time.Second)
			h := w.leader()
			w.isolate(h)
			w.leader(h)
			time.Sleep(3 * time.Second)
			w.heal()
			time.Sleep(5 * time.Second)
			h = w.leader()
			h.stop()
			w.leader(h)
			h.start()
		}
		cancel()
		time.Sleep(10 * time.Second)
		if done.Load() < 1000 {
			t.Errorf("only %d proposals had an outcome", done.Load())
		}
		for _, h := range w.hosts {
			h.machine.mu.Lock()
			got.Range(func(k, index any) bool {
				if h.machine.added[k.(uint64)] != index.(uint64) {
					t.Errorf("host %d: key %d at %d, its proposer was told %d", h.i, k, h.machine.added[k.(uint64)], index)
				}
				return true
			})
			h.machine.mu.Unlock()
		}
	})
}

func TestNoQuorumTellsWhatIsKnown(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		h := w.leader()
		w.isolate(h)
		// The leader takes the entry into its log before it knows of the cut.
		_, err := h.node.Propose(w.bound(10*time.Second), toyEntry(kindAdd, 1))
		var none *NoQuorumError
		if !errors.As(err, &none) || !none.Unknown || !errors.Is(err, ErrNoQuorum) {
			t.Errorf("entered and cut off: %v", err)
		}
		// By now it knows, and takes nothing.
		_, err = h.node.Propose(w.bound(10*time.Second), toyEntry(kindAdd, 2))
		if !errors.As(err, &none) || none.Unknown {
			t.Errorf("never entered: %v", err)
		}
		if _, err := h.node.Linearize(w.bound(10 * time.Second)); !errors.Is(err, ErrNotLeader) {
			t.Errorf("a read while cut off: %v", err)
		}
		if _, err := h.node.ProposeTerm(w.bound(time.Second), 1, toyEntry(kindAdd, 3)); !errors.As(err, &none) || none.Unknown {
			t.Errorf("in a term that is over: %v", err)
		}
	})
}

// A machine that hangs does not hang its callers.
func TestWaitsAreBounded(t *testing.T) {
	inWorld(t, 1, 4, func(w *world) {
		h := w.leader()
		release := h.machine.stop()
		_, err := h.node.Propose(w.bound(3*time.Second), toyEntry(kindAdd, 1))
		var none *NoQuorumError
		if !errors.As(err, &none) || !none.Unknown {
			t.Errorf("proposed to a machine that hangs: %v", err)
		}
		if _, err := h.node.Linearize(w.bound(3 * time.Second)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("read from a machine that hangs: %v", err)
		}
		release()
		if _, err := h.node.Propose(w.bound(3*time.Second), toyEntry(kindAdd, 1)); err != nil {
			t.Error(err)
		}
	})
}

func TestProposeRefuses(t *testing.T) {
	inWorld(t, 1, 5, func(w *world) {
		n := w.leader().node
		for _, entry := range [][]byte{nil, make([]byte, entryHead-1), make([]byte, entryMax+1)} {
			if _, err := n.Propose(w.bound(time.Second), entry); !errors.Is(err, ErrEntry) {
				t.Errorf("%d bytes: %v", len(entry), err)
			}
		}
		body := forward(context.Background(), toyEntry(kindAdd, 1))
		if _, err := n.HandlePropose(context.Background(), pki.Identity{Role: pki.RoleClient}, body); err == nil {
			t.Error("a client certificate proposed an entry")
		}
		if _, err := n.HandleLease(context.Background(), pki.Identity{Role: pki.RoleMember, Member: 7}, []byte{0xa1, 1, 8}); err == nil {
			t.Error("a member asked for another's lease")
		}
		entry := toyEntry(kindAdd, 1)
		before := bytes.Clone(entry)
		if _, err := n.Propose(w.bound(time.Second), entry); err != nil || !bytes.Equal(entry, before) {
			t.Errorf("proposing changed the caller's entry (%v)", err)
		}
	})
}

func TestOnLeaderRunsOneAtATime(t *testing.T) {
	inWorld(t, 3, 6, func(w *world) {
		var running atomic.Int32
		var terms []uint64
		var mu sync.Mutex
		for _, h := range w.hosts {
			n := h.node
			busy := &atomic.Bool{}
			n.OnLeader(func(ctx context.Context, term uint64) {
				if !busy.CompareAndSwap(false, true) {
					t.Error("two at once on one member")
				}
				running.Add(1)
				mu.Lock()
				terms = append(terms, term)
				mu.Unlock()
				if has := h.machine.opened(); has != term {
					t.Errorf("runs in term %d, the state has opened %d", term, has)
				}
				<-ctx.Done()
				time.Sleep(time.Second) // slow to end
				running.Add(-1)
				busy.Store(false)
			})
		}
		h := w.leader()
		time.Sleep(time.Second)
		if err := h.node.TransferLeadership(0); err != nil {
			t.Error(err)
		}
		time.Sleep(10 * time.Second)
		w.isolate(w.leader())
		time.Sleep(20 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		if running.Load() != 1 || len(terms) < 3 {
			t.Errorf("%d running, terms %v", running.Load(), terms)
		}
	})
}

// hashicorp/raft #696: the future of the transfer is answered in time, and yet
// entries are refused until the peer answers.
func TestTransferThatDoesNotEndStopsTheProcess(t *testing.T) {
	inWorld(t, 3, 8, func(w *world) {
		h := w.leader()
		time.Sleep(5 * time.Second) // until the others were heard of
		h.stuck = 20 * time.Second
		if err := h.node.TransferLeadership(0); err == nil {
			t.Error("a transfer without an answer succeeded")
		}
		if len(h.fatal) != 0 {
			t.Errorf("too early: %v", h.fatal)
		}
		if _, err := h.node.Propose(w.bound(6*time.Second), toyEntry(kindAdd, 1)); err == nil {
			t.Error("an entry was taken")
		}
		if len(h.fatal) != 1 {
			t.Errorf("fatal: %v", h.fatal)
		}
		h.fatal = nil
		time.Sleep(h.stuck) // Raft's goroutine ends with the peer's answer
	})
}

func TestMembers(t *testing.T) {
	inWorld(t, 3, 7, func(w *world) {
		n := w.leader().node
		other := w.other(n)
		index, err := n.RemoveServer(w.bound(time.Minute), other, 0)
		if err != nil || len(n.Voters()) != 2 {
			t.Fatalf("voters %v, %v", n.Voters(), err)
		}
		addr := w.hosts[other-1].addr
		if _, err := n.AddNonvoter(w.bound(time.Minute), other, addr, index-1); err == nil {
			t.Error("changed another configuration than the one named")
		}
		next, err := n.AddNonvoter(w.bound(time.Minute), other, addr, index)
		if err != nil || next <= index || len(n.Voters()) != 2 {
			t.Errorf("added at %d after %d, voters %v, %v", next, index, n.Voters(), err)
		}
	})
}

// other is some member that is not n.
func (w *world) other(n *Node) mail.MemberID {
	for _, h := range w.hosts {
		if h.node != n {
			return h.id
		}
	}
	return 0
}
