package remote

import (
	"context"
	"fmt"

	"github.com/emersion/go-sasl"

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
	var by sasl.Client
	switch {
	case s.client.SupportsAuth(sasl.Plain):
		by = sasl.NewPlainClient("", c.User, c.Password)
	case s.client.SupportsAuth(sasl.Login):
		by = &loginClient{answers: []string{c.User, c.Password}}
	default:
		return mail.Replyf(451, "4.7.0", "%s offers neither AUTH PLAIN nor LOGIN", s.name)
	}
	err = s.client.Auth(by)
	if r, ok := said(err); ok {
		return mail.Replyf(451, "4.7.8", "%s does not let credential %q in: %s", s.name, name, r.String())
	}
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	return nil
}

// loginClient is AUTH LOGIN: it is asked for the user, then for the password,
// in words that differ between servers. It volunteers nothing, which not all
// servers understand.
type loginClient struct{ answers []string }

// Start implements sasl.Client.
func (l *loginClient) Start() (mech string, first []byte, err error) { return sasl.Login, nil, nil }

// Next implements sasl.Client.
func (l *loginClient) Next([]byte) ([]byte, error) {
	if len(l.answers) == 0 {
		return nil, sasl.ErrUnexpectedServerChallenge
	}
	answer := l.answers[0]
	l.answers = l.answers[1:]
	return []byte(answer), nil
}
