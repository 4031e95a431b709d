package content

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"mailraft/mail"
)

// names returns the files in the store's directory with a suffix, in order.
func names(t testing.TB, fs vfs.FS, suffix string) []string {
	t.Helper()
	all, err := fs.List("content")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, n := range all {
		if strings.HasSuffix(n, suffix) {
			out = append(out, fs.PathJoin("content", n))
		}
	}
	slices.Sort(out)
	return out
}

func readFile(t testing.TB, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, st.Size())
	if _, err := f.ReadAt(b, 0); err != nil && len(b) > 0 {
		t.Fatal(err)
	}
	return b
}

func writeFile(t testing.TB, fs vfs.FS, name string, b []byte) {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(bytes.Clone(b)); err != nil {
		t.Fatal(err)
	}
}

// image is a directory with one segment, as a crash (without an index) or a
// clean end left it.
func image(t testing.TB, sealed bool, contents map[int]int, order []int) (segment, index string, seg, idx []byte) {
	t.Helper()
	mem := vfs.NewCrashableMem()
	s := mustOpen(t, Options{FS: mem})
	for _, n := range order {
		mustPut(t, s, n, contents[n])
	}
	var fs vfs.FS = mem
	if !sealed {
		fs = mem.CrashClone(vfs.CrashCloneCfg{})
	}
	s.Close()
	segment = names(t, fs, segmentSuffix)[0]
	seg = readFile(t, fs, segment)
	if sealed {
		index = names(t, fs, indexSuffix)[0]
		idx = readFile(t, fs, index)
	}
	return segment, index, seg, idx
}

// mustNotServe checks that every content is identical or not served; it
// returns how many are.
func mustNotServe(t *testing.T, s *Store, contents map[int]int) int {
	t.Helper()
	good := 0
	for n, size := range contents {
		b, _, err := get(s, n)
		switch {
		case err == nil && bytes.Equal(b, testData(n, size)):
			good++
		case err == nil:
			t.Errorf("content %d: damaged bytes served", n)
		case !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNotFound):
			t.Errorf("content %d: %v", n, err)
		}
	}
	return good
}

// TestTornTail cuts the open segment at every byte of its last record: a small
// one, and one that ends a large content.
func TestTornTail(t *testing.T) {
	for _, last := range []struct{ size, record int }{{200, headerLen + 200}, {300 << 10, headerLen + 2*extentLen}} {
		contents := map[int]int{1: 500, 2: 3000, 3: last.size}
		segment, _, seg, _ := image(t, false, contents, []int{1, 2, 3})
		for cut := len(seg) - last.record; cut < len(seg); cut++ {
			b := bytes.Clone(seg[:cut])
			if cut%2 == 0 {
				b = append(b, bytes.Repeat([]byte{0xa5}, 100)...) // a page with something else in it
			}
			tornTail(t, segment, b, contents)
			if t.Failed() {
				t.Fatalf("cut at %d of %d", cut, len(seg))
			}
		}
	}
}

// tornTail opens a segment whose last content, 3, is torn.
func tornTail(t *testing.T, segment string, seg []byte, contents map[int]int) {
	fs := vfs.NewMem()
	fs.MkdirAll("content", 0o700)
	writeFile(t, fs, segment, seg)
	s := mustOpen(t, Options{FS: fs})
	mustGet(t, s, 1, contents[1])
	mustGet(t, s, 2, contents[2])
	if _, _, err := get(s, 3); !errors.Is(err, ErrNotFound) {
		t.Errorf("torn content: %v, want ErrNotFound", err)
	}
	if d := s.Stats().Damages; d != 0 {
		t.Errorf("%d damages", d)
	}
	mustPut(t, s, 3, contents[3])
	s.Close()
	s = mustOpen(t, Options{FS: fs})
	for n, size := range contents {
		mustGet(t, s, n, size)
	}
	s.Close()
}

// TestNoDescriptors: not to be able to open a file is no sign of damage.
func TestNoDescriptors(t *testing.T) {
	fs := newFaultyFS(vfs.NewMem())
	s := filled(t, fs, 25)
	fs.opening = func(string) error { return syscall.EMFILE }
	for _, n := range []int{3, 24} { // in a sealed segment, and in the open one
		if _, _, err := get(s, n); !errors.Is(err, syscall.EMFILE) || errors.Is(err, ErrDamaged) || errors.Is(err, ErrNotFound) {
			t.Errorf("get: %v", err)
		}
	}
	if _, err := s.Create(testID(3)); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("create: %v", err)
	}
	if st, err := s.Sweep(liveOnly(), noFlush); !errors.Is(err, syscall.EMFILE) || st.Removed > 0 {
		t.Errorf("sweep: %+v, %v", st, err)
	}
	fs.opening = nil
	for n := range 25 {
		mustGet(t, s, n, 1000)
	}
	if d := s.Stats().Damages; d != 0 {
		t.Errorf("%d damages", d)
	}
}

// TestIndexGoesBad: an index that is damaged while the store runs is made
// again from its segment.
func TestIndexGoesBad(t *testing.T) {
	fs := vfs.NewMem()
	s := filled(t, fs, 25)
	index := names(t, fs, indexSuffix)[0]
	b := readFile(t, fs, index)
	b[100] ^= 1
	writeFile(t, fs, index, b)
	for n := range 25 {
		mustGet(t, s, n, 1000)
	}
	if d := s.Stats().Damages; d != 1 {
		t.Errorf("%d damages, want 1", d)
	}
	if st := mustSweep(t, s, liveOnly(1)); st.Removed != 2 || st.Copied != 1 {
		t.Errorf("%+v", st)
	}
	s.Close()
	s = mustOpen(t, Options{FS: fs})
	mustGet(t, s, 1, 1000)
}

// TestFlippedBits flips a bit at many places of a segment and its index.
func TestFlippedBits(t *testing.T) {
	contents := map[int]int{1: 500, 2: 300 << 10, 3: 200, 4: 4000, 5: 0, 6: 77}
	order := []int{1, 2, 3, 4, 5, 6}
	for _, sealed := range []bool{false, true} {
		segment, index, seg, idx := image(t, sealed, contents, order)
		test := func(seg, idx []byte, at string, off int) (damages int64) {
			fs := vfs.NewMem()
			fs.MkdirAll("content", 0o700)
			writeFile(t, fs, segment, seg)
			if idx != nil {
				writeFile(t, fs, index, idx)
			}
			s := mustOpen(t, Options{FS: fs})
			defer s.Close()
			good := mustNotServe(t, s, contents)
			damages = s.Stats().Damages
			if sealed && at == "index" && (good != len(contents) || damages == 0) {
				t.Errorf("bit in the index at %d: %d contents, %d damages", off, good, damages)
			}
			if good < len(contents)-1 {
				t.Errorf("sealed=%v bit in the %s at %d: only %d contents left", sealed, at, off, good)
			}
			return damages
		}
		last := len(seg) - headerLen - 77
		step := 5
		for off := 0; off < len(seg); off += step {
			if step = 5; off > 1000 && off < last-1000 {
				step = 997 // within much data, not every byte
			}
			b := bytes.Clone(seg)
			b[off] ^= 1 << (off % 8)
			d := test(b, idx, "segment", off)
			// Behind every record but the last there is one that proves it synced.
			if !sealed && off < last && d != 1 {
				t.Errorf("bit at %d of an open segment: %d damages reported", off, d)
			}
		}
		for off := 0; off < len(idx); off += 5 {
			b := bytes.Clone(idx)
			b[off] ^= 1 << (off % 8)
			test(seg, b, "index", off)
		}
	}
}

// TestZeroedPage loses a page of the open segment, the first one too.
func TestZeroedPage(t *testing.T) {
	contents, order := map[int]int{}, []int{}
	for n := range 20 {
		contents[n] = 3000
		order = append(order, n)
	}
	segment, _, seg, _ := image(t, false, contents, order)
	for off := 0; off+4096 < len(seg); off += 4096 {
		fs := vfs.NewMem()
		fs.MkdirAll("content", 0o700)
		b := bytes.Clone(seg)
		clear(b[off : off+4096])
		writeFile(t, fs, segment, b)
		s := mustOpen(t, Options{FS: fs})
		if good := mustNotServe(t, s, contents); good < 17 {
			t.Errorf("page at %d: only %d contents left", off, good)
		}
		if s.Stats().Damages == 0 && off+4096 < len(seg)-3000-headerLen {
			t.Errorf("page at %d: not reported", off)
		}
		s.Close()
	}
}

// TestForgedRecord puts a record into a message and damages what is before it:
// a scan must not take it for one of ours.
func TestForgedRecord(t *testing.T) {
	const evil = 77
	mem := vfs.NewCrashableMem()
	s := mustOpen(t, Options{FS: mem})
	mustPut(t, s, 1, 100)
	// The sender knows the format and guessed where his message will lie, but
	// not the random part of another upload's id.
	off := uint32(segmentHeaderLen + headerLen + 100 + headerLen)
	forged := newBuffer(10)
	forged.b = append(forged.b, "forged 10b"...)
	h := header{kind: kindSmall, length: 10, content: mail.Content{ID: testID(evil), Size: 10}, dataSum: checksum(forged.data())}
	h.encode(forged.b, markerFor(testID(evil), 1), off)
	w, err := s.Create(testID(2))
	if err != nil {
		t.Fatal(err)
	}
	w.Write(forged.b)
	if err := commit(w, 3); err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, 3, 100)
	fs := mem.CrashClone(vfs.CrashCloneCfg{})
	segment := names(t, fs, segmentSuffix)[0]
	b := readFile(t, fs, segment)
	b[segmentHeaderLen+headerLen+100+20] ^= 1 // the header before the forged record
	writeFile(t, fs, segment, b)
	s = mustOpen(t, Options{FS: fs})
	if _, ok := s.Stat(testID(evil)); ok {
		t.Error("a record inside a message was taken for a content")
	}
	mustGet(t, s, 1, 100)
	mustGet(t, s, 3, 100)
	if s.Stats().Damages != 1 {
		t.Errorf("%d damages, want 1", s.Stats().Damages)
	}
}

// forget takes the copy of content n that counts now for damaged.
func forget(s *Store, n int) bool {
	e, at, err := s.find(testID(n))
	return err == nil && s.Forget(&Damage{ID: e.ID, copy: place{at.number, e.off}})
}

// TestForget replaces a damaged content by a good copy.
func TestForget(t *testing.T) {
	for _, size := range []int{900, 600 << 10} {
		contents := map[int]int{1: 500, 2: size, 3: 200}
		segment, index, seg, idx := image(t, true, contents, []int{1, 2, 3})
		fs := vfs.NewMem()
		fs.MkdirAll("content", 0o700)
		seg[segmentHeaderLen+headerLen+500+headerLen+size/2] ^= 4
		writeFile(t, fs, segment, seg)
		writeFile(t, fs, index, idx)
		s := mustOpen(t, Options{FS: fs})
		if _, _, err := get(s, 2); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), testID(2).String()) {
			t.Fatalf("damaged content: %v", err)
		}
		if _, err := s.Create(testID(2)); !errors.Is(err, ErrExists) {
			t.Fatalf("create: %v", err)
		}
		_, _, bad := get(s, 2) // two readers find it
		if !forget(s, 2) {
			t.Error("not forgotten")
		}
		if _, ok := s.Stat(testID(2)); ok {
			t.Error("forgotten content is there")
		}
		mustPut(t, s, 2, size)
		d := new(Damage)
		if !errors.As(bad, &d) || s.Forget(d) {
			t.Errorf("%v: the fresh copy was forgotten", bad)
		}
		for range 2 {
			for n, size := range contents {
				mustGet(t, s, n, size)
			}
			seen := map[mail.ContentID]int{}
			s.Contents(func(c mail.Content) bool { seen[c.ID]++; return true })
			if len(seen) != 3 || seen[testID(2)] != 1 {
				t.Errorf("contents %v", seen)
			}
			s.Close()
			s = mustOpen(t, Options{FS: fs})
		}
		s.Close()
	}
}
