// Package enroll is how a host comes to a certificate of a boundary, and keeps
// it on its disk: the request with a token that members and front ends join
// by, its answer, and the files of key, certificate and CA.
//
// The listening side is not proved to be of the boundary by its name, but by
// the pin in the token, before the token is sent; the key never leaves the
// host. Who is let in is decided elsewhere, by applying an entry.
package enroll

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"mailraft/cluster/pki"
	"mailraft/cluster/port"
	"mailraft/fsm"

	"github.com/fxamacker/cbor/v2"
)

// Time is how long an enrolment may take.
const Time = 30 * time.Second

// sizeMax bounds a request and an answer, each CBOR behind a length of four
// bytes.
const sizeMax = 64 << 10

// Request is what a joiner asks with.
type Request struct {
	Token    string     `cbor:"1,keyasint"`
	Member   fsm.Member `cbor:"2,keyasint"`
	CSR      []byte     `cbor:"3,keyasint"`
	Frontend string     `cbor:"4,keyasint,omitempty"` // the name of a front end; it is no member then
	Site     string     `cbor:"5,keyasint,omitempty"` // of the front end
}

// Answer is what it gets.
type Answer struct {
	Error    string `cbor:"1,keyasint,omitempty"`
	Boundary string `cbor:"2,keyasint"`
	Cert     []byte `cbor:"3,keyasint"`
	CA       []byte `cbor:"4,keyasint"`
	Secret   []byte `cbor:"5,keyasint"` // for members: it opens the CA's key
	// Generation of the boundary, as of the member that answers.
	Generation uint64 `cbor:"6,keyasint,omitempty"`
	// OtherCA is believed too, while the CA is exchanged.
	OtherCA []byte `cbor:"7,keyasint,omitempty"`
	Index   uint64 `cbor:"8,keyasint,omitempty"` // as of which the CAs are these
}

// Bundle is whom the joiner believes, in PEM.
func (a *Answer) Bundle() []byte {
	text := pki.EncodeCert(a.CA)
	if a.OtherCA != nil {
		text = append(text, pki.EncodeCert(a.OtherCA)...)
	}
	return text
}

// Ask joins at the member at addr. It does not get the token before its CA is
// proved.
func Ask(ctx context.Context, addr string, token pki.Token, r Request) (a Answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, Time)
	defer cancel()
	conn, err := port.DialJoin(ctx, addr, token.Pin())
	if err != nil {
		return a, fmt.Errorf("join at %s: %w", addr, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	r.Token = token.String()
	if err := errors.Join(write(conn, r), read(conn, &a)); err != nil {
		return a, fmt.Errorf("join at %s: %w", addr, err)
	}
	if a.Error != "" {
		return a, fmt.Errorf("join at %s: %s", addr, a.Error)
	}
	if pki.Pin(a.CA) != token.Pin() {
		return a, fmt.Errorf("join at %s: it handed out another CA than it proved to have", addr)
	}
	return a, nil
}

// Serve answers the one request of a joiner.
func Serve(conn net.Conn, f func(Request) Answer) {
	_ = conn.SetDeadline(time.Now().Add(Time))
	var r Request
	if err := read(conn, &r); err != nil {
		return
	}
	_ = write(conn, f(r)) // the joiner asks again
}

func write(w io.Writer, v any) error {
	b, err := cbor.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}

func read(r io.Reader, v any) error {
	var n [4]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(n[:])
	if size > sizeMax {
		return fmt.Errorf("%d bytes are too many", size)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	return cbor.Unmarshal(b, v)
}
