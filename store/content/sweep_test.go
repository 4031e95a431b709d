package content

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"mailraft/mail"
)

func liveOnly(ns ...int) func(mail.Content) bool {
	return func(c mail.Content) bool {
		for _, n := range ns {
			if c.ID == testID(n) {
				return true
			}
		}
		return false
	}
}

func noFlush() error { return nil }

func mustSweep(t *testing.T, s *Store, live func(mail.Content) bool) SweepStats {
	t.Helper()
	st, err := s.Sweep(live, noFlush)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// filled is a store with contents 0 to n-1 of 1000 bytes, ten in a segment.
func filled(t *testing.T, fs vfs.FS, n int) *Store {
	s := mustOpen(t, Options{FS: fs, SegmentSize: 10*(1000+headerLen) + segmentHeaderLen})
	for i := range n {
		mustPut(t, s, i, 1000)
	}
	return s
}

func TestSweep(t *testing.T) {
	for _, c := range []struct {
		name     string
		live     []int
		removed  int
		copied   int
		segments int // left, with the open one
	}{
		{"nothing is wanted", nil, 3, 0, 1},
		{"one segment is dead", []int{0, 1, 2, 20, 21, 22}, 1, 0, 3},
		{"few are left of each", []int{3, 14, 25}, 3, 3, 2},
		{"few of one, many of another", []int{3, 10, 11, 12, 13, 20, 21, 22, 23}, 1, 1, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := vfs.NewMem()
			s := filled(t, fs, 35)
			st := mustSweep(t, s, liveOnly(c.live...))
			if st.Removed != c.removed || st.Copied != c.copied || st.Live != len(c.live) || st.Dead != 30-len(c.live) {
				t.Errorf("%+v", st)
			}
			if n := s.Stats().Segments; n != c.segments || len(names(t, fs, segmentSuffix)) != n {
				t.Errorf("%d segments left, %v", n, names(t, fs, segmentSuffix))
			}
			for range 2 {
				for _, n := range append(c.live, 30, 34) {
					mustGet(t, s, n, 1000)
				}
				s.Close()
				s = mustOpen(t, Options{FS: fs})
			}
			if len(names(t, fs, indexSuffix)) != len(names(t, fs, segmentSuffix)) {
				t.Errorf("indexes %v", names(t, fs, indexSuffix))
			}
			s.Close()
		})
	}
}

// TestSweepFlush: nothing is removed before flush, or if it fails.
func TestSweepFlush(t *testing.T) {
	fs := vfs.NewMem()
	s := filled(t, fs, 35)
	asked := 0
	live := func(mail.Content) bool { asked++; return false }
	_, err := s.Sweep(live, func() error {
		if asked != 35 || len(names(t, fs, segmentSuffix)) != 4 {
			t.Errorf("flush after %d questions with segments %v", asked, names(t, fs, segmentSuffix))
		}
		return io.ErrShortWrite
	})
	if !errors.Is(err, io.ErrShortWrite) || len(names(t, fs, segmentSuffix)) != 4 {
		t.Errorf("%v, segments %v", err, names(t, fs, segmentSuffix))
	}
	mustGet(t, s, 0, 1000)
}

// TestSweepSpanning: a large content keeps every segment it lies in, or is
// copied out of them, and so does an upload that is not closed.
func TestSweepSpanning(t *testing.T) {
	fs := vfs.NewMem()
	s := mustOpen(t, Options{FS: fs, SegmentSize: 1 << 20})
	const size = 600 << 10
	l := newLedger()
	u := begin(s, l, 50, size)
	u.write(300 << 10) // one piece in the first segment
	filler := func(from int) {
		for n := from; n < from+9; n++ {
			mustPut(t, s, n, 200<<10)
		}
	}
	filler(0)
	first := names(t, fs, segmentSuffix)[0]
	if st := mustSweep(t, s, liveOnly()); st.Removed != 1 || st.Segments != 2 || names(t, fs, segmentSuffix)[0] != first {
		t.Errorf("with an open upload: %+v", st)
	}
	<-u.finish(l)
	filler(10)
	mustGet(t, s, 50, size)
	st := mustSweep(t, s, liveOnly(50))
	mustGet(t, s, 50, size)
	if st.Copied != 0 { // 25 % of the first segment, 35 % of another
		t.Errorf("%+v", st)
	}
	// A segment of which the large content has less than a fifth.
	v := begin(s, l, 51, chunkMax+10<<10)
	v.write(chunkMax + 1)
	filler(20)
	<-v.finish(l)
	filler(30)
	filler(40)
	all := len(names(t, fs, segmentSuffix))
	st = mustSweep(t, s, liveOnly(50, 51))
	if st.Copied != 1 || st.Removed == 0 || all-st.Removed+1 != len(names(t, fs, segmentSuffix)) {
		t.Errorf("%+v of %d", st, all)
	}
	mustGet(t, s, 50, size)
	mustGet(t, s, 51, chunkMax+10<<10)
	s.Close()
	s = mustOpen(t, Options{FS: fs})
	mustGet(t, s, 50, size)
	mustGet(t, s, 51, chunkMax+10<<10)
	mustSweep(t, s, liveOnly())
	if n := s.Stats().Contents; n != 0 {
		t.Errorf("%d contents left", n)
	}
}

// TestSweepUnderReader: what is being read can be read to its end.
func TestSweepUnderReader(t *testing.T) {
	s := mustOpen(t, Options{FS: vfs.NewMem(), SegmentSize: 300 << 10})
	mustPut(t, s, 1, 1<<20)
	mustPut(t, s, 2, 200<<10)
	mustPut(t, s, 3, 200<<10)
	r, err := s.Open(testID(1))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if st := mustSweep(t, s, liveOnly()); st.Removed < 4 {
		t.Fatalf("%+v", st)
	}
	if _, _, err := get(s, 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("after the sweep: %v", err)
	}
	if b, err := io.ReadAll(r); err != nil || !bytes.Equal(b, testData(1, 1<<20)) {
		t.Errorf("open reader: %d bytes, %v", len(b), err)
	}
}

// TestSweepDamaged: a damaged content is not copied and not dropped either.
func TestSweepDamaged(t *testing.T) {
	fs := vfs.NewMem()
	s := filled(t, fs, 15)
	s.Close()
	segment := names(t, fs, segmentSuffix)[0]
	b := readFile(t, fs, segment)
	b[segmentHeaderLen+3*(headerLen+1000)+headerLen+5] ^= 1
	writeFile(t, fs, segment, b)
	s = mustOpen(t, Options{FS: fs})
	st := mustSweep(t, s, liveOnly(3))
	if len(st.Damaged) != 1 || st.Damaged[0].ID != testID(3) || st.Removed != 1 {
		t.Fatalf("%+v", st)
	}
	forget(s, 3)
	mustPut(t, s, 3, 1000)
	if st = mustSweep(t, s, liveOnly(3)); st.Removed != 1 || len(st.Damaged) != 0 {
		t.Errorf("%+v", st)
	}
	mustGet(t, s, 3, 1000)
}

// Where no mail comes any more the last segment goes too.
func TestSweepEndsADeadSegment(t *testing.T) {
	s := filled(t, vfs.NewMem(), 5)
	defer s.Close()
	mustSweep(t, s, liveOnly(3))
	mustSweep(t, s, liveOnly(3))
	if st := s.Stats(); st.Contents != 5 || st.Segments != 1 {
		t.Fatalf("one is wanted: %+v", st)
	}
	mustSweep(t, s, liveOnly())
	mustPut(t, s, 9, 1000) // behind the end of the segment: that was asked for before
	st := mustSweep(t, s, liveOnly(9))
	if st.Removed != 1 || s.Stats().Contents != 1 {
		t.Errorf("%+v, left %+v", st, s.Stats())
	}
	mustGet(t, s, 9, 1000)
}
