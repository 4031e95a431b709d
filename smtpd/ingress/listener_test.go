package ingress

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailraft/smtpd"

	"github.com/BurntSushi/toml"
	"github.com/hashicorp/go-hclog"
)

// load reads a configuration file as its owners do.
func load(text string) (Config, error) {
	var file struct {
		SMTP Config `toml:"smtp"`
	}
	meta, err := toml.Decode(text, &file)
	if err != nil {
		return Config{}, err
	}
	if un := meta.Undecoded(); len(un) > 0 {
		return Config{}, fmt.Errorf("unknown key %q", un[0])
	}
	if err := file.SMTP.Complete(); err != nil {
		return Config{}, fmt.Errorf("smtp.%w", err)
	}
	return file.SMTP, nil
}

func TestListenerConfig(t *testing.T) {
	const tls = "\ntls-cert = \"c\"\ntls-key = \"k\"\n"
	const auth = "auth.users = \"/etc/users\"\n"
	listener := func(lines ...string) string {
		return "[[smtp.listener]]\nlisten = \"127.0.0.1:26\"\n" + strings.Join(lines, "\n")
	}
	for _, c := range []struct{ name, smtp, want string }{
		{"nothing", ``, "127.0.0.1:2525 mx off"},
		{"the short form", `listen = "127.0.0.1:25"`, "127.0.0.1:25 mx off"},
		{"with a certificate", `listen = "127.0.0.1:25"` + tls, "127.0.0.1:25 mx may"},
		{"tables alone", tls + auth + "[[smtp.listener]]\nlisten = \"127.0.0.1:587\"\nrole = \"submission\"\n[[smtp.listener]]\nlisten = \"127.0.0.1:465\"\nrole = \"submission\"\ntls = \"implicit\"",
			"127.0.0.1:587 submission required auth required check, 127.0.0.1:465 submission implicit auth required check"},
		{"both", "listen = \"127.0.0.1:25\"\n[[smtp.listener]]\nlisten = \"127.0.0.1:26\"\nrole = \"internal\"", "127.0.0.1:25 mx off, 127.0.0.1:26 internal off"},
		{"its own certificate", "[[smtp.listener]]\nlisten = \"127.0.0.1:25\"\nrole = \"mx\"" + tls, "127.0.0.1:25 mx may"},
		{"no port", `listen = "127.0.0.1"`, `smtp.listener: "127.0.0.1": listen: want host:port`},
		{"no role", "[[smtp.listener]]\nlisten = \"127.0.0.1:25\"", `smtp.listener: "127.0.0.1:25": role: "" is none of mx, submission and internal`},
		{"no such policy", "[[smtp.listener]]\nlisten = \"127.0.0.1:25\"\nrole = \"mx\"\ntls = \"maybe\"", `tls: "maybe" is none of off, may, required and implicit`},
		{"no certificate", "[[smtp.listener]]\nlisten = \"127.0.0.1:587\"\nrole = \"submission\"", `tls: required needs tls-cert and tls-key, here or in [smtp]`},
		{"passwords in clear text", tls + "[[smtp.listener]]\nlisten = \"127.0.0.1:587\"\nrole = \"submission\"\ntls = \"may\"", `want required or implicit for submission`},
		{"relay networks", "[[smtp.listener]]\nlisten = \"127.0.0.1:26\"\nrole = \"internal\"\nrelay-networks = [\"192.0.2.1\", \"2001:db8::/64\"]", "127.0.0.1:26 internal off"},
		{"everybody", "[[smtp.listener]]\nlisten = \"127.0.0.1:26\"\nrole = \"internal\"\nrelay-networks = [\"::/0\"]", `"::/0" is everybody: that would be an open relay`},
		{"no network", "[[smtp.listener]]\nlisten = \"127.0.0.1:26\"\nrole = \"internal\"\nrelay-networks = [\"example.test\"]", `"example.test" is no network such as 192.0.2.0/24 or 2001:db8::/64`},
		{"a network with a slip", "[[smtp.listener]]\nlisten = \"127.0.0.1:26\"\nrole = \"internal\"\nrelay-networks = [\"10.1.2.3/16\"]", `"10.1.2.3/16" has bits behind its prefix; 10.1.0.0/16 is meant?`},
		{"relay networks for submission", tls + "[[smtp.listener]]\nlisten = \"127.0.0.1:587\"\nrole = \"submission\"\nrelay-networks = [\"10.1.0.0/16\"]", `use another listener with the role internal`},
		{"auth for a few", tls + auth + listener(`role = "mx"`, `auth = "may"`, `sender-login-check = true`), "127.0.0.1:26 mx may auth may check"},
		{"senders are not checked", tls + auth + listener(`role = "submission"`, `sender-login-check = false`), "127.0.0.1:26 submission required auth required"},
		{"no users", tls + listener(`role = "submission"`), "auth: required needs users or dovecot in [smtp.auth]"},
		{"two sorts of users", auth + "auth.dovecot = \"/run/x\"", "smtp.auth: users and dovecot: want one of them"},
		{"submission for anybody", tls + auth + listener(`role = "submission"`, `auth = "may"`), "auth: may; a submission listener requires it"},
		{"auth in clear text", auth + listener(`role = "mx"`, `auth = "may"`), "auth: may, and tls is off: no password is read in clear text"},
		{"no such auth", listener(`role = "mx"`, `auth = "never"`), `auth: "never" is none of off, may and required`},
		{"clients by name", tls + listener(`role = "internal"`, `client-ca = "ca.pem"`, `relay-clients = ["app.example"]`), "127.0.0.1:26 internal may"},
		{"clients without a CA", tls + listener(`role = "internal"`, `relay-clients = ["app.example"]`), "relay-clients: names need client-ca, the CA that says whose they are"},
		{"a CA without clients", tls + listener(`role = "internal"`, `client-ca = "ca.pem"`), "client-ca: want the names of those who may relay in relay-clients"},
		{"clients without TLS", listener(`role = "internal"`, `client-ca = "ca.pem"`, `relay-clients = ["app.example"]`), "relay-clients: without TLS nobody shows a certificate"},
		{"half a fingerprint", tls + listener(`role = "internal"`, `relay-clients = ["sha256:00ff"]`), `relay-clients: "sha256:00ff": want sha256: and 64 hexadecimal digits`},
		{"clients for submission", tls + auth + listener(`role = "submission"`, `client-ca = "ca.pem"`, `relay-clients = ["app.example"]`), "use another listener with the role internal"},
		{"half a certificate", "[[smtp.listener]]\nlisten = \"127.0.0.1:587\"\nrole = \"mx\"\ntls-key = \"k\"", `tls-cert and tls-key: one without the other`},
		{"half a certificate in [smtp]", `tls-key = "k"`, `smtp.tls-cert and smtp.tls-key: one without the other`},
		{"no such key", "[[smtp.listener]]\nlisten = \"127.0.0.1:25\"\nrole = \"mx\"\nport = 3", `unknown key "smtp.listener.port"`},
	} {
		cfg, err := load("[smtp]\n" + c.smtp + "\n")
		var got []string
		if err != nil {
			got = []string{err.Error()}
		}
		for i := 0; err == nil && i < len(cfg.listeners); i++ {
			got = append(got, cfg.listeners[i].says())
		}
		if s := strings.Join(got, ", "); s != c.want && (err == nil || !strings.HasSuffix(s, c.want)) {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, s, c.want)
		}
	}
}

// says is what a listener came to, without what is off.
func (l Listener) says() string {
	s := strings.Join([]string{l.Listen, l.role.String(), l.tls.String()}, " ")
	if l.auth != smtpd.AuthOff {
		s += " auth " + l.auth.String()
	}
	if *l.SenderLoginCheck {
		s += " check"
	}
	return s
}

// pair writes a certificate and its key.
func pair(t *testing.T, dir string, serial int64, until time.Time) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "mx"}, NotBefore: until.Add(-time.Hour), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write(t, certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	return certFile, keyFile
}

func write(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(name+".new", b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

// A certificate is read again when its files change; one that is no good
// leaves the one before in use, and is told once.
func TestCertificateReread(t *testing.T) {
	dir, until := t.TempDir(), time.Now().Add(time.Hour).Truncate(time.Second)
	var log bytes.Buffer
	s := &Certificates{Log: hclog.New(&hclog.LoggerOptions{Output: &log})}
	if _, err := s.get(filepath.Join(dir, "none"), filepath.Join(dir, "none"), false); err == nil {
		t.Fatal("read a certificate that is not there")
	}
	cert, key := pair(t, dir, 1, until)
	c, err := s.get(cert, key, false)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.get(cert, key, false); err != nil || again != c || len(s.all()) != 1 {
		t.Error("the same files are another certificate", err)
	}
	shows := func(serial int64) {
		t.Helper()
		if got := c.config().Certificates[0].Leaf.SerialNumber.Int64(); got != serial {
			t.Errorf("shows certificate %d, want %d", got, serial)
		}
	}
	shows(1)
	pair(t, dir, 2, until.Add(time.Hour))
	shows(2)
	if l := s.Lives(); len(l) != 1 || l[0].File != cert || !l[0].Until.Equal(until.Add(time.Hour)) {
		t.Errorf("lives %+v", l)
	}
	write(t, cert, []byte("nonsense"))
	shows(2)
	shows(2)
	if n := strings.Count(log.String(), "the new SMTP certificate is no good"); n != 1 {
		t.Errorf("told %d times:\n%s", n, &log)
	}
	os.Remove(key)
	shows(2)
	pair(t, dir, 3, until)
	shows(3)
}
