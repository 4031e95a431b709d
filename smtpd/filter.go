package smtpd

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/emersion/go-smtp"

	"mailraft/mail"
	"mailraft/mail/reply"
	"mailraft/smtpd/milter"
	"mailraft/smtpd/wire"
)

// filters begins the session of a client at the milters of its listener.
func (s *Server) filters(c *wire.Conn, cl *client) *milter.Session {
	about := milter.Client{Session: cl.session, Hostname: s.cfg.Hostname}
	if cl.frontEnd {
		about.Addr = netip.AddrPortFrom(cl.handed.Address, 0)
	} else if ap, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
		about.Addr = netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
	}
	if ap, err := netip.ParseAddrPort(c.LocalAddr().String()); err == nil {
		about.Port = ap.Port()
	}
	return milter.Begin(s.ctx, cl.listener.Milters, about)
}

// filterMail shows a sender that we would take to the milters.
func (s *session) filterMail(tx *transaction, opts *smtp.MailOptions) error {
	helo := s.helo()
	if s.client.frontEnd { // whose client is another one than at the last MAIL
		helo = s.client.handed.Helo
		if s.filtered != s.client.handovers {
			s.filter.Close()
			s.filter, s.filtered = s.srv.filters(s.conn, s.client), s.client.handovers
		}
	}
	if s.filter == nil {
		return nil
	}
	return s.filter.Mail(milter.Sender{
		Helo: clean(helo, heloMax), TLS: s.conn.TLS(), Path: tx.env.ReversePath, Params: words(s.conn.Command()), Size: opts.Size,
		User: s.client.userName(), Method: s.client.method,
	})
}

// words are those behind the address of MAIL or RCPT.
func words(line string) []string {
	_, rest, _ := strings.Cut(line, "> ")
	list := strings.Fields(rest)
	return list[:min(len(list), 20)]
}

// changed makes the changes of the envelope that milters ask for. A recipient
// is added if the client could have named it. False: nobody is left.
func (s *session) changed(ctx context.Context, env *mail.Envelope, r milter.Result) (bool, error) {
	if r.SenderChanged {
		env.ReversePath = r.Sender
	}
	for _, c := range r.Recipients {
		text := c.Addr.String()
		i := slices.IndexFunc(env.Recipients, func(other string) bool { return strings.EqualFold(other, text) })
		switch {
		case c.Remove && i >= 0:
			env.Recipients = slices.Delete(env.Recipients, i, i+1)
			if len(env.Asked) > 0 {
				env.Asked = slices.Delete(env.Asked, i, i+1)
			}
		case !c.Remove && i < 0:
			if err := s.mayName(ctx, env, c.Addr); err != nil {
				if refusal := (*mail.Reply)(nil); !errors.Is(err, errMany) && (!errors.As(err, &refusal) || !refusal.Permanent()) {
					return false, err
				}
				s.srv.log.Warn("a milter's recipient is not added", "milter", c.Filter, "session", s.client.session, "message", s.filter.ID(),
					"recipient", text, "reason", err.Error())
				continue
			}
			tx := transaction{env: *env}
			tx.add(text, mail.Asked{})
			*env = tx.env
		}
	}
	env.UTF8 = env.UTF8 || highBit([]byte(env.ReversePath))
	return len(env.Recipients) > 0, nil
}

var errMany = errors.New("the message has as many recipients as it may")

// mayName is nil if the client could have named a recipient, else the reason.
func (s *session) mayName(ctx context.Context, env *mail.Envelope, addr mail.Address) error {
	switch {
	case len(env.Recipients) >= s.srv.cfg.Limits.Recipients:
		return errMany
	case addr.UTF8() && !env.UTF8:
		return reply.UTF8.Reply()
	}
	return s.srv.cfg.Directory.Verify(ctx, addr, env.Relay)
}

// discard is the end of a message that a milter wants to vanish. The client is
// told what it would be told otherwise; the log alone knows.
func (s *session) discard(env mail.Envelope, f mail.Fields, by string, size int64) *mail.Reply {
	s.srv.stats.discarded.Add(1)
	s.srv.log.Info("discarded", "milter", by, "session", s.client.session, "message", s.filter.ID(), "message_id", f.MessageID,
		"sender", env.ReversePath, "recipients", strings.Join(env.Recipients, " "), "size", size, "remote", s.client.address)
	return reply.Discarded.Reply(s.filter.ID())
}

// overlayHigh reports whether milters brought a byte above 127 into a header.
func overlayHigh(o *mail.Overlay) bool {
	return o != nil && slices.ContainsFunc(o.Edits, func(e mail.Edit) bool { return highBit([]byte(e.Text)) })
}
