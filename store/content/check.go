package content

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

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
	b := make([]byte, chunkMax)
	var failure error
	_, err = s.each(g, cache, func(e entry) bool {
		ok, err := s.counts(e, g.number, cache)
		if err == nil && ok {
			if !wait(e.Size) {
				failure = ErrClosed
				return false
			}
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
	c := &checker{Store: &Store{Options: Options{FS: fsys, Dir: dir}}, each: each, bad: bad}
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
		if err := c.segment(n); err != nil {
			return c.r, fmt.Errorf("check segment %s: %w", n, err)
		}
	}
	return c.r, nil
}

type checker struct {
	*Store
	each func(mail.Content)
	bad  func(error)
	r    Report
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
			c.found(e)
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
	c.holes(n, sc, g.end)
	for i := range g.blocks() {
		es, err := c.block(g, i, nil)
		if err != nil {
			c.bad(err)
			continue
		}
		for _, e := range es {
			if off, ok := whole[e.ID]; !ok || off != e.off {
				c.bad(damaged(e.ID, n.number, e.off, errRecord))
				continue
			}
			c.found(e)
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

func (c *checker) found(e entry) {
	c.r.Contents++
	c.each(e.Content)
}
