package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/emersion/go-smtp"

	"mailraft/directory"
	"mailraft/mail"
)

// session is one connection that has said hello, and has logged in where that
// is wanted.
type session struct {
	client    *smtp.Client
	conn      *conn
	target    target
	times     Times
	name      string // of the peer
	encrypted bool
	used      int // messages that were tried
	timer     *time.Timer
}

// dial connects, says hello, encrypts as the policy for the address says, and
// logs in. Where encryption is opportunistic (RFC 7435) a peer whose TLS does
// not work is used without.
func (t *Transport) dial(ctx context.Context, to target) (*session, error) {
	policy := to.hop.Policy()
	s, err := t.connect(ctx, to, policy >= directory.TLSMay && !to.hop.Implicit())
	if errors.Is(err, errStartTLS) && policy == directory.TLSMay {
		s, err = t.connect(ctx, to, false)
	}
	if err != nil || to.hop.Credential == "" {
		return s, err
	}
	if err := t.login(ctx, s); err != nil {
		s.conn.Close()
		return nil, err
	}
	return s, nil
}

// errStartTLS marks a failure that a connection in clear text would not have.
var errStartTLS = errors.New("STARTTLS failed")

func (t *Transport) connect(ctx context.Context, to target, upgrade bool) (_ *session, err error) {
	times := t.times()
	dialCtx, cancel := context.WithTimeout(ctx, times.Connect)
	defer cancel()
	raw, err := t.dialer(dialCtx, to.network, to.addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	s := &session{target: to, times: times, name: to.peerName(raw)}
	if to.hop.Implicit() {
		config, err := t.tlsConfig(to)
		if err != nil {
			raw.Close()
			return nil, err
		}
		if raw, err = handshake(raw, config, times.Greeting); err != nil {
			return nil, insecure(to, err)
		}
		s.encrypted = true
	}
	if err := s.hello(raw, t.Host); err != nil {
		raw.Close()
		return nil, err
	}
	if !upgrade {
		return s, nil
	}
	if err := t.upgrade(s, raw); err != nil {
		raw.Close()
		return nil, err
	}
	return s, nil
}

// upgrade encrypts a session that has said hello, and says hello again.
func (t *Transport) upgrade(s *session, raw net.Conn) error {
	required := s.target.hop.Policy() >= directory.TLSRequired
	if offered, _ := s.client.Extension("STARTTLS"); !offered {
		if required {
			return mail.Replyf(451, "4.7.4", "%s does not offer STARTTLS, and nothing is to be sent there without", s.name)
		}
		return nil
	}
	config, err := t.tlsConfig(s.target)
	if err != nil {
		return err
	}
	encrypted, err := startTLS(raw, config, s.times.Greeting)
	if err == nil {
		s.encrypted = true
		err = s.hello(encrypted, t.Host)
	}
	if err != nil && required {
		return insecure(s.target, err)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errStartTLS, err)
	}
	return nil
}

// insecure is what a failed handshake means for mail that is not to be sent
// without: that it waits.
func insecure(to target, err error) error {
	return mail.Replyf(451, "4.7.5", "no TLS with %s that tls=%s would do with: %v", to.addr, to.hop.Policy(), err)
}

func (s *session) hello(raw net.Conn, host string) error {
	s.conn = &conn{Conn: raw, block: s.times.Block}
	if s.client = smtp.NewClient(s.conn); s.target.lmtp {
		s.client = smtp.NewClientLMTP(s.conn)
	}
	s.client.CommandTimeout, s.client.SubmissionTimeout = s.times.Greeting, s.times.Answer
	return s.client.Hello(host)
}

// quit ends an idle session politely. Never after a part of a body was sent:
// the next command would end that body with a dot.
func (s *session) quit() {
	s.client.CommandTimeout = quitTime
	if s.client.Quit() != nil {
		s.conn.Close()
	}
}
