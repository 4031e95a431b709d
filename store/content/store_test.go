package content

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"mailraft/mail"
)

// testID is the n-th id in time order.
func testID(n int) mail.ContentID {
	var id mail.ContentID
	binary.BigEndian.PutUint64(id[:], uint64(1_700_000_000_000+n)<<16)
	binary.BigEndian.PutUint64(id[8:], uint64(n)*0x9e3779b97f4a7c15+1)
	return id
}

var testDatas sync.Map // made once: most of a crash test would be making them

// testData is the content of testID(n): reproducible and incompressible.
func testData(n, size int) []byte {
	if b, ok := testDatas.Load([2]int{n, size}); ok {
		return b.([]byte)
	}
	b := make([]byte, size)
	x := uint64(n)*0x9e3779b97f4a7c15 + 12345
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	testDatas.Store([2]int{n, size}, b)
	return b
}

func mustOpen(t testing.TB, o Options) *Store {
	t.Helper()
	if o.Dir == "" {
		o.Dir = "content"
	}
	if o.Fatal == nil {
		o.Fatal = func(err error) { t.Errorf("unexpected fatal error: %v", err) }
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// put stores testData and returns the error of done.
func put(s *Store, n, size int) error {
	w, err := s.Create(testID(n))
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, bytes.NewReader(testData(n, size))); err != nil {
		w.Abort()
		return err
	}
	return commit(w, mail.Time(n+1))
}

func commit(w *Writer, notAfter mail.Time) error {
	c := make(chan error, 1)
	w.Commit(notAfter, func(err error) { c <- err })
	return <-c
}

func mustPut(t testing.TB, s *Store, n, size int) {
	t.Helper()
	if err := put(s, n, size); err != nil {
		t.Fatalf("put %d: %v", n, err)
	}
}

func get(s *Store, n int) ([]byte, mail.Content, error) {
	r, err := s.Open(testID(n))
	if err != nil {
		return nil, mail.Content{}, err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return b, r.Content(), err
}

func mustGet(t testing.TB, s *Store, n, size int) {
	t.Helper()
	b, c, err := get(s, n)
	if err != nil {
		t.Fatalf("get %d: %v", n, err)
	}
	want := testData(n, size)
	if !bytes.Equal(b, want) {
		t.Fatalf("get %d: %d bytes differ from the %d written", n, len(b), size)
	}
	if k := (mail.Content{ID: testID(n), Size: int64(size), Sum: xxhash.Sum64(want), NotAfter: mail.Time(n + 1)}); c != k {
		t.Fatalf("get %d: content %+v, want %+v", n, c, k)
	}
	if st, ok := s.Stat(testID(n)); !ok || st != c {
		t.Fatalf("stat %d: %+v %v, want %+v", n, st, ok, c)
	}
}

var sizes = []int{0, 1, 100, 4095, 4096, 4097, 10 << 10, 75 << 10, chunkMax - 1, chunkMax, chunkMax + 1, 2 * chunkMax, 1 << 20, 3<<20 + 17}

func TestRoundTrip(t *testing.T) {
	for _, segment := range []int64{1, 4 << 10, 300 << 10, 64 << 20} {
		fs := vfs.NewMem()
		s := mustOpen(t, Options{FS: fs, SegmentSize: segment})
		for i, size := range sizes {
			mustPut(t, s, i, size)
			mustGet(t, s, i, size)
		}
		if _, err := s.Create(testID(3)); !errors.Is(err, ErrExists) {
			t.Errorf("create twice: %v, want ErrExists", err)
		}
		if _, _, err := get(s, 99); !errors.Is(err, ErrNotFound) {
			t.Errorf("get of nothing: %v, want ErrNotFound", err)
		}
		for range 2 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = mustOpen(t, Options{FS: fs, SegmentSize: segment})
			for i, size := range sizes {
				mustGet(t, s, i, size)
			}
		}
		n := 0
		s.Contents(func(mail.Content) bool { n++; return true })
		if n != len(sizes) {
			t.Errorf("segment size %d: %d contents, want %d", segment, n, len(sizes))
		}
		if st := s.Stats(); st.Damages != 0 || st.Contents != len(sizes) {
			t.Errorf("stats %+v", st)
		}
		s.Close()
	}
}

func TestReader(t *testing.T) {
	s := mustOpen(t, Options{FS: vfs.NewMem(), SegmentSize: 600 << 10})
	const size = 1<<20 + 5
	mustPut(t, s, 1, size)
	want := testData(1, size)
	r, err := s.Open(testID(1))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, off := range []int64{0, 5, chunkMax - 3, chunkMax, 3*chunkMax - 1, size - 7} {
		b := make([]byte, 7)
		if n, err := r.ReadAt(b, off); n != 7 || err != nil || !bytes.Equal(b, want[off:off+7]) {
			t.Errorf("read at %d: %d %v", off, n, err)
		}
		if _, err := r.Seek(off, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(r); err != nil || !bytes.Equal(b, want[off:]) {
			t.Errorf("read from %d: %d bytes, %v", off, len(b), err)
		}
	}
	if n, err := r.ReadAt(make([]byte, 10), size-4); n != 4 || err != io.EOF {
		t.Errorf("read over the end: %d %v", n, err)
	}
	if n, err := r.Seek(-5, io.SeekEnd); n != size-5 || err != nil {
		t.Errorf("seek: %d %v", n, err)
	}
	if _, err := r.Seek(-1, io.SeekStart); err == nil {
		t.Error("seek before the beginning: no error")
	}
}
