package ingress

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

// authority is a CA for clients.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	a := authority{t: t}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	a.cert = a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

func (a authority) sign(tmpl *x509.Certificate) *x509.Certificate {
	a.t.Helper()
	tmpl.SerialNumber = big.NewInt(time.Now().UnixNano())
	if tmpl.NotBefore.IsZero() {
		tmpl.NotBefore, tmpl.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	parent := a.cert
	if parent == nil {
		parent = tmpl
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &a.key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

func (a authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// The right to relay is for listed names under the CA, and listed
// fingerprints; for nobody else who shows a certificate.
func TestRelayClients(t *testing.T) {
	ours, foreign := newAuthority(t), newAuthority(t)
	client := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	pinned := foreign.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "whoever"}, ExtKeyUsage: client})
	sum := fmt.Sprintf("%x", sha256.Sum256(pinned.Raw))
	late := foreign.sign(&x509.Certificate{NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)})
	file := filepath.Join(t.TempDir(), "ca.pem")
	if _, err := newRelayClients(file, []string{"app.example"}, hclog.NewNullLogger()); err == nil {
		t.Error("no CA file, and no error")
	}
	write(t, file, ours.pem())
	var log bytes.Buffer
	c, err := newRelayClients(file, []string{"app.example", "Printer", "sha256:" + strings.ToUpper(sum), fmt.Sprintf("sha256:%x", sha256.Sum256(late.Raw))}, hclog.New(&hclog.LoggerOptions{Output: &log}))
	if err != nil {
		t.Fatal(err)
	}
	app := ours.sign(&x509.Certificate{DNSNames: []string{"other.example", "APP.example"}, ExtKeyUsage: client})
	check := func(what string, cert *x509.Certificate, want string) {
		t.Helper()
		var state tls.ConnectionState
		if cert != nil {
			state.PeerCertificates = []*x509.Certificate{cert}
		}
		name, ok := c.name(state)
		if name != want || ok != (want != "") {
			t.Errorf("%s: %q %v, want %q", what, name, ok, want)
		}
	}
	check("none", nil, "")
	check("listed", app, "app.example")
	check("listed by its common name", ours.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "printer"}, ExtKeyUsage: client}), "Printer")
	check("not listed", ours.sign(&x509.Certificate{DNSNames: []string{"other.example"}, ExtKeyUsage: client}), "")
	check("of another CA", foreign.sign(&x509.Certificate{DNSNames: []string{"app.example"}, ExtKeyUsage: client}), "")
	check("for servers", ours.sign(&x509.Certificate{DNSNames: []string{"app.example"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}), "")
	check("over", ours.sign(&x509.Certificate{DNSNames: []string{"app.example"}, ExtKeyUsage: client, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)}), "")
	check("by fingerprint", pinned, "sha256:"+sum)
	check("by fingerprint, over", late, "")
	write(t, file, foreign.pem())
	check("of the CA before", app, "")
	check("of the new CA", foreign.sign(&x509.Certificate{DNSNames: []string{"app.example"}, ExtKeyUsage: client}), "app.example")
	write(t, file, []byte("nonsense"))
	check("the file is no good", foreign.sign(&x509.Certificate{DNSNames: []string{"app.example"}, ExtKeyUsage: client}), "app.example")
	if !strings.Contains(log.String(), "the new CA of clients is no good") || !strings.Contains(log.String(), "gives no right to") {
		t.Errorf("log:\n%s", &log)
	}
}
