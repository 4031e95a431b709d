package content

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/go-hclog"

	"mailraft/mail"
)

// Options of a store.
type Options struct {
	FS          vfs.FS
	Dir         string
	SegmentSize int64       // where a new segment begins; 0 is 64 MiB, 1 GiB at most
	Fatal       func(error) // told of a failed write or sync; must stop the process. nil prints and exits
	CacheMax    int64       // bytes of the newest content that stay in the page cache; 0 is 32 MiB
	SpaceMin    int64       // bytes that must stay free; below, Create fails with ErrFull
	Logger      hclog.Logger
}

// Store is the content of one member. All methods may be called at once.
type Store struct {
	Options
	lock    io.Closer
	queue   queue
	stopped chan struct{} // closed when the appender has ended

	records, written, syncs, damages, torn atomic.Int64

	sweeping   sync.Mutex // one sweep at a time
	rebuilding sync.Mutex // one rebuild at a time

	mu        sync.RWMutex // guards what follows; never held over I/O
	err       error        // the first failure; the store serves nothing that writes
	next      uint32       // number of the newest segment
	open      name         // of the open segment, zero if there is none
	openEnd   int64
	openIndex map[mail.ContentID]entry
	sealed    table
	uploads   map[mail.ContentID]*Writer
	forgotten map[mail.ContentID]place // copies up to this one do not count
	wantRoll  bool
}

// Open opens the store in a directory, which is made if it is not there.
func Open(o Options) (*Store, error) {
	if o.SegmentSize == 0 {
		o.SegmentSize = 64 << 20
	}
	if o.SegmentSize < 0 || o.SegmentSize > 1<<30 {
		return nil, fmt.Errorf("segment size %d is not between 1 and 1 GiB", o.SegmentSize)
	}
	if o.CacheMax == 0 {
		o.CacheMax = cacheDefault
	}
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	if o.Fatal == nil {
		o.Fatal = func(err error) {
			fmt.Fprintln(os.Stderr, "mailraft:", err)
			os.Exit(1)
		}
	}
	s := &Store{
		Options:   o,
		stopped:   make(chan struct{}),
		uploads:   map[mail.ContentID]*Writer{},
		forgotten: map[mail.ContentID]place{},
	}
	s.queue.init()
	if err := s.load(); err != nil {
		if s.lock != nil {
			s.lock.Close()
		}
		return nil, fmt.Errorf("open content store %s: %w", o.Dir, err)
	}
	go (&appender{Store: s}).run()
	return s, nil
}

// Close writes what was committed, seals the open segment and ends the store.
// Uploads that are still open are lost; open readers go on.
func (s *Store) Close() error {
	s.queue.close(ErrClosed)
	<-s.stopped
	s.sweeping.Lock() // a sweep that runs ends first
	defer s.sweeping.Unlock()
	s.mu.Lock()
	err, lock := s.err, s.lock
	s.lock = nil
	if s.err == nil {
		s.err = ErrClosed
	}
	s.mu.Unlock()
	if lock == nil {
		return nil
	}
	if e := lock.Close(); err == nil {
		err = e
	}
	return err
}

// fail ends the service after a write or sync that failed. What the kernel
// kept of it cannot be known, so nothing on that file is tried again.
func (s *Store) fail(err error) {
	s.mu.Lock()
	first := s.err == nil
	failure := fmt.Errorf("content store failed: %w", err)
	if first {
		s.err = failure
	}
	s.mu.Unlock()
	if first {
		s.queue.close(failure)
		s.Fatal(err)
	}
}

func (s *Store) failed() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.err
}

// Create begins an upload.
func (s *Store) Create(id mail.ContentID) (*Writer, error) {
	if s.SpaceMin > 0 {
		if u, err := s.FS.GetDiskUsage(s.Dir); err == nil && u.AvailBytes < uint64(s.SpaceMin) {
			return nil, fmt.Errorf("%w: %d bytes are free, %d are the floor", ErrFull, u.AvailBytes, s.SpaceMin)
		}
	}
	w := &Writer{store: s, id: id}
	w.sum.Reset()
	s.mu.Lock()
	err := s.err
	if err == nil && s.uploads[id] != nil {
		err = ErrExists
	}
	if err == nil {
		s.uploads[id] = w
	}
	s.mu.Unlock()
	if err == nil {
		if _, _, err = s.find(id); err == nil {
			err = ErrExists
		} else if errors.Is(err, ErrNotFound) {
			return w, nil
		}
		s.leave(w)
	}
	return nil, fmt.Errorf("create content %s: %w", id, err)
}

// put gives the last record of a content to the appender.
func (s *Store) put(r *request) {
	if err := s.queue.put(false, r); err != nil {
		s.leave(r.w)
		r.done(fmt.Errorf("content %s: %w", r.w.id, err))
	}
}

// leave ends an upload that is not to be.
func (s *Store) leave(w *Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.uploads[w.id] == w {
		delete(s.uploads, w.id)
	}
}

// opened says which segment the appender writes now.
func (s *Store) opened(n name) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open, s.openEnd, s.openIndex, s.wantRoll = n, segmentHeaderLen, map[mail.ContentID]entry{}, false
}

func (s *Store) rollWanted() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.wantRoll
}

// publish makes contents visible that are synced. In one step they cease to be
// uploads, so that a sweep sees them as the one or the other.
func (s *Store) publish(end int64, ps []appended) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.openEnd = end
	for _, p := range ps {
		s.openIndex[p.e.ID] = p.e
		delete(s.uploads, p.e.ID)
	}
}

// seal writes the index of the open segment, which gets nothing more.
func (s *Store) seal(n name, end int64) error {
	s.mu.RLock()
	entries := make([]entry, 0, len(s.openIndex))
	for _, e := range s.openIndex { // sorted by newSegment
		entries = append(entries, e)
	}
	s.mu.RUnlock()
	g := newSegment(n, end, entries)
	if err := s.index(g); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealed = s.sealed.with(g)
	s.open, s.openEnd, s.openIndex = name{}, 0, nil
	return nil
}

// index writes the index of g. On a full disk it stays in memory: the next
// Open makes it again from the segment.
func (s *Store) index(g *segment) error {
	err := s.writeIndex(g)
	if full(err) {
		s.Logger.Warn("no space for a segment's index, kept in memory", "segment", g.number, "contents", g.count)
		return nil
	}
	return err
}

// Stat tells what is stored under id, if all of it is.
func (s *Store) Stat(id mail.ContentID) (mail.Content, bool) {
	e, _, err := s.find(id)
	if err != nil && !errors.Is(err, ErrNotFound) {
		s.Logger.Error("content cannot be looked up", "content", id, "error", err)
	}
	return e.Content, err == nil
}

// Forget drops a copy that was found damaged, and all older ones: the content
// can be created again, and Sweep takes the copy for dead. A newer copy stays:
// who reads slowly may tell of one that was replaced meanwhile. The next copy
// goes to a newer segment, and the newest copy counts, so this needs no record:
// if the process ends before there is one, the damage is found again. gone: no
// other copy is left, and it was not forgotten before.
func (s *Store) Forget(d *Damage) (gone bool) {
	s.mu.Lock()
	if gone = s.forgotten[d.ID].before(d.copy); gone {
		s.forgotten[d.ID] = d.copy
		s.wantRoll = s.open != name{}
	}
	s.mu.Unlock()
	_, _, err := s.find(d.ID)
	return gone && errors.Is(err, ErrNotFound)
}

// Stats counts what a store holds and did since it was opened.
type Stats struct {
	Segments int   // files of content
	Contents int   // complete ones; a copy made by a sweep counts until the old one is gone
	Bytes    int64 // in segments
	Uploads  int   // open
	Queued   int64 // bytes waiting for the disk
	Records  int64 // written
	Written  int64 // bytes of records written
	Syncs    int64 // of segments, by the appender
	Damages  int64 // damaged places found
	Torn     int64 // torn ends found, of writes under way when a process ended
	Free     int64 // bytes on the disk; -1 when unknown
}

// RecordsPerSync is the mean size of a group commit.
func (s Stats) RecordsPerSync() float64 { return float64(s.Records) / float64(max(1, s.Syncs)) }

// Stats returns the present counts.
func (s *Store) Stats() Stats {
	st := Stats{
		Records: s.records.Load(), Written: s.written.Load(),
		Syncs: s.syncs.Load(), Damages: s.damages.Load(), Torn: s.torn.Load(), Free: -1,
	}
	if u, err := s.FS.GetDiskUsage(s.Dir); err == nil {
		st.Free = int64(u.AvailBytes)
	}
	s.queue.mu.Lock()
	st.Queued = s.queue.bytes
	s.queue.mu.Unlock()
	s.mu.RLock()
	defer s.mu.RUnlock()
	st.Segments, st.Uploads = len(s.sealed.segments), len(s.uploads)
	for _, g := range s.sealed.segments {
		st.Contents += g.count
		st.Bytes += g.end
	}
	if s.open != (name{}) {
		st.Segments++
		st.Contents += len(s.openIndex)
		st.Bytes += s.openEnd
	}
	return st
}

// damage reports a place where what was once durable cannot be read.
func (s *Store) damage(msg string, kv ...any) {
	s.damages.Add(1)
	s.Logger.Error(msg, kv...)
}
