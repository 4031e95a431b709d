package content

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"

	"mailraft/mail"
)

// load brings the store up from its directory. Of sealed segments only the
// ends of their indexes are read. A segment without an index was open when the
// process ended: it is scanned, made durable and sealed. Nothing is ever
// appended to a segment of an earlier process.
func (s *Store) load() error {
	if err := s.FS.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	if err := s.syncDir(s.FS.PathDir(s.Dir)); err != nil {
		return err
	}
	var err error
	if s.lock, err = s.FS.Lock(s.FS.PathJoin(s.Dir, "LOCK")); err != nil {
		return fmt.Errorf("lock: another process has it: %w", err)
	}
	files, err := s.FS.List(s.Dir)
	if err != nil {
		return err
	}
	slices.Sort(files)
	have := map[name]bool{}
	for _, f := range files {
		if n, suffix, ok := parseName(f); ok && suffix == segmentSuffix {
			have[n] = true
		}
	}
	var gs []*segment
	for _, f := range files {
		n, suffix, ok := parseName(f)
		switch {
		case !ok:
		case suffix == segmentSuffix:
			g, err := s.loadSegment(n)
			if err != nil {
				return err
			}
			s.next = n.number
			gs = append(gs, g)
		case suffix == newSuffix || suffix == indexSuffix && !have[n]:
			if err := s.FS.Remove(s.FS.PathJoin(s.Dir, f)); err != nil {
				return err
			}
		}
	}
	s.sealed = newTable(gs)
	return nil
}

// loadSegment loads the index of a segment, or makes it.
func (s *Store) loadSegment(n name) (*segment, error) {
	g, err := s.loadIndex(n)
	if err == nil {
		st, e := s.FS.Stat(s.path(n, segmentSuffix))
		if e != nil {
			return nil, e
		}
		if st.Size() >= g.end {
			return g, nil
		}
		err = fmt.Errorf("segment has %d bytes of %d", st.Size(), g.end)
	}
	if errors.Is(err, errVersion) {
		return nil, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		s.damage("index of a content segment is damaged, made again", "segment", n.number, "error", err)
	}
	g, err = s.salvage(n)
	if err != nil {
		return nil, err
	}
	return g, s.index(g)
}

// rebuild makes the index of a segment again that could not be read because of
// why, and keeps it in memory. It returns the segment as it is now, nil if it
// was swept. What is no sign of damage (no file descriptors left) is returned.
func (s *Store) rebuild(bad *segment, why error) (*segment, error) {
	s.rebuilding.Lock()
	defer s.rebuilding.Unlock()
	s.mu.RLock()
	now := s.sealed.segment(bad.number)
	s.mu.RUnlock()
	if now != bad {
		return now, nil
	}
	if !errors.Is(why, errRecord) && !errors.Is(why, fs.ErrNotExist) && !errors.Is(why, errRead) {
		return nil, why
	}
	s.damage("index of a content segment is damaged, made again", "segment", bad.number, "error", why)
	g, err := s.salvage(bad.name)
	if err != nil {
		return nil, err
	}
	entries := g.entries
	if err := s.index(g); err != nil {
		s.fail(err)
		return nil, err
	}
	g.entries = entries // in the file they could not be read once
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sealed.segment(bad.number) != bad {
		return nil, nil
	}
	s.sealed = s.sealed.with(g)
	return g, nil
}

// hole is a place in a segment where no valid record is.
type hole struct{ from, to int64 }

// scan is what a walk through a segment found.
type scan struct {
	entries []entry
	holes   []hole
	size    int64 // of the file
	end     int64 // of the last valid record
	proof   int64 // all before it was synced once
	lost    []mail.ContentID
}

// salvage scans a segment, reports what is damaged in it, and makes what is
// good in it durable.
func (s *Store) salvage(n name) (*segment, error) {
	f, err := s.FS.OpenReadWrite(s.path(n, segmentSuffix), vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, fmt.Errorf("open segment %s: %w", n, err)
	}
	defer f.Close()
	c, err := scanSegment(f, n)
	if err != nil {
		return nil, fmt.Errorf("scan segment %s: %w", n, err)
	}
	for _, h := range c.holes {
		// Below the proof all was durable, and is damaged now. Above, a write
		// was under way when the process ended: nothing there was promised.
		if h.from < c.proof {
			s.damage("content segment is damaged", "segment", n.number, "from", h.from, "to", h.to)
		} else {
			s.torn.Add(1)
			s.Logger.Info("content segment has a torn end", "segment", n.number, "from", h.from, "to", h.to)
		}
	}
	if len(c.lost) > 0 {
		s.Logger.Warn("contents with damaged or missing records are left out", "segment", n.number, "contents", c.lost)
	}
	if err := s.rewrite(f, n, c); err != nil {
		s.fail(err)
		return nil, err
	}
	return newSegment(n, c.end, c.entries), nil
}

// rewrite writes what has no proof of being synced to where it is already, and
// syncs it. After a sync that failed, the pages in memory may be clean though
// the disk has nothing: they would be read here, and be gone after the next
// power failure.
func (s *Store) rewrite(f vfs.File, n name, c scan) error {
	from := c.proof
	if from <= segmentHeaderLen {
		from = 0
	}
	end := min(c.end, c.size)
	b := make([]byte, min(coalesceMax, max(0, end-from)))
	for off := from; off < end; {
		k, err := f.ReadAt(b[:min(int64(len(b)), end-off)], off)
		if k == 0 && err != nil {
			off += sectorLen
			continue
		}
		if _, err := f.WriteAt(b[:k], off); err != nil {
			return fmt.Errorf("write segment %s at %d: %w", n, off, err)
		}
		off += int64(k)
	}
	if err := f.SyncData(); err != nil {
		return fmt.Errorf("sync segment %s: %w", n, err)
	}
	return nil
}

const sectorLen = 4096 // what is skipped where the disk cannot be read

// scanSegment walks through all records of a segment. Where no valid record
// is, it looks for the next one.
func scanSegment(f vfs.File, n name) (scan, error) {
	st, err := f.Stat()
	if err != nil {
		return scan{}, err
	}
	c := scan{size: st.Size(), end: segmentHeaderLen}
	b := make([]byte, headerLen+chunkMax)
	k, _ := f.ReadAt(b[:segmentHeaderLen], 0)
	number, marker, err := decodeSegmentHeader(b[:k])
	if errors.Is(err, errVersion) {
		return scan{}, err
	}
	if err != nil || number != n.number || marker != n.marker {
		c.holes = append(c.holes, hole{0, segmentHeaderLen})
	}
	pieces := map[uint32]extent{} // chunk records by their offset
	for off := int64(segmentHeaderLen); off < c.size; {
		h, ok := readAny(f, n, off, b)
		if !ok {
			next := nextRecord(f, n, off+1, c.size, b)
			c.holes = append(c.holes, hole{off, next})
			off = next
			continue
		}
		c.proof = max(c.proof, int64(h.synced))
		c.add(n, h, uint32(off), b, pieces)
		off += headerLen + int64(h.length)
		c.end = off
	}
	return c, nil
}

// add takes a valid record in. An end record counts only with all its pieces:
// those in this segment were seen, those in earlier ones were synced before
// this segment was begun.
func (c *scan) add(n name, h header, off uint32, b []byte, pieces map[uint32]extent) {
	e := entry{Content: h.content, off: off}
	switch h.kind {
	case kindChunk:
		pieces[off] = extent{n.number, off, h.length}
		return
	case kindEnd:
		es, err := decodeExtents(b[headerLen:headerLen+int(h.length)], h.content.Size)
		if err != nil || es[0].segment > n.number {
			return
		}
		for _, x := range es {
			if x.segment == n.number && pieces[x.off] != x {
				c.lost = append(c.lost, h.content.ID)
				return
			}
		}
		e.span = n.number - es[0].segment
	}
	c.entries = append(c.entries, e)
}

// readAny reads the record at off into b, whatever it is.
func readAny(f vfs.File, n name, off int64, b []byte) (header, bool) {
	if _, err := f.ReadAt(b[:headerLen], off); err != nil {
		return header{}, false
	}
	h, err := decodeHeader(b[:headerLen], n.marker, uint32(off))
	if err != nil {
		return header{}, false
	}
	h, err = readRecord(f, n, uint32(off), b[:headerLen+int(h.length)])
	return h, err == nil
}

// nextRecord finds the next valid record at or behind off; size if there is
// none. The marker is what makes it safe to search in the bytes of mail.
func nextRecord(f vfs.File, n name, off, size int64, b []byte) int64 {
	var marker [8]byte
	binary.LittleEndian.PutUint64(marker[:], n.marker)
	window := make([]byte, directMin)
	for off < size {
		k, err := f.ReadAt(window[:min(int64(len(window)), size-off)], off)
		if k == 0 && err != nil {
			off += sectorLen
			continue
		}
		at := 0
		for {
			i := bytes.Index(window[at:k], marker[:])
			if i < 0 {
				break
			}
			at += i
			if _, ok := readAny(f, n, off+int64(at), b); ok {
				return off + int64(at)
			}
			at++
		}
		if k < len(marker) {
			break
		}
		off += int64(k - len(marker) + 1)
	}
	return size
}
