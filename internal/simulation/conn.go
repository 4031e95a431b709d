package simulation

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// windowMax is how many bytes may be on their way in one direction.
const windowMax = 256 << 10

var errReset = errors.New("connection reset")

// conn is one end of a connection between two machines. Where the wire is cut
// its bytes wait, as they do with TCP; who has waited enough breaks it off.
type conn struct {
	net      *network
	from, to int
	in, out  *flow
	other    *conn

	mu     sync.Mutex
	limits [2]time.Time // deadlines of reading and writing
}

// flow is one direction.
type flow struct {
	mu     sync.Mutex
	parts  []part
	size   int
	closed bool  // by the writer: end of file behind the parts
	err    error // broken
	moved  chan struct{}
}

type part struct {
	at time.Time // when it arrives
	b  []byte
}

func (f *flow) move(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	close(f.moved)
	f.moved = make(chan struct{})
}

func (n *network) connect(from, to int) (near, far *conn) {
	there, back := &flow{moved: make(chan struct{})}, &flow{moved: make(chan struct{})}
	near = &conn{net: n, from: from, to: to, in: back, out: there}
	far = &conn{net: n, from: to, to: from, in: there, out: back}
	near.other, far.other = far, near
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns[near], n.conns[far] = struct{}{}, struct{}{}
	return near, far
}

func (c *conn) forget() {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	delete(c.net.conns, c)
}

// reset breaks both directions at both ends.
func (c *conn) reset() {
	c.in.move(func() { c.in.err, c.in.parts = errReset, nil })
	c.out.move(func() { c.out.err, c.out.parts = errReset, nil })
	c.forget()
	c.other.forget()
}

// wait until one of the channels moves, or a moment comes. It reports whether
// the deadline was the first.
func wait(limit time.Time, until time.Duration, moved ...<-chan struct{}) (late bool) {
	soonest := time.Hour
	if until > 0 {
		soonest = until
	}
	if !limit.IsZero() {
		left := time.Until(limit)
		if left <= 0 {
			return true
		}
		soonest = min(soonest, left)
	}
	t := time.NewTimer(soonest)
	defer t.Stop()
	for len(moved) < 2 {
		moved = append(moved, nil)
	}
	select {
	case <-moved[0]:
	case <-moved[1]:
	case <-t.C:
		return !limit.IsZero() && !time.Now().Before(limit)
	}
	return false
}

func (c *conn) limit(i int) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.limits[i]
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	for {
		cut, healed := c.net.isCut(c.to, c.from)
		n, until, moved, err := c.in.take(p, cut)
		if n > 0 || err != nil {
			return n, err
		}
		if wait(c.limit(0), until, moved, healed) {
			return 0, os.ErrDeadlineExceeded
		}
	}
}

// take moves what has arrived into p.
func (f *flow) take(p []byte, cut bool) (n int, until time.Duration, moved <-chan struct{}, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	moved = f.moved
	switch {
	case f.err != nil:
		return 0, 0, moved, f.err
	case cut:
		return 0, 0, moved, nil
	case len(f.parts) == 0 && f.closed:
		return 0, 0, moved, io.EOF
	case len(f.parts) == 0:
		return 0, 0, moved, nil
	}
	if until = time.Until(f.parts[0].at); until > 0 {
		return 0, until, moved, nil
	}
	n = copy(p, f.parts[0].b)
	if f.parts[0].b = f.parts[0].b[n:]; len(f.parts[0].b) == 0 {
		f.parts = f.parts[1:]
	}
	f.size -= n
	close(f.moved)
	f.moved = make(chan struct{})
	return n, 0, moved, nil
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, moved, err := c.out.put(p[done:], c.net.delay())
		if err != nil {
			return done, err
		}
		if done += n; n == 0 && wait(c.limit(1), 0, moved) {
			return done, os.ErrDeadlineExceeded
		}
	}
	return done, nil
}

func (f *flow) put(p []byte, delay time.Duration) (int, <-chan struct{}, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil || f.closed {
		return 0, nil, errReset
	}
	n := min(len(p), windowMax-f.size)
	if n <= 0 {
		return 0, f.moved, nil
	}
	at := time.Now().Add(delay)
	if l := len(f.parts); l > 0 && f.parts[l-1].at.After(at) {
		at = f.parts[l-1].at
	}
	f.parts = append(f.parts, part{at, append([]byte(nil), p[:n]...)})
	f.size += n
	close(f.moved)
	f.moved = make(chan struct{})
	return n, nil, nil
}

// Close implements net.Conn: what was written still arrives.
func (c *conn) Close() error {
	c.out.move(func() { c.out.closed = true })
	c.in.move(func() {
		if c.in.err == nil {
			c.in.err = net.ErrClosed
		}
	})
	c.forget()
	return nil
}

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return &net.UnixAddr{} }

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return &net.UnixAddr{} }

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error { return c.setLimit(0, t, c.in) }

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error { return c.setLimit(1, t, c.out) }

func (c *conn) setLimit(i int, t time.Time, f *flow) error {
	c.mu.Lock()
	c.limits[i] = t
	c.mu.Unlock()
	f.move(func() {})
	return nil
}

// listener takes the connections to one process.
type listener struct {
	come chan net.Conn
	once sync.Once
	done chan struct{}
}

func newListener() *listener {
	return &listener{come: make(chan net.Conn, 64), done: make(chan struct{})}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.come:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *listener) Close() error { l.once.Do(func() { close(l.done) }); return nil }

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return &net.UnixAddr{} }

// dial connects a process with another machine.
func (p *process) dial(ctx context.Context, addr string) (net.Conn, error) {
	w, from := p.machine.world, p.machine
	to := w.at(addr)
	for {
		cut, changed := w.net.isCut(from.i, to.i)
		if !cut {
			if cut, changed = w.net.isCut(to.i, from.i); !cut {
				break
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	time.Sleep(2 * w.net.delay())
	there := to.process()
	if there == nil || p.dead() || !there.knows(p.id) {
		return nil, errReset // nobody listens
	}
	near, far := w.net.connect(from.i, to.i)
	select {
	case there.contents.come <- far:
		return near, nil
	case <-there.gone:
	case <-ctx.Done():
	}
	near.reset()
	return nil, errReset
}
