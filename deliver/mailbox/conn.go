package mailbox

import (
	"net"
	"sync/atomic"
	"time"
)

// conn gives every read a deadline of its own (go-smtp would set one for a
// whole body) and remembers that the peer is gone: go-smtp takes a connection
// that ends inside the last chunk of BDAT for a complete message.
type conn struct {
	net.Conn
	gone    atomic.Bool
	release func()
}

func (c *conn) Read(b []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(idleTime)); err != nil {
		c.gone.Store(true)
		return 0, err
	}
	n, err := c.Conn.Read(b)
	if err != nil {
		c.gone.Store(true)
	}
	return n, err
}

func (c *conn) Close() error {
	c.release()
	return c.Conn.Close()
}
