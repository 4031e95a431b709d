package wire

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"mailraft/mail/reply"
	"mailraft/smtpd/proxy"
)

// begin is what comes before the greeting, in the goroutine that serves the
// connection, so that a slow client delays nobody else: the header of a proxy,
// then TLS.
func (c *Conn) begin() error {
	if c.proxied {
		if c.rerr != nil {
			return c.rerr
		}
		if err := c.readProxy(); err != nil {
			return err
		}
	}
	return c.startImplicit()
}

// readProxy learns who the client is. Where no header comes in time, or one
// that cannot be read, nothing is known of the other end, and it is told
// nothing.
func (c *Conn) readProxy() error {
	c.raw.SetReadDeadline(time.Now().Add(c.cfg.Timeouts.Proxy))
	h, err := proxy.Read(c.raw)
	if err != nil {
		if c.cfg.ProxyFailed != nil {
			c.cfg.ProxyFailed(c.raw.RemoteAddr(), err)
		}
		c.raw.Close()
		c.rerr = net.ErrClosed
		return c.rerr
	}
	c.proxied = false
	switch {
	case h.Own:
	case h.Client.IsValid():
		c.remote, c.local = net.TCPAddrFromAddrPort(h.Client), net.TCPAddrFromAddrPort(h.Server)
	default:
		c.remote = unknownAddr{}
	}
	if r := c.identify(); r != nil {
		c.refusal = r
	}
	return nil
}

// unknownAddr is the client that a proxy could not name. It is nobody whom a
// network could trust.
type unknownAddr struct{}

func (unknownAddr) Network() string { return "unknown" }
func (unknownAddr) String() string  { return "unknown" }

// talksEarly reports a client that sent something before its greeting. With a
// delay it is waited for; without, and in clear text, what has come already is
// seen. It is not read: the buffer is the commands'.
func (c *Conn) talksEarly() bool {
	if c.cfg.EarlyTalkers {
		return false
	}
	var delay time.Duration
	if c.cfg.GreetDelay != nil {
		delay = c.cfg.GreetDelay(c)
	}
	if delay <= 0 {
		return c.tls == nil && readable(c.raw)
	}
	if !c.arm(time.Now().Add(delay), true) {
		return false // draining: that is what it is told next
	}
	n, err := c.nc.Read(c.buf[c.w:])
	c.disarm()
	c.w += n
	if n == 0 && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.rerr = err // gone
	}
	return n > 0
}

// readable reports that something has come that was not read.
func readable(nc net.Conn) bool {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	var n int
	_ = rc.Read(func(fd uintptr) bool { // an error is met at the next read
		var b [1]byte
		n, _, _ = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return true
	})
	return n > 0
}

// synchronized sees that nothing was sent behind EHLO or HELO before its
// answer, which is what offers PIPELINING (RFC 2920 §3.1).
func (c *Conn) synchronized() bool {
	if c.cfg.EarlyTalkers || len(c.unread()) == 0 {
		return true
	}
	c.hangUp(reply.Unsynchronized.Reply())
	return false
}
