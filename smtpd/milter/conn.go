package milter

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Commands, by the letter that they have in the protocol.
const (
	cmdAbort   = 'A'
	cmdBody    = 'B'
	cmdConnect = 'C'
	cmdMacro   = 'D'
	cmdEnd     = 'E'
	cmdHelo    = 'H'
	cmdHeader  = 'L'
	cmdMail    = 'M'
	cmdEOH     = 'N'
	cmdOptions = 'O'
	cmdQuit    = 'Q'
	cmdRcpt    = 'R'
	cmdData    = 'T'
)

// Responses.
const (
	rspAddRcpt      = '+'
	rspDeleteRcpt   = '-'
	rspAddRcptArgs  = '2'
	rspShutdown     = '4'
	rspAccept       = 'a'
	rspContinue     = 'c'
	rspDiscard      = 'd'
	rspChangeSender = 'e'
	rspAddHeader    = 'h'
	rspInsertHeader = 'i'
	rspChangeHeader = 'm'
	rspProgress     = 'p'
	rspQuarantine   = 'q'
	rspReject       = 'r'
	rspSkip         = 's'
	rspTempfail     = 't'
	rspReply        = 'y'
)

// Actions that a filter may take. Replacing the body is not offered: the
// content stays as it was received. Nor is a choice of macros: all are sent.
const actions = 0x01 | 0x04 | 0x08 | 0x10 | 0x20 | 0x40 | 0x80

// Steps: what a filter does not want to hear of, or does not answer.
const (
	leadingSpace = 0x100000 // header values come and go with the space before them
	stepsOffered = 0x1ff7ff // all but to hear of recipients that were refused (0x800)
	versionMost  = 6
)

// steps of a command: "do not send it", "do not answer it".
var steps = map[byte][2]uint32{
	cmdConnect: {0x01, 0x1000}, cmdHelo: {0x02, 0x2000}, cmdMail: {0x04, 0x4000}, cmdRcpt: {0x08, 0x8000},
	cmdBody: {0x10, 0x80000}, cmdHeader: {0x20, 0x80}, cmdEOH: {0x40, 0x40000}, cmdData: {0x200, 0x10000},
}

// packetMax bounds what a filter may send at once; none needs more.
const packetMax = 128 << 10

// chunkMax is the longest piece of a body in one packet.
const chunkMax = 65535

// progressMax bounds how long a filter may put an answer off by saying that it
// is at work: the client gives up after ten minutes (RFC 5321 §4.5.3.2.6).
const progressMax = 9 * time.Minute

var errProtocol = errors.New("not the milter protocol")

// conn is a connection to a filter, from the first packet to the last.
type conn struct {
	nc   net.Conn
	r    *bufio.Reader
	out  []byte // packets that wait for flush
	stop func() bool

	version uint32
	steps   uint32
}

// newConn takes over nc and negotiates. When ctx ends the connection does.
func newConn(ctx context.Context, nc net.Conn, timeout time.Duration) (*conn, error) {
	c := &conn{nc: nc, r: bufio.NewReaderSize(nc, 1024)}
	c.stop = context.AfterFunc(ctx, func() { nc.Close() })
	if err := c.negotiate(timeout); err != nil {
		c.close()
		return nil, fmt.Errorf("negotiate: %w", err)
	}
	return c, nil
}

func (c *conn) close() {
	c.stop()
	c.nc.Close()
}

func (c *conn) negotiate(timeout time.Duration) error {
	offer := binary.BigEndian.AppendUint32(nil, versionMost)
	offer = binary.BigEndian.AppendUint32(offer, actions)
	offer = binary.BigEndian.AppendUint32(offer, stepsOffered)
	c.put(cmdOptions, offer)
	if err := c.flush(timeout); err != nil {
		return err
	}
	code, data, err := c.receive(timeout)
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("it closed the connection; it may want what is not offered, such as to replace the body: %w", err)
	}
	if err != nil {
		return err
	}
	if code != cmdOptions || len(data) < 12 {
		return fmt.Errorf("answer %q of %d bytes to the options: %w", code, len(data), errProtocol)
	}
	c.version, c.steps = binary.BigEndian.Uint32(data), binary.BigEndian.Uint32(data[8:])
	if c.version < 2 || c.version > versionMost {
		return fmt.Errorf("version %d: %w", c.version, errProtocol)
	}
	return nil
}

// wants reports whether the filter is told of a command, and answers whether it
// answers it.
func (c *conn) wants(cmd byte) bool {
	return c.steps&steps[cmd][0] == 0 && (cmd != cmdData || c.version > 3)
}

func (c *conn) answers(cmd byte) bool { return c.steps&steps[cmd][1] == 0 }

// put appends a packet to what is sent with the next flush.
func (c *conn) put(cmd byte, data []byte) {
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(len(data)+1))
	c.out = append(append(c.out, cmd), data...)
}

func (c *conn) flush(timeout time.Duration) error {
	if err := c.nc.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	_, err := c.nc.Write(c.out)
	if c.out = c.out[:0]; cap(c.out) > 2*chunkMax {
		c.out = nil
	}
	return err
}

// receive returns the next packet that says something. A filter that reports
// progress gets its time anew, within bounds.
func (c *conn) receive(timeout time.Duration) (code byte, data []byte, err error) {
	begun := time.Now()
	for {
		deadline := time.Now().Add(timeout)
		if last := begun.Add(max(timeout, progressMax)); deadline.After(last) {
			deadline = last
		}
		if err := c.nc.SetReadDeadline(deadline); err != nil {
			return 0, nil, err
		}
		if code, data, err = c.packet(); err != nil || code != rspProgress {
			return code, data, err
		}
	}
}

func (c *conn) packet() (code byte, data []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > packetMax {
		return 0, nil, fmt.Errorf("packet of %d bytes: %w", n, errProtocol)
	}
	if n > 1 {
		data = make([]byte, n-1)
		if _, err := io.ReadFull(c.r, data); err != nil {
			return 0, nil, err
		}
	}
	return head[4], data, nil
}

// quit says goodbye and closes.
func (c *conn) quit() {
	c.put(cmdQuit, nil)
	_ = c.flush(time.Second) // it may be gone
	c.close()
}

// strings are texts as the protocol has them, each with a NUL behind it. A NUL
// within one would make two of it.
func texts(list ...string) []byte {
	var b []byte
	for _, s := range list {
		for i := 0; i < len(s); i++ {
			if s[i] == 0 {
				b = append(b, ' ')
			} else {
				b = append(b, s[i])
			}
		}
		b = append(b, 0)
	}
	return b
}
