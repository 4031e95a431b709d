//go:build e2e

package e2e

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mailraft/internal/fixedport"
	"mailraft/internal/loopback"
)

// ports are those of the first member, which has its users in a file, and of
// the second, which asks Dovecot.
type ports struct {
	submission, submissions, internal, dovecot string
}

// Foreign clients submit mail: by STARTTLS and implicit TLS, with PLAIN and
// LOGIN, against a file of users and a real Dovecot. Nobody relays without the
// right to, and nobody speaks old TLS.
func TestSubmission(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "submission-") // short: Dovecot makes sockets below
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	selfSigned(t, dir, "mx")
	selfSigned(t, dir, "app")
	auth := newDovecotAuth(t, dir)
	users := filepath.Join(dir, "users")
	password(t, "s3cret", exe, "user", "add", "--file", users, "anna@example.test", "--sender", "sales@example.test")
	p := ports{freePort(t), freePort(t), freePort(t), freePort(t)}
	b := startWith(t, 2*time.Minute, loopback.Options{Edit: func(i int, text string) string {
		return submissionConfig(i, text, dir, auth.socket, users, p)
	}})
	out := takeAll(t)
	b.cli("directory", "domain", "add", "*", "--next-hop", "smtp://"+out.addr)

	send := func(want string, args ...string) {
		t.Helper()
		text, err := exec.Command("swaks", append(args, "--helo", "client.example", "--timeout", "15", "--header", "Subject: submitted")...).CombinedOutput()
		if (err == nil) != (want == "250 2.0.0 Ok: queued") || !strings.Contains(string(text), want) {
			t.Errorf("swaks %s: %v, want %s:\n%s", strings.Join(args, " "), err, want, text)
		}
	}
	anna := []string{"--from", "anna@example.test", "--auth-user", "anna@example.test", "--auth-password"}
	tls := func(addr string, more ...string) []string {
		return append([]string{"--server", addr, "--tls"}, more...)
	}
	const queued = "250 2.0.0 Ok: queued"
	send(queued, append(tls(p.submission, "--to", "plain@far.example", "--auth", "PLAIN"), append(anna, "s3cret")...)...)
	send(queued, append(tls(p.submission, "--to", "login@far.example", "--auth", "LOGIN"), append(anna, "s3cret")...)...)
	send(queued, append([]string{"--server", p.submissions, "--tls-on-connect", "--to", "implicit@far.example", "--auth", "PLAIN"}, append(anna, "s3cret")...)...)
	run(t, "python3", "testdata/submit.py", p.submission, p.submissions, "anna@example.test", "s3cret", "python@far.example")
	run(t, "python3", "testdata/submit.py", p.dovecot, "", "bob", "d0vecot", "dovecot@far.example")
	send(queued, "--server", p.internal, "--tls", "--tls-cert", filepath.Join(dir, "app.pem"), "--tls-key", filepath.Join(dir, "app.key"), "--from", "app@example.test", "--to", "certificate@far.example")

	send("535 5.7.8", append(tls(p.submission, "--to", "wrong@far.example", "--auth", "PLAIN"), append(anna, "guess")...)...)
	send("535 5.7.8", tls(p.dovecot, "--to", "wrong@far.example", "--auth", "PLAIN", "--from", "bob@example.test", "--auth-user", "bob", "--auth-password", "s3cret")...)
	send("553 5.7.1", append(tls(p.submission, "--to", "wrong@far.example", "--auth", "PLAIN"), "--from", "boss@example.test", "--auth-user", "anna@example.test", "--auth-password", "s3cret")...)
	send("530 5.7.0 Authentication required", tls(p.submission, "--to", "wrong@far.example", "--from", "anna@example.test")...)
	send("530 5.7.0 Must issue a STARTTLS", "--server", p.submission, "--to", "wrong@far.example", "--from", "anna@example.test")
	send("530 5.7.0 Must issue a STARTTLS", "--server", p.submission, "--to", "wrong@far.example", "--from", "anna@example.test", "--auth-optional", "PLAIN", "--auth-user", "anna@example.test", "--auth-password", "s3cret")
	for _, trick := range []string{"wrong@far.example", "wrong@[127.0.0.1]", `"wrong@far.example"@[127.0.0.1]`, "@example.test:wrong@far.example"} {
		send("550 5.7.1", "--server", b.Members[0].SMTP, "--from", "anna@example.test", "--to", trick)
		send("550 5.7.1", "--server", p.internal, "--tls", "--tls-cert", filepath.Join(dir, "mx.pem"), "--tls-key", filepath.Join(dir, "mx.key"), "--from", "", "--to", trick)
	}

	password(t, "new", exe, "user", "passwd", "--file", users, "anna@example.test") // while the member runs
	send(queued, append(tls(p.submission, "--to", "changed@far.example", "--auth", "PLAIN"), append(anna, "new")...)...)
	auth.stop()
	send("454 4.7.0 Temporary authentication failure", tls(p.dovecot, "--to", "wrong@far.example", "--auth", "PLAIN", "--from", "bob@example.test", "--auth-user", "bob", "--auth-password", "d0vecot")...)
	speaks(t, p)

	want := []string{"plain", "login", "implicit", "python", "python", "dovecot", "certificate", "changed"}
	b.eventually("what was submitted goes out", func() error {
		if got := out.recipients(); len(got) < len(want) {
			return errNotYet
		}
		return nil
	})
	out.check(t, want)
	noSecrets(t, b.Dir, "s3cret", "guess", "d0vecot")
}

func freePort(t *testing.T) string {
	t.Helper()
	addr, err := fixedport.Addr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// submissionConfig gives the first member its listeners and users, and the
// second a port whose users Dovecot knows.
func submissionConfig(i int, text, dir, socket, users string, p ports) string {
	listener := func(addr, role string, lines ...string) string {
		return fmt.Sprintf("\n[[smtp.listener]]\nlisten = %q\nrole = %q\n%s\n", addr, role, strings.Join(lines, "\n"))
	}
	certificate := fmt.Sprintf("tls-cert = %q\ntls-key = %q", filepath.Join(dir, "mx.pem"), filepath.Join(dir, "mx.key"))
	switch i {
	case 0:
		return text + fmt.Sprintf("\n[smtp.auth]\nusers = %q\n", users) + listener(p.submission, "submission", certificate) +
			listener(p.submissions, "submission", certificate, `tls = "implicit"`) +
			listener(p.internal, "internal", certificate, fmt.Sprintf("client-ca = %q", filepath.Join(dir, "app.pem")), `relay-clients = ["app"]`)
	case 1:
		return text + fmt.Sprintf("\n[smtp.auth]\ndovecot = %q\n", socket) + listener(p.dovecot, "submission", certificate)
	}
	return text
}

// selfSigned writes NAME.pem and NAME.key.
func selfSigned(t *testing.T, dir, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name, "localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// password runs a command that reads one.
func password(t *testing.T, text, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(text + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// speaks tries versions of TLS with openssl, on both kinds of port.
func speaks(t *testing.T, p ports) {
	t.Helper()
	for version, taken := range map[string]bool{"-tls1": false, "-tls1_1": false, "-tls1_2": true, "-tls1_3": true} {
		for addr, start := range map[string][]string{p.submissions: nil, p.submission: {"-starttls", "smtp"}} {
			cmd := exec.Command("openssl", append([]string{"s_client", "-connect", addr, version, "-cipher", "ALL:@SECLEVEL=0", "-crlf"}, start...)...)
			cmd.Stdin = strings.NewReader("QUIT\n")
			out, err := cmd.CombinedOutput()
			refused := strings.Contains(string(out), "alert protocol version")
			if taken != (err == nil && strings.Contains(string(out), "BEGIN CERTIFICATE")) || refused == taken {
				t.Errorf("openssl %s to %s %v: %v\n%s", version, addr, start, err, out)
			}
		}
	}
}

// noSecrets reads the logs of all members.
func noSecrets(t *testing.T, dir string, secrets ...string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "m*", "mailraft.log"))
	if err != nil || len(files) == 0 {
		t.Fatal("no logs", err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range secrets {
			if strings.Contains(string(text), s) {
				t.Errorf("%s has a password in it", f)
			}
		}
	}
}

// sink is an SMTP server that takes everything.
type sink struct {
	addr string
	mu   sync.Mutex
	to   []string
	text []string
}

func takeAll(t *testing.T) *sink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	s := &sink{addr: l.Addr().String()}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(c)
		}
	}()
	return s
}

func (s *sink) serve(c net.Conn) {
	defer c.Close()
	fmt.Fprint(c, "220 sink.test\r\n")
	var body strings.Builder
	data := false
	for in := bufio.NewScanner(c); in.Scan(); {
		line := in.Text()
		verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
		switch {
		case data && line == ".":
			data = false
			s.mu.Lock()
			s.text = append(s.text, body.String())
			s.mu.Unlock()
			body.Reset()
			fmt.Fprint(c, "250 2.0.0 ok\r\n")
		case data:
			body.WriteString(line + "\n")
		case verb == "DATA":
			data = true
			fmt.Fprint(c, "354 go ahead\r\n")
		case verb == "RCPT":
			s.mu.Lock()
			s.to = append(s.to, line)
			s.mu.Unlock()
			fmt.Fprint(c, "250 2.1.5 ok\r\n")
		default:
			fmt.Fprint(c, "250 2.0.0 ok\r\n")
		}
	}
}

func (s *sink) recipients() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text
}

// check sees that these recipients have come, each as often as it is listed,
// and nobody else, and how it is said that they came in.
func (s *sink) check(t *testing.T, want []string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	left := strings.ToLower(strings.Join(s.to, "\n"))
	for _, who := range want {
		line := "rcpt to:<" + who + "@far.example>"
		if !strings.Contains(left, line) {
			t.Errorf("nothing came for %s; left of what came:\n%s", who, left)
		}
		left = strings.Replace(left, line, "", 1)
	}
	if strings.Contains(left, "@") {
		t.Errorf("something left that nobody had the right to send:\n%s", left)
	}
	for _, text := range s.text {
		with := "with ESMTPSA id"
		if strings.Contains(text, "app@example.test") {
			with = "with ESMTPS id"
		}
		if !strings.Contains(text, with) || strings.Contains(text, "authenticated") {
			t.Errorf("Received does not say how it came in, or says too much; want %s:\n%s", with, text)
		}
	}
}

// dovecotAuth is a Dovecot that is asked for passwords, and for nothing else.
type dovecotAuth struct {
	socket string
	cmd    *exec.Cmd
}

const dovecotAuthConf = `
base_dir = DIR/run
state_dir = DIR/run
log_path = DIR/dovecot.log
protocols =
ssl = no
default_internal_user = nobody
default_login_user = nobody
default_internal_group = nogroup
auth_mechanisms = plain
auth_failure_delay = 0
service anvil {
  chroot =
}
service stats {
  chroot =
}
service auth {
  unix_listener DIR/auth {
    mode = 0666
  }
}
passdb {
  driver = passwd-file
  args = DIR/passwd
}
userdb {
  driver = static
  args = uid=UID gid=GID home=DIR
}
`

func newDovecotAuth(t *testing.T, dir string) *dovecotAuth {
	t.Helper()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	conf := strings.NewReplacer("DIR", dir, "UID", fmt.Sprint(os.Getuid()), "GID", fmt.Sprint(os.Getgid())).Replace(dovecotAuthConf)
	for file, text := range map[string]string{"dovecot.conf": conf, "passwd": "bob:{PLAIN}d0vecot\n"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	d := &dovecotAuth{socket: filepath.Join(dir, "auth"), cmd: exec.Command("dovecot", "-F", "-c", filepath.Join(dir, "dovecot.conf"))}
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.stop)
	for range 100 {
		if c, err := net.Dial("unix", d.socket); err == nil {
			c.Close()
			return d
		}
		time.Sleep(100 * time.Millisecond)
	}
	log, _ := os.ReadFile(filepath.Join(dir, "dovecot.log"))
	t.Fatalf("dovecot does not listen:\n%s", log)
	return nil
}

func (d *dovecotAuth) stop() {
	if err := d.cmd.Process.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		_ = d.cmd.Wait()
	}
}
