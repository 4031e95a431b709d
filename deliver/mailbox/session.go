package mailbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/emersion/go-smtp"

	"mailraft/mail"
)

// session is one connection. go-smtp calls it once at a time, but for a
// message by BDAT, which comes in beside a RSET or the end of the connection.
type session struct {
	server *Server
	conn   *smtp.Conn

	mu     sync.Mutex
	from   string
	mailed bool
	to     []rcpt
	owing  bool // a message came in, and its answers are not written
	out    bool // the connection has ended
}

type rcpt struct {
	key  string // as go-smtp knows it
	addr mail.Address
}

func (s *Server) session(c *smtp.Conn) (smtp.Session, error) {
	return &session{server: s, conn: c}, nil
}

// Mail implements smtp.Session.
func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mailed {
		return answer(503, "5.5.1", "a message is under way already")
	}
	if from != "" {
		a, err := address(from)
		if err != nil {
			return answer(553, "5.1.7", "malformed reverse-path")
		}
		from = a.String()
	}
	s.from, s.mailed = from, true
	return nil
}

// Rcpt implements smtp.Session.
func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	a, err := address(to)
	if err != nil {
		return answer(553, "5.1.3", "malformed address")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.to = append(s.to, rcpt{key: to, addr: a})
	return nil
}

// address checks what go-smtp made of a path: it takes quotes away, so the
// last "@" is the one, and the rest must be valid once quoted again.
func address(s string) (mail.Address, error) {
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return mail.ParseAddress(s)
	}
	return mail.ParseAddress(mail.Address{Local: s[:at], Domain: s[at+1:]}.String())
}

// Reset implements smtp.Session: a transaction is over, its answers included.
func (s *session) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reset()
}

// Logout implements smtp.Session.
func (s *session) Logout() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out = true
	s.reset()
	return nil
}

func (s *session) reset() {
	s.from, s.mailed, s.to = "", false, nil
	if s.owing {
		s.owing = false
		s.server.end()
	}
}

// begin takes the envelope for the message that comes in now.
func (s *session) begin() (from string, to []rcpt, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out || !s.server.begin() {
		return "", nil, false
	}
	s.owing = true
	return s.from, s.to, true
}

// Data implements smtp.Session; go-smtp calls LMTPData instead.
func (s *session) Data(io.Reader) error { return answer(502, "5.5.1", "this is LMTP") }

// LMTPData writes the message to a file once, and from there into each
// mailbox. A recipient is answered when its mailbox has it.
func (s *session) LMTPData(r io.Reader, status smtp.StatusCollector) error {
	from, to, ok := s.begin()
	if !ok {
		io.Copy(io.Discard, r)
		return answer(421, "4.3.2", "%s is stopping", s.server.opts.Host)
	}
	defer s.server.end()
	content, size, err := s.spool(r)
	if err != nil {
		return s.failed(r, err)
	}
	defer content.Close()
	for _, t := range to {
		status.SetStatus(t.key, s.deliver(t, from, io.NewSectionReader(content, 0, size)))
	}
	return nil
}

var errGone = errors.New("connection ended inside the message")

// spool keeps the body in a file without a name until it is delivered.
func (s *session) spool(r io.Reader) (*os.File, int64, error) {
	if s.server.opts.Create {
		if err := os.MkdirAll(s.server.opts.Dir, 0o700); err != nil {
			return nil, 0, err
		}
	}
	f, err := os.CreateTemp(s.server.opts.Dir, ".mailraft-in-*")
	if err != nil {
		return nil, 0, err
	}
	os.Remove(f.Name())
	size, err := io.CopyBuffer(f, struct{ io.Reader }{r}, make([]byte, 64<<10))
	if c, ok := s.conn.Conn().(*conn); err == nil && ok && c.gone.Load() {
		err = errGone
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, size, nil
}

// failed answers where the message could not be read or kept. After a body
// that was not read to its end the connection is of no use: what follows
// would be taken for commands.
func (s *session) failed(r io.Reader, err error) error {
	var said *smtp.SMTPError
	if errors.As(err, &said) { // too large, or reset: go-smtp's own
		return said
	}
	if _, rest := io.Copy(io.Discard, r); rest != nil || errors.Is(err, errGone) {
		s.conn.Conn().Close()
	}
	reply, _ := s.server.store.Reply(fmt.Errorf("keep the message: %w", err))
	return answer(reply.Code, reply.Enhanced, "%s", reply.Text)
}
