package port

import (
	"errors"
	"net"
	"sync"
)

// waitingMax is how many connections of one protocol may wait for Accept.
const waitingMax = 64

// queue is the listener of one protocol.
type queue struct {
	p     *Port
	proto string
	ready chan *Conn
	done  chan struct{}

	mu       sync.Mutex
	reserved int // places given out, waiting connections included
	closed   bool
}

// Listener gives the connections of one protocol; they are *Conn. Until it is
// called, and after it is closed, the protocol is refused. One protocol has
// one listener at a time: a second is a mistake in the program.
func (p *Port) Listener(proto string) net.Listener {
	q := &queue{p: p, proto: proto, ready: make(chan *Conn, waitingMax), done: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.queues[proto] != nil {
		panic("port: second listener for " + proto)
	}
	if p.closed {
		q.closed = true
		close(q.done)
		return q
	}
	p.queues[proto] = q
	return q
}

// Accept implements net.Listener.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case <-q.done:
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-q.ready:
		q.release()
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener: connections that wait are closed, those that
// were accepted are not.
func (q *queue) Close() error {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return nil
	}
	q.closed = true
	close(q.done)
	q.mu.Unlock()

	q.p.mu.Lock()
	if q.p.queues[q.proto] == q {
		delete(q.p.queues, q.proto)
	}
	q.p.mu.Unlock()
	for {
		select {
		case c := <-q.ready:
			c.abort()
		default:
			return nil
		}
	}
}

// Addr implements net.Listener.
func (q *queue) Addr() net.Addr { return q.p.Addr() }

// reserve keeps a place, so that a connection that was told "welcome" is not
// turned away afterwards.
func (q *queue) reserve() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return net.ErrClosed
	}
	if q.reserved >= waitingMax {
		return errors.New("too many connections are waiting")
	}
	q.reserved++
	return nil
}

func (q *queue) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.reserved--
}

// push never blocks: there is a place for every reservation.
func (q *queue) push(c *Conn) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return net.ErrClosed
	}
	q.ready <- c
	return nil
}
