package content

import (
	"errors"
	"fmt"

	"mailraft/mail"
)

// A segment with less live content than this is copied forward and removed.
const livePercent = 20

// SweepStats says what a sweep found and did.
type SweepStats struct {
	Segments int   // sealed ones looked at
	Live     int   // contents that are wanted, in them
	Dead     int   // contents that are not
	Removed  int   // segments
	Freed    int64 // bytes of these
	Copied   int   // contents copied forward
	Written  int64 // bytes of the copies
	Ended    bool  // nothing in the open segment is wanted: the next sweep removes it
	// Damaged are live contents that could not be copied: they, and their
	// segments, stay as they are. Forget them and fetch them again.
	Damaged []*Damage
}

// tally is what a sweep knows of one segment.
type tally struct {
	*segment
	pinned bool  // it stays, whatever is live
	live   int64 // bytes
	dense  bool  // too much is live to copy it
	ids    []mail.ContentID
}

// sweep is one run; it belongs to the goroutine that called Sweep.
type sweep struct {
	*Store
	table    table
	openName name // of the segment that was open when it began
	tallies  map[uint32]*tally
	cache    blockCache
	stats    SweepStats
}

// Sweep removes the sealed segments in which nothing is wanted any more, and
// those with little, after copying that forward. live is asked about every
// content in them, oldest segment first, outside all locks; what it answered
// with false must never be wanted again. Then flush makes durable what the
// answers were taken from, and only then is anything removed. Appends and
// readers go on meanwhile.
func (s *Store) Sweep(live func(mail.Content) bool, flush func() error) (SweepStats, error) {
	s.sweeping.Lock()
	defer s.sweeping.Unlock()
	if err := s.failed(); err != nil {
		return SweepStats{}, err
	}
	w := &sweep{Store: s, tallies: map[uint32]*tally{}, cache: blockCache{}}
	w.pin(w.begin())
	if err := w.mark(live); err != nil {
		return w.stats, fmt.Errorf("sweep: %w", err)
	}
	w.endDead(live)
	dead, sparse := w.judge()
	if len(dead)+len(sparse) == 0 {
		return w.stats, nil
	}
	if err := flush(); err != nil {
		return w.stats, fmt.Errorf("sweep: flush: %w", err)
	}
	err := w.remove(dead)
	for len(sparse) > 0 && err == nil {
		sparse, err = w.copySome(sparse)
	}
	if err != nil {
		return w.stats, fmt.Errorf("sweep: %w", err)
	}
	return w.stats, nil
}

// begin takes the sealed segments and those that open uploads lie in, in one
// step: an upload that is closed later is still pinned for this sweep, and one
// begun later writes only to segments that are not among these. It returns the
// contents of the open segment that reach back into sealed ones.
func (w *sweep) begin() (open []entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.table, w.openName = w.sealed, w.Store.open
	for _, g := range w.table.segments {
		w.tallies[g.number] = &tally{segment: g}
	}
	for _, u := range w.uploads { // only sets flags: the order does not matter
		for _, x := range u.extents {
			if t := w.tallies[x.segment]; t != nil {
				t.pinned = true
			}
		}
	}
	for _, e := range w.openIndex { // sorted below
		if e.span > 0 {
			open = append(open, e)
		}
	}
	sortEntries(open)
	if len(w.table.segments) > 0 {
		oldest := w.table.segments[0].number
		for id, n := range w.forgotten { // the order does not matter
			if n.segment < oldest {
				delete(w.forgotten, id)
			}
		}
	}
	return open
}

// mark adds up the live bytes of each segment.
func (w *sweep) mark(live func(mail.Content) bool) error {
	for _, g := range w.table.segments {
		w.stats.Segments++
		var failure error
		_, err := w.each(g, w.cache, func(e entry) bool {
			ok, err := w.counts(e, g.number, w.cache)
			switch {
			case err != nil:
				failure = err
			case !ok: // an older copy
			case live(e.Content):
				w.stats.Live++
				w.keep(e, g.name)
			default:
				w.stats.Dead++
			}
			return err == nil
		})
		if err = errors.Join(failure, err); err != nil {
			return err
		}
	}
	return nil
}

// endDead ends the open segment if nothing in it is wanted, so that the next
// sweep removes it: where no mail comes any more nothing else would.
func (w *sweep) endDead(live func(mail.Content) bool) {
	w.mu.RLock()
	number, written := w.Store.open.number, w.openEnd > segmentHeaderLen
	used := len(w.openIndex) > 0
	entries := make([]entry, 0, len(w.openIndex))
	for _, e := range w.openIndex { // sorted below
		entries = append(entries, e)
	}
	for _, u := range w.uploads { // only sets a flag: the order does not matter
		for _, x := range u.extents {
			written = written && x.segment != number
		}
	}
	w.mu.RUnlock()
	if !written || !used {
		return
	}
	sortEntries(entries)
	for _, e := range entries {
		if live(e.Content) {
			return
		}
	}
	w.stats.Ended = true
	_ = w.queue.put(false, &request{roll: true}) // a store that is closed ends it anyway
}

// pin keeps the segments of contents that end in the open one as they are,
// without asking: a copy could not take the place of what is in the open index.
func (w *sweep) pin(open []entry) {
	for _, e := range open {
		w.pinAll(e, w.openName)
	}
}

// pinAll pins every segment in which pieces of e may be.
func (w *sweep) pinAll(e entry, at name) {
	for n := at.number - e.span; n <= at.number; n++ {
		if t := w.tallies[n]; t != nil {
			t.pinned = true
		}
	}
}

// keep marks all segments in which e lies.
func (w *sweep) keep(e entry, at name) {
	es, err := w.extents(at, e)
	if err != nil {
		w.pinAll(e, at) // where its pieces are is not known
		if d := new(Damage); errors.As(err, &d) {
			w.stats.Damaged = append(w.stats.Damaged, d)
		}
		return
	}
	if e.large() {
		es = append(es, extent{at.number, e.off, uint32(e.recordLen() - headerLen)})
	}
	for _, x := range es {
		if t := w.tallies[x.segment]; t != nil {
			t.keep(e.ID, headerLen+int64(x.length))
		}
	}
}

func (t *tally) keep(id mail.ContentID, n int64) {
	t.live += n
	if t.live*100 >= t.end*livePercent {
		t.dense, t.ids = true, nil
	}
	if !t.dense && (len(t.ids) == 0 || t.ids[len(t.ids)-1] != id) {
		t.ids = append(t.ids, id)
	}
}

// judge lists the segments to remove, and to copy first, oldest first.
func (w *sweep) judge() (dead, sparse []*tally) {
	for _, g := range w.table.segments {
		switch t := w.tallies[g.number]; {
		case t.pinned || t.dense:
		case t.live == 0:
			dead = append(dead, t)
		default:
			sparse = append(sparse, t)
		}
	}
	return dead, sparse
}

// remove unlinks segments; look-ups stop finding them first. A name that comes
// back after a crash is a segment of dead or doubled contents, swept again.
func (w *sweep) remove(ts []*tally) error {
	if len(ts) == 0 {
		return nil
	}
	gone := map[uint32]bool{}
	for _, t := range ts {
		gone[t.number] = true
	}
	w.mu.Lock()
	w.sealed = w.sealed.without(gone)
	w.mu.Unlock()
	for _, t := range ts {
		if err := w.FS.Remove(w.path(t.name, segmentSuffix)); err != nil {
			return fmt.Errorf("remove segment: %w", err)
		}
		// Without the segment an index is removed at the next start.
		if err := w.FS.Remove(w.path(t.name, indexSuffix)); err != nil && t.entries == nil {
			return fmt.Errorf("remove index: %w", err)
		}
		w.stats.Removed++
		w.stats.Freed += t.end
	}
	return nil
}

// copySome copies the live contents of the first segments in ts, about one
// segment full, removes these, and returns the others. So a sweep never needs
// more room than that.
func (w *sweep) copySome(ts []*tally) ([]*tally, error) {
	k, n := 0, int64(0)
	for k < len(ts) && (k == 0 || n+ts[k].live <= w.SegmentSize) {
		n += ts[k].live
		k++
	}
	rest := ts[k:]
	c := &copier{Store: w.Store, at: map[mail.ContentID]bool{}}
	var done []*tally
	for _, t := range ts[:k] {
		ok := true
		for _, id := range t.ids {
			if _, at, err := w.find(id); err == nil && w.tallies[at.number] == nil {
				continue // a copy was made for another segment
			}
			d := new(Damage)
			switch err := c.copy(id); {
			case errors.Is(err, ErrNotFound): // forgotten in the meantime
			case errors.As(err, &d):
				ok = false
				w.Logger.Error("live content is damaged, its segment stays", "content", id, "segment", t.number, "error", err)
				w.stats.Damaged = append(w.stats.Damaged, d)
			case err != nil:
				return rest, errors.Join(err, c.drop())
			}
		}
		if ok {
			done = append(done, t)
		}
	}
	if err := c.seal(); err != nil {
		return rest, err
	}
	w.stats.Copied += len(c.entries)
	w.stats.Written += c.bytes
	return rest, w.remove(done)
}
