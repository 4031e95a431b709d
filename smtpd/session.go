package smtpd

import (
	"slices"
	"strings"

	"github.com/emersion/go-smtp"

	"mailraft/mail"
	"mailraft/mail/reply"
	"mailraft/smtpd/milter"
	"mailraft/smtpd/wire"
)

// session is go-smtp's view of a client, from its first EHLO. One goroutine.
type session struct {
	srv      *Server
	conn     *wire.Conn
	client   *client
	helo     func() string
	filter   *milter.Session // nil: the listener has no milters
	filtered int             // client.handovers when it was made
	tx       *transaction
}

// transaction is what MAIL and RCPT have said so far.
type transaction struct {
	env   mail.Envelope
	known map[string]bool // recipients accepted
	asked int             // RCPT commands
}

// excessMax is how many times the recipient limit may be asked for in one
// transaction: what is over the limit is refused one by one, but not for ever.
const excessMax = 10

func (s *Server) newSession(c *smtp.Conn) (smtp.Session, error) {
	conn := c.Conn().(*wire.Conn)
	s.stats.sessions.Add(1)
	cl := clientOf(conn)
	if s.cfg.Relay != nil {
		return &relayed{srv: s, conn: conn, client: cl, helo: c.Hostname}, nil
	}
	return &session{srv: s, conn: conn, client: cl, helo: c.Hostname, filter: s.filters(conn, cl)}, nil
}

// Mail implements smtp.Session.
func (s *session) Mail(from string, opts *smtp.MailOptions) error {
	tx, err := s.mail(from, opts)
	if err == nil {
		err = s.filterMail(tx, opts)
	}
	if err != nil {
		return smtpError(s.srv.answer("mail", s.client, err))
	}
	s.tx, s.client.sender = tx, tx.env.ReversePath
	s.srv.began(s.client)
	return nil
}

func (s *session) mail(from string, opts *smtp.MailOptions) (*transaction, error) {
	if s.tx != nil {
		return nil, reply.Nested.Reply()
	}
	if err := s.srv.ready(); err != nil {
		return nil, err
	}
	if err := s.srv.maySend(s.client, opts.Size); err != nil {
		return nil, err
	}
	tx := &transaction{known: map[string]bool{}}
	tx.env.EightBit = opts.Body == smtp.Body8BitMIME
	tx.env.UTF8 = opts.UTF8
	tx.env.Relay = s.client.mayRelay(s.conn)
	if err := reports(&tx.env, opts); err != nil {
		return nil, err
	}
	var err error
	tx.env.ReversePath, err = s.srv.sender(s.client, s.conn.Command(), from, opts.UTF8)
	return tx, err
}

// maySend is why the client may not send mail, or so much of it.
func (s *Server) maySend(cl *client, size int64) error {
	if cl.listener.Auth == AuthRequired && cl.user == nil {
		return reply.AuthFirst.Reply()
	}
	if err := s.mayBegin(cl); err != nil {
		return err
	}
	if limit := s.sizeMax(); limit > 0 && size > limit {
		return reply.TooLarge.Reply(limit)
	}
	return nil
}

// sender is the reverse-path of a MAIL command, if the client may have it.
func (s *Server) sender(cl *client, command, from string, utf8 bool) (string, error) {
	if from == "" {
		return "", nil
	}
	addr, ok := address(command, from)
	switch {
	case !ok:
		return "", reply.Sender.Reply()
	case addr.UTF8() && !utf8:
		return "", reply.UTF8.Reply()
	}
	path := addr.String()
	if u := cl.user; u != nil && cl.listener.SenderCheck && !u.MaySendAs(path, s.cfg.DefaultDomain) {
		return "", reply.SenderNotYours.Reply()
	}
	return path, nil
}

// Rcpt implements smtp.Session.
func (s *session) Rcpt(to string, opts *smtp.RcptOptions) error {
	if err := s.rcpt(to, opts); err != nil {
		return smtpError(s.srv.answer("rcpt", s.client, err))
	}
	return nil
}

func (s *session) rcpt(to string, opts *smtp.RcptOptions) error {
	tx, limit := s.tx, s.srv.cfg.Limits.Recipients
	tx.asked++
	switch {
	case tx.asked > excessMax*limit:
		return reply.RecipientsFar.Reply()
	case len(tx.known) >= limit:
		return reply.Recipients.Reply()
	}
	addr, ok := address(s.conn.Command(), to)
	switch {
	case !ok:
		return reply.Recipient.Reply()
	case addr.UTF8() && !tx.env.UTF8:
		return reply.UTF8.Reply()
	}
	ask, err := asked(opts)
	if err != nil {
		return err
	}
	if err := s.srv.mayAdd(s.client); err != nil {
		return err
	}
	if err := s.srv.cfg.Directory.Verify(s.srv.ctx, addr, tx.env.Relay); err != nil {
		return err
	}
	text := addr.String()
	if tx.known[text] { // said twice is meant once
		return nil
	}
	if err := s.filter.Rcpt(text, words(s.conn.Command())); err != nil {
		return err
	}
	tx.known[text] = true
	tx.add(text, ask)
	return nil
}

// Reset implements smtp.Session.
func (s *session) Reset() {
	if s.tx != nil {
		s.srv.stats.open.Add(-1)
	}
	s.tx, s.client.sender = nil, ""
	if s.filter.Abort(); s.client.frontEnd { // the next transaction is another client's
		s.filter.Close()
	}
}

// Logout implements smtp.Session.
func (s *session) Logout() error {
	s.Reset()
	s.filter.Close()
	return nil
}

// trace is what the Received field will say (RFC 5321 §4.4).
func (s *session) trace() mail.Trace {
	helo, extended, tls := s.helo(), s.conn.Extended(), s.conn.TLS() != nil
	if s.client.frontEnd {
		h := s.client.handed
		helo, extended, tls = h.Helo, h.Proto == extendedSMTP, h.TLS
	}
	return mail.Trace{
		Helo:     clean(helo, heloMax),
		Address:  s.client.address,
		By:       s.srv.cfg.Hostname,
		Protocol: protocol(extended, tls, s.client.user != nil, s.tx.env.UTF8),
		Session:  s.client.session,
		User:     s.client.userName(),
	}
}

// userName is who the client has proved to be; empty: nobody.
func (c *client) userName() string {
	if c.user == nil {
		return c.certificate
	}
	return c.user.Name
}

const (
	heloMax      = 255
	extendedSMTP = "ESMTP"
)

// protocol is the "with" word (RFC 3848, RFC 6531 §4.3).
func protocol(extended, tls, auth, utf8 bool) string {
	name := "SMTP"
	switch {
	case utf8:
		name = "UTF8SMTP"
	case extended:
		name = extendedSMTP
	}
	if tls && name != "SMTP" { // there is no word for HELO over TLS
		name += "S"
	}
	if auth {
		name += "A"
	}
	return name
}

func (s *Server) sizeMax() int64 {
	if s.cfg.SizeMax == nil {
		return 0
	}
	return s.cfg.SizeMax()
}

func (tx *transaction) envelope() mail.Envelope {
	env := tx.env
	env.Recipients, env.Asked = slices.Clone(env.Recipients), slices.Clone(env.Asked)
	return env
}

// address reads the address of a MAIL or RCPT line itself: go-smtp decodes a
// quoted local part and hands on `a> @b@c`, in which nobody can tell any more
// what was quoted. Where it understood something else (given), the line is
// refused: its parameters might not be what they seem.
func address(line, given string) (mail.Address, bool) {
	text, ok := path(line)
	if !ok {
		return mail.Address{}, false
	}
	addr, err := mail.ParseAddress(text)
	if err != nil || addr.Local+"@"+addr.Domain != strings.TrimSuffix(given, ".") {
		return mail.Address{}, false
	}
	return addr, true
}

// path is the mailbox between the angle brackets of "MAIL FROM:<…>" or "RCPT
// TO:<…>", without a source route (RFC 5321 §4.1.2, appendix C). Some old
// clients leave the brackets out.
func path(line string) (string, bool) {
	_, rest, _ := strings.Cut(line, ":")
	rest, bracket := strings.CutPrefix(strings.TrimLeft(rest, " \t"), "<")
	if !bracket {
		text, _, _ := strings.Cut(rest, " ")
		return text, true
	}
	if strings.HasPrefix(rest, "@") {
		var routed bool
		if _, rest, routed = strings.Cut(rest, ":"); !routed {
			return "", false
		}
	}
	quoted := false
	for i := 0; i < len(rest); i++ {
		switch {
		case rest[i] == '\\' && quoted:
			i++
		case rest[i] == '"':
			quoted = !quoted
		case rest[i] == '>' && !quoted:
			return rest[:i], true
		}
	}
	return "", false
}
