package smtpd

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"mailraft/mail"
	"mailraft/smtpd/milter"
	"mailraft/smtpd/wire"
)

// Listener says what a port is for, and how its clients are dealt with.
type Listener struct {
	Role Role
	TLS  TLSPolicy

	// Milters are asked about mail in this order, before it is taken.
	Milters []*milter.Filter

	// Certificate is asked for every connection, and must not be nil unless TLS
	// is off. While it returns nil there is no TLS.
	Certificate func() *tls.Config

	// RelayNetworks are those whose clients may send to recipients outside our
	// domains, and whom nobody else can be in.
	RelayNetworks []netip.Prefix

	// RelayClient names a client whose certificate gives it the same right; nil:
	// none does.
	RelayClient func(tls.ConnectionState) (name string, ok bool)

	Auth AuthPolicy
	// SenderCheck: a user may send as what is his, and as nobody else.
	SenderCheck bool
	// ProxyFrom are the networks of proxies, whose connections begin with a
	// header of the PROXY protocol, version 1 or 2.
	ProxyFrom []netip.Prefix
}

// Role is what a listener is for.
type Role int

// The roles.
const (
	MX         Role = iota // port 25: mail for our domains, from anyone
	Submission             // ports 587 and 465 (RFC 6409, RFC 8314): mail from our users
	Internal               // mail from servers of our own
)

var roles = []string{"mx", "submission", "internal"}

// String is the role in lower case.
func (r Role) String() string { return roles[r] }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Role) UnmarshalText(b []byte) error {
	i := slices.Index(roles, string(b))
	if i < 0 {
		return fmt.Errorf("%q is none of mx, submission and internal", b)
	}
	*r = Role(i)
	return nil
}

// TLSPolicy is what a listener asks of its clients. TLS is 1.2 or newer.
type TLSPolicy int

// The policies.
const (
	TLSOff      TLSPolicy = iota // STARTTLS is not offered
	TLSMay                       // it is offered
	TLSRequired                  // and no mail is taken before it (RFC 3207 §4)
	TLSImplicit                  // TLS from the first byte on (RFC 8314 §3)
)

var tlsPolicies = []string{"off", "may", "required", "implicit"}

// String is the policy in lower case.
func (p TLSPolicy) String() string { return tlsPolicies[p] }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *TLSPolicy) UnmarshalText(b []byte) error {
	i := slices.Index(tlsPolicies, string(b))
	if i < 0 {
		return fmt.Errorf("%q is none of off, may, required and implicit", b)
	}
	*p = TLSPolicy(i)
	return nil
}

// mayRelay reports whether the client has the right to send to recipients
// outside our domains.
func (cl *client) mayRelay(c *wire.Conn) bool {
	d, state := cl.listener, c.TLS()
	switch {
	case cl.frontEnd:
		return cl.handed.Relay // decided where the client came in
	case cl.user != nil:
		return true
	}
	if d.RelayClient != nil && state != nil {
		if name, ok := d.RelayClient(*state); ok {
			cl.certificate = name
			return true
		}
	}
	addr, ok := addrOf(c.RemoteAddr())
	return ok && contains(d.RelayNetworks, addr)
}

func contains(networks []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Serve answers connections of l, as d says, until Close.
func (s *Server) Serve(l net.Listener, d Listener) error {
	return s.serve(l, s.wireConfig(d).Listen(l, d.TLS == TLSImplicit))
}

func (s *Server) serve(l net.Listener, wl *wire.Listener) error {
	if !s.started(wl) {
		l.Close()
		return net.ErrClosed
	}
	defer s.serving.Done()
	err := s.smtp.Serve(wl)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	return fmt.Errorf("serve SMTP on %s: %w", l.Addr(), err)
}

// wireConfig is what the connections of a listener are made with.
func (s *Server) wireConfig(d Listener) wire.Config {
	cfg := s.wire
	if d.TLS != TLSOff {
		cfg.TLS = d.Certificate
	}
	cfg.TLSRequired = d.TLS == TLSRequired
	if d.Auth != AuthOff {
		cfg.Mechanisms, cfg.Auth = mechanisms, s.exchange
	}
	if len(d.ProxyFrom) > 0 {
		cfg.ProxyFrom = func(addr net.Addr) bool {
			a, ok := addrOf(addr)
			return ok && contains(d.ProxyFrom, a)
		}
	}
	cfg.Identify = func(c *wire.Conn) *mail.Reply { return s.identify(c, &d) }
	return cfg
}
