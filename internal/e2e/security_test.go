//go:build e2e

package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"mailraft/cluster/pki"
	"mailraft/cluster/port"
	"mailraft/internal/ledger"
	"mailraft/internal/loopback"
)

// What docs/security.md says of tokens, certificates, files and listeners, tried
// from outside on a boundary that runs.
func TestNobodyGetsIn(t *testing.T) {
	t.Parallel()
	b := start(t, 3*time.Minute, nil)
	secrets := b.tokensAreGoodOnce()
	b.certificatesAreJudged()
	b.filesAreOurs()
	b.healthShowsNoMail()
	b.silentClientsAreCutOff()
	b.namesLeadNowhere()
	b.logsHoldLines(append(secrets, "the-secret-of-the-test"))
}

// joins runs "boundary join" for a new host, and says how it ended.
func (b *boundary) joins(name, token string) (string, error) {
	b.t.Helper()
	dir := filepath.Join(b.t.TempDir(), name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		b.t.Fatal(err)
	}
	config := filepath.Join(dir, "mailraft.toml")
	text := fmt.Sprintf("name = %q\ndir = %q\n[cluster]\nlisten = \"127.0.0.1:1\"\n", name, filepath.Join(dir, "data"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	cmd := exec.CommandContext(b.ctx, b.Exe, "boundary", "join", "--config", config, "--token", "-", b.clusterAddr(b.Members[0]))
	cmd.Stdin = strings.NewReader(token)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (b *boundary) refusesToken(what, name, token, text string) {
	b.t.Helper()
	if out, err := b.joins(name, token); err == nil || !strings.Contains(err.Error()+out, text) {
		b.t.Errorf("%s: %v, %s; want %q", what, err, out, text)
	}
}

// tokensAreGoodOnce returns the tokens that were used.
func (b *boundary) tokensAreGoodOnce() []string {
	b.t.Helper()
	good := strings.TrimSpace(b.cli("boundary", "token", "-o", "id"))
	known, err := pki.ParseToken(good)
	if err != nil {
		b.t.Fatal(err)
	}
	invented, err := pki.NewToken(known.Pin(), rand.Reader)
	if err != nil {
		b.t.Fatal(err)
	}
	b.refusesToken("an invented token", "x1", invented.String(), "not known")
	b.refusesToken("a token with a typing error", "x1", good[:len(good)-1]+"!", "typing error")
	foreign, err := pki.NewCA("dev", time.Now(), rand.Reader)
	if err != nil {
		b.t.Fatal(err)
	}
	elsewhere, err := pki.NewToken(pki.Pin(foreign.Cert()), rand.Reader)
	if err != nil {
		b.t.Fatal(err)
	}
	b.refusesToken("a token of another boundary", "x1", elsewhere.String(), "does not have the CA")

	// One use: who shows it a second time gets nothing, not even by the id that it was used with.
	if out, err := b.joins("x1", good); err != nil {
		b.t.Fatalf("a good token: %v, %s", err, out)
	}
	b.refusesToken("a token that was used", "x2", good, "used up")
	b.cli("boundary", "remove", "x1", "--dead", "--consent", "x1", "--reason", "never started")
	return []string{good, invented.String()}
}

// dials tries to speak a protocol on the cluster port with what certificates there are.
func (b *boundary) dials(proto string, certs ...tls.Certificate) error {
	b.t.Helper()
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", b.clusterAddr(b.Members[0]),
		&tls.Config{InsecureSkipVerify: true, NextProtos: []string{proto}, Certificates: certs, MinVersion: tls.VersionTLS12})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	// The first byte of the port is its word on whether it takes the connection.
	var word [1]byte
	if _, err := io.ReadFull(c, word[:]); err != nil {
		return err
	}
	if word[0] != 0 {
		return fmt.Errorf("refused with %d", word[0])
	}
	return nil
}

func (b *boundary) certificatesAreJudged() {
	b.t.Helper()
	m := b.Members[1]
	own, err := tls.LoadX509KeyPair(filepath.Join(m.Dir, "identity", "cert.pem"), filepath.Join(m.Dir, "identity", "key.pem"))
	if err != nil {
		b.t.Fatal(err)
	}
	protocols := []string{port.Raft, port.Link, port.Content}
	for _, proto := range protocols {
		if err := b.dials(proto, own); err != nil {
			b.t.Errorf("a member's certificate for %s: %v", proto, err)
		}
		if err := b.dials(proto); err == nil {
			b.t.Errorf("%s is open without a certificate", proto)
		}
		if err := b.dials(proto, b.foreign(own.Leaf)); err == nil {
			b.t.Errorf("%s is open with a certificate of another CA of the same name", proto)
		}
	}
	if err := b.dials("http/1.1", own); err == nil {
		b.t.Error("a protocol that there is not was taken")
	}

	// What a member was before it was replaced is out at once.
	if err := b.Replace(b.ctx, m); err != nil {
		b.t.Fatal(err)
	}
	b.settled("m1", "m2", "m3")
	b.ready()
	for _, proto := range protocols {
		if err := b.dials(proto, own); err == nil {
			b.t.Errorf("%s is open with the certificate of a member that was replaced", proto)
		}
	}
}

// foreign is a certificate with the same identity, by a CA with the same name.
func (b *boundary) foreign(like *x509.Certificate) tls.Certificate {
	b.t.Helper()
	id, err := pki.IdentityOf(like)
	if err != nil {
		b.t.Fatal(err)
	}
	ca, err := pki.NewCA(id.Boundary, time.Now(), rand.Reader)
	if err != nil {
		b.t.Fatal(err)
	}
	key, csr, err := pki.NewRequest(rand.Reader)
	if err != nil {
		b.t.Fatal(err)
	}
	der, err := ca.Issue(csr, id, time.Now(), pki.CertLife)
	if err != nil {
		b.t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key)
	if err != nil {
		b.t.Fatal(err)
	}
	return pair
}

// filesAreOurs: whoever is not this user finds nothing open, the socket included.
func (b *boundary) filesAreOurs() {
	b.t.Helper()
	for _, m := range b.Members {
		if info, err := os.Stat(m.Socket); err != nil || info.Mode().Perm() != 0o600 {
			b.t.Errorf("%s: %v, %v", m.Socket, info.Mode(), err)
		}
		err := filepath.WalkDir(m.Dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if info, err := d.Info(); err == nil && d.IsDir() && info.Mode().Perm()&0o077 != 0 {
				b.t.Errorf("%s: %v", path, info.Mode())
			}
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // files come and go
			b.t.Error(err)
		}
		for _, secret := range []string{"key.pem", "boundary.secret"} {
			if info, err := os.Stat(filepath.Join(m.Dir, "identity", secret)); err != nil || info.Mode().Perm() != 0o600 {
				b.t.Errorf("%s of %s: %v, %v", secret, m.Name, info.Mode(), err)
			}
		}
	}
}

// healthShowsNoMail: its listener has no login, so it has neither API nor profiles nor addresses.
func (b *boundary) healthShowsNoMail() {
	b.t.Helper()
	s := b.sender(3, 1, 0)
	s.From = "somebody-private@example.org"
	s.Recipient = func(int) string { return "a-private-address@example.test" }
	s.Run(b.ctx)
	b.audit(s.Ledger)
	for _, path := range []string{"/v1/messages", "/v1/status", "/v1/snapshot", "/v1/directory", "/debug/pprof/", "/../v1/messages", "//v1/messages"} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			if code, _ := b.asks(method, path); code < 400 {
				b.t.Errorf("%s %s: %d", method, path, code)
			}
		}
	}
	for _, path := range []string{"/livez", "/readyz", "/metrics", "/status"} {
		code, text := b.asks(http.MethodGet, path)
		if code != http.StatusOK || strings.Contains(text, "private") {
			b.t.Errorf("%s: %d, or it names an address", path, code)
		}
	}
}

func (b *boundary) asks(method, path string) (int, string) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.ctx, method, "http://"+b.Members[0].HTTP+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// silentClientsAreCutOff: hundreds that connect and say nothing, or a word now
// and then, on every port, keep nobody from being served.
func (b *boundary) silentClientsAreCutOff() {
	b.t.Helper()
	m := b.Members[0]
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for _, addr := range []string{b.clusterAddr(m), m.HTTP, m.SMTP} {
		for range 300 {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				b.t.Fatalf("%s: %v", addr, err)
			}
			open = append(open, c)
			if _, err := io.WriteString(c, "G"); err != nil {
				b.t.Fatal(err)
			}
		}
	}
	b.asks(http.MethodGet, "/livez")
	b.cli("status")
	s := b.sender(30, 3, 0)
	s.Targets = []string{m.SMTP}
	s.Run(b.ctx)
	b.audit(s.Ledger)
	b.sameState()
}

// namesLeadNowhere: a local part becomes the name of a directory, and no path.
func (b *boundary) namesLeadNowhere() {
	b.t.Helper()
	s := b.sender(len(pathTricks), 1, 0)
	s.Recipient = func(n int) string { return pathTricks[n%len(pathTricks)] + "@example.test" }
	s.From = `"the-sender; rm -rf"@example.org`
	s.Run(b.ctx)
	b.auditDirectories(s.Ledger)
}

var pathTricks = []string{`"../../../../escaped"`, `"..%2fescaped"`, `"a/../../escaped"`, `"."`, `".."`, `"new"`, `"~root"`, `"a\\0b"`, `"escaped "`, strings.Repeat("x", 64)}

// auditDirectories looks for files of ours outside the copy's directory.
func (b *boundary) auditDirectories(l *ledger.Ledger) {
	b.t.Helper()
	b.audit(l)
	inside := filepath.Join(b.mail(), "DB1", "a")
	err := filepath.WalkDir(b.Dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.Contains(filepath.Base(path), "escaped") && !strings.HasPrefix(path, inside+string(filepath.Separator)) {
			b.t.Errorf("%s lies outside %s", path, inside)
		}
		return nil
	})
	if err != nil {
		b.t.Error(err)
	}
}

var jsonLine = regexp.MustCompile(`^\{.*\}$`)

// logsHoldLines: what a client says neither makes lines of its own in a log,
// nor is a secret found in any.
func (b *boundary) logsHoldLines(secrets []string) {
	b.t.Helper()
	c, err := net.Dial("tcp", b.Members[0].SMTP)
	if err != nil {
		b.t.Fatal(err)
	}
	defer c.Close()
	for _, line := range []string{"EHLO \x1b[2Jx\r\n", "EHLO a\u2028{\"@level\":\"error\"}\r\n", "AUTH PLAIN AHRoZS1zZWNyZXQtb2YtdGhlLXRlc3Q=\r\n",
		"AUTH LOGIN the-secret-of-the-test\r\n", "MAIL FROM:<a@b.test> X=\x1b]0;t\a\r\n", "RCPT TO:<\x7f\x80@example.test>\r\n", "NOSUCH \x00\r\n"} {
		if _, err := io.WriteString(c, line); err != nil {
			break // it was cut off: well
		}
		time.Sleep(20 * time.Millisecond)
	}
	for _, m := range b.Members {
		text, err := os.ReadFile(filepath.Join(m.Dir, "mailraft.log"))
		if err != nil {
			b.t.Fatal(err)
		}
		for line := range bytes.Lines(text) {
			line = bytes.TrimSuffix(line, []byte("\n"))
			if !jsonLine.Match(line) || bytes.ContainsAny(line, "\x1b\a\x00\x7f") {
				b.t.Errorf("%s has the line %q", m.Name, line)
			}
		}
		for _, s := range append(secrets, "AHRoZS1zZWNyZXQ") {
			if bytes.Contains(text, []byte(s)) {
				b.t.Errorf("the log of %s holds the secret %.20s…", m.Name, s)
			}
		}
	}
	if out := b.cli("config", "show", "-o", "json"); strings.Contains(out, "PRIVATE") || strings.Contains(out, secrets[0]) {
		b.t.Error("config show shows a secret")
	}
}

// clusterAddr is where a member's cluster port is.
func (b *boundary) clusterAddr(m *loopback.Member) string {
	b.t.Helper()
	text, err := os.ReadFile(m.Config)
	if err != nil {
		b.t.Fatal(err)
	}
	found := regexp.MustCompile(`(?s)\[cluster\]\nlisten = "([^"]+)"`).FindSubmatch(text)
	if found == nil {
		b.t.Fatalf("no cluster port in %s", text)
	}
	return string(found[1])
}
