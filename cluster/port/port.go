package port

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"mailraft/cluster/pki"
)

// The protocols of the port, as ALPN names them.
const (
	Raft    = "mailraft-raft/1"
	Link    = "mailraft-link/1"
	Content = "mailraft-content/1"
	Join    = "mailraft-join/1"
	Front   = "mailraft-frontend/1" // what front ends ask
	SMTP    = "mailraft-smtp/1"     // sessions that front ends hand over
	API     = "h2"
)

const (
	handshakeTimeout = 5 * time.Second
	handshakesMax    = 256
	joinTime         = time.Minute // a joiner is nobody yet: it is not kept longer
	joinsMax         = 32
)

// Credentials are what this side shows, and whom it believes.
type Credentials struct {
	Cert tls.Certificate
	// CA may hold two certificates while the CA is being rotated.
	CA *x509.CertPool
	// CADER is the CA that signed Cert; it is shown to joiners, who know its pin.
	CADER []byte
	// CAs are those of the pool, in DER.
	CAs [][]byte
}

// Config says how a port is opened.
type Config struct {
	Addr        string
	Credentials func() Credentials       // asked at every handshake
	Allow       func(pki.Identity) error // asked at every handshake, on both sides; nil allows all
	Now         func() time.Time         // by which certificates are over; nil is the wall clock
	// Gone is told that a member whom Allow lets pass has refused us with ErrGone.
	Gone   func(peer pki.Identity, reason error)
	Logger hclog.Logger
	// HandshakeTimeout is how long a handshake may take in all; 0 is 5 s.
	HandshakeTimeout time.Duration
	// HandshakesMax is how many incoming handshakes may be under way; 0 is 256.
	// One more, and the oldest is cut: an honest one takes milliseconds.
	HandshakesMax int
}

// Port listens, dials, and knows every connection of both kinds.
type Port struct {
	cfg        Config
	ln         net.Listener // nil: it only dials
	handshakes *handshakes
	work       sync.WaitGroup // the accept loop and handshakes
	quit       chan struct{}

	mu     sync.Mutex
	queues map[string]*queue
	conns  map[*Conn]struct{}
	joins  int // of conns: those without an identity
	closed bool
}

// Listen opens the port.
func Listen(cfg Config) (*Port, error) {
	p, err := newPort(cfg)
	if err != nil {
		return nil, err
	}
	if p.ln, err = net.Listen("tcp", cfg.Addr); err != nil {
		return nil, fmt.Errorf("open cluster port: %w", err)
	}
	p.work.Go(p.accept)
	return p, nil
}

// Dialer is a port that only dials: a front end's.
func Dialer(cfg Config) (*Port, error) { return newPort(cfg) }

func newPort(cfg Config) (*Port, error) {
	if cfg.Credentials == nil {
		return nil, errors.New("open cluster port: no credentials")
	}
	if cfg.Allow == nil {
		cfg.Allow = func(pki.Identity) error { return nil }
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Gone == nil {
		cfg.Gone = func(pki.Identity, error) {}
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if cfg.HandshakeTimeout <= 0 {
		cfg.HandshakeTimeout = handshakeTimeout
	}
	if cfg.HandshakesMax <= 0 {
		cfg.HandshakesMax = handshakesMax
	}
	return &Port{
		cfg: cfg, quit: make(chan struct{}),
		handshakes: newHandshakes(cfg.HandshakesMax),
		queues:     map[string]*queue{}, conns: map[*Conn]struct{}{},
	}, nil
}

// Addr is where the port listens.
func (p *Port) Addr() net.Addr { return p.ln.Addr() }

// Close closes all listeners and all open connections, and waits until no
// handshake is under way.
func (p *Port) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	queues := p.queues
	p.queues = map[string]*queue{}
	p.mu.Unlock()

	close(p.quit)
	var err error
	if p.ln != nil {
		err = p.ln.Close()
	}
	p.handshakes.closeAll()
	for _, q := range queues {
		q.Close()
	}
	p.drop(func(*Conn) bool { return true })
	p.work.Wait()
	if err != nil {
		return fmt.Errorf("close cluster port: %w", err)
	}
	return nil
}

// Drop closes the open connections of every identity that match names, those
// we dialled too. Call it after Allow has begun to refuse: a handshake that is
// under way is then caught by one of the two.
func (p *Port) Drop(match func(pki.Identity) bool) {
	p.drop(func(c *Conn) bool { return c.proto != Join && match(c.peer) })
}

// Recheck closes the open connections whose peers would not be believed any
// more: a CA was dropped. Call it after Credentials has begun to leave it out.
func (p *Port) Recheck() {
	creds, now := p.cfg.Credentials(), p.cfg.Now()
	p.drop(func(c *Conn) bool {
		if c.proto == Join || len(c.chain) == 0 {
			return false
		}
		_, err := verifyChain(tls.ConnectionState{PeerCertificates: c.chain}, creds.CA, now, x509.ExtKeyUsageAny)
		return err != nil
	})
}

func (p *Port) drop(match func(*Conn) bool) {
	p.mu.Lock()
	var out []*Conn
	for c := range p.conns {
		if match(c) {
			out = append(out, c)
		}
	}
	p.mu.Unlock()
	for _, c := range out {
		c.abort()
	}
}

// keep takes a connection into the books, before Allow is asked (see Drop).
func (p *Port) keep(c *Conn) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return net.ErrClosed
	}
	if c.proto == Join {
		if p.joins >= joinsMax {
			return errors.New("too many are joining at once")
		}
		p.joins++
	}
	p.conns[c] = struct{}{}
	return nil
}

func (p *Port) forget(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.conns[c]; ok && c.proto == Join {
		p.joins--
	}
	delete(p.conns, c)
}

// keepAlive finds peers that are gone on connections that say nothing.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 3}
