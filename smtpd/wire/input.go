package wire

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

// input is the buffer between the network and the reader: 2 KiB for commands,
// 64 KiB from a pool while a message comes.
type input struct {
	buf   []byte
	r, w  int // buf[r:w] is unread
	small []byte
	big   *[]byte
	rerr  error // of the network; sticky
}

var bodyPool = sync.Pool{New: func() any { b := make([]byte, bodyBuf); return &b }}

func (in *input) unread() []byte { return in.buf[in.r:in.w] }

// grow takes the big buffer.
func (in *input) grow() {
	if in.big != nil {
		return
	}
	in.big = bodyPool.Get().(*[]byte)
	in.w = copy(*in.big, in.unread())
	in.r, in.buf = 0, *in.big
}

// shrink gives the big buffer back if what is unread fits into the small one,
// or if nothing will be read any more.
func (in *input) shrink(forget bool) {
	if in.big == nil || !forget && in.w-in.r >= len(in.small) {
		return
	}
	n := copy(in.small, in.unread())
	bodyPool.Put(in.big)
	in.big, in.buf, in.r, in.w = nil, in.small, 0, n
}

// room makes space behind the unread bytes.
func (in *input) room() {
	if in.r == in.w {
		in.r, in.w = 0, 0
	} else if in.w == len(in.buf) {
		in.w = copy(in.buf, in.unread())
		in.r = 0
	}
}

var errDrained = errors.New("drained")

// fill sends what waits to be sent and reads once from the network. Waiting
// for a command outside a transaction is idle: Drain may end it.
func (c *Conn) fill(deadline time.Time, idle bool) error {
	if c.rerr != nil {
		return c.rerr
	}
	if err := c.flush(c.cfg.Timeouts.Write); err != nil {
		c.rerr = err
		return err
	}
	c.room()
	if !c.arm(deadline, idle) {
		return errDrained
	}
	n, err := c.nc.Read(c.buf[c.w:])
	drained := c.disarm()
	c.w += n
	switch {
	case n > 0:
		return nil // an error comes again at the next read
	case drained && errors.Is(err, os.ErrDeadlineExceeded):
		return errDrained
	case err == nil:
		err = io.ErrNoProgress
	}
	c.rerr = err
	return err
}

func (c *Conn) arm(deadline time.Time, idle bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if idle && c.drain {
		return false
	}
	c.idle = idle
	c.raw.SetReadDeadline(deadline)
	return true
}

func (c *Conn) disarm() (drained bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	drained = c.idle && c.drain
	c.idle = false
	return drained
}

var errLong = errors.New("line too long")

// readLine returns a line with its LF, valid until the next fill. A line that
// is too long is read to its end and dropped.
func (c *Conn) readLine(deadline time.Time, idle bool) ([]byte, error) {
	seen, long := 0, false
	for {
		if i := bytes.IndexByte(c.unread()[seen:], '\n'); i >= 0 {
			line := c.buf[c.r : c.r+seen+i+1]
			c.r += len(line)
			if long || len(line) > lineMax {
				return nil, errLong
			}
			return line, nil
		}
		seen = c.w - c.r
		if seen >= lineMax {
			long, seen = true, 0
			c.r = c.w
		}
		if err := c.fill(deadline, idle); err != nil {
			return nil, err
		}
	}
}

// pace holds a sender to its limits of time. Only waiting counts against its
// rate: that our disks or peers are slow is not its fault.
type pace struct {
	end    time.Time
	waited time.Duration
	bytes  int64
}

func (c *Conn) newPace() pace {
	end := time.Now().Add(c.cfg.Timeouts.Message)
	if c.tx {
		end = earlier(end, c.txEnd)
	}
	return pace{end: end}
}

// fillBody is fill inside a message.
func (c *Conn) fillBody(p *pace) error {
	start := time.Now()
	deadline := start.Add(c.cfg.Timeouts.Block)
	if rate := c.cfg.RateMin; rate > 0 {
		due := c.cfg.Timeouts.Block + time.Duration(p.bytes/rate)*time.Second - p.waited
		deadline = earlier(deadline, start.Add(due))
	}
	before := c.w - c.r
	err := c.fill(earlier(deadline, p.end), false)
	p.waited += time.Since(start)
	p.bytes += int64(c.w - c.r - before)
	return cutShort(err)
}

// cutShort is what a read error means inside a message. A peer that closed in
// an orderly way (also by TLS close_notify) has cut it short just the same, so
// io.EOF must not get through.
func cutShort(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ErrSlow
	}
	return ErrLost
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
