package content

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"mailraft/mail"
)

// ReadThrough reads every content whose last record is in the first sealed
// segment not before number, and tells of those that are damaged. wait is
// asked before each, with its size; false ends it. It returns the number to go
// on from; zero: there is no such segment.
func (s *Store) ReadThrough(number uint32, wait func(size int64) bool, bad func(mail.Content, error)) (next uint32, err error) {
	s.mu.RLock()
	sealed := s.sealed
	s.mu.RUnlock()
	i := slices.IndexFunc(sealed.segments, func(g *segment) bool { return g.number >= number })
	if i < 0 {
		return 0, nil
	}
	g := sealed.segments[i]
	cache := blockCache{}
	b := make([]byte, headerLen+chunkMax)
	f, err := s.FS.Open(s.path(g.name, segmentSuffix))
	if err == nil {
		defer f.Close()
	} else {
		f = nil // each content says what that means for it
	}
	var failure error
	_, err = s.each(g, cache, func(e entry) bool {
		if !wait(e.Size) {
			failure = ErrClosed
			return false
		}
		if f != nil && good(f, g.name, e, b) {
			return true
		}
		ok, err := s.counts(e, g.number, cache)
		if err == nil && ok {
			err = s.readThrough(e.ID, b)
		}
		switch {
		case errors.Is(err, ErrDamaged):
			bad(e.Content, err)
		case err != nil && !errors.Is(err, ErrNotFound): // swept meanwhile
			failure = err
		}
		return failure == nil
	})
	if err = errors.Join(failure, err); err != nil {
		return 0, fmt.Errorf("read through segment %s: %w", g.name, err)
	}
	return g.number + 1, nil
}

// good reports whether the one record of a small content is as it was written.
// It spares nearly all of them a look-up and a file of their own. False says
// nothing: whoever opens the content finds out.
func good(f vfs.File, at name, e entry, b []byte) bool {
	if e.large() {
		return false
	}
	b = b[:e.recordLen()]
	h, err := readRecord(f, at, e.off, b)
	return err == nil && h.kind == kindSmall && h.content == e.Content && xxhash.Sum64(b[headerLen:]) == e.Sum
}

// Verify reads a content to its end.
func (s *Store) Verify(id mail.ContentID) error { return s.readThrough(id, make([]byte, chunkMax)) }

func (s *Store) readThrough(id mail.ContentID, b []byte) error {
	r, err := s.Open(id)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.CopyBuffer(io.Discard, struct{ io.Reader }{r}, b)
	return err
}

// Report is what a check of a store that is not open found.
type Report struct {
	Segments int
	Contents int
	Bytes    int64
}

// Check reads all segments and indexes in dir through, and changes nothing:
// neither a lock nor a torn end, which the next Open takes care of. each is
// called with every content, bad with every damage.
func Check(fsys vfs.FS, dir string, each func(mail.Content), bad func(error)) (Report, error) {
	c := &checker{Store: &Store{Options: Options{FS: fsys, Dir: dir}}, each: each, bad: bad, names: map[uint32]name{}}
	files, err := fsys.List(dir)
	if err != nil {
		return c.r, fmt.Errorf("check content: %w", err)
	}
	slices.Sort(files)
	for _, f := range files {
		n, suffix, ok := parseName(f)
		if !ok || suffix != segmentSuffix {
			continue
		}
		c.names[n.number] = n
		if err := c.segment(n); err != nil {
			return c.r, fmt.Errorf("check segment %s: %w", n, err)
		}
	}
	return c.r, nil
}

type checker struct {
	*Store
	each  func(mail.Content)
	bad   func(error)
	r     Report
	names map[uint32]name // of the segments so far
}

func (c *checker) segment(n name) error {
	f, err := c.FS.Open(c.path(n, segmentSuffix))
	if err != nil {
		return err
	}
	defer f.Close()
	sc, err := scanSegment(f, n)
	if err != nil {
		return err
	}
	c.r.Segments++
	c.r.Bytes += sc.size
	whole := map[mail.ContentID]uint32{}
	for _, e := range sc.entries {
		whole[e.ID] = e.off
	}
	g, err := c.loadIndex(n)
	switch {
	case errors.Is(err, fs.ErrNotExist): // it was open: an end may be torn
		c.holes(n, sc, sc.proof)
		for _, e := range sc.entries {
			c.found(n, e)
		}
		return nil
	case errors.Is(err, errRecord):
		c.bad(err)
		c.holes(n, sc, sc.size)
		return nil
	case err != nil:
		return err
	}
	if sc.size < g.end {
		c.bad(fmt.Errorf("segment %s has %d bytes of %d: %w", n, sc.size, g.end, ErrDamaged))
	}
	// A hole that no content of the index lies in was made good: the content was
	// fetched again, to another segment. But the header is in no index.
	c.holes(n, sc, segmentHeaderLen)
	for i := range g.blocks() {
		es, err := c.block(g, i, nil)
		if err != nil {
			c.bad(err)
			continue
		}
		for _, e := range es {
			if off, ok := whole[e.ID]; !ok || off != e.off {
				c.bad(damaged(e.ID, place{n.number, e.off}, place{n.number, e.off}, errRecord))
				continue
			}
			c.found(n, e)
		}
	}
	return nil
}

// holes tells of places below end where no valid record is.
func (c *checker) holes(n name, sc scan, end int64) {
	for _, h := range sc.holes {
		if h.from < end {
			c.bad(fmt.Errorf("segment %s is damaged between %d and %d: %w", n, h.from, h.to, ErrDamaged))
		}
	}
}

// found counts a content whose records in its last segment are whole, if those
// in earlier ones are too.
func (c *checker) found(n name, e entry) {
	if e.span > 0 {
		if err := c.pieces(n, e); err != nil {
			c.bad(err)
			return
		}
	}
	c.r.Contents++
	c.each(e.Content)
}

// pieces reads what a content has in other segments. Where a segment is not
// there any more, a newer copy was made of it.
func (c *checker) pieces(n name, e entry) error {
	es, err := c.extents(n, e)
	if err != nil {
		return err
	}
	b := make([]byte, headerLen+chunkMax)
	for _, x := range es {
		at, ok := c.names[x.segment]
		if !ok || x.segment == n.number {
			continue
		}
		f, err := c.openSegment(at, e.ID, place{n.number, e.off})
		if err != nil {
			return err
		}
		_, err = readRecord(f, at, x.off, b[:headerLen+int(x.length)])
		if e := f.Close(); err == nil {
			err = e
		}
		if err != nil {
			return damaged(e.ID, place{n.number, e.off}, x.place(), err)
		}
	}
	return nil
}
