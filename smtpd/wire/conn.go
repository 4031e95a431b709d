package wire

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"mailraft/mail"
)

// Conn is one client's connection as go-smtp sees it. Apart from Kill and
// Drain its methods belong to the goroutine that serves the connection.
type Conn struct {
	Owner any // what the owner of the listener keeps with the connection

	cfg      *Config
	raw      net.Conn // the network
	nc       net.Conn // raw, or TLS over it
	tls      *tls.Conn
	implicit bool // TLS first
	proxied  bool // and before that the header of a proxy
	remote   net.Addr
	local    net.Addr
	refusal  *mail.Reply // instead of the greeting
	onClose  func()

	mu     sync.Mutex
	drain  bool // hang up where no transaction is open
	idle   bool // waiting for a command, no transaction open
	closed bool

	input
	session
	replies
}

// session is how far the dialogue has come.
type session struct {
	greeted  bool      // 220 is out
	hello    string    // EHLO or HELO, once answered 250 under the present security
	verb     string    // of the command that go-smtp is at
	text     string    // that command as it was passed on
	stash    string    // a command that ended a chunked message, to be looked at next
	tx       bool      // MAIL was accepted
	txEnd    time.Time // of that transaction
	secret   bool      // AUTH was said: lines that are no command may be passwords
	errors   int       // since the last accepted message
	commands int       // without progress, since then

	authenticated bool

	pend []byte // what go-smtp has still to read

	inMessage bool // go-smtp is in its DATA
	msg       *Message
	chunk     int64 // announced by BDAT, not yet read
	last      bool
}

func newConn(nc net.Conn, cfg *Config, implicit bool) *Conn {
	c := &Conn{cfg: cfg, raw: nc, nc: nc, implicit: implicit, remote: nc.RemoteAddr(), local: nc.LocalAddr()}
	c.proxied = cfg.ProxyFrom != nil && cfg.ProxyFrom(c.remote)
	c.small = make([]byte, lineMax)
	c.buf = c.small
	return c
}

// Read gives go-smtp a command line, or the dot that ends a message.
func (c *Conn) Read(p []byte) (int, error) {
	if len(c.pend) == 0 {
		if err := c.next(); errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, err // go-smtp says 421 and closes
		} else if err != nil {
			return 0, io.EOF // how a client leaves is no error of ours
		}
	}
	n := copy(p, c.pend)
	c.pend = c.pend[n:]
	return n, nil
}

func (c *Conn) next() error {
	if c.rerr == net.ErrClosed { // go-smtp reads on after it has closed
		return c.rerr
	}
	if err := c.begin(); err != nil {
		return err
	}
	if c.inMessage {
		return c.endMessage()
	}
	if c.hangup {
		return c.leave()
	}
	c.setVerb("", "")
	if err := c.skipChunk(); err != nil {
		return err
	}
	return c.command()
}

// TLS is the state of TLS, or nil.
func (c *Conn) TLS() *tls.ConnectionState {
	if c.tls == nil {
		return nil
	}
	state := c.tls.ConnectionState()
	return &state
}

// Extended reports whether the client said EHLO, and not HELO.
func (c *Conn) Extended() bool { return c.hello == "EHLO" }

// Command is the present command line as it was passed to go-smtp. Addresses
// are read from here: go-smtp decodes quoted local parts and loses where they
// ended.
func (c *Conn) Command() string { return c.text }

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn. Behind a proxy it is the client.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

func (c *Conn) identify() *mail.Reply {
	if c.cfg.Identify == nil {
		return nil
	}
	return c.cfg.Identify(c)
}

// SetDeadline implements net.Conn. The deadlines are ours, see Timeouts:
// go-smtp sets one for a command line that then limits the whole message.
func (c *Conn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn, see SetDeadline.
func (c *Conn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn, see SetDeadline.
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }

// Close sends the replies that wait, says goodbye in TLS and closes. It is
// go-smtp's; from elsewhere use Kill.
func (c *Conn) Close() error {
	c.mu.Lock()
	closed := c.closed
	c.closed = true
	c.mu.Unlock()
	if closed {
		return nil
	}
	_ = c.flush(closeTime) // the peer may be gone
	c.shrink(true)
	c.rerr = net.ErrClosed
	err := c.nc.Close()
	if c.onClose != nil {
		c.onClose()
	}
	return err
}

// Kill cuts the connection from any goroutine: whatever is under way fails.
func (c *Conn) Kill() { c.raw.Close() }

// Drain makes the connection end with 421 as soon as no transaction is open,
// which is at once for one that only waits. From any goroutine.
func (c *Conn) Drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drain = true
	if c.idle {
		c.raw.SetReadDeadline(time.Unix(1, 0)) // wakes the read in fill
	}
}
