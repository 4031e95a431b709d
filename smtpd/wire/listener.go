package wire

import (
	"net"
	"sync"
	"time"

	"mailraft/mail"
)

// Listener hands *Conn to go-smtp.
type Listener struct {
	net.Listener
	cfg      *Config
	implicit bool

	mu       sync.Mutex
	conns    map[*Conn]struct{}
	draining bool
	killed   bool
}

// Listen wraps l; implicit means that every connection begins with TLS.
func (cfg Config) Listen(l net.Listener, implicit bool) *Listener {
	return &Listener{Listener: l, cfg: cfg.withDefaults(), implicit: implicit, conns: map[*Conn]struct{}{}}
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if !l.admitted(nc) {
			continue
		}
		c := newConn(nc, l.cfg, l.implicit)
		c.onClose = func() {
			l.forget(c)
			if l.cfg.Closed != nil {
				l.cfg.Closed(c)
			}
		}
		if !c.proxied {
			if r := c.identify(); r != nil {
				l.turnAway(nc, r)
				c.Close()
				continue
			}
		}
		if l.add(c) {
			return c, nil
		}
		c.Close()
	}
}

// admitted asks whether there is room for a connection.
func (l *Listener) admitted(nc net.Conn) bool {
	if l.cfg.Admit == nil {
		return true
	}
	r := l.cfg.Admit(nc.RemoteAddr())
	if r == nil {
		return true
	}
	l.turnAway(nc, r)
	nc.Close()
	return false
}

// turnAway says why without a goroutine of its own. The reply fits into the
// empty buffer of a new connection, so writing it does not wait; in TLS it would
// take a handshake, and is left out.
func (l *Listener) turnAway(nc net.Conn, r *mail.Reply) {
	if !l.implicit {
		nc.SetWriteDeadline(time.Now().Add(closeTime))
		_, _ = nc.Write([]byte(r.String() + "\r\n")) // it is turned away either way
	}
}

func (l *Listener) add(c *Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.killed {
		return false
	}
	c.drain = l.draining
	l.conns[c] = struct{}{}
	return true
}

func (l *Listener) forget(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// Drain ends every connection, the present and the coming ones, with 421 as
// soon as it has no transaction open.
func (l *Listener) Drain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.draining = true
	for c := range l.conns {
		c.Drain()
	}
}

// Kill cuts every connection, the present and the coming ones.
func (l *Listener) Kill() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.killed = true
	for c := range l.conns {
		c.Kill()
	}
}
