package content

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"

	"mailraft/mail"
)

// table is the set of sealed segments, by number. It never changes, so that a
// look-up may take its time with one; spans lies beside it because a look-up
// goes through all of it.
type table struct {
	segments []*segment
	spans    []span
}

// span is the range of ids in a segment, by their first 8 bytes.
type span struct{ low, high uint64 }

func prefix(id mail.ContentID) uint64 { return binary.BigEndian.Uint64(id[:]) }

func newTable(gs []*segment) table {
	t := table{segments: gs, spans: make([]span, len(gs))}
	for i, g := range gs {
		t.spans[i] = span{1, 0} // nothing is in it
		if g.count > 0 {
			t.spans[i] = span{prefix(g.fences[0]), prefix(g.max)}
		}
	}
	return t
}

// with returns a table with g, in the place of the one with its number.
func (t table) with(g *segment) table {
	gs := t.without(map[uint32]bool{g.number: true}).segments
	i, _ := slices.BinarySearchFunc(gs, g.number, func(g *segment, n uint32) int { return int(int64(g.number) - int64(n)) })
	return newTable(slices.Insert(gs, i, g))
}

func (t table) without(gone map[uint32]bool) table {
	gs := make([]*segment, 0, len(t.segments)+1)
	for _, g := range t.segments {
		if !gone[g.number] {
			gs = append(gs, g)
		}
	}
	return newTable(gs)
}

func (t table) segment(number uint32) *segment {
	i, ok := slices.BinarySearchFunc(t.segments, number, func(g *segment, n uint32) int { return int(int64(g.number) - int64(n)) })
	if !ok {
		return nil
	}
	return t.segments[i]
}

// place is where the record of a copy is: the small record, or the end record.
type place struct{ segment, offset uint32 }

// before reports whether q was written later.
func (p place) before(q place) bool {
	return p.segment < q.segment || p.segment == q.segment && p.offset < q.offset
}

// view is a moment of the index, for look-ups that read from the disk.
type view struct {
	sealed table
	open   name
	entry  entry // in the open segment
	found  bool  // it is there
	after  place // older copies do not count
}

func (s *Store) view(id mail.ContentID) view {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v := view{sealed: s.sealed, open: s.open, after: s.forgotten[id]}
	v.entry, v.found = s.openIndex[id]
	return v
}

// name finds the name of a segment by its number.
func (v view) name(number uint32) (name, bool) {
	if number == v.open.number {
		return v.open, true
	}
	if g := v.sealed.segment(number); g != nil {
		return g.name, true
	}
	return name{}, false
}

// find looks up the newest complete copy of a content, and where its entry is.
// Not to find it is ErrNotFound; any other error says nothing about it.
func (s *Store) find(id mail.ContentID) (entry, name, error) {
	return s.findAfter(id, 0, nil)
}

// findAfter looks only into segments after number.
func (s *Store) findAfter(id mail.ContentID, number uint32, cache blockCache) (entry, name, error) {
	for {
		v := s.view(id)
		if only := (place{number, math.MaxUint32}); v.after.before(only) {
			v.after = only
		}
		if v.found && v.after.before(place{v.open.number, v.entry.off}) {
			return v.entry, v.open, nil
		}
		e, g, err := s.findSealed(v, id, cache)
		if err != nil && g != nil {
			if _, err = s.rebuild(g, err); err == nil {
				continue
			}
		}
		switch {
		case err != nil:
			return entry{}, name{}, err
		case g == nil || e.span > 0 && !s.whole(v, g.name, e):
			return entry{}, name{}, ErrNotFound
		}
		return e, g.name, nil
	}
}

// findSealed looks into the segments of v, newest first. With an error it
// returns the segment whose index could not be read.
func (s *Store) findSealed(v view, id mail.ContentID, cache blockCache) (entry, *segment, error) {
	p := prefix(id)
	for i := len(v.sealed.spans) - 1; i >= 0; i-- {
		if sp := v.sealed.spans[i]; p < sp.low || p > sp.high {
			continue
		}
		g := v.sealed.segments[i]
		if g.number < v.after.segment {
			break
		}
		e, ok, err := s.findIn(g, id, cache)
		if err != nil || ok && v.after.before(place{g.number, e.off}) {
			return e, g, err
		}
	}
	return entry{}, nil, nil
}

// whole tells whether the pieces of a content that spans segments are all
// there. They are not where a newer copy was made, its old segment swept, and
// the newer copy swept too: what is left then is dead, and not to be served.
func (s *Store) whole(v view, at name, e entry) bool {
	es, err := s.extents(at, e)
	if err != nil {
		return true // whoever reads it meets the error
	}
	for _, x := range es {
		if _, ok := v.name(x.segment); !ok {
			return false
		}
	}
	return true
}

// Contents calls yield with every complete content, in no order that means
// anything, until it returns false. Contents committed or swept meanwhile may
// or may not be among them.
func (s *Store) Contents(yield func(mail.Content) bool) {
	s.mu.RLock()
	sealed := s.sealed
	open := make([]entry, 0, len(s.openIndex))
	for _, e := range s.openIndex { // sorted below
		open = append(open, e)
	}
	number := s.open.number
	s.mu.RUnlock()
	sortEntries(open)
	cache := blockCache{}
	var err error
	once := func(number uint32) func(entry) bool {
		return func(e entry) bool {
			ok, e2 := s.counts(e, number, cache)
			if e2 != nil {
				err = e2
				return false
			}
			return !ok || yield(e.Content)
		}
	}
	for _, g := range sealed.segments {
		more, e := s.each(g, cache, once(g.number))
		if err = errors.Join(err, e); err != nil {
			s.Logger.Error("contents are not listed to their end", "segment", g.number, "error", err)
		}
		if !more || err != nil {
			return
		}
	}
	for _, e := range open {
		if !once(number)(e) {
			return
		}
	}
}

// counts tells whether e, found in segment number, is the copy that counts.
func (s *Store) counts(e entry, number uint32, cache blockCache) (bool, error) {
	_, n, err := s.findAfter(e.ID, number-1, cache)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return n.number == number, err
}

// each calls f with the entries of g until f returns false, and tells whether
// it never did.
func (s *Store) each(g *segment, cache blockCache, f func(entry) bool) (bool, error) {
	for i := 0; i < g.blocks(); i++ {
		es, err := s.block(g, i, cache)
		if err != nil {
			if g, err = s.rebuild(g, err); g == nil || err != nil {
				return true, err // it was swept, if there is no error
			}
			i-- // what a scan found may be less, and is in memory
			continue
		}
		for _, e := range es {
			if !f(e) {
				return false, nil
			}
		}
	}
	return true, nil
}
