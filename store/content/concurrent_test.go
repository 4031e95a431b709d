package content

import (
	"errors"
	"io"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"

	"mailraft/mail"
)

// TestConcurrent writes, reads, sweeps and lists at once; for -race.
func TestConcurrent(t *testing.T) {
	s := mustOpen(t, Options{FS: vfs.NewMem(), SegmentSize: 200 << 10})
	l := newLedger()
	var writers, others sync.WaitGroup
	stop := make(chan struct{})
	for g := range 8 {
		writers.Go(func() {
			for i := range 30 {
				n := g*100 + i
				size := []int{100, 5000, 70 << 10, 300 << 10}[i%4]
				u := begin(s, l, n, size)
				for u.done < size/2 {
					u.write(20 << 10)
				}
				if i%7 == 3 {
					u.w.Abort()
					continue
				}
				<-u.finish(l)
				if b, _, err := get(s, n); err != nil || len(b) != size {
					t.Errorf("get %d: %d bytes, %v", n, len(b), err)
				}
				if i%3 != 0 {
					l.kill(n)
				}
			}
		})
	}
	loop := func(f func()) {
		others.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					f()
				}
			}
		})
	}
	loop(func() {
		if st, err := s.Sweep(l.live, noFlush); err != nil || len(st.Damaged) > 0 {
			t.Errorf("sweep: %+v, %v", st, err)
		}
	})
	loop(func() {
		seen := map[mail.ContentID]bool{}
		s.Contents(func(c mail.Content) bool {
			if seen[c.ID] {
				t.Errorf("content %s twice", c.ID)
			}
			seen[c.ID] = true
			return true
		})
		s.Stats()
	})
	loop(func() {
		for n := range 800 {
			if r, err := s.Open(testID(n)); err == nil {
				if _, err := io.Copy(io.Discard, r); err != nil {
					t.Errorf("read %d: %v", n, err)
				}
				r.Close()
			} else if !errors.Is(err, ErrNotFound) {
				t.Errorf("open %d: %v", n, err)
			}
		}
	})
	writers.Wait()
	close(stop)
	others.Wait()
	compare(t, s, l)
	if d := s.Stats().Damages; d != 0 {
		t.Errorf("%d damages", d)
	}
}

// TestGroupCommit: all that wait while a sync runs share the next one.
func TestGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newFaultyFS(vfs.NewMem())
		hold := make(chan struct{})
		s := mustOpen(t, Options{FS: fs})
		mustPut(t, s, 0, 10)
		before := s.Stats()
		fs.before = func(op string) error {
			if op == "sync" {
				<-hold
			}
			return nil
		}
		l := newLedger()
		var waits []<-chan struct{}
		for n := 1; n <= 50; n++ {
			waits = append(waits, begin(s, l, n, 1000).finish(l))
			if n == 1 {
				synctest.Wait() // its sync runs
			}
		}
		close(hold)
		for _, c := range waits {
			<-c
		}
		st := s.Stats()
		if st.Syncs-before.Syncs != 2 || st.Records-before.Records != 50 {
			t.Errorf("%d records in %d syncs, want 50 in 2", st.Records-before.Records, st.Syncs-before.Syncs)
		}
		s.Close()
	})
}

// TestBackPressure: a disk that stands still stops the writers, and what they
// hold is bounded; Close ends them.
func TestBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newFaultyFS(vfs.NewMem())
		s := mustOpen(t, Options{FS: fs})
		hold := make(chan struct{})
		fs.before = func(op string) error {
			if op == "write" {
				<-hold
			}
			return nil
		}
		w, err := s.Create(testID(1))
		if err != nil {
			t.Fatal(err)
		}
		result := make(chan error, 1)
		go func() {
			var err error
			for b := make([]byte, 1<<20); err == nil; {
				_, err = w.Write(b)
			}
			result <- err
		}()
		synctest.Wait()
		if q := s.Stats().Queued; q <= queuedMax || q > queuedMax+chunkMax+headerLen || w.Size() > queuedMax+2<<20 {
			t.Errorf("%d bytes queued, %d written", q, w.Size())
		}
		go s.Close()
		synctest.Wait()
		if err := <-result; !errors.Is(err, ErrClosed) {
			t.Errorf("write: %v, want ErrClosed", err)
		}
		close(hold)
		w.Abort()
	})
}

// TestSmallBuffers: a session with a small message holds a small buffer.
func TestSmallBuffers(t *testing.T) {
	s := mustOpen(t, Options{FS: vfs.NewMem()})
	for _, c := range []struct{ size, held int }{{1, 4 << 10}, {4 << 10, 4 << 10}, {5000, 16 << 10}, {60 << 10, 64 << 10}, {200 << 10, chunkMax}, {1 << 20, chunkMax}} {
		u := begin(s, newLedger(), c.size, c.size)
		for u.done < c.size {
			u.write(1000)
		}
		if held := cap(u.w.buf.b) - headerLen; held != c.held {
			t.Errorf("%d bytes written: %d held, want %d", c.size, held, c.held)
		}
		u.w.Abort()
	}
}

// TestClosed: nothing is taken after the end, and a second end is none.
func TestClosed(t *testing.T) {
	fs := vfs.NewMem()
	s := mustOpen(t, Options{FS: fs})
	mustPut(t, s, 1, 10)
	u := begin(s, newLedger(), 2, 10)
	if _, err := Open(Options{FS: fs, Dir: "content"}); err == nil {
		t.Error("opened twice")
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := commit(u.w, 1); !errors.Is(err, ErrClosed) {
		t.Errorf("commit: %v", err)
	}
	if err := commit(u.w, 1); !errors.Is(err, ErrClosed) {
		t.Errorf("second commit: %v", err)
	}
	if _, err := s.Create(testID(3)); !errors.Is(err, ErrClosed) {
		t.Errorf("create: %v", err)
	}
	if _, err := s.Sweep(liveOnly(), noFlush); !errors.Is(err, ErrClosed) {
		t.Errorf("sweep: %v", err)
	}
}

// TestLateFailure: a piece that failed fails its content, whatever comes after.
func TestLateFailure(t *testing.T) {
	fs := newFaultyFS(vfs.NewMem())
	s := mustOpen(t, Options{FS: fs})
	mustPut(t, s, 0, 10)
	fs.setRoom(100 << 10)
	u := begin(s, newLedger(), 1, 900<<10)
	u.write(600 << 10)
	for s.Stats().Queued > 0 {
		runtime.Gosched()
	}
	fs.setRoom(-1)
	if err := commit(u.w, 1); !full(err) {
		t.Errorf("commit: %v", err)
	}
	if _, ok := s.Stat(testID(1)); ok {
		t.Error("content with a missing piece is there")
	}
	mustPut(t, s, 1, 900<<10)
	mustGet(t, s, 1, 900<<10)
}
