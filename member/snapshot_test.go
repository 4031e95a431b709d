package member

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"mailraft/fsm"
)

// shortLog makes members take snapshots all the time, and keep hardly any log.
func shortLog(c *Config) {
	c.Log.EntriesMax, c.Log.SnapshotEntries, c.Log.SnapshotEvery = 20, 20, "50ms"
}

func (h *house) logOf(i int) (first, last uint64) {
	h.t.Helper()
	first, err := h.members[i].raftLog.FirstIndex()
	if err != nil {
		h.t.Fatal(err)
	}
	if last, err = h.members[i].raftLog.LastIndex(); err != nil {
		h.t.Fatal(err)
	}
	return first, last
}

func (h *house) hasAllContent(i, n int) {
	h.t.Helper()
	h.until("the member has all content", func() bool {
		v := h.members[i].fsm.View()
		defer v.Close()
		found := 0
		for c := range v.Contents([16]byte{}) {
			if _, ok := h.members[i].content.Stat(c.ID); !ok {
				return false
			}
			found++
		}
		return found == n
	})
}

// A member that was away for longer than the log reaches back gets the state
// from the live tables of the leader, while mail goes on; also when it is
// stopped again and again while it receives. So does a new member.
func TestSnapshotFillsWhoWasAway(t *testing.T) {
	h := newHouse(t, 3, shortLog)
	h.send(20)
	_, last := h.logOf(1)
	h.stop(1)
	h.send(30)
	h.until("the others have compacted what it lacks", func() bool {
		first, _ := h.logOf(0)
		return first > last+1
	})
	for i := range 3 { // cut off at some moment of it
		h.start(1)
		time.Sleep(time.Duration(i*150) * time.Millisecond)
		h.stop(1)
	}
	h.start(1)
	h.send(30)
	h.ready()
	h.until("its log begins behind what it had: a snapshot was installed", func() bool {
		first, _ := h.logOf(1) // 0 while it is empty
		return first > last+1
	})
	h.hasAllContent(1, 80)
	h.sameState()
}

// A member comes back with a log that goes on otherwise than the boundary did,
// and further: entries that it took as a leader without a majority. It gets a
// snapshot, throws its log away, and is started anew (hashicorp/raft #697).
func TestConflictingLogIsThrownAway(t *testing.T) {
	h := newHouse(t, 3, shortLog)
	h.send(10)
	leader := -1
	h.until("a leader", func() bool {
		for i, m := range h.members {
			if m.node.IsLeader() {
				leader = i
			}
		}
		return leader >= 0
	})
	others := []int{(leader + 1) % 3, (leader + 2) % 3}
	for _, i := range others {
		h.stop(i)
	}
	const alone = 1500
	_, before := h.logOf(leader)
	ctx, cancel := context.WithCancel(h.ctx)
	for range alone {
		go h.members[leader].Propose(ctx, fsm.KindTick, fsm.Tick{})
	}
	h.until("it has entries of its own", func() bool {
		_, last := h.logOf(leader)
		return last > before+alone/2
	})
	cancel()
	h.stop(leader)
	for _, i := range others {
		h.start(i)
	}
	h.until("the others go on", func() bool { return h.members[others[0]].Ready() == nil })
	h.until("and compact what it lacks", func() bool {
		h.propose(fsm.KindTick, fsm.Tick{})
		first, _ := h.logOf(others[0])
		return first > before+1
	})
	if _, last := h.logOf(others[0]); last >= before+alone/2 {
		t.Fatalf("the others are at %d already", last)
	}
	h.start(leader)
	select {
	case err := <-h.members[leader].Restart():
		t.Log(err)
	case <-h.ctx.Done():
		t.Fatal("it was not started anew")
	}
	h.stop(leader)
	h.start(leader)
	h.ready()
	h.send(10)
	h.hasAllContent(leader, 20)
	h.sameState()
}

// The log is kept by bytes, whatever the entries' sizes: it is shortened when
// it has grown too large, and who was away for longer than it reaches back gets
// the state instead.
func TestLogIsKeptByBytes(t *testing.T) {
	const (
		sizeMax   = 2 << 20
		entrySize = 1 << 10 // mail's entries have about as much
		sessions  = 64
	)
	h := newHouse(t, 3, func(c *Config) { c.Log.SizeMax = "2MiB" })
	h.send(10)
	_, away := h.logOf(2)
	h.stop(2)
	long := fsm.Configure{Set: map[string]string{"nobody-knows": ""}, Reason: strings.Repeat("x", entrySize)} // refused, and in the log all the same
	var work sync.WaitGroup
	for range sessions {
		work.Go(func() {
			for range 2 * sizeMax / entrySize / sessions {
				if _, err := h.members[0].Propose(h.ctx, fsm.KindConfigure, long); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	work.Wait()
	for i, m := range h.members[:2] {
		h.until("the log fits", func() bool { return m.raftLog.Bytes() <= sizeMax })
		first, last := h.logOf(i)
		if first <= away || last < first {
			t.Errorf("m%d: the log is from %d to %d, as of %d when it was over its size", i+1, first, last, away)
		}
	}
	h.stop(0)
	h.start(0)
	h.start(2)
	h.ready()
	h.until("its log begins behind what it had: a snapshot was installed", func() bool {
		first, _ := h.logOf(2)
		return first > away+1
	})
	h.send(10)
	h.hasAllContent(2, 20)
	h.sameState()
}
