package link

import (
	"bufio"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	tick       = time.Second
	silenceMax = 5        // ticks without a byte: the peer is gone
	queueMax   = 4 << 20  // bytes that wait to be written before senders wait
	readBuffer = 64 << 10 // bytes
)

var errSilent = errors.New("the other side is silent")

// pipe is one connection with a goroutine that writes, one that reads and a
// pulse. Frames that are sent while a write is under way leave together in the
// next: under load that is one system call, and one TLS record, for many.
type pipe struct {
	conn   net.Conn
	silent atomic.Int32 // ticks since the last byte
	alive  atomic.Bool  // a byte was ever heard

	mu    sync.Mutex
	buf   []byte // waits for the writer
	spare []byte
	taken uint64     // how often the writer has taken buf
	room  *sync.Cond // buf got shorter, or the end
	end   error      // why it ended

	wake   chan struct{} // buf is not empty
	gone   chan struct{} // closed at the end
	ending sync.Once
}

func newPipe(conn net.Conn) *pipe {
	p := &pipe{conn: conn, wake: make(chan struct{}, 1), gone: make(chan struct{})}
	p.room = sync.NewCond(&p.mu)
	return p
}

// run reads frames until the connection ends, and says why it did. The ping is
// sent by one side, and answered by the other.
func (p *pipe) run(pings bool, handle func(frame) error) error {
	var wg sync.WaitGroup
	wg.Go(p.write)
	wg.Go(func() { p.pulse(pings) })
	r := bufio.NewReaderSize(heard{p}, readBuffer)
	for {
		f, err := readFrame(r)
		if err == nil {
			err = handle(f)
		}
		if err != nil {
			p.close(err)
			break
		}
	}
	wg.Wait()
	return p.err()
}

// heard counts every byte as a sign of life, so that a large frame on a slow
// line is no silence.
type heard struct{ p *pipe }

func (h heard) Read(b []byte) (int, error) {
	n, err := h.p.conn.Read(b)
	if n > 0 {
		h.p.silent.Store(0)
		h.p.alive.Store(true)
	}
	return n, err
}

// send queues frames. It waits while too much is queued, unless urgent, and
// returns the number of the write that the frames will be part of.
func (p *pipe) send(urgent bool, add func([]byte) []byte) (batch uint64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !urgent && len(p.buf) > queueMax && p.end == nil {
		p.room.Wait()
	}
	if p.end != nil {
		return 0, p.end
	}
	p.buf = add(p.buf)
	select {
	case p.wake <- struct{}{}:
	default:
	}
	return p.taken, nil
}

// sent reports whether a batch may have reached the wire.
func (p *pipe) sent(batch uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return batch < p.taken
}

func (p *pipe) write() {
	for {
		select {
		case <-p.wake:
		case <-p.gone:
			return
		}
		b := p.take()
		if len(b) == 0 {
			continue
		}
		if _, err := p.conn.Write(b); err != nil {
			p.close(err)
			return
		}
		p.give(b)
	}
}

func (p *pipe) take() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.end != nil || len(p.buf) == 0 {
		return nil
	}
	b := p.buf
	p.buf, p.spare = p.spare[:0], nil
	p.taken++
	p.room.Broadcast()
	return b
}

// give returns a written buffer for the next round, unless a burst made it
// large.
func (p *pipe) give(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if cap(b) <= 1<<20 {
		p.spare = b[:0]
	}
}

// pulse notices silence by its own ticks: a clock would say, after our own
// process was stopped for a minute, that the peer was silent.
func (p *pipe) pulse(pings bool) {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-p.gone:
			return
		case <-t.C:
		}
		if p.silent.Add(1) > silenceMax {
			p.close(errSilent)
			return
		}
		if pings {
			p.send(true, func(b []byte) []byte { return appendFrame(b, framePing, 0) })
		}
	}
}

// close ends the pipe; the first reason stands.
func (p *pipe) close(why error) {
	if why == nil {
		why = io.EOF
	}
	p.ending.Do(func() {
		p.mu.Lock()
		p.end = why
		p.room.Broadcast()
		p.mu.Unlock()
		close(p.gone)
		p.conn.Close()
	})
}

func (p *pipe) err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.end
}
