package content

import (
	"bytes"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"mailraft/mail"
)

// checked runs Check over a directory with these two files.
func checked(t *testing.T, segment string, seg []byte, index string, idx []byte) (contents, bads int) {
	t.Helper()
	fs := vfs.NewMem()
	if err := fs.MkdirAll("content", 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, fs, segment, seg)
	if index != "" {
		writeFile(t, fs, index, idx)
	}
	r, err := Check(fs, "content", func(mail.Content) { contents++ }, func(error) { bads++ })
	if err != nil {
		t.Fatal(err)
	}
	if r.Contents != contents || r.Segments != 1 {
		t.Fatalf("report %+v, %d contents", r, contents)
	}
	if all, err := fs.List("content"); err != nil || len(all) > 2 {
		t.Fatalf("left behind: %v, %v", all, err)
	}
	if !bytes.Equal(readFile(t, fs, segment), seg) {
		t.Fatal("the segment was changed")
	}
	return contents, bads
}

// Every byte of a sealed segment and its index counts.
func TestCheckFindsEveryFlip(t *testing.T) {
	contents := map[int]int{1: 500, 2: 3000, 3: 300 << 10, 4: 0, 5: 70}
	segment, index, seg, idx := image(t, true, contents, []int{1, 2, 3, 4, 5})
	if n, bad := checked(t, segment, seg, index, idx); n != 5 || bad != 0 {
		t.Fatalf("whole: %d contents, %d damages", n, bad)
	}
	for at := 0; at < len(seg); at += 97 {
		seg[at] ^= 8
		if _, bad := checked(t, segment, seg, index, idx); bad == 0 {
			t.Errorf("segment, byte %d: not found", at)
		}
		seg[at] ^= 8
	}
	for at := range idx {
		idx[at] ^= 8
		if _, bad := checked(t, segment, seg, index, idx); bad == 0 {
			t.Errorf("index, byte %d: not found", at)
		}
		idx[at] ^= 8
	}
	for at := 0; at < len(seg); at += 4001 {
		if _, bad := checked(t, segment, seg[:at], index, idx); bad == 0 {
			t.Errorf("cut to %d bytes: not found", at)
		}
	}
}

// A torn end of a segment that was open is no damage: nothing there was promised.
func TestCheckPassesATornEnd(t *testing.T) {
	segment, _, seg, _ := image(t, false, map[int]int{1: 500, 2: 3000}, []int{1, 2})
	if n, bad := checked(t, segment, seg[:len(seg)-1], "", nil); n != 1 || bad != 0 {
		t.Errorf("%d contents, %d damages", n, bad)
	}
}

func TestReadThroughFindsDamage(t *testing.T) {
	mem := vfs.NewMem()
	s := mustOpen(t, Options{FS: mem, SegmentSize: 8 << 10})
	for n := range 20 {
		mustPut(t, s, n+1, 3000)
	}
	s.Close()
	segments := names(t, mem, segmentSuffix)
	if len(segments) < 4 {
		t.Fatalf("%d segments", len(segments))
	}
	for _, name := range segments[1:3] {
		b := readFile(t, mem, name)
		b[segmentHeaderLen+headerLen+100] ^= 1
		writeFile(t, mem, name, b)
	}
	s = mustOpen(t, Options{FS: mem})
	defer s.Close()
	read, segmentsRead, bad := int64(0), 0, map[mail.ContentID]bool{}
	wait := func(n int64) bool { read += n; return true }
	for next := uint32(0); ; segmentsRead++ {
		var err error
		next, err = s.ReadThrough(next, wait, func(c mail.Content, err error) { bad[c.ID] = true })
		if err != nil {
			t.Fatal(err)
		}
		if next == 0 {
			break
		}
	}
	if read != 20*3000 || segmentsRead != len(segments) || len(bad) != 2 {
		t.Errorf("read %d bytes in %d of %d segments, found %v", read, segmentsRead, len(segments), bad)
	}
	if _, err := s.ReadThrough(0, func(int64) bool { return false }, nil); err == nil {
		t.Error("went on though told to stop")
	}
}

// A piece of a large content lies in an earlier segment than its end: damage
// there is found; and damage that was made good is none any more.
func TestCheckFollowsPieces(t *testing.T) {
	mem := vfs.NewMem()
	s := mustOpen(t, Options{FS: mem, SegmentSize: 300 << 10})
	mustPut(t, s, 1, 1<<20)
	s.Close()
	run := func() (contents, bads int) {
		if _, err := Check(mem, "content", func(mail.Content) { contents++ }, func(error) { bads++ }); err != nil {
			t.Fatal(err)
		}
		return contents, bads
	}
	if n, bad := run(); n != 1 || bad != 0 {
		t.Fatalf("whole: %d contents, %d damages", n, bad)
	}
	first := names(t, mem, segmentSuffix)[0]
	b := readFile(t, mem, first)
	b[len(b)/2] ^= 1
	writeFile(t, mem, first, b)
	if n, bad := run(); n != 0 || bad == 0 {
		t.Errorf("%d contents, %d damages", n, bad)
	}
	segment, index, seg, idx := image(t, true, map[int]int{1: 500, 2: 3000}, []int{1, 2})
	fs := vfs.NewMem()
	if err := fs.MkdirAll("content", 0o700); err != nil {
		t.Fatal(err)
	}
	seg[segmentHeaderLen+headerLen+100] ^= 1
	writeFile(t, fs, segment, seg)
	writeFile(t, fs, index, idx)
	if err := fs.Remove(index); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, Options{FS: fs}) // makes the index again, without what is lost
	mustPut(t, s, 1, 500)
	s.Close()
	good, bads := 0, 0
	if _, err := Check(fs, "content", func(mail.Content) { good++ }, func(error) { bads++ }); err != nil || good != 2 || bads != 0 {
		t.Errorf("made good: %d contents, %d damages, %v", good, bads, err)
	}
}
