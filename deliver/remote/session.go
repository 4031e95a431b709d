package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"
)

// Timeouts of RFC 5321 §4.5.3.2. They are long, since a peer that is slow
// must not get the message twice; a peer that hangs costs one connection.
const (
	connectTime = 30 * time.Second
	commandTime = 5 * time.Minute  // greeting, MAIL, RCPT
	dataTime    = 2 * time.Minute  // DATA
	blockTime   = 3 * time.Minute  // each write of the body
	answerTime  = 10 * time.Minute // after the final dot
	messageTime = time.Hour        // everything together
	quitTime    = 5 * time.Second
)

// session is one connection that has said hello.
type session struct {
	client *smtp.Client
	conn   *conn
	target target
	name   string // of the peer
	used   int    // messages that were tried
	timer  *time.Timer
}

// conn gives each write of a body a deadline of its own: go-smtp sets none
// there, and one deadline for the whole would cut a slow but steady peer.
type conn struct {
	net.Conn
	body atomic.Bool
}

func (c *conn) Write(b []byte) (int, error) {
	if c.body.Load() {
		if err := c.SetWriteDeadline(time.Now().Add(blockTime)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(b)
}

// dial connects and says hello, by TLS where the peer offers it. A peer whose
// TLS does not work is used without: by smtp:// encryption is opportunistic
// (RFC 7435), and whoever wants more says smtps://.
func (t *Transport) dial(ctx context.Context, to target) (*session, error) {
	s, err := t.connect(ctx, to, !to.lmtp && !to.tls)
	if errors.Is(err, errStartTLS) {
		return t.connect(ctx, to, false)
	}
	return s, err
}

var errStartTLS = errors.New("STARTTLS failed")

func (t *Transport) connect(ctx context.Context, to target, upgrade bool) (_ *session, err error) {
	dialCtx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	raw, err := t.dialer(dialCtx, to.network, to.addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	s := &session{target: to, name: to.peerName(raw)}
	if to.tls {
		raw = tls.Client(raw, t.tlsConfig(to, true))
	}
	if err := s.hello(raw, t.Host); err != nil {
		raw.Close()
		return nil, err
	}
	if offered, _ := s.client.Extension("STARTTLS"); !offered || !upgrade {
		return s, nil
	}
	encrypted, err := startTLS(raw, t.tlsConfig(to, false))
	if err == nil {
		err = s.hello(encrypted, t.Host)
	}
	if err != nil {
		raw.Close()
		return nil, fmt.Errorf("%w: %w", errStartTLS, err)
	}
	return s, nil
}

func (s *session) hello(raw net.Conn, host string) error {
	s.conn = &conn{Conn: raw}
	if s.client = smtp.NewClient(s.conn); s.target.lmtp {
		s.client = smtp.NewClientLMTP(s.conn)
	}
	s.client.CommandTimeout, s.client.SubmissionTimeout = commandTime, answerTime
	return s.client.Hello(host)
}

// startTLS upgrades by itself, because go-smtp would say hello as "localhost"
// first. The new connection greets once more from memory: go-smtp expects it.
func startTLS(raw net.Conn, config *tls.Config) (net.Conn, error) {
	if err := raw.SetDeadline(time.Now().Add(commandTime)); err != nil {
		return nil, err
	}
	defer raw.SetDeadline(time.Time{})
	if _, err := io.WriteString(raw, "STARTTLS\r\n"); err != nil {
		return nil, err
	}
	answer, err := readLine(raw)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(answer, "220 ") && answer != "220" {
		return nil, fmt.Errorf("answer to STARTTLS: %q", answer)
	}
	c := tls.Client(raw, config)
	if err := c.Handshake(); err != nil {
		return nil, err
	}
	return &greeted{Conn: c, greeting: strings.NewReader("220 encrypted\r\n")}, nil
}

// readLine reads no byte beyond the line: what follows is TLS.
func readLine(r io.Reader) (string, error) {
	var line []byte
	for b := make([]byte, 1); len(line) < 512; line = append(line, b[0]) {
		if _, err := io.ReadFull(r, b); err != nil {
			return "", err
		}
		if b[0] == '\n' {
			return strings.TrimSuffix(string(line), "\r"), nil
		}
	}
	return "", errors.New("answer too long")
}

type greeted struct {
	net.Conn
	greeting *strings.Reader
}

func (g *greeted) Read(b []byte) (int, error) {
	if g.greeting.Len() > 0 {
		return g.greeting.Read(b)
	}
	return g.Conn.Read(b)
}

// tlsConfig verifies the peer's name where TLS was asked for. Opportunistic
// TLS does not: without it the message would go in the clear.
func (t *Transport) tlsConfig(to target, verify bool) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.TLS != nil {
		c = t.TLS.Clone()
	}
	if c.ServerName == "" {
		c.ServerName = to.host
	}
	if !verify {
		c.InsecureSkipVerify = true
	}
	return c
}

// quit ends an idle session politely. Never after a part of a body was sent:
// the next command would end that body with a dot.
func (s *session) quit() {
	s.client.CommandTimeout = quitTime
	if s.client.Quit() != nil {
		s.conn.Close()
	}
}
