package remote

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/textproto"
	"time"

	"mailraft/mail"
)

// Credential is what to log in with.
type Credential struct{ User, Password string }

// String keeps the password out of whatever is printed.
func (c Credential) String() string { return "credential of " + c.User }

// GoString does so too.
func (c Credential) GoString() string { return c.String() }

// login authenticates (RFC 4954) by PLAIN, or LOGIN where that alone is offered,
// and only over TLS. Whatever goes wrong is the operator's to mend, so the mail
// waits: a password that is refused is no reason to return it.
func (t *Transport) login(ctx context.Context, s *session) error {
	name := s.target.hop.Credential
	if !s.encrypted {
		return mail.Replyf(451, "4.7.11", "no login at %s without encryption", s.name)
	}
	if t.Credential == nil {
		return mail.Replyf(451, "4.3.5", "this member has no credential %q for %s", name, s.name)
	}
	c, err := t.Credential(name)
	if err != nil {
		return mail.Replyf(451, "4.3.5", "this member has no credential %q for %s: %v", name, s.name, err)
	}
	stop := context.AfterFunc(ctx, func() { s.conn.Close() })
	defer stop()
	var lines []string
	encode := base64.StdEncoding.EncodeToString
	switch {
	case s.client.SupportsAuth("PLAIN"): // RFC 4616 §2, as initial response
		lines = []string{"AUTH PLAIN " + encode([]byte("\x00"+c.User+"\x00"+c.Password))}
	case s.client.SupportsAuth("LOGIN"): // asked for in words that differ between servers
		lines = []string{"AUTH LOGIN", encode([]byte(c.User)), encode([]byte(c.Password))}
	default:
		return mail.Replyf(451, "4.7.0", "%s offers neither AUTH PLAIN nor LOGIN", s.name)
	}
	r, err := s.say(lines)
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	if r.Code != 235 {
		return mail.Replyf(451, "4.7.8", "%s does not let credential %q in: %s", s.name, name, r.String())
	}
	return nil
}

// say sends the lines of an exchange, each but the first as the answer to a 334,
// and returns the last reply. go-smtp would send a cancelling "*" after a refusal
// too, which servers count as an error.
func (s *session) say(lines []string) (r mail.Reply, err error) {
	if err := s.conn.SetDeadline(time.Now().Add(s.times.Greeting)); err != nil {
		return r, err
	}
	defer s.conn.SetDeadline(time.Time{})
	in := textproto.NewReader(bufio.NewReader(s.conn)) // between commands nobody has read ahead
	for i, line := range lines {
		if _, err := io.WriteString(s.conn, line+"\r\n"); err != nil {
			return r, err
		}
		code, text, err := in.ReadResponse(0)
		if err != nil {
			return r, err
		}
		if r = reply(code, text); code != 334 || i == len(lines)-1 {
			break
		}
	}
	return r, nil
}
