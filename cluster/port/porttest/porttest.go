// Package porttest makes boundaries for tests: a CA in memory, credentials and
// open ports for its members, and a check that no goroutine is left. Everything
// listens on 127.0.0.1:0. It is for tests only, and knows nothing of Raft.
package porttest

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"testing"
	"time"

	"mailraft/cluster/pki"
	"mailraft/cluster/port"
	"mailraft/mail"
)

// Boundary is a CA and what it takes to use it.
type Boundary struct {
	CA   *pki.CA
	t    testing.TB
	Pool *x509.CertPool
}

// New makes a boundary.
func New(t testing.TB, name string) *Boundary {
	t.Helper()
	ca, err := pki.NewCA(name, time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(ca.Cert())
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &Boundary{CA: ca, t: t, Pool: pool}
}

// Member is the identity of member n.
func (b *Boundary) Member(n int) pki.Identity {
	return pki.Identity{Boundary: b.CA.Boundary(), Role: pki.RoleMember, Member: mail.MemberID(n), Name: fmt.Sprintf("m%d", n)}
}

// Issue makes credentials for an identity, good for life from now; with a
// negative life they have been over for long.
func (b *Boundary) Issue(id pki.Identity, life time.Duration) port.Credentials {
	b.t.Helper()
	keyPEM, csr, err := pki.NewRequest(rand.Reader)
	if err != nil {
		b.t.Fatal(err)
	}
	start := time.Now()
	if life < 0 {
		life = -life
		start = start.Add(-3 * life)
	}
	der, err := b.CA.Issue(csr, id, start, life)
	if err != nil {
		b.t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(pki.EncodeCert(der), keyPEM)
	if err != nil {
		b.t.Fatal(err)
	}
	return port.Credentials{Cert: cert, CA: b.Pool, CADER: b.CA.Cert()}
}

// Open opens the port of member n; it is closed when the test ends. The
// configuration may be changed first.
func (b *Boundary) Open(n int, change ...func(*port.Config)) *port.Port {
	b.t.Helper()
	creds := b.Issue(b.Member(n), pki.CertLife)
	cfg := port.Config{Addr: "127.0.0.1:0", Credentials: func() port.Credentials { return creds }}
	for _, f := range change {
		f(&cfg)
	}
	p, err := port.Listen(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { p.Close() })
	return p
}
