package replica

import (
	"net"
	"time"
)

// rolling renews the deadline with every read and write: a transfer may take
// as long as it moves, but a peer that neither sends nor takes anything for
// the given time is gone.
type rolling struct {
	net.Conn
	read, write time.Duration
}

func (c *rolling) Read(p []byte) (int, error) {
	if err := c.Conn.SetReadDeadline(time.Now().Add(c.read)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *rolling) Write(p []byte) (int, error) {
	if err := c.Conn.SetWriteDeadline(time.Now().Add(c.write)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
