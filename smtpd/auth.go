package smtpd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/emersion/go-sasl"

	"mailraft/mail/reply"
	"mailraft/smtpd/users"
	"mailraft/smtpd/wire"
)

// Users tells whether a name and a password belong together: users.ErrDenied if
// not. Any other error says that nobody knows at the moment.
type Users interface {
	Authenticate(context.Context, users.Login) (users.User, error)
}

// AuthPolicy is whom a listener asks for a password. Whatever it is: never
// without TLS.
type AuthPolicy int

// The policies.
const (
	AuthOff      AuthPolicy = iota // AUTH is not offered
	AuthMay                        // it is offered, and gives the right to relay
	AuthRequired                   // and no mail is taken before it
)

var authPolicies = []string{"off", "may", "required"}

// String is the policy in lower case.
func (p AuthPolicy) String() string { return authPolicies[p] }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *AuthPolicy) UnmarshalText(b []byte) error {
	i := slices.Index(authPolicies, string(b))
	if i < 0 {
		return fmt.Errorf("%q is none of off, may and required", b)
	}
	*p = AuthPolicy(i)
	return nil
}

const (
	// authTime bounds how long the backend is waited for.
	authTime = 20 * time.Second
	// deniedMax is how many failures a session may have.
	deniedMax = 3
)

// mechanisms are those that are offered, the better one first: LOGIN is for
// clients that know nothing else.
var mechanisms = []string{sasl.Plain, sasl.Login}

// exchange begins an authentication.
func (s *Server) exchange(c *wire.Conn, mechanism string) wire.Exchange {
	cl := clientOf(c)
	cl.method = mechanism
	if mechanism == sasl.Login {
		return &loginExchange{login: func(name, password string) error { return s.login(c.RemoteAddr(), cl, name, password) }}
	}
	return sasl.NewPlainServer(func(identity, name, password string) error {
		if identity != "" && identity != name { // to act for somebody else
			password, name = "", ""
		}
		return s.login(c.RemoteAddr(), cl, name, password)
	})
}

// loginExchange is the mechanism LOGIN, as clients have it since before it was
// written down (draft-murchison-sasl-login): two prompts, name and password.
type loginExchange struct {
	login func(name, password string) error
	name  *string
}

// Next implements wire.Exchange.
func (x *loginExchange) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case response == nil:
		return []byte("Username:"), false, nil
	case x.name == nil:
		name := string(response)
		x.name = &name
		return []byte("Password:"), false, nil
	}
	return nil, true, x.login(*x.name, string(response))
}

// login proves who the client is: nil, or a reply. Failures are slowed down and
// counted, whatever made them; what a failure was is told to nobody.
func (s *Server) login(remote net.Addr, cl *client, name, password string) error {
	addr, _ := addrOf(remote)
	try, ok := s.guesses.begin(network(remote).String(), name, time.Now())
	if !ok {
		s.stats.auth(authLimited)
		return reply.AuthOften.Reply()
	}
	ctx, cancel := context.WithTimeout(s.ctx, authTime)
	defer cancel()
	u, err := s.cfg.Users.Authenticate(ctx, users.Login{Name: name, Password: password, Client: addr})
	switch {
	case err == nil:
		s.guesses.succeeded(try, time.Now())
		s.stats.auth(authOk)
		cl.user = &u
		s.log.Info("authenticated", "session", cl.session, "remote", cl.address, "user", u.Name)
		return nil
	case !errors.Is(err, users.ErrDenied):
		s.guesses.undecided(try)
		s.stats.auth(authAway)
		s.log.Error("users cannot be authenticated", "session", cl.session, "error", err)
		return reply.AuthAway.Reply()
	}
	s.stats.auth(authDenied)
	s.log.Info("authentication failed", "session", cl.session, "remote", cl.address, "user", clean(name, heloMax))
	s.pause(time.Duration(try.delays) * s.cfg.GuessDelay)
	if cl.denied++; cl.denied >= deniedMax {
		return reply.AuthDeniedEnd.Reply()
	}
	return reply.AuthDenied.Reply()
}

// pause waits, or until the server is closed.
func (s *Server) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.ctx.Done():
	}
}
