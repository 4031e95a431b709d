package content

import "sync"

// queuedMax bounds the chunks that wait for the disk. Writers then wait in
// Write. Closing a content never waits: its last buffer is held either way.
const queuedMax = 32 << 20

// request is one record for the appender.
type request struct {
	w      *Writer
	buf    *buffer // nil in an end record, whose data only the appender knows
	header header
	done   func(error) // nil for a chunk
	roll   bool        // no record: the open segment is to be ended
}

// recordLen is the length of the whole record.
func (r *request) recordLen() int {
	if r.header.kind == kindEnd {
		return headerLen + int(r.header.chunk)*extentLen
	}
	return len(r.buf.b)
}

func (r *request) size() int64 {
	if r.buf == nil {
		return 0
	}
	return int64(len(r.buf.b))
}

// queue hands requests from the sessions to the appender.
type queue struct {
	mu     sync.Mutex
	filled sync.Cond // something to do, or closed
	room   sync.Cond // bytes went down, or err was set
	items  []*request
	bytes  int64
	err    error // set for good when the store failed or was closed
}

func (q *queue) init() {
	q.filled.L = &q.mu
	q.room.L = &q.mu
}

// put adds r, waiting for room if told to. With an error r was not taken, and
// its buffer is gone.
func (q *queue) put(wait bool, r *request) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for wait && q.bytes > queuedMax && q.err == nil {
		q.room.Wait()
	}
	if q.err != nil {
		r.buf.free()
		return q.err
	}
	q.items = append(q.items, r)
	q.bytes += r.size()
	q.filled.Signal()
	return nil
}

// take waits for requests and returns all of them, using spare for the next
// ones; nil when the queue is closed and empty.
func (q *queue) take(spare []*request) []*request {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.items) == 0 && q.err == nil {
		q.filled.Wait()
	}
	items := q.items
	q.items = spare[:0]
	return items
}

// written gives the buffer of r back.
func (q *queue) written(r *request) {
	n := r.size()
	r.buf.free()
	r.buf = nil
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bytes -= n
	q.room.Broadcast()
}

func (q *queue) close(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil {
		q.err = err
	}
	q.filled.Broadcast()
	q.room.Broadcast()
}
