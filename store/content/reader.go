package content

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sort"
	"sync"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"mailraft/mail"
)

// Reader reads one content. It holds at most one record in memory, and its
// segments open: a sweep may remove them under it. Its methods may be called
// at once, as io.ReaderAt asks for.
type Reader struct {
	content mail.Content
	copy    place
	pieces  []piece

	mu     sync.Mutex
	files  map[uint32]vfs.File
	buf    *buffer // the record of piece loaded
	loaded int     // -1: none
	pos    int64
	sum    xxhash.Digest // of the bytes up to summed, as far as they were read in order
	summed int64
	closed bool
}

// piece is one record with content in it.
type piece struct {
	extent
	at     name
	kind   kind
	number uint32
	start  int64 // in the content
}

// Open opens a content for reading.
func (s *Store) Open(id mail.ContentID) (*Reader, error) {
	for {
		e, at, err := s.find(id)
		if err != nil {
			return nil, fmt.Errorf("open content %s: %w", id, err)
		}
		r, err := s.openEntry(e, at)
		if err == nil {
			return r, nil
		}
		if errors.Is(err, fs.ErrNotExist) {
			// Swept between finding and opening, if it is elsewhere now: look again.
			if _, now, again := s.find(id); again != nil || now != at {
				continue
			}
		}
		return nil, fmt.Errorf("open content %s: %w", id, err)
	}
}

func (s *Store) openEntry(e entry, at name) (*Reader, error) {
	r := &Reader{content: e.Content, copy: place{at.number, e.off}, files: map[uint32]vfs.File{}, loaded: -1}
	r.sum.Reset()
	es, err := s.extents(at, e)
	if err != nil {
		return nil, err
	}
	v := s.view(e.ID)
	k, start := kindChunk, int64(0)
	if !e.large() {
		k = kindSmall
	}
	for i, x := range es {
		n, ok := v.name(x.segment)
		if !ok {
			n = name{number: x.segment} // no such file: fails below
		}
		if r.files[x.segment] == nil {
			f, err := s.openSegment(n, e.ID, r.copy)
			if err != nil {
				r.Close()
				return nil, err
			}
			r.files[x.segment] = f
		}
		r.pieces = append(r.pieces, piece{x, n, k, uint32(i), start})
		start += int64(x.length)
	}
	return r, nil
}

// extents says where the pieces of e are; of a large one it reads the end record.
func (s *Store) extents(at name, e entry) ([]extent, error) {
	if !e.large() {
		return []extent{{at.number, e.off, uint32(e.Size)}}, nil
	}
	f, err := s.openSegment(at, e.ID, place{at.number, e.off})
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, e.recordLen())
	h, err := readRecord(f, at, e.off, b)
	if err == nil && (h.kind != kindEnd || h.content != e.Content) {
		err = errRecord
	}
	var es []extent
	if err == nil {
		es, err = decodeExtents(b[headerLen:], e.Size)
	}
	if err != nil {
		return nil, damaged(e.ID, place{at.number, e.off}, place{at.number, e.off}, err)
	}
	return es, nil
}

// openSegment opens a segment for reading a copy. A file that is gone is damage;
// other errors (no file descriptors left) say nothing about the content.
func (s *Store) openSegment(n name, id mail.ContentID, copy place) (vfs.File, error) {
	f, err := s.FS.Open(s.path(n, segmentSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		err = damaged(id, copy, place{segment: n.number}, err)
	}
	if err != nil {
		return nil, fmt.Errorf("segment %s: %w", n, err)
	}
	return f, nil
}

// Damage is an ErrDamaged that says which copy of a content does not pass its
// checksums.
type Damage struct {
	ID   mail.ContentID
	copy place // its last record
	at   place // where it is damaged
	why  error
}

func damaged(id mail.ContentID, copy, at place, why error) error { return &Damage{id, copy, at, why} }

// Error implements error.
func (d *Damage) Error() string {
	return fmt.Sprintf("content %s: segment %08x offset %d: %v: %v", d.ID, d.at.segment, d.at.offset, ErrDamaged, d.why)
}

// Unwrap gives ErrDamaged, and the reason.
func (d *Damage) Unwrap() []error { return []error{ErrDamaged, d.why} }

// readRecord fills b with the record at off, which must be that long, and
// checks it.
func readRecord(f vfs.File, at name, off uint32, b []byte) (header, error) {
	if _, err := f.ReadAt(b, int64(off)); err != nil {
		return header{}, err
	}
	h, err := decodeHeader(b, at.marker, off)
	if err != nil {
		return header{}, err
	}
	if int(h.length) != len(b)-headerLen || checksum(b[headerLen:]) != h.dataSum {
		return header{}, errRecord
	}
	return h, nil
}

// load brings piece i into the buffer, checked.
func (r *Reader) load(i int) error {
	if r.loaded == i {
		return nil
	}
	p := r.pieces[i]
	if r.buf == nil || cap(r.buf.b) < headerLen+int(p.length) {
		r.buf.free()
		r.buf = newBuffer(int(p.length))
	}
	r.loaded = -1
	r.buf.b = r.buf.b[:headerLen+int(p.length)]
	h, err := readRecord(r.files[p.segment], p.at, p.off, r.buf.b)
	c := r.content
	switch {
	case err != nil:
	case h.kind != p.kind || h.chunk != p.number || h.content.ID != c.ID:
		err = errRecord
	case p.kind == kindSmall && (h.content != c || xxhash.Sum64(r.buf.data()) != c.Sum):
		err = errRecord
	}
	if err != nil {
		return damaged(c.ID, r.copy, p.place(), err)
	}
	r.loaded = i
	if p.start == r.summed {
		r.sum.Write(r.buf.data())
		r.summed += int64(p.length)
		if r.summed == c.Size && r.sum.Sum64() != c.Sum {
			r.loaded = -1
			return damaged(c.ID, r.copy, p.place(), errors.New("sum of all pieces differs"))
		}
	}
	return nil
}

// readAt reads from one record.
func (r *Reader) readAt(p []byte, off int64) (int, error) {
	if r.closed {
		return 0, ErrClosed
	}
	if off >= r.content.Size {
		return 0, io.EOF
	}
	i := sort.Search(len(r.pieces), func(i int) bool { return r.pieces[i].start > off }) - 1
	if err := r.load(i); err != nil {
		return 0, err
	}
	return copy(p, r.buf.data()[off-r.pieces[i].start:]), nil
}

// Read implements io.Reader. A reader that has read all from the beginning has
// seen the size and sum of the whole checked before the last record was given.
func (r *Reader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, err := r.readAt(p, r.pos)
	r.pos += int64(n)
	return n, err
}

// ReadAt implements io.ReaderAt.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("content %s: read at %d", r.content.ID, off)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for n < len(p) {
		k, err := r.readAt(p[n:], off+int64(n))
		if err != nil {
			return n, err
		}
		n += k
	}
	return n, nil
}

// Seek implements io.Seeker.
func (r *Reader) Seek(offset int64, whence int) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch whence {
	case io.SeekCurrent:
		offset += r.pos
	case io.SeekEnd:
		offset += r.content.Size
	}
	if offset < 0 || whence < io.SeekStart || whence > io.SeekEnd {
		return 0, fmt.Errorf("content %s: seek to %d", r.content.ID, offset)
	}
	r.pos = offset
	return offset, nil
}

// Content is what is being read.
func (r *Reader) Content() mail.Content { return r.content }

// Close implements io.Closer.
func (r *Reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	r.buf.free()
	r.buf = nil
	var err error
	for _, f := range r.files { // the order does not matter
		if e := f.Close(); err == nil {
			err = e
		}
	}
	return err
}
