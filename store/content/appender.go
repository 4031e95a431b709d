package content

import (
	"fmt"
)

const (
	coalesceMax = 1 << 20   // small records are gathered in a buffer of this size
	directMin   = 64 << 10  // larger ones are written from their own
	entriesMax  = 128 << 10 // contents per segment: bounds the memory of the open one
)

// appender is the only writer of the open segment, and runs in one goroutine,
// which owns all its fields.
type appender struct {
	*Store
	file    *file // nil until something is to be written
	entries int
	before  name // the segment before, while it may be in the page cache

	gather   []byte     // records that belong at file.end
	gathered []appended // whose they are
	pending  []appended // contents complete in the file, not synced
}

// appended is a record that has its place; e is set for the last of a content.
type appended struct {
	r *request
	e entry
}

func (a *appender) run() {
	defer close(a.stopped)
	var batch []*request
	for {
		batch = a.queue.take(batch)
		if len(batch) == 0 {
			break
		}
		for i, r := range batch {
			if r.roll {
				a.roll()
			} else {
				a.append(r)
			}
			batch[i] = nil
		}
		a.flush()
		if len(a.pending) > 0 {
			a.sync()
		}
	}
	a.roll()
}

// append puts r behind what was written or gathered before. Small records are
// gathered, large ones written from where they are.
func (a *appender) append(r *request) {
	n := r.recordLen()
	direct := n >= directMin
	if direct || len(a.gather)+n > coalesceMax {
		a.flush()
	}
	if err := a.prepare(r, int64(n)); err != nil {
		a.finish(r, err)
		return
	}
	b, e := a.encode(r)
	a.gathered = append(a.gathered, appended{r, e})
	if direct {
		a.write(b.b)
	} else {
		a.gather = append(a.gather, b.b...)
	}
	if r.header.kind == kindEnd {
		b.free()
	}
}

// prepare makes sure that a record of n bytes has a place.
func (a *appender) prepare(r *request, n int64) error {
	if a.file != nil {
		end := a.file.end + int64(len(a.gather))
		if end+n > a.SegmentSize && end > segmentHeaderLen || a.entries >= entriesMax || a.rollWanted() {
			a.roll()
		}
	}
	// Asked after the flush and the roll, which may have failed an earlier
	// piece of this content.
	if err := a.failed(); err != nil {
		return err
	}
	if err := r.w.failed(); err != nil {
		return err
	}
	if r.w.aborted.Load() {
		return ErrClosed
	}
	if a.file != nil {
		return nil
	}
	f, err := a.createFile(r.w.id)
	if err != nil {
		if !full(err) {
			a.fail(err)
		}
		return err
	}
	a.file, a.entries = f, 0
	a.opened(f.name)
	return nil
}

// encode makes the record of r for the end of the file.
func (a *appender) encode(r *request) (*buffer, entry) {
	off := uint32(a.file.end) + uint32(len(a.gather))
	e := entry{Content: r.header.content, off: off}
	b := r.buf
	switch r.header.kind {
	case kindChunk:
		a.mu.Lock()
		r.w.extents = append(r.w.extents, extent{a.file.number, off, uint32(len(b.data()))})
		a.mu.Unlock()
	case kindEnd:
		b = newBuffer(len(r.w.extents) * extentLen)
		b.b = appendExtents(b.b, r.w.extents)
		e.span = a.file.number - r.w.extents[0].segment
	}
	r.header.length, r.header.dataSum = uint32(len(b.data())), checksum(b.data())
	r.header.synced = uint32(a.file.synced)
	r.header.encode(b.b, a.file.marker, off)
	if r.done != nil {
		a.entries++
	}
	return b, e
}

func (a *appender) flush() {
	if len(a.gather) > 0 {
		a.write(a.gather)
		a.gather = a.gather[:0]
	}
}

// write puts b, the records of all gathered requests, at the end of the file.
// Without space these requests fail, and the next ones go to the same place:
// nothing of them was acknowledged. Any other error is the end of the store.
func (a *appender) write(b []byte) {
	err := a.failed()
	if err == nil {
		if err = a.file.write(b); err != nil && !full(err) {
			a.fail(err)
		}
	}
	for _, p := range a.gathered {
		if err != nil {
			a.finish(p.r, err)
			continue
		}
		a.queue.written(p.r)
		a.records.Add(1)
		a.written.Add(int64(p.r.header.length) + headerLen)
		if p.r.done != nil {
			a.pending = append(a.pending, p)
		}
	}
	clear(a.gathered)
	a.gathered = a.gathered[:0]
}

// sync is the commit point of all pending contents.
func (a *appender) sync() {
	err := a.failed()
	if err == nil {
		if err = a.file.sync(); err != nil {
			a.fail(err)
		}
		a.syncs.Add(1)
	}
	if err == nil {
		a.publish(a.file.end, a.pending)
	}
	for _, p := range a.pending {
		if err != nil {
			a.finish(p.r, err)
		} else {
			p.r.done(nil)
		}
	}
	clear(a.pending)
	a.pending = a.pending[:0]
	if err == nil {
		a.uncache()
	}
}

// finish ends a request that is not on the disk.
func (a *appender) finish(r *request, err error) {
	a.queue.written(r)
	if r.done == nil {
		r.w.failure.CompareAndSwap(nil, &err)
		return
	}
	a.leave(r.w)
	r.done(fmt.Errorf("content %s: %w", r.w.id, err))
}

// roll ends the open segment: all of it is synced before anything goes to the
// next one, so that only the newest segment can have a torn end.
func (a *appender) roll() {
	if a.file == nil {
		return
	}
	a.flush()
	if a.file.synced < a.file.end || len(a.pending) > 0 {
		a.sync()
	}
	f := a.file
	if a.before != (name{}) { // this one has not become long enough for it
		a.uncacheAll(a.before)
	}
	a.file, a.before = nil, f.name
	if a.failed() == nil {
		if err := a.seal(f.name, f.end); err != nil {
			a.fail(err)
		}
	}
	if err := f.f.Close(); err != nil && a.failed() == nil {
		a.fail(fmt.Errorf("close segment %s: %w", f.name, err))
	}
}
