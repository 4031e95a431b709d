package content

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"mailraft/mail"
)

func FuzzHeader(f *testing.F) {
	for _, h := range []header{
		{kind: kindSmall, length: 10, content: mail.Content{ID: testID(1), Size: 10, Sum: 5, NotAfter: 7}},
		{kind: kindChunk, chunk: 3, length: chunkMax, synced: 100, content: mail.Content{ID: testID(2), Size: 3 * chunkMax}},
		{kind: kindEnd, chunk: 2, length: 2 * extentLen, content: mail.Content{ID: testID(2), Size: chunkMax + 1}},
	} {
		b := make([]byte, headerLen)
		h.encode(b, 99, 4096)
		f.Add(b, uint64(99), uint32(4096), true)
		f.Add(b, uint64(99), uint32(4097), false)
		f.Add(b[:headerLen-1], uint64(99), uint32(4096), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, marker uint64, off uint32, repair bool) {
		if repair && len(b) >= headerLen { // past the checksum, to what it protects
			b = bytes.Clone(b)
			putSum(b, marker, off)
		}
		h, err := decodeHeader(b, marker, off)
		if err != nil {
			return
		}
		again := make([]byte, headerLen)
		h.encode(again, marker, off)
		if !bytes.Equal(again[12:64], b[12:64]) || h.length > chunkMax {
			t.Errorf("header %+v from %x", h, b[:headerLen])
		}
	})
}

var le = binary.LittleEndian

func putSum(b []byte, marker uint64, off uint32) {
	le.PutUint64(b, marker)
	le.PutUint32(b[68:], headerSum(b, off))
}

func FuzzExtents(f *testing.F) {
	f.Add(appendExtents(nil, []extent{{1, 32, chunkMax}, {2, 32, 5}}), int64(chunkMax+5))
	f.Add([]byte{}, int64(0))
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		es, err := decodeExtents(b, size)
		if err != nil {
			return
		}
		for _, e := range es {
			size -= int64(e.length)
		}
		if size != 0 || !bytes.Equal(appendExtents(nil, es), b) {
			t.Errorf("extents %v from %x", es, b)
		}
	})
}

func FuzzSegmentHeader(f *testing.F) {
	f.Add(encodeSegmentHeader(7, 99))
	f.Add([]byte("mrconts\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		number, marker, err := decodeSegmentHeader(b)
		if err == nil && !bytes.Equal(encodeSegmentHeader(number, marker)[:24], b[:24]) {
			t.Errorf("header %d %d from %x", number, marker, b)
		}
	})
}

// FuzzIndex reads an index file of any bytes beside a good segment: nothing
// but good contents may come out.
func FuzzIndex(f *testing.F) {
	contents := map[int]int{1: 50, 2: 0, 3: 70, 4: 300 << 10}
	segment, index, seg, idx := image(f, true, contents, []int{1, 2, 3, 4})
	f.Add(idx, 0, byte(0))
	f.Add(idx, 20, byte(1))
	f.Add(idx[:len(idx)-1], 0, byte(0))
	f.Add(idx[len(idx)-trailerLen:], 0, byte(0))
	f.Add([]byte{}, 0, byte(0))
	f.Fuzz(func(t *testing.T, b []byte, at int, flip byte) {
		b = bytes.Clone(b)
		if len(b) > 0 {
			b[uint(at)%uint(len(b))] ^= flip
		}
		fs := vfs.NewMem()
		fs.MkdirAll("content", 0o700)
		writeFile(t, fs, segment, seg)
		writeFile(t, fs, index, b)
		s := mustOpen(t, Options{FS: fs})
		defer s.Close()
		mustNotServe(t, s, contents)
	})
}

// FuzzSegment opens a segment of any bytes behind a good header.
func FuzzSegment(f *testing.F) {
	contents := map[int]int{1: 50, 2: 0, 3: 70}
	segment, _, seg, _ := image(f, false, contents, []int{1, 2, 3})
	f.Add(seg, 0, byte(0))
	f.Add(seg, 100, byte(8))
	f.Add(seg[:60], 0, byte(0))
	f.Add(append(bytes.Clone(seg), seg[segmentHeaderLen:]...), 40, byte(255))
	f.Add([]byte{}, 0, byte(0))
	f.Fuzz(func(t *testing.T, b []byte, at int, flip byte) {
		b = bytes.Clone(b)
		if len(b) > 0 {
			b[uint(at)%uint(len(b))] ^= flip
		}
		fs := vfs.NewMem()
		fs.MkdirAll("content", 0o700)
		writeFile(t, fs, segment, b)
		s := mustOpen(t, Options{FS: fs})
		defer s.Close()
		mustNotServe(t, s, contents)
		mustPut(t, s, 9, 10)
		mustGet(t, s, 9, 10)
	})
}
