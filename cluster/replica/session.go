package replica

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"mailraft/mail"
)

// session is one connection for uploads, at the sending end: a queue of frames
// that one goroutine writes, and the uploads that wait for this peer's word.
// It ends once; a new connection is a new session.
type session struct {
	link *link
	conn net.Conn
	dec  *decoder
	kick chan struct{} // the queue has something
	done chan struct{} // closed when it ended

	mu      sync.Mutex
	err     error // set when it ended
	queue   []item
	bytes   int64 // memory of what is queued or being written
	waiting map[mail.ContentID]*slot
	slow    bool    // somebody's grace ran out, and the queue is not down to half
	blocked []*slot // who wants to know when bytes leave
}

// item is a frame in the queue. A slot that was left out has its data skipped.
type item struct {
	b    *buffer
	slot *slot // nil for what must be written in any case
}

// What push found.
const (
	pushed = iota
	queueFull
	sessionDead
)

func newSession(l *link, conn net.Conn, dec *decoder) *session {
	return &session{link: l, conn: conn, dec: dec,
		kick: make(chan struct{}, 1), done: make(chan struct{}),
		waiting: map[mail.ContentID]*slot{}}
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run serves the connection until it ends or ctx does, and says why.
func (s *session) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { s.fail(ErrClosed) })
	defer stop()
	written := make(chan struct{})
	go func() {
		defer close(written)
		s.fail(s.write())
	}()
	s.fail(s.answers())
	<-written
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// fail ends the session: whoever waited for it is told, nothing stays queued.
func (s *session) fail(err error) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.err = err
	queue, waiting, blocked := s.queue, s.waiting, s.blocked
	s.queue, s.waiting, s.blocked, s.bytes = nil, nil, nil, 0
	close(s.done)
	s.mu.Unlock()
	for _, it := range queue {
		it.b.release()
	}
	for _, sl := range waiting {
		sl.up.lost(sl, err)
	}
	for _, sl := range blocked {
		wake(sl.wake)
	}
	s.conn.Close()
}

// join makes sl wait for this peer's answer. False when the session has ended
// or too many wait already.
func (s *session) join(sl *slot) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || len(s.waiting) >= s.link.r.InFlightMax {
		return false
	}
	s.waiting[sl.up.id] = sl
	return true
}

// leave forgets sl, so that no answer counts any more.
func (s *session) leave(sl *slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting[sl.up.id] == sl {
		delete(s.waiting, sl.up.id)
	}
}

// push queues a frame of an upload, sharing b. It refuses what goes over the
// bound of the peer or of the upload; then sl's wake channel is told when
// bytes have left. One frame always fits into an empty queue.
func (s *session) push(sl *slot, b *buffer) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return sessionDead
	}
	r, cost := s.link.r, b.cost()
	over := s.bytes > 0 && s.bytes+cost > r.QueueSize
	if over || sl.queued > 0 && sl.queued+cost > r.ShareSize {
		s.watch(sl)
		return queueFull
	}
	sl.queued += cost
	s.add(item{b, sl})
	return pushed
}

// say queues a small frame that no bound holds up.
func (s *session) say(b *buffer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return false
	}
	s.add(item{b, nil})
	return true
}

func (s *session) add(it item) {
	it.b.hold()
	s.bytes += it.b.cost()
	s.queue = append(s.queue, it)
	wake(s.kick)
}

// easy reports that the peer is far from its bounds; if it is not, sl's wake
// channel is told when bytes have left.
func (s *session) easy(sl *slot) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil && sl.queued <= s.link.r.ShareSize/2 && s.bytes <= s.link.r.QueueSize/2 {
		return true
	}
	s.watch(sl)
	return false
}

func (s *session) watch(sl *slot) {
	if !sl.watched {
		sl.watched = true
		s.blocked = append(s.blocked, sl)
	}
}

// outOfGrace reports that nobody waits for this peer; now says that it has just
// used up what one upload had.
func (s *session) outOfGrace(now bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slow = s.slow || now
	return s.slow
}

// take hands the whole queue to the writer; last is the slice it is done with.
func (s *session) take(last []item) []item {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(last)
	q := s.queue
	s.queue = last[:0]
	return q
}

// written takes items that are on the wire (or skipped) off the books.
func (s *session) written(items []item) {
	s.mu.Lock()
	for _, it := range items {
		s.bytes -= it.b.cost()
		if it.slot != nil {
			it.slot.queued -= it.b.cost()
		}
		it.b.release()
	}
	if s.bytes <= s.link.r.QueueSize/2 {
		s.slow = false
	}
	for _, sl := range s.blocked {
		sl.watched = false
		wake(sl.wake)
	}
	clear(s.blocked)
	s.blocked = s.blocked[:0]
	s.mu.Unlock()
}

// write sends the queue, and a ping when there was nothing to send.
func (s *session) write() error {
	tick := time.NewTicker(s.link.r.Silence / 5)
	defer tick.Stop()
	w := gather{s: s, buf: make([]byte, 0, largeSize)}
	var batch []item
	for {
		batch = s.take(batch)
		if len(batch) > 0 {
			if err := w.send(batch); err != nil {
				return err
			}
			continue
		}
		select {
		case <-s.kick:
		case <-s.done:
			return s.err
		case <-tick.C:
			if _, err := s.conn.Write(pingFrame); err != nil {
				return fmt.Errorf("write to peer: %w", err)
			}
		}
	}
}

var pingFrame = frame{kind: kindPing}.append(nil)

// directSize is the length from which a frame is written from its own buffer.
// Shorter ones are gathered if more than one waits: a TLS record each and a
// system call each cost more than the copy.
const directSize = 32 << 10

// gather writes a batch with few calls.
type gather struct {
	s   *session
	buf []byte
}

func (w *gather) send(batch []item) error {
	sent := 0 // items before it are on the wire
	defer func() {
		for _, it := range batch[sent:] {
			it.b.release()
		}
	}()
	flush := func(until int) error {
		err := w.put(w.buf)
		w.buf = w.buf[:0]
		if err == nil {
			w.s.written(batch[sent:until])
			sent = until
		}
		return err
	}
	for i, it := range batch {
		if it.slot != nil && it.slot.out.Load() {
			continue
		}
		f := it.b.frame()
		if len(w.buf)+len(f) > cap(w.buf) {
			if err := flush(i); err != nil {
				return err
			}
		}
		if len(f) < directSize && len(batch) > 1 {
			w.buf = append(w.buf, f...)
			continue
		}
		if err := flush(i); err != nil {
			return err
		}
		if err := w.put(f); err != nil {
			return err
		}
		if err := flush(i + 1); err != nil {
			return err
		}
	}
	return flush(len(batch))
}

func (w *gather) put(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	n, err := w.s.conn.Write(b)
	w.s.link.r.count.sent.Add(int64(n))
	if err != nil {
		return fmt.Errorf("write to peer: %w", err)
	}
	return nil
}

// answers reads what the peer says of the uploads.
func (s *session) answers() error {
	for {
		f, err := s.dec.next()
		if err != nil {
			return fmt.Errorf("read from peer: %w", err)
		}
		switch f.kind {
		case kindPing:
		case kindAck, kindNack:
			s.mu.Lock()
			sl := s.waiting[f.id]
			delete(s.waiting, f.id)
			s.mu.Unlock()
			if sl != nil {
				sl.up.answer(sl, f)
			}
		default:
			return fmt.Errorf("%w: kind %d as an answer", ErrProtocol, f.kind)
		}
	}
}
