package fsm

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"
)

// One entry makes a copy the active one and makes the request for what it
// lacks. A member that loses its power at any operation of the disk while that
// entry is applied has both at its next start, or neither.
func TestCrashDuringActivation(t *testing.T) {
	m := newMachine(t)
	m.boundary()
	m.must(KindDatabase, DatabaseChange{Op: "copy-add", Name: "DB1", Copies: []Copy{{Name: "b", Addr: "maildir:/b"}}})
	id := m.must(KindAccept, Accept{Submission: m.submission(1, m1, m1, m2)}).ID
	m.must(KindReport, reportOf(m1, id))
	m.now = m.now.Add(time.Minute)
	m.f.Sync()
	m.close()

	var mu sync.Mutex // the disk is written from several goroutines
	var crashed []*vfs.MemFS
	rng := rand.New(rand.NewPCG(1, 1))
	armed := false
	arm := func(on bool) { mu.Lock(); defer mu.Unlock(); armed = on }
	m.openDir(errorfs.Wrap(m.fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if armed && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			for _, percent := range []int{0, 50, 100} {
				crashed = append(crashed, m.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng}))
			}
		}
		return nil
	})), "state")
	before := m.hash()
	arm(true)
	m.must(KindActivate, Activate{Database: "DB1", Copy: "b", From: "a", Activation: 1})
	m.f.Sync()
	arm(false)
	after, last := m.hash(), m.log[len(m.log)-1]

	seen := map[string]int{}
	for i, fs := range append(crashed, m.fs.CrashClone(vfs.CrashCloneCfg{})) {
		c := &machine{t: t, now: m.now, term: 1}
		c.open(fs)
		what := activated(c.f)
		seen[what]++
		switch hash := c.hash(); {
		case what == "neither" && hash != before, what == "both" && hash != after:
			t.Errorf("crash %d: %s, and another state", i, what)
		case what != "neither" && what != "both":
			t.Errorf("crash %d: %s", i, what)
		}
		if c.f.ApplyBatch([]*raft.Log{last}); c.hash() != after { // the log has it
			t.Errorf("crash %d: applied again: another state", i)
		}
		c.close()
	}
	if seen["neither"] == 0 || seen["both"] == 0 {
		t.Errorf("of %d crashes: %v; they prove nothing", len(crashed), seen)
	}
}

// activated says which traces there are of an activation of b and its request.
func activated(f *FSM) string {
	v := f.View()
	defer v.Close()
	d, _ := v.Database("DB1")
	r, made := v.Request(1)
	h, _ := v.History("DB1")
	e := h.Events[len(h.Events)-1]
	switch active := d.Active == "b" && d.Activation == 2 && d.Request == 1 && d.copy("a").DataThrough == d.Since; {
	case active && made && r.Activation == 2 && r.Open() && h.Activation == 2 && e.Kind == HistoryActivate && e.Request == 1:
		return "both"
	case d.Active == "a" && d.Activation == 1 && d.Request == 0 && !made && h.Activation == 1 && e.Kind != HistoryActivate:
		return "neither"
	default:
		return fmt.Sprintf("database %+v, request %+v, history %+v", d, r, h)
	}
}
