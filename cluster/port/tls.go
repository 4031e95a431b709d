package port

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"mailraft/cluster/pki"
)

// roles says who may dial for a protocol. For join nobody needs to be anybody.
var roles = map[string][]string{
	Raft: {pki.RoleMember}, Link: {pki.RoleMember}, Content: {pki.RoleMember},
	Front: {pki.RoleFrontend}, SMTP: {pki.RoleFrontend},
	API: {pki.RoleMember, pki.RoleClient},
}

// protocols are those that want a certificate.
var protocols = slices.Sorted(maps.Keys(roles))

// Why a certificate was not believed; the other side sees only an alert.
var (
	ErrBoundary = errors.New("certificate of another boundary")
	ErrRole     = errors.New("certificate of the wrong role")
	ErrPin      = errors.New("the other side does not have the CA that the token names; if the CA was exchanged since, make another token")
	ErrCA       = errors.New("signed by a CA that is not the boundary's, or not any more: a member that was away while it was exchanged joins anew, with: mailraft boundary token --replace NAME")
)

// serverConfig makes the configuration anew for each handshake. Session
// tickets are off: a resumed session would be as old as its certificate check.
func (p *Port) serverConfig() *tls.Config {
	base := &tls.Config{MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true}
	base.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		creds := p.cfg.Credentials()
		if len(creds.Cert.Certificate) == 0 {
			return nil, errors.New("this member has no certificate yet")
		}
		cfg := &tls.Config{MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true}
		// Only who asks for nothing but Join goes without a certificate.
		if slices.Equal(hello.SupportedProtos, []string{Join}) {
			cfg.NextProtos = []string{Join}
			cfg.Certificates = []tls.Certificate{withCA(creds)}
			return cfg, nil
		}
		cfg.NextProtos = protocols
		cfg.Certificates = []tls.Certificate{creds.Cert}
		// Verified below, by the same rules on both sides.
		cfg.ClientAuth = tls.RequireAnyClientCert
		cfg.ClientCAs = creds.CA
		cfg.VerifyConnection = func(cs tls.ConnectionState) error {
			_, err := verify(cs, creds, p.cfg.Now(), x509.ExtKeyUsageClientAuth, roles[cs.NegotiatedProtocol])
			return err
		}
		return cfg, nil
	}
	return base
}

func (p *Port) clientConfig(proto string) (*tls.Config, error) {
	creds := p.cfg.Credentials()
	if len(creds.Cert.Certificate) == 0 {
		return nil, errors.New("this member has no certificate yet")
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{proto},
		// Given whatever CAs the server names: it may be rotating.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &creds.Cert, nil },
		InsecureSkipVerify:   true, // host names mean nothing here; VerifyConnection checks the rest
		VerifyConnection: func(cs tls.ConnectionState) error {
			_, err := verify(cs, creds, p.cfg.Now(), x509.ExtKeyUsageServerAuth, roles[Raft])
			return err
		},
	}, nil
}

// withCA is the certificate with the CA's behind it, for joiners.
func withCA(creds Credentials) tls.Certificate {
	cert := creds.Cert
	cert.Certificate = [][]byte{cert.Certificate[0], creds.CADER}
	return cert
}

// verify: signed by the boundary's CA, in time, for this side of a connection,
// of our own boundary, and of one of the roles.
func verify(cs tls.ConnectionState, creds Credentials, now time.Time, usage x509.ExtKeyUsage, roles []string) (pki.Identity, error) {
	if creds.CA == nil {
		return pki.Identity{}, errors.New("no CA to verify with")
	}
	own, err := x509.ParseCertificate(creds.Cert.Certificate[0])
	if err != nil {
		return pki.Identity{}, fmt.Errorf("own certificate: %w", err)
	}
	self, err := pki.IdentityOf(own)
	if err != nil {
		return pki.Identity{}, fmt.Errorf("own certificate: %w", err)
	}
	id, err := verifyChain(cs, creds.CA, now, usage)
	switch {
	case err != nil:
		return id, err
	case id.Boundary != self.Boundary:
		return id, fmt.Errorf("%w: %s", ErrBoundary, id)
	case !slices.Contains(roles, id.Role):
		return id, fmt.Errorf("%w: %s", ErrRole, id)
	}
	return id, nil
}

// verifyChain does not mind a certificate that is not good yet: the CA signs
// only for the present, so either our clock is behind or that of the member
// that made it was ahead, and no member is cut off for a wrong clock of days.
func verifyChain(cs tls.ConnectionState, roots *x509.CertPool, now time.Time, usage x509.ExtKeyUsage) (pki.Identity, error) {
	if len(cs.PeerCertificates) == 0 {
		return pki.Identity{}, errors.New("no certificate")
	}
	leaf := cs.PeerCertificates[0]
	if now.Before(leaf.NotBefore) {
		now = leaf.NotBefore // which is not before the CA's
	}
	opts := x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}}
	if _, err := leaf.Verify(opts); errors.As(err, new(x509.UnknownAuthorityError)) {
		return pki.Identity{}, fmt.Errorf("%w (%s: %w)", ErrCA, leaf.Subject.CommonName, err)
	} else if err != nil {
		return pki.Identity{}, err
	}
	return pki.IdentityOf(leaf)
}

// pinConfig believes whom the CA with the given pin has signed. TLS calls
// VerifyConnection before the client has sent anything but its hello.
func pinConfig(pin string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{Join},
		InsecureSkipVerify: true, // the pin is what is verified
		VerifyConnection: func(cs tls.ConnectionState) error {
			i := slices.IndexFunc(cs.PeerCertificates, func(c *x509.Certificate) bool { return c.IsCA && pki.PinMatches(c, pin) })
			if i < 0 {
				return ErrPin
			}
			roots := x509.NewCertPool()
			roots.AddCert(cs.PeerCertificates[i])
			id, err := verifyChain(cs, roots, time.Now(), x509.ExtKeyUsageServerAuth)
			if err == nil && id.Role != pki.RoleMember {
				err = fmt.Errorf("%w: %s", ErrRole, id)
			}
			return err
		},
	}
}
