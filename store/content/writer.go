package content

import (
	"errors"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"

	"mailraft/mail"
)

// Writer takes one content. It belongs to one goroutine.
type Writer struct {
	store  *Store
	id     mail.ContentID
	buf    *buffer // nil when empty
	size   int64
	sum    xxhash.Digest
	pieces uint32 // chunks given to the appender
	closed bool

	aborted atomic.Bool
	failure atomic.Pointer[error] // of a chunk; set by the appender
	extents []extent              // guarded by store.mu; written by the appender
}

// Write adds p. It waits while too much is queued for the disk. Up to 256 KiB
// stay in memory; what goes beyond is written as it comes, and not synced.
func (w *Writer) Write(p []byte) (int, error) {
	if w.closed {
		return 0, ErrClosed
	}
	if w.size+int64(len(p)) > contentMax {
		return 0, ErrTooLarge
	}
	n := 0
	for len(p) > 0 {
		// A full buffer is given away only when more comes, so that exactly
		// 256 KiB are still one record.
		if w.buf != nil && len(w.buf.data()) == chunkMax {
			if err := w.flush(true); err != nil {
				return n, err
			}
		}
		if w.buf == nil {
			n := min(len(p), chunkMax)
			if w.pieces > 0 {
				n = chunkMax // it is large: there is no use in growing again
			}
			w.buf = newBuffer(n)
		}
		if len(w.buf.b) == cap(w.buf.b) {
			w.buf = w.buf.grown(min(len(w.buf.data())+len(p), chunkMax))
		}
		k := min(len(p), cap(w.buf.b)-len(w.buf.b))
		w.buf.b = append(w.buf.b, p[:k]...)
		w.sum.Write(p[:k])
		w.size += int64(k)
		n += k
		p = p[k:]
	}
	return n, nil
}

// flush gives the buffer to the appender as the next chunk.
func (w *Writer) flush(wait bool) error {
	if err := w.failed(); err != nil {
		return err
	}
	c := mail.Content{ID: w.id, Size: int64(w.pieces) * chunkMax} // of a chunk: where it begins
	r := &request{w: w, buf: w.buf, header: header{kind: kindChunk, chunk: w.pieces, content: c}}
	w.buf = nil
	w.pieces++
	return w.store.queue.put(wait, r)
}

func (w *Writer) failed() error {
	if err := w.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// Size is the number of bytes written.
func (w *Writer) Size() int64 { return w.size }

// Sum is the XXH64 of all bytes written.
func (w *Writer) Sum() uint64 { return w.sum.Sum64() }

// Commit closes the content and returns at once. done runs when it is synced,
// or cannot be; on the appender's goroutine, so it must not wait for another
// Write or Commit. A content whose done was given an error may still be found
// after a crash. The writer is unusable afterwards.
func (w *Writer) Commit(notAfter mail.Time, done func(error)) {
	if w.closed {
		done(ErrClosed)
		return
	}
	w.closed = true
	c := mail.Content{ID: w.id, Size: w.size, Sum: w.Sum(), NotAfter: notAfter}
	if w.pieces == 0 {
		if w.buf == nil {
			w.buf = newBuffer(0)
		}
		r := &request{w: w, buf: w.buf, done: done, header: header{kind: kindSmall, content: c}}
		w.buf = nil
		w.store.put(r)
		return
	}
	if w.buf != nil {
		if err := w.flush(false); err != nil && w.failed() == nil {
			w.failure.Store(&err)
		}
	}
	w.store.put(&request{w: w, done: done, header: header{kind: kindEnd, chunk: w.pieces, content: c}})
}

// Abort gives the content up. It may be called at any time, also after Commit,
// where it does nothing.
func (w *Writer) Abort() {
	if w.closed {
		return
	}
	w.closed = true
	w.aborted.Store(true)
	w.buf.free()
	w.buf = nil
	w.store.leave(w)
}

// Errors of writing and opening.
var (
	ErrExists   = errors.New("content exists")
	ErrFull     = errors.New("too little free space for content")
	ErrNotFound = errors.New("content not found")
	ErrDamaged  = errors.New("content damaged")
	ErrClosed   = errors.New("content store or writer closed")
	ErrTooLarge = errors.New("content too large")
)
