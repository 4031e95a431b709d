package remote

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"net/textproto"
	"sync/atomic"
	"time"

	"mailraft/mail"
)

// replyMax bounds what a peer may say to one command, in bytes. The longest
// that is honest are a hundred LMTP answers, each a line of 512 (RFC 5321
// §4.5.3.1.5) or two.
const replyMax = 256 << 10

var (
	errReplySize = errors.New("the peer says more than any reply has")
	errSpoke     = errors.New("the peer answered before the end of the message")
)

// conn is a connection to a peer. While a body is sent it gives each write a
// deadline of its own (go-smtp sets none, and one for the whole would cut a slow
// but steady peer), and hears what the peer says before its time.
type conn struct {
	net.Conn
	block time.Duration // for each write of a body
	body  atomic.Bool
	read  atomic.Int64 // bytes since the last write
	spoke atomic.Bool  // something came while the body was sent: no more of it is of use
	ahead []byte       // read while the body was sent
	hello bool         // what is read answers EHLO or LHLO
	line  byte         // the first byte of the present line; zero: none was read
}

func (c *conn) Write(b []byte) (int, error) {
	c.read.Store(0)
	if !c.body.Load() {
		c.hello, c.line = bytes.HasPrefix(b, []byte("EHLO ")) || bytes.HasPrefix(b, []byte("LHLO ")), 0
	} else {
		if err := c.SetWriteDeadline(time.Now().Add(c.block)); err != nil {
			return 0, err
		}
		if c.spoke.Load() { // after the deadline is set: hear moves it to the past
			return 0, errSpoke
		}
	}
	return c.Conn.Write(b)
}

func (c *conn) Read(b []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(b, c.ahead)
		c.ahead = c.ahead[n:]
		return n, nil
	}
	if c.read.Load() > replyMax {
		return 0, errReplySize
	}
	n, err := c.Conn.Read(b)
	c.read.Add(int64(n))
	if c.hello {
		c.upper(b[:n])
	}
	return n, err
}

// upper makes what a server offers upper case: it may say so in any (RFC 5321
// §4.1.1.1), as some old ones do, and go-smtp takes only the one for an offer.
// A refusal stays as it is said.
func (c *conn) upper(b []byte) {
	for i, ch := range b {
		if c.line == 0 {
			c.line = ch
		}
		if c.line == '2' && 'a' <= ch && ch <= 'z' {
			b[i] = ch - 'a' + 'A'
		}
		if ch == '\n' {
			c.line = 0
		}
	}
}

// hear listens while a body is sent. A peer that says something then, or hangs
// up, has given its answer: the writer is stopped, whatever it waits for. deaf
// ends the listening within the grace, and reports whether the peer spoke.
func (c *conn) hear() (deaf func(grace time.Duration) bool) {
	c.body.Store(true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 512)
		n, err := c.Conn.Read(b)
		var timeout net.Error
		if n == 0 && errors.As(err, &timeout) && timeout.Timeout() {
			return // deaf
		}
		c.ahead = b[:n]
		c.spoke.Store(true)
		_ = c.SetWriteDeadline(time.Unix(1, 0))
	}()
	return func(grace time.Duration) bool {
		_ = c.SetReadDeadline(time.Now().Add(grace))
		<-done
		_ = c.SetReadDeadline(time.Time{})
		c.body.Store(false)
		return c.spoke.Load()
	}
}

// early is the reply that came before the end of the body. Not ok: the peer
// hung up without one, or said something else.
func (c *conn) early() (r mail.Reply, ok bool) {
	_ = c.SetReadDeadline(time.Now().Add(earlyTime))
	defer c.SetReadDeadline(time.Time{})
	code, text, err := textproto.NewReader(bufio.NewReader(c)).ReadResponse(0)
	if err != nil || code/100 != 4 && code/100 != 5 {
		return r, false
	}
	return reply(code, text), true
}
