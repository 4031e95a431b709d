package smtpd

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/emersion/go-smtp"

	"mailraft/mail"
	"mailraft/mail/reply"
	"mailraft/smtpd/wire"
)

// Data implements smtp.Session: it takes the message of DATA, or of all the
// BDATs. The reader is not read, the connection has the bytes.
func (s *session) Data(io.Reader) error {
	id, err := s.receive(s.conn.Begin())
	if err != nil {
		return smtpError(s.srv.answer("message", s.client, err))
	}
	return smtpError(reply.Queued.Reply(id))
}

func (s *session) receive(m *wire.Message) (mail.ID, error) {
	begun := time.Now()
	up, err := s.srv.cfg.Queue.Begin(s.srv.ctx)
	if err != nil {
		return mail.ID{}, fmt.Errorf("begin an upload: %w", err)
	}
	aborted := true
	defer func() { // a panic counts too
		if aborted {
			up.Abort()
		}
	}()
	var head header
	high, err := s.stream(m, up, &head)
	if err != nil {
		return mail.ID{}, err
	}
	aborted = false // the outcome is the queue's from here
	trace, env := s.trace(), s.tx.envelope()
	needed(&env, head.high, high)
	complete := time.Now()
	id, err := up.Commit(s.srv.ctx, mail.Submission{Envelope: env, Trace: trace, Fields: head.fields})
	s.srv.stats.commit.observe(time.Since(complete))
	if err != nil {
		return mail.ID{}, fmt.Errorf("commit a message: %w", err)
	}
	s.srv.stats.received.Add(1)
	s.srv.stats.bytes.Add(m.Size())
	s.srv.log.Info("received", "id", id.String(), "session", trace.Session, "message_id", head.fields.MessageID,
		"sender", env.ReversePath, "recipients", len(env.Recipients), "size", m.Size(),
		"remote", trace.Address, "protocol", trace.Protocol, "user", trace.User, "duration", time.Since(begun), "commit", time.Since(complete))
	return id, nil
}

// stream moves the message to the upload piece by piece. Only nil means that
// the client sent it to its end. high: a byte above 127 is in it.
func (s *session) stream(m *wire.Message, up io.Writer, head *header) (high bool, err error) {
	for {
		p, err := m.Next()
		if err == io.EOF {
			head.finish()
			return high, nil
		}
		if err != nil {
			return high, err
		}
		high = high || highBit(p)
		head.look(p)
		if head.hops > s.srv.cfg.Limits.Hops {
			return high, reply.Loop.Reply()
		}
		if _, err := up.Write(p); err != nil {
			return high, fmt.Errorf("store a message: %w", err)
		}
	}
}

// needed takes back what the client declared and the message does not need.
// Libraries declare SMTPUTF8 and 8BITMIME wherever they are offered; a mailbox
// server that has neither must still get plain mail.
func needed(env *mail.Envelope, header, body bool) {
	addresses := false
	for _, text := range append([]string{env.ReversePath}, env.Recipients...) {
		addresses = addresses || highBit([]byte(text))
	}
	env.UTF8 = env.UTF8 && (header || addresses)
	env.EightBit = env.EightBit && body
}

// answer is the one place where an error becomes a reply. What is no reply by
// itself is temporary, and its text is for our log and not for the client.
func (s *Server) answer(stage string, c *client, err error) *mail.Reply {
	var r *mail.Reply
	switch {
	case errors.As(err, &r) && (r.Temporary() || r.Permanent()):
		return r
	case errors.Is(err, wire.ErrTooLarge):
		return reply.TooLarge.Reply(s.sizeMax())
	case errors.Is(err, wire.ErrBare):
		return reply.Bare.Reply()
	case errors.Is(err, wire.ErrSlow):
		return reply.Slow.Reply()
	case errors.Is(err, wire.ErrLost), errors.Is(err, wire.ErrAborted):
		return reply.Lost.Reply() // nobody hears it
	}
	s.log.Error("temporary failure", "stage", stage, "session", c.session, "error", err)
	return reply.Failure.Reply()
}

// smtpError is r as go-smtp wants it: exactly this type, not even wrapped, or
// the client is told 554.
func smtpError(r *mail.Reply) error {
	return &smtp.SMTPError{Code: r.Code, EnhancedCode: enhanced(r), Message: clean(replyText(r.Text), replyMax)}
}

// replyMax keeps a reply line within RFC 5321 §4.5.3.1.5.
const replyMax = 450

// enhanced reads RFC 3463's form; what does not fit the code becomes "X.0.0".
func enhanced(r *mail.Reply) smtp.EnhancedCode {
	var e smtp.EnhancedCode
	var rest string
	n, _ := fmt.Sscanf(r.Enhanced+" .", "%d.%d.%d %s", &e[0], &e[1], &e[2], &rest)
	if n != 4 || e[0] != r.Code/100 || e[1] < 0 || e[2] < 0 {
		return smtp.EnhancedCode{r.Code / 100, 0, 0}
	}
	return e
}
