package ingress

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"mailraft/smtpd"
	"mailraft/smtpd/users"

	"github.com/hashicorp/go-hclog"
)

// Auth is where users are looked up: in a file, or by Dovecot.
type Auth struct {
	Users   string `toml:"users"`   // the file; see "mailraft user"
	Dovecot string `toml:"dovecot"` // the Unix socket of Dovecot's auth service
}

// OpenUsers is nil where no listener needs users.
func (c *Config) OpenUsers(log hclog.Logger) (smtpd.Users, error) {
	switch c := c.Auth; {
	case c.Users != "":
		f, err := users.OpenFile(c.Users, log)
		if err != nil {
			return nil, fmt.Errorf("smtp.auth.users: %w", err)
		}
		return f, nil
	case c.Dovecot != "":
		return users.Dovecot{Socket: c.Dovecot}, nil
	}
	return nil, nil
}

// relayClients are clients that may relay for what their certificates say.
type relayClients struct {
	names        []string
	fingerprints []string // hexadecimal, lower case
	ca           string   // file
	log          hclog.Logger

	mu   sync.Mutex
	seen stamp
	pool *x509.CertPool
}

const fingerprintPrefix = "sha256:"

func newRelayClients(ca string, list []string, log hclog.Logger) (*relayClients, error) {
	c := &relayClients{ca: ca, log: log}
	for _, text := range list {
		if f, ok := strings.CutPrefix(text, fingerprintPrefix); ok {
			c.fingerprints = append(c.fingerprints, strings.ToLower(f))
		} else {
			c.names = append(c.names, text)
		}
	}
	if ca == "" {
		return c, nil
	}
	return c, c.read(stampOf(ca))
}

// name says which of the clients a connection is from.
func (c *relayClients) name(state tls.ConnectionState) (string, bool) {
	if len(state.PeerCertificates) == 0 {
		return "", false
	}
	leaf, now := state.PeerCertificates[0], time.Now()
	sum := sha256.Sum256(leaf.Raw)
	if f := hex.EncodeToString(sum[:]); slices.Contains(c.fingerprints, f) && !now.Before(leaf.NotBefore) && !now.After(leaf.NotAfter) {
		return fingerprintPrefix + f, true
	}
	own := append([]string{leaf.Subject.CommonName}, append(leaf.DNSNames, leaf.EmailAddresses...)...)
	for _, name := range c.names {
		if slices.ContainsFunc(own, func(n string) bool { return strings.EqualFold(n, name) }) && c.signed(state.PeerCertificates, now) {
			return name, true
		}
	}
	return "", false
}

// signed reports whether the CA has signed the first certificate, for clients.
func (c *relayClients) signed(chain []*x509.Certificate, now time.Time) bool {
	between := x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: c.roots(), Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		c.log.Warn("a certificate with the name of a client that may relay gives no right to", "name", chain[0].Subject.String(), "error", err)
	}
	return err == nil
}

// roots is the CA as the file has it now; one that is no good leaves the one
// before.
func (c *relayClients) roots() *x509.CertPool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := stampOf(c.ca); !now.same(c.seen) {
		if err := c.read(now); err != nil {
			c.log.Error("the new CA of clients is no good, the one before stays in use", "error", err)
		}
	}
	return c.pool
}

func (c *relayClients) read(now stamp) error {
	c.seen = now
	text, err := os.ReadFile(c.ca)
	if err != nil {
		return fmt.Errorf("read client-ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return fmt.Errorf("read client-ca: %s holds no certificate", c.ca)
	}
	c.pool = pool
	return nil
}
