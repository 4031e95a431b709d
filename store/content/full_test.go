package content

import (
	"errors"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestFloor: below the floor nothing new begins, and what is there stays.
func TestFloor(t *testing.T) {
	fs := vfs.NewMem()
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 20, TotalBytes: 1 << 30, UsedBytes: 1 << 29})
	s := mustOpen(t, Options{FS: fs, SpaceMin: 1 << 20})
	mustPut(t, s, 1, 100)
	u := begin(s, newLedger(), 2, 100)
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1<<20 - 1, TotalBytes: 1 << 30, UsedBytes: 1 << 29})
	if _, err := s.Create(testID(3)); !errors.Is(err, ErrFull) {
		t.Errorf("create below the floor: %v, want ErrFull", err)
	}
	<-u.finish(newLedger())
	mustGet(t, s, 1, 100)
	if st := s.Stats(); st.Free != 1<<20-1 {
		t.Errorf("free %d", st.Free)
	}
}

// TestFullDisk lets the disk run full at many points of the script. The store
// goes on: what failed was not acknowledged, what was is there, and after room
// is made new contents are taken. Then it crashes.
func TestFullDisk(t *testing.T) {
	for room := int64(0); room < 1500<<10; room += 17011 {
		mem := vfs.NewCrashableMem()
		fs := newFaultyFS(mem)
		l := newLedger()
		s := mustOpen(t, Options{FS: fs, SegmentSize: crashSegment})
		fs.setRoom(room)
		script(s, l)
		l.begin(70, 8)
		if err := put(s, 70, 8); err != nil && !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("put on a full disk: %v", err)
		} else {
			l.ack(70, err)
		}
		compare(t, s, l)
		crashed := func() {
			rng := rand.New(rand.NewPCG(uint64(room), 1))
			for _, percent := range []int{0, 50, 100} {
				check(t, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng}), l.clone())
			}
		}
		if room%4 == 0 {
			crashed()
		}
		fs.setRoom(-1)
		store(s, l, 71, 90<<10)
		store(s, l, 72, 600<<10)
		if !l.acked[71] || !l.acked[72] {
			t.Errorf("contents refused with room again")
		}
		compare(t, s, l)
		crashed()
		s.Close()
		if t.Failed() {
			t.Fatalf("with room for %d bytes", room)
		}
	}
}

// TestFullBatch: in one batch some fit and some do not.
func TestFullBatch(t *testing.T) {
	fs := newFaultyFS(vfs.NewMem())
	s := mustOpen(t, Options{FS: fs})
	mustPut(t, s, 0, 10)
	fs.setRoom(150 << 10)
	l := newLedger()
	var waits []<-chan struct{}
	for n := 1; n < 10; n++ {
		waits = append(waits, begin(s, l, n, 70<<10).finish(l))
	}
	waits = append(waits, begin(s, l, 10, 100).finish(l))
	for _, c := range waits {
		<-c
	}
	if len(l.acked) < 2 || len(l.acked) > 3 {
		t.Errorf("%d contents acknowledged, of which 2 of 70 KiB fit", len(l.acked))
	}
	compare(t, s, l)
}
