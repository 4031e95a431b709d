package port

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"mailraft/cluster/pki"
)

// ErrRefused is what Dial returns, with the other side's reason, when the
// handshake went well but the connection was not taken.
var ErrRefused = errors.New("refused by the other side")

// ErrGone is a refusal for ever: who is refused is nobody any more. It crosses
// the wire, as a word in front of the reason.
var ErrGone = errors.New("gone")

const goneWord = "gone: "

// Gone makes a reason an ErrGone.
func Gone(reason error) error { return gone{reason} }

type gone struct{ error }

func (g gone) Unwrap() error        { return g.error }
func (g gone) Is(target error) bool { return target == ErrGone }

// Conn is a connection of the cluster port.
//
// It deliberately shows no ConnectionState method: net/http serves HTTP/2 over
// a connection that is not a *tls.Conn only if it looks like plain text
// (Server.Protocols with UnencryptedHTTP2), and looks for that very method.
type Conn struct {
	net.Conn // the TLS connection
	raw      net.Conn
	peer     pki.Identity
	chain    []*x509.Certificate
	proto    string
	port     *Port // nil for DialJoin
	once     sync.Once
}

func newConn(p *Port, raw net.Conn, t *tls.Conn, cs tls.ConnectionState) (*Conn, error) {
	c := &Conn{Conn: t, raw: raw, chain: cs.PeerCertificates, proto: cs.NegotiatedProtocol, port: p}
	if len(c.chain) == 0 {
		return c, nil // a joiner
	}
	id, err := pki.IdentityOf(c.chain[0])
	c.peer = id
	return c, err
}

// Peer is who the other side is. On the listening side of Join it is zero:
// a joiner is nobody yet.
func (c *Conn) Peer() pki.Identity { return c.peer }

// PeerCertificates are what the other side showed, its own first; after
// DialJoin the CA's is among them.
func (c *Conn) PeerCertificates() []*x509.Certificate { return c.chain }

// Close implements net.Conn.
func (c *Conn) Close() error {
	c.once.Do(c.forget)
	return c.Conn.Close()
}

// abort closes without a farewell: tls.Conn.Close may wait seconds for a peer
// that does not read.
func (c *Conn) abort() {
	c.once.Do(c.forget)
	c.raw.Close()
	c.Conn.Close()
}

func (c *Conn) forget() {
	if c.port != nil {
		c.port.forget(c)
	}
}

// The listening side's first byte: zero is welcome, any other value is the
// length of the reason for a refusal, which follows.

func (c *Conn) welcome() error {
	if c.proto == API {
		return nil
	}
	if _, err := c.Write([]byte{0}); err != nil {
		return fmt.Errorf("say welcome: %w", err)
	}
	return nil
}

// refuse returns the reason it was given.
func (c *Conn) refuse(reason error) error {
	if c.proto != API {
		text := reason.Error()
		if errors.Is(reason, ErrGone) {
			text = goneWord + text
		}
		text = text[:min(len(text), 255)]
		c.Write(append([]byte{byte(len(text))}, text...)) // the connection is closed next, whatever comes of it
	}
	return reason
}

func (c *Conn) readWelcome() error {
	if c.proto == API {
		return nil
	}
	var b [256]byte
	if _, err := io.ReadFull(c, b[:1]); err != nil {
		return err
	}
	if b[0] == 0 {
		return nil
	}
	text := b[1 : 1+int(b[0])]
	if _, err := io.ReadFull(c, text); err != nil {
		return ErrRefused
	}
	if reason, ok := strings.CutPrefix(string(text), goneWord); ok {
		return Gone(fmt.Errorf("%w: %q", ErrRefused, reason))
	}
	return fmt.Errorf("%w: %q", ErrRefused, text)
}
