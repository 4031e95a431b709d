package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"mailraft/mail"
)

var (
	now    = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	secret = bytes.Repeat([]byte{7}, 32)
)

func newTestCA(t *testing.T, boundary string) *CA {
	t.Helper()
	ca, err := NewCA(boundary, now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func issue(t *testing.T, ca *CA, id Identity) *x509.Certificate {
	t.Helper()
	_, csr, err := NewRequest(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := ca.Issue(csr, id, now, CertLife)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestIssuedCertificateCarriesItsIdentity(t *testing.T) {
	ca := newTestCA(t, "mail-a")
	for _, id := range []Identity{
		{Boundary: "mail-a", Role: RoleMember, Member: 0x1f, Name: "m1"},
		{Boundary: "mail-a", Role: RoleFrontend, Name: "fe.example.com"},
		{Boundary: "mail-a", Role: RoleClient, Name: "Jörg / Betrieb <j@example.com> 100%"},
	} {
		cert := issue(t, ca, id)
		got, err := IdentityOf(cert)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Serial) != 32 {
			t.Errorf("serial %q", got.Serial)
		}
		got.Serial = ""
		if got != id {
			t.Errorf("got %+v, want %+v", got, id)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(EncodeCert(ca.Cert()))
		opts := x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
		if _, err := cert.Verify(opts); (err == nil) != (id.Role == RoleMember) {
			t.Errorf("%s as a server: %v", id.Role, err)
		}
		opts.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		if _, err := cert.Verify(opts); err != nil {
			t.Errorf("%s as a client: %v", id.Role, err)
		}
	}
}

func TestSerialsDiffer(t *testing.T) {
	ca := newTestCA(t, "b")
	id := Identity{Boundary: "b", Role: RoleMember, Member: 1, Name: "m"}
	if a, b := issue(t, ca, id), issue(t, ca, id); a.SerialNumber.Cmp(b.SerialNumber) == 0 || a.SerialNumber.BitLen() != 127 {
		t.Fatalf("serials %x, %x", a.SerialNumber, b.SerialNumber)
	}
}

func TestIssueRefuses(t *testing.T) {
	ca := newTestCA(t, "b")
	_, good, err := NewRequest(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	bent := bytes.Clone(good)
	bent[len(bent)-1] ^= 1
	_, edKey, _ := ed25519.GenerateKey(nil)
	ed, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, edKey)
	if err != nil {
		t.Fatal(err)
	}
	p384Key, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p384, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, p384Key)
	if err != nil {
		t.Fatal(err)
	}
	ok := Identity{Boundary: "b", Role: RoleMember, Member: 1, Name: "m"}
	with := func(change func(*Identity)) Identity { id := ok; change(&id); return id }
	for name, c := range map[string]struct {
		csr  []byte
		id   Identity
		want error
	}{
		"empty request":      {nil, ok, ErrRequest},
		"not its key":        {bent, ok, ErrRequest},
		"other kind of key":  {ed, ok, ErrRequest},
		"other curve":        {p384, ok, ErrRequest},
		"huge request":       {make([]byte, 1<<20), ok, ErrRequest},
		"foreign boundary":   {good, with(func(i *Identity) { i.Boundary = "c" }), ErrIdentity},
		"no role":            {good, with(func(i *Identity) { i.Role = "" }), ErrIdentity},
		"unknown role":       {good, with(func(i *Identity) { i.Role = "ca" }), ErrIdentity},
		"member without id":  {good, with(func(i *Identity) { i.Member = 0 }), ErrIdentity},
		"client with an id":  {good, with(func(i *Identity) { i.Role = RoleClient }), ErrIdentity},
		"no name":            {good, with(func(i *Identity) { i.Name = "" }), ErrIdentity},
		"name with newline":  {good, with(func(i *Identity) { i.Name = "a\nb" }), ErrIdentity},
		"name that is a dot": {good, with(func(i *Identity) { i.Name = ".." }), ErrIdentity},
		"name not UTF-8":     {good, with(func(i *Identity) { i.Name = "\xff" }), ErrIdentity},
		"long name":          {good, with(func(i *Identity) { i.Name = strings.Repeat("a", 200) }), ErrIdentity},
	} {
		if _, err := ca.Issue(c.csr, c.id, now, CertLife); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSealedKey(t *testing.T) {
	ca := newTestCA(t, "b")
	sealed, err := ca.Seal(secret)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := OpenCA(ca.Cert(), sealed, secret)
	if err != nil {
		t.Fatal(err)
	}
	id := Identity{Boundary: "b", Role: RoleMember, Member: 1, Name: "m"}
	if err := issue(t, opened, id).CheckSignatureFrom(ca.cert); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCA(ca.Cert(), sealed, bytes.Repeat([]byte{8}, 32)); !errors.Is(err, ErrSeal) {
		t.Errorf("wrong secret: %v", err)
	}
	if _, err := OpenCA(newTestCA(t, "b").Cert(), sealed, secret); !errors.Is(err, ErrSeal) {
		t.Errorf("other certificate: %v", err)
	}
	if _, err := ca.Seal([]byte("short")); err == nil {
		t.Error("short secret was taken")
	}
	for i := range sealed {
		bent := bytes.Clone(sealed)
		bent[i] ^= 0x10
		if _, err := OpenCA(ca.Cert(), bent, secret); !errors.Is(err, ErrSeal) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
		if _, err := OpenCA(ca.Cert(), sealed[:i], secret); !errors.Is(err, ErrSeal) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
}

func TestRenewAndWarn(t *testing.T) {
	cert := &x509.Certificate{NotBefore: now, NotAfter: now.Add(90 * 24 * time.Hour)}
	if got := RenewAt(cert).Sub(now); got != 60*24*time.Hour {
		t.Errorf("renew after %v", got)
	}
	if got := WarnAt(cert).Sub(now); got != 76*24*time.Hour {
		t.Errorf("warn after %v", got)
	}
}

func TestCertificateLivesWithinTheCA(t *testing.T) {
	ca := newTestCA(t, "b")
	_, csr, _ := NewRequest(rand.Reader)
	for _, at := range []time.Time{now.Add(CALife - time.Hour), now.Add(-72 * time.Hour)} { // by a clock that is behind
		der, err := ca.Issue(csr, Identity{Boundary: "b", Role: RoleClient, Name: "c"}, at, CertLife)
		if err != nil {
			t.Fatal(err)
		}
		cert, _ := x509.ParseCertificate(der)
		if cert.NotAfter.After(ca.cert.NotAfter) || cert.NotBefore.Before(ca.cert.NotBefore) || !cert.NotBefore.Before(cert.NotAfter) {
			t.Errorf("from %v to %v, the CA from %v to %v", cert.NotBefore, cert.NotAfter, ca.cert.NotBefore, ca.cert.NotAfter)
		}
	}
}

func TestKeyAndCertificateMakeAPair(t *testing.T) {
	ca := newTestCA(t, "b")
	key, csr, err := NewRequest(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := ca.Issue(csr, Identity{Boundary: "b", Role: RoleClient, Name: "c"}, now, CertLife)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(EncodeCert(der), key); err != nil {
		t.Fatal(err)
	}
}

func TestIdentityHasOneForm(t *testing.T) {
	good := Identity{Boundary: "b", Role: RoleMember, Member: mail.MemberID(0xab), Name: "m 1"}.String()
	if good != "mailraft://b/member/00000000000000ab/m%201" {
		t.Fatal(good)
	}
	for _, s := range []string{
		"mailraft://b/member/00000000000000AB/m1", "mailraft://b/member/ab/m1", "mailraft://b/member/00000000000000ab/%6d1",
		"mailraft://b/member/00000000000000ab/m1/", "mailraft://b/member/00000000000000ab/m1/x", "mailraft://b//member/00000000000000ab/m1",
		"mailraft://u@b/member/00000000000000ab/m1", "mailraft://b:1/member/00000000000000ab/m1", "mailraft://b/member/00000000000000ab/m1?x",
		"mailraft://b/member/00000000000000ab/m1#x", "https://b/member/00000000000000ab/m1", "mailraft:b/member/00000000000000ab/m1",
		"mailraft://b/member/0000000000000000/m1", "mailraft://b/client/00000000000000ab/m1", "mailraft://b/member/00000000000000ab/",
		"mailraft://b/ca", "mailraft://b/member/00000000000000ab/a%2Fb%2fc",
	} {
		u, err := url.Parse(s)
		if err != nil {
			continue
		}
		if id, err := parseIdentity(u); !errors.Is(err, ErrIdentity) {
			t.Errorf("%s: %+v, %v", s, id, err)
		}
	}
}

func FuzzIdentity(f *testing.F) {
	f.Add("mailraft://b/member/00000000000000ab/m1")
	f.Add("mailraft://b/client/0000000000000000/J%C3%B6rg%20%2F%3C")
	f.Add("mailraft://b/member/00000000000000ab/%2e%2e")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := url.Parse(s)
		if err != nil {
			return
		}
		id, err := parseIdentity(u)
		if err != nil {
			return
		}
		again, err := url.Parse(id.String())
		if err != nil {
			t.Fatalf("%q: %v", id, err)
		}
		if back, err := parseIdentity(again); err != nil || back != id {
			t.Fatalf("%q became %+v, %v", s, back, err)
		}
	})
}

func TestToken(t *testing.T) {
	pin := Pin(newTestCA(t, "b").Cert())
	tok, err := NewToken(pin, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseToken("  " + tok.String() + "\n")
	if err != nil || back != tok || back.Pin() != pin {
		t.Fatalf("%v, %v", back, err)
	}
	if !back.Matches(tok.Hash()) {
		t.Error("does not match its own hash")
	}
	if other, _ := NewToken(pin, rand.Reader); other.Matches(tok.Hash()) {
		t.Error("matches another's hash")
	}
	s := tok.String()
	for i := range s {
		if s[i] == '.' || i < len(tokenVersion) {
			continue
		}
		c := byte('0')
		if s[i] == '0' {
			c = '1'
		}
		if _, err := ParseToken(s[:i] + string(c) + s[i+1:]); !errors.Is(err, ErrTokenTypo) {
			t.Fatalf("typing error at %d: %v", i, err)
		}
	}
	for _, bad := range []string{"", "mailraft1", "mailraft1..", "mailraft2" + s[9:], s + ".x", strings.Repeat("a.", 500)} {
		if _, err := ParseToken(bad); !errors.Is(err, ErrToken) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := NewToken("nonsense", rand.Reader); err == nil {
		t.Error("token for a malformed pin")
	}
}

func TestPin(t *testing.T) {
	a, b := newTestCA(t, "b"), newTestCA(t, "b")
	if Pin(a.Cert()) == Pin(b.Cert()) || !PinMatches(a.cert, Pin(a.Cert())) || PinMatches(b.cert, Pin(a.Cert())) {
		t.Fatal("pins do not tell CAs apart")
	}
	if Pin([]byte("x")) != "" || PinMatches(a.cert, "") {
		t.Fatal("the empty pin matches")
	}
}

func FuzzToken(f *testing.F) {
	tok := Token{pin: text.EncodeToString(make([]byte, 32))}
	f.Add(tok.String())
	f.Add("mailraft1...")
	body := "mailraft1." + tok.pin[:51] + "1." + text.EncodeToString(tok.secret[:])
	f.Add(body + "." + checksum(body))
	f.Fuzz(func(t *testing.T, s string) {
		if tok, err := ParseToken(s); err == nil && tok.String() != strings.TrimSpace(s) {
			t.Fatalf("%q is also %q", s, tok)
		}
	})
}
