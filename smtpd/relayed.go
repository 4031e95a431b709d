package smtpd

import (
	"fmt"
	"io"
	"time"

	"github.com/emersion/go-smtp"

	"mailraft/mail"
	"mailraft/mail/reply"
	"mailraft/smtpd/wire"
)

// relayed is go-smtp's view of a client whose transactions are handed over. It
// decides as little as it can: commands go as they came to whoever takes the
// mail, and its answers come back. MAIL is answered here, since who that is may
// depend on the recipients; what is wrong with it is said at RCPT.
type relayed struct {
	srv    *Server
	conn   *wire.Conn
	client *client
	helo   func() string
	tx     Transaction
	utf8   bool
	asked  int // RCPT commands
	taken  int // of these
}

// Mail implements smtp.Session.
func (s *relayed) Mail(from string, opts *smtp.MailOptions) error {
	if err := s.mail(from, opts); err != nil {
		return smtpError(s.srv.answer("mail", s.client, err))
	}
	s.srv.began(s.client)
	return nil
}

func (s *relayed) mail(from string, opts *smtp.MailOptions) error {
	if s.tx != nil {
		return reply.Nested.Reply()
	}
	if err := s.srv.ready(); err != nil {
		return err
	}
	if err := s.srv.maySend(s.client, opts.Size); err != nil {
		return err
	}
	sender, err := s.srv.sender(s.client, s.conn.Command(), from, opts.UTF8)
	if err != nil {
		return err
	}
	s.tx, err = s.srv.cfg.Relay.Begin(s.srv.ctx, s.client.handover(s.conn, s.helo()), s.conn.Command())
	if err != nil {
		s.tx = nil
		return err
	}
	s.client.sender, s.utf8, s.asked, s.taken = sender, opts.UTF8, 0, 0
	return nil
}

// Rcpt implements smtp.Session.
func (s *relayed) Rcpt(to string, _ *smtp.RcptOptions) error {
	if err := s.rcpt(to); err != nil {
		return smtpError(s.srv.answer("rcpt", s.client, err))
	}
	s.taken++
	return nil
}

func (s *relayed) rcpt(to string) error {
	limit := s.srv.cfg.Limits.Recipients
	s.asked++
	switch {
	case s.asked > excessMax*limit:
		return reply.RecipientsFar.Reply()
	case s.taken >= limit:
		return reply.Recipients.Reply()
	}
	addr, ok := address(s.conn.Command(), to)
	switch {
	case !ok:
		return reply.Recipient.Reply()
	case addr.UTF8() && !s.utf8:
		return reply.UTF8.Reply()
	}
	if err := s.srv.mayAdd(s.client); err != nil {
		return err
	}
	return s.tx.Rcpt(s.srv.ctx, s.conn.Command(), addr)
}

// Data implements smtp.Session. Only the member's own answer is passed on.
func (s *relayed) Data(io.Reader) error {
	r, err := s.pass(s.conn.Begin())
	if err != nil {
		r = s.srv.answer("message", s.client, err)
	}
	return smtpError(r)
}

func (s *relayed) pass(m *wire.Message) (*mail.Reply, error) {
	begun := time.Now()
	to, err := s.tx.Data(s.srv.ctx)
	if err != nil {
		return nil, fmt.Errorf("begin a message: %w", err)
	}
	for {
		p, err := m.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if _, err := to.Write(p); err != nil {
			return nil, fmt.Errorf("pass a message on: %w", err)
		}
	}
	complete := time.Now()
	r, err := to.Commit(s.srv.ctx)
	s.srv.stats.commit.observe(time.Since(complete))
	if err != nil {
		return nil, fmt.Errorf("end a message: %w", err)
	}
	s.srv.stats.received.Add(1)
	s.srv.stats.bytes.Add(m.Size())
	s.srv.log.Info("handed over", "session", s.client.session, "reply", r.String(), "sender", s.client.sender, "recipients", s.taken,
		"size", m.Size(), "remote", s.client.address, "duration", time.Since(begun), "commit", time.Since(complete))
	return r, nil
}

// Reset implements smtp.Session.
func (s *relayed) Reset() {
	if s.tx != nil {
		s.tx.End()
		s.srv.stats.open.Add(-1)
	}
	s.tx, s.client.sender = nil, ""
}

// Logout implements smtp.Session.
func (s *relayed) Logout() error {
	s.Reset()
	return nil
}
