package content

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"mailraft/mail"
)

// ledger is what the outside knows: sizes of contents whose done(nil) ran, and
// which of them nobody wants any more.
type ledger struct {
	mu    sync.Mutex
	sizes map[int]int // of all that were ever begun
	acked map[int]bool
	dead  map[int]bool
}

func newLedger() *ledger {
	return &ledger{sizes: map[int]int{}, acked: map[int]bool{}, dead: map[int]bool{}}
}

func (l *ledger) clone() *ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &ledger{sizes: maps.Clone(l.sizes), acked: maps.Clone(l.acked), dead: maps.Clone(l.dead)}
}

func (l *ledger) begin(n, size int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sizes[n] = size
}

func (l *ledger) ack(n int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.acked[n] = true
	}
}

func (l *ledger) kill(ns ...int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range ns {
		l.dead[n] = true
	}
}

// unack is for a content that was forgotten: it may be there or not.
func (l *ledger) unack(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.acked, n)
}

func (l *ledger) live(c mail.Content) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := int(c.NotAfter) - 1
	return l.acked[n] && !l.dead[n]
}

// upload writes testData in steps, so that others come between.
type upload struct {
	w       *Writer
	n, done int
	data    []byte
}

func begin(s *Store, l *ledger, n, size int) *upload {
	l.begin(n, size)
	w, err := s.Create(testID(n))
	if err != nil {
		return &upload{}
	}
	return &upload{w: w, n: n, data: testData(n, size)}
}

func (u *upload) write(k int) {
	if u.w != nil {
		k = min(k, len(u.data)-u.done)
		u.w.Write(u.data[u.done : u.done+k])
		u.done += k
	}
}

// finish commits and returns a channel that is closed when done has run.
func (u *upload) finish(l *ledger) <-chan struct{} {
	c := make(chan struct{})
	if u.w == nil {
		close(c)
		return c
	}
	u.write(len(u.data))
	u.w.Commit(mail.Time(u.n+1), func(err error) {
		l.ack(u.n, err)
		close(c)
	})
	return c
}

func store(s *Store, l *ledger, n, size int) {
	u := begin(s, l, n, size)
	<-u.finish(l)
}

const crashSegment = 40 << 10

// script uses everything that writes; errors are not its business.
func script(s *Store, l *ledger) {
	for n := range 8 {
		store(s, l, n, 3000+n)
	}
	slow := begin(s, l, 20, 700<<10)
	slow.write(300 << 10)
	gone := begin(s, l, 21, 600<<10)
	gone.write(300 << 10)
	var waits []<-chan struct{}
	for n := 30; n < 36; n++ {
		waits = append(waits, begin(s, l, n, 100<<(n-30)).finish(l))
	}
	for _, c := range waits {
		<-c
	}
	store(s, l, 22, 90<<10)
	slow.write(100 << 10)
	if gone.w != nil {
		gone.w.Abort()
	}
	<-slow.finish(l)
	// A segment that is dead, and one of which little is wanted.
	l.kill(0, 1, 2, 3, 4, 5, 6, 34, 35, 22)
	s.Sweep(l.live, func() error { return nil })
	l.unack(30)
	forget(s, 30)
	store(s, l, 30, 100)
	for n := 40; n < 52; n++ {
		store(s, l, n, 8000)
	}
	l.kill(20)
	for n := 40; n < 52; n++ {
		if n%4 != 0 {
			l.kill(n)
		}
	}
	s.Sweep(l.live, func() error { return nil })
	store(s, l, 60, 2000)
}

// check opens what a crash left and compares it with the ledger.
func check(t *testing.T, fs vfs.FS, l *ledger) {
	t.Helper()
	for range 2 {
		s, err := Open(Options{FS: fs, Dir: "content", SegmentSize: crashSegment, Fatal: func(err error) { t.Errorf("fatal after the crash: %v", err) }})
		if err != nil {
			t.Fatalf("open after the crash: %v", err)
		}
		compare(t, s, l)
		if d := s.Stats().Damages; d != 0 {
			t.Errorf("%d damages after a crash", d)
		}
		if _, err := s.Sweep(l.live, func() error { return nil }); err != nil {
			t.Errorf("sweep after the crash: %v", err)
		}
		compare(t, s, l)
		if err := put(s, 99, 5000); err != nil && !errors.Is(err, ErrExists) {
			t.Errorf("put after the crash: %v", err)
		}
		l.begin(99, 5000)
		l.ack(99, nil)
		if err := s.Close(); err != nil {
			t.Errorf("close after the crash: %v", err)
		}
	}
}

func compare(t *testing.T, s *Store, l *ledger) {
	t.Helper()
	for n, size := range l.sizes {
		b, _, err := get(s, n)
		switch {
		case err == nil && !bytes.Equal(b, testData(n, size)):
			t.Errorf("content %d: wrong bytes served", n)
		case err != nil && l.acked[n] && !l.dead[n]:
			t.Errorf("content %d was acknowledged: %v", n, err)
		case err != nil && !errors.Is(err, ErrNotFound):
			t.Errorf("content %d: %v", n, err)
		}
	}
}

// TestCrashEverywhere crashes before every operation of the script.
func TestCrashEverywhere(t *testing.T) {
	type state struct {
		op     string
		fs     *vfs.MemFS
		ledger *ledger
	}
	for _, percent := range []int{0, 30, 70, 100} {
		t.Run(fmt.Sprint(percent), func(t *testing.T) {
			mem := vfs.NewCrashableMem()
			fs := newFaultyFS(mem)
			l := newLedger()
			rng := rand.New(rand.NewPCG(1, uint64(percent)))
			var mu sync.Mutex
			var states []state
			fs.before = func(op string) error {
				mu.Lock()
				defer mu.Unlock()
				states = append(states, state{op, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng}), l.clone()})
				return nil
			}
			s := mustOpen(t, Options{FS: fs, SegmentSize: crashSegment})
			script(s, l)
			s.Close()
			for i, st := range states {
				check(t, st.fs, st.ledger)
				if t.Failed() {
					t.Fatalf("crash before operation %d of %d (%s)", i, len(states), st.op)
				}
			}
			if len(l.acked) != len(l.sizes)-1 || len(states) < 100 {
				t.Errorf("%d operations, %d of %d contents acknowledged", len(states), len(l.acked), len(l.sizes))
			}
		})
	}
}

// TestFailEverywhere lets every operation of the script fail once, lost or
// stored, and crashes afterwards.
func TestFailEverywhere(t *testing.T) {
	for _, stored := range []bool{false, true} {
		t.Run(fmt.Sprintf("stored=%v", stored), func(t *testing.T) {
			for k := int64(0); ; k++ {
				if !failAt(t, k, stored) {
					break
				}
				if t.Failed() {
					t.Fatalf("failure of operation %d", k)
				}
			}
		})
	}
}

// failAt runs the script with a failure at operation k; false if there is none.
func failAt(t *testing.T, k int64, stored bool) bool {
	mem := vfs.NewCrashableMem()
	fs := newFaultyFS(mem)
	var ops, fatals atomic.Int64
	var failed atomic.Pointer[string]
	fault := func(op string) error {
		if ops.Add(1)-1 != k {
			return nil
		}
		failed.Store(&op)
		return fmt.Errorf("%s: %w", op, syscall.EIO)
	}
	if stored {
		fs.after = fault
	} else {
		fs.before = fault
	}
	l := newLedger()
	s, err := Open(Options{FS: fs, Dir: "content", SegmentSize: crashSegment, Fatal: func(error) { fatals.Add(1) }})
	if err == nil {
		script(s, l)
		s.Close()
		if op := failed.Load(); op != nil && *op != "remove" {
			if fatals.Load() != 1 {
				t.Errorf("%s failed: Fatal was called %d times", *op, fatals.Load())
			}
			if _, err := s.Create(testID(98)); err == nil {
				t.Errorf("%s failed, and the store takes more", *op)
			}
		}
	} else if failed.Load() == nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(uint64(k), 3))
	percent := int(k % 3 * 50)
	check(t, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng}), l.clone())
	return failed.Load() != nil
}
