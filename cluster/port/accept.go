package port

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// accept takes connections until the port closes. An error is waited out: it
// means that descriptors ran out, and the members we know need the port most
// at such a time.
func (p *Port) accept() {
	const waitMin, waitMax = 5 * time.Millisecond, time.Second
	wait := waitMin
	for {
		raw, err := p.ln.Accept()
		if err == nil {
			wait = waitMin
			p.work.Go(func() { p.admit(raw) })
			continue
		}
		select {
		case <-p.quit:
			return
		case <-time.After(wait):
			p.cfg.Logger.Error("cannot accept on the cluster port", "error", err)
			wait = min(2*wait, waitMax)
		}
	}
}

// admit brings one incoming connection through the handshake and to the
// listener of its protocol.
func (p *Port) admit(raw net.Conn) {
	leave := p.handshakes.enter(raw)
	raw.SetDeadline(time.Now().Add(p.cfg.HandshakeTimeout))
	if t, ok := raw.(*net.TCPConn); ok {
		t.SetKeepAliveConfig(keepAlive)
	}
	c, err := p.greet(raw)
	leave()
	if err != nil {
		p.cfg.Logger.Info("handshake on the cluster port failed", "remote", raw.RemoteAddr(), "error", err)
		raw.Close()
		return
	}
	if err := p.take(c); err != nil {
		p.cfg.Logger.Warn("refused on the cluster port", "remote", raw.RemoteAddr(), "peer", c.peer, "protocol", c.proto, "error", err)
		c.Close()
	}
}

func (p *Port) greet(raw net.Conn) (*Conn, error) {
	t := tls.Server(raw, p.serverConfig())
	if err := t.HandshakeContext(context.Background()); err != nil { // the deadline bounds it
		return nil, err
	}
	cs := t.ConnectionState()
	if cs.NegotiatedProtocol == "" {
		return nil, errors.New("no protocol was asked for")
	}
	return newConn(p, raw, t, cs)
}

// take asks whether the peer is welcome, tells it, and queues the connection.
func (p *Port) take(c *Conn) error {
	q, err := p.place(c)
	if err != nil {
		return c.refuse(err)
	}
	if err := c.welcome(); err != nil {
		q.release()
		return err
	}
	end := time.Time{}
	if c.proto == Join {
		end = time.Now().Add(joinTime)
	}
	c.SetDeadline(end)
	return q.push(c)
}

func (p *Port) place(c *Conn) (*queue, error) {
	if err := p.keep(c); err != nil {
		return nil, err
	}
	if c.proto != Join {
		if err := p.cfg.Allow(c.peer); err != nil {
			return nil, err
		}
	}
	p.mu.Lock()
	q := p.queues[c.proto]
	p.mu.Unlock()
	if q == nil {
		return nil, fmt.Errorf("nobody listens for %s", c.proto)
	}
	return q, q.reserve()
}

// handshakes bounds those that are under way. A flood of connections that say
// nothing costs descriptors for a moment and never keeps a member out, since
// the oldest goes first.
type handshakes struct {
	max int

	mu    sync.Mutex
	conns *list.List
	over  bool
}

func newHandshakes(most int) *handshakes { return &handshakes{max: most, conns: list.New()} }

func (h *handshakes) enter(c net.Conn) (leave func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over {
		c.Close()
		return func() {}
	}
	if h.conns.Len() >= h.max {
		h.conns.Remove(h.conns.Front()).(net.Conn).Close()
	}
	e := h.conns.PushBack(c)
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.conns.Remove(e) // does nothing if it was cut
	}
}

func (h *handshakes) closeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
	for e := h.conns.Front(); e != nil; e = e.Next() {
		e.Value.(net.Conn).Close()
	}
}
