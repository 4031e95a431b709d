package smtpd

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"mailraft/mail"
	"mailraft/mail/reply"
	"mailraft/smtpd/wire"
)

// Data implements smtp.Session: it takes the message of DATA, or of all the
// BDATs. The reader is not read, the connection has the bytes.
func (s *session) Data(io.Reader) error {
	done, err := s.receive(s.conn.Begin())
	if err != nil {
		done = s.srv.answer("message", s.client, err)
	}
	return smtpError(done)
}

// receive takes a message: the reply that says so, or why not.
func (s *session) receive(m *wire.Message) (*mail.Reply, error) {
	begun := time.Now()
	up, err := s.srv.cfg.Queue.Begin(s.srv.ctx)
	if err != nil {
		return nil, fmt.Errorf("begin an upload: %w", err)
	}
	aborted := true
	defer func() { // a panic counts too
		if aborted {
			up.Abort()
		}
	}()
	if err := s.filter.Data(); err != nil {
		return nil, err
	}
	s.name(m, up)
	head := header{own: s.srv.cfg.Own}
	high, err := s.stream(m, up, &head)
	if err != nil {
		return nil, err
	}
	verdict, err := s.filter.End()
	if err != nil {
		return nil, err
	}
	sub := mail.Submission{Envelope: s.tx.envelope(), Trace: s.trace(), Fields: head.fields,
		Overlay: verdict.Overlay, Quarantine: verdict.Quarantine, Filtered: verdict.Filtered}
	left, err := s.changed(s.srv.ctx, &sub.Envelope, verdict)
	if err != nil {
		return nil, fmt.Errorf("change the envelope: %w", err)
	}
	if by := verdict.Discarded; by != "" || !left {
		return s.discard(s.tx.envelope(), head.fields, cmp.Or(by, "all recipients removed"), m.Size()), nil
	}
	needed(&sub.Envelope, head.high || overlayHigh(sub.Overlay), high)
	aborted = false // the outcome is the queue's from here
	complete := time.Now()
	id, err := up.Commit(s.srv.ctx, sub)
	s.srv.stats.commit.observe(time.Since(complete))
	if err != nil {
		return nil, fmt.Errorf("commit a message: %w", err)
	}
	s.srv.stats.received.Add(1)
	s.srv.stats.bytes.Add(m.Size())
	s.logReceived(id, sub, "size", m.Size(), "duration", time.Since(begun), "commit", time.Since(complete))
	return reply.Queued.Reply(id), nil
}

func (s *session) logReceived(id mail.ID, sub mail.Submission, more ...any) {
	args := append([]any{"id", id.String(), "session", sub.Trace.Session, "message_id", sub.Fields.MessageID,
		"sender", sub.Envelope.ReversePath, "recipients", len(sub.Envelope.Recipients),
		"remote", sub.Trace.Address, "protocol", sub.Trace.Protocol, "user", sub.Trace.User}, more...)
	if s.filter != nil { // what milters call it, and what they did
		args = append(args, "message", s.filter.ID(), "filtered", strings.Join(sub.Filtered, "; "))
	}
	if sub.Quarantine != "" {
		args = append(args, "quarantine", sub.Quarantine)
	}
	s.srv.log.Info("received", args...)
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
		if head.ours > s.srv.cfg.Limits.OwnHops {
			return high, reply.LoopHere.Reply()
		}
		if _, err := up.Write(p); err != nil {
			return high, fmt.Errorf("store a message: %w", err)
		}
		if _, err := s.filter.Write(p); err != nil {
			return high, err
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
