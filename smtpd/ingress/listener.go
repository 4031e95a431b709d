package ingress

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"mailraft/smtpd"
	"mailraft/smtpd/milter"
)

// Listener is a port that takes mail.
type Listener struct {
	Listen  string `toml:"listen"`
	Role    string `toml:"role"`     // mx, submission, internal
	TLS     string `toml:"tls"`      // off, may, required, implicit; default: required for submission, else may if there is a certificate
	TLSCert string `toml:"tls-cert"` // default: that of [smtp]
	TLSKey  string `toml:"tls-key"`

	// RelayNetworks are those whose clients may send to recipients outside our
	// domains: addresses or prefixes.
	RelayNetworks []string `toml:"relay-networks"`

	// ClientCA and RelayClients give the same right to clients with a certificate
	// of that CA for one of these names. A client may be listed by the
	// fingerprint of its certificate instead, sha256: and hexadecimal; for that
	// no CA is needed.
	ClientCA     string   `toml:"client-ca"`
	RelayClients []string `toml:"relay-clients"`
	// ProxyFrom are the addresses or prefixes of proxies, whose connections begin
	// with a header of the PROXY protocol. From all others none is taken.
	ProxyFrom []string `toml:"proxy-from"`

	// Milters are the names of those that are asked, in this order; left out, all
	// are, in the order of the file.
	Milters []string `toml:"milters"`

	Auth             string `toml:"auth"`               // off, may, required; default: required for submission, else off
	SenderLoginCheck *bool  `toml:"sender-login-check"` // users send as their own addresses only; default: for submission

	role      smtpd.Role
	tls       smtpd.TLSPolicy
	auth      smtpd.AuthPolicy
	relay     []netip.Prefix
	proxyFrom []netip.Prefix
}

// MX is where mail for our domains is taken, for people and for front ends.
func (c *Config) MX() string {
	for _, l := range c.listeners {
		if l.role == smtpd.MX {
			return l.Listen
		}
	}
	return c.listeners[0].Listen
}

// Complete fills in defaults, and names the first key that cannot stand.
func (c *Config) Complete() error {
	if len(c.Listeners) == 0 {
		setDefault(&c.Listen, "127.0.0.1:2525")
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return errors.New("tls-cert and smtp.tls-key: one without the other")
	}
	if c.Auth.Users != "" && c.Auth.Dovecot != "" {
		return errors.New("auth: users and dovecot: want one of them")
	}
	if err := c.Limits.complete(); err != nil {
		return fmt.Errorf("limits.%w", err)
	}
	c.listeners = slices.Clone(c.Listeners)
	if c.Listen != "" {
		c.listeners = slices.Insert(c.listeners, 0, Listener{Listen: c.Listen, Role: smtpd.MX.String()})
	}
	for i := range c.listeners {
		if err := c.listeners[i].complete(c); err != nil {
			return fmt.Errorf("listener: %q: %w", c.listeners[i].Listen, err)
		}
	}
	return c.completeMilters()
}

func (l *Listener) complete(c *Config) error {
	if _, _, err := net.SplitHostPort(l.Listen); err != nil {
		return errors.New("listen: want host:port")
	}
	if err := l.role.UnmarshalText([]byte(l.Role)); err != nil {
		return fmt.Errorf("role: %w", err)
	}
	if (l.TLSCert == "") != (l.TLSKey == "") {
		return errors.New("tls-cert and tls-key: one without the other")
	}
	l.TLSCert, l.TLSKey = cmp.Or(l.TLSCert, c.TLSCert), cmp.Or(l.TLSKey, c.TLSKey)
	policy := smtpd.TLSOff
	switch {
	case l.role == smtpd.Submission:
		policy = smtpd.TLSRequired
	case l.TLSCert != "":
		policy = smtpd.TLSMay
	}
	setDefault(&l.TLS, policy.String())
	if err := l.tls.UnmarshalText([]byte(l.TLS)); err != nil {
		return fmt.Errorf("tls: %w", err)
	}
	switch {
	case l.tls != smtpd.TLSOff && l.TLSCert == "":
		return fmt.Errorf("tls: %s needs tls-cert and tls-key, here or in [smtp]", l.TLS)
	case l.role == smtpd.Submission && l.tls < smtpd.TLSRequired:
		return fmt.Errorf("tls: %s lets a password be sent in clear text; want required or implicit for submission", l.TLS)
	case l.role == smtpd.Submission && len(l.RelayNetworks)+len(l.RelayClients) > 0:
		return errors.New("relay-networks and relay-clients: a submission listener asks everybody for a password; use another listener with the role internal")
	}
	if err := l.completeAuth(c); err != nil {
		return err
	}
	return l.completeRelay()
}

// completeAuth says whom the listener asks for a password.
func (l *Listener) completeAuth(c *Config) error {
	policy := smtpd.AuthOff
	if l.role == smtpd.Submission {
		policy = smtpd.AuthRequired
	}
	setDefault(&l.Auth, policy.String())
	if err := l.auth.UnmarshalText([]byte(l.Auth)); err != nil {
		return fmt.Errorf("auth: %w", err)
	}
	if l.SenderLoginCheck == nil {
		check := l.role == smtpd.Submission
		l.SenderLoginCheck = &check
	}
	switch {
	case l.role == smtpd.Submission && l.auth != smtpd.AuthRequired:
		return fmt.Errorf("auth: %s; a submission listener requires it", l.Auth)
	case l.auth != smtpd.AuthOff && l.tls == smtpd.TLSOff:
		return fmt.Errorf("auth: %s, and tls is off: no password is read in clear text", l.Auth)
	case l.auth != smtpd.AuthOff && c.Auth.Users == "" && c.Auth.Dovecot == "":
		return fmt.Errorf("auth: %s needs users or dovecot in [smtp.auth]", l.Auth)
	}
	return nil
}

// completeRelay says who may relay without a password.
func (l *Listener) completeRelay() error {
	for _, text := range l.RelayNetworks {
		p, err := parsePrefix(text)
		if err != nil {
			return fmt.Errorf("relay-networks: %w", err)
		}
		l.relay = append(l.relay, p)
	}
	names := false
	for _, c := range l.RelayClients {
		fingerprint, ok := strings.CutPrefix(c, fingerprintPrefix)
		if sum, err := hex.DecodeString(fingerprint); ok && (err != nil || len(sum) != sha256.Size) {
			return fmt.Errorf("relay-clients: %q: want %s and 64 hexadecimal digits", c, fingerprintPrefix)
		}
		names = names || !ok
	}
	switch {
	case len(l.RelayClients) > 0 && l.tls == smtpd.TLSOff:
		return errors.New("relay-clients: without TLS nobody shows a certificate")
	case names && l.ClientCA == "":
		return errors.New("relay-clients: names need client-ca, the CA that says whose they are")
	case l.ClientCA != "" && !names:
		return errors.New("client-ca: want the names of those who may relay in relay-clients")
	}
	return l.proxies()
}

// parsePrefix reads a network that is trusted: not all addresses there are.
func parsePrefix(text string) (netip.Prefix, error) {
	p, err := readPrefix(text)
	if err == nil && p.Bits() == 0 {
		return p, fmt.Errorf("%q is everybody: that would be an open relay", text)
	}
	return p, err
}

// Port is a listener that is open, and how its clients are dealt with.
type Port struct {
	net.Listener
	Says smtpd.Listener
}

// Open opens every port before the first is served: who cannot have one does
// not start.
func (c *Config) Open(certs *Certificates, filters []*milter.Filter) ([]Port, error) {
	var ports []Port
	for _, l := range c.listeners {
		d, err := l.describe(certs, filters)
		if err == nil {
			var nl net.Listener
			if nl, err = net.Listen("tcp", l.Listen); err == nil {
				ports = append(ports, Port{nl, d})
				continue
			}
		}
		for _, p := range ports {
			p.Close()
		}
		return nil, fmt.Errorf("open SMTP port: %w", err)
	}
	return ports, nil
}

// describe is a listener as smtpd wants it.
func (l *Listener) describe(certs *Certificates, filters []*milter.Filter) (smtpd.Listener, error) {
	d := smtpd.Listener{Role: l.role, TLS: l.tls, RelayNetworks: l.relay, ProxyFrom: l.proxyFrom, Auth: l.auth, SenderCheck: *l.SenderLoginCheck, Milters: l.filters(filters)}
	if l.tls == smtpd.TLSOff {
		return d, nil
	}
	cert, err := certs.get(l.TLSCert, l.TLSKey, len(l.RelayClients) > 0)
	if err != nil {
		return d, err
	}
	d.Certificate = cert.config
	if len(l.RelayClients) > 0 {
		clients, err := newRelayClients(l.ClientCA, l.RelayClients, certs.Log)
		if err != nil {
			return d, err
		}
		d.RelayClient = clients.name
	}
	return d, nil
}

func setDefault(s *string, d string) {
	if *s == "" {
		*s = d
	}
}
