package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"mailraft/cluster/pki"
)

// helloMax is the size of a hello in bytes.
const helloMax = 1 << 10

// ErrRefused: the other side did not like our hello; its reason follows.
var ErrRefused = errors.New("raft connection refused by the other side")

// Hello is what both sides of a Raft connection tell each other before
// anything else. The dialling side sends its own; the listening side checks
// it, and answers with its own, behind a refusal or without one, which the
// dialling side checks in turn: it may learn from it what is wrong with itself.
type Hello interface {
	// Hello is what this member says now to such a peer, 1 KiB at most.
	Hello(peer pki.Identity) []byte
	// Check says why nothing is to be said to, or heard from, such a peer.
	Check(peer pki.Identity, hello []byte) error
}

// sayHello is the dialling side.
func sayHello(c net.Conn, h Hello) error {
	if err := writeHello(c, h.Hello(peer(c))); err != nil {
		return err
	}
	var verdict [256]byte
	if _, err := io.ReadFull(c, verdict[:1]); err != nil {
		return fmt.Errorf("read verdict on hello: %w", err)
	}
	if n := verdict[0]; n != 0 {
		if _, err := io.ReadFull(c, verdict[1:1+int(n)]); err != nil {
			return ErrRefused
		}
		if theirs, err := readHello(c); err == nil {
			_ = h.Check(peer(c), theirs) // for what follows from it here: it is refused anyway
		}
		return fmt.Errorf("%w: %q", ErrRefused, verdict[1:1+int(n)])
	}
	theirs, err := readHello(c)
	if err != nil {
		return err
	}
	return h.Check(peer(c), theirs)
}

// hearHello is the listening side. It returns the reason of a refusal.
func hearHello(c net.Conn, h Hello) error {
	theirs, err := readHello(c)
	if err != nil {
		return err
	}
	if reason := h.Check(peer(c), theirs); reason != nil {
		text := reason.Error()
		text = text[:min(len(text), 255)]
		c.Write(append([]byte{byte(len(text))}, text...)) // it is closed next, whatever comes of it
		_ = writeHello(c, h.Hello(peer(c)))
		return reason
	}
	if _, err := c.Write([]byte{0}); err != nil {
		return fmt.Errorf("accept hello: %w", err)
	}
	return writeHello(c, h.Hello(peer(c)))
}

func writeHello(w io.Writer, hello []byte) error {
	if len(hello) > helloMax {
		return fmt.Errorf("write hello: %d bytes", len(hello))
	}
	b := binary.BigEndian.AppendUint16(nil, uint16(len(hello)))
	if _, err := w.Write(append(b, hello...)); err != nil {
		return fmt.Errorf("write hello: %w", err)
	}
	return nil
}

func readHello(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, fmt.Errorf("read hello: %w", err)
	}
	n := binary.BigEndian.Uint16(size[:])
	if n > helloMax {
		return nil, fmt.Errorf("read hello: %d bytes", n)
	}
	hello := make([]byte, n)
	if _, err := io.ReadFull(r, hello); err != nil {
		return nil, fmt.Errorf("read hello: %w", err)
	}
	return hello, nil
}

func peer(c net.Conn) pki.Identity {
	if p, ok := c.(interface{ Peer() pki.Identity }); ok {
		return p.Peer()
	}
	return pki.Identity{}
}
