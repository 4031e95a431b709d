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
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mailraft/internal/loopback"
	"mailraft/internal/postfix"
)

// A Postfix as smart host, with everything that one asks for: STARTTLS with a
// certificate of a CA of our own, AUTH, which Dovecot checks, a first answer of
// "later", an unknown recipient, and a reply that makes us report to the sender.
func TestPostfixAsNextHop(t *testing.T) {
	t.Parallel()
	n := newNextHop(t)
	password := filepath.Join(t.TempDir(), "password")
	write(t, password, "wrong\n", 0o600)
	b := startWith(t, time.Minute, loopback.Options{Edit: func(_ int, text string) string {
		return text + fmt.Sprintf("\n[deliver]\ntime-mail = \"1m\"\n[deliver.credential.isp]\nuser = \"boundary\"\npassword-file = %q\n", password)
	}})
	n.start(b)
	hop := "smtp://" + n.Addr
	b.cli("directory", "next-hop", "add", hop, "--ca", filepath.Join(n.dir, "ca.pem"), "--tls-name", "postfix.example.test", "--credential", "isp")
	b.cli("directory", "domain", "add", "far.test", "--next-hop", hop)

	host, port, err := net.SplitHostPort(b.Members[0].SMTP)
	if err != nil {
		t.Fatal(err)
	}
	send := func(to string, more ...string) {
		run(t, "swaks", append([]string{"--server", host, "--port", port, "--from", "sender@example.test", "--to", to, "--body", "hello from " + to}, more...)...)
	}
	send("ann@far.test")
	b.eventually("mail waits for the right password", func() error {
		if list := b.cli("queue", "list", "-o", "json"); !strings.Contains(list, "4.7.8") {
			return fmt.Errorf("%w: %s", errNotYet, list)
		}
		return nil
	})
	if log := n.Log(); !strings.Contains(log, "SASL PLAIN authentication failed") || strings.Contains(log, "from=<sender") {
		t.Errorf("after the wrong password:\n%s", log)
	}
	write(t, password, "s3cret\n", 0o600) // no restart
	send("later@far.test")                // greylisted
	send("nobody@far.test")               // refused: we report
	b.cli("message", "retry", "--all")
	for _, to := range []string{"ann", "later"} {
		if text := n.message(b, to); !strings.Contains(text, "hello from "+to) || !strings.Contains(text, "ESMTPSA") {
			t.Errorf("%s got:\n%s", to, text)
		}
	}
	report := b.message("sender")
	for _, want := range []string{"Final-Recipient: rfc822; nobody@far.test", "Action: failed", "550"} {
		if !strings.Contains(report, want) {
			t.Errorf("the report has no %q:\n%s", want, report)
		}
	}
	if n.greylisted() < 2 {
		t.Error("nobody was told to come later")
	}
	for _, dir := range []string{b.Dir, n.dir} { // but the password file, which is elsewhere
		if out, err := exec.Command("grep", "-rl", "--include=*.log", "-e", "s3cret", dir).Output(); err == nil {
			t.Errorf("the password stands in %s", out)
		}
	}
}

// nextHop is a Postfix with a Dovecot that knows its users.
type nextHop struct {
	*postfix.Postfix
	t   *testing.T
	dir string

	mu    sync.Mutex
	first map[string]int // questions about a recipient
}

func newNextHop(t *testing.T) *nextHop {
	t.Helper()
	dir, err := os.MkdirTemp("", "nexthop-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	n := &nextHop{t: t, dir: dir, first: map[string]int{}}
	certify(t, dir, "postfix.example.test")
	return n
}

func (n *nextHop) start(b *boundary) {
	n.t.Helper()
	uid, gid := account(n.t, "nobody")
	mail := filepath.Join(n.dir, "mail")
	if err := errors.Join(os.Mkdir(mail, 0o755), os.Chown(mail, uid, gid)); err != nil {
		n.t.Fatal(err)
	}
	conf := strings.NewReplacer("DIR", n.dir, "UID", strconv.Itoa(uid), "GID", strconv.Itoa(gid), "POLICY", n.greylist()).Replace(nextHopMain)
	p, err := postfix.Start(b.ctx, postfix.Options{Dir: n.dir, Main: conf, Services: nextHopServices})
	if errors.Is(err, postfix.ErrNone) {
		n.t.Skip(err)
	}
	if err != nil {
		n.t.Fatal(err)
	}
	n.Postfix = p
	n.t.Cleanup(func() {
		p.Stop()
		if n.t.Failed() {
			n.t.Logf("Postfix:\n%s", p.Log())
		}
	})
	n.dovecot()
}

// dovecot checks passwords for Postfix at a socket below its queue.
func (n *nextHop) dovecot() {
	n.t.Helper()
	write(n.t, filepath.Join(n.dir, "users"), "boundary:{PLAIN}s3cret\n", 0o644)
	path := filepath.Join(n.dir, "dovecot.conf")
	write(n.t, path, strings.ReplaceAll(authConf, "DIR", n.dir), 0o644)
	cmd := exec.Command("dovecot", "-F", "-c", path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGTERM); _ = cmd.Wait() })
	for range 100 {
		if c, err := net.Dial("unix", filepath.Join(n.dir, "spool/private/auth")); err == nil {
			c.Close()
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	log, _ := os.ReadFile(filepath.Join(n.dir, "dovecot.log"))
	n.t.Fatalf("dovecot has no socket for Postfix:\n%s", log)
}

// greylist is a policy service: "later" is told to come later once, "nobody"
// not to come, all others are welcome.
func (n *nextHop) greylist() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go n.judge(c)
		}
	}()
	return l.Addr().String()
}

func (n *nextHop) judge(c net.Conn) {
	defer c.Close()
	recipient := ""
	for in := bufio.NewScanner(c); in.Scan(); {
		if to, ok := strings.CutPrefix(in.Text(), "recipient="); ok {
			recipient = to
		}
		if in.Text() != "" {
			continue
		}
		n.mu.Lock()
		n.first[recipient]++
		again := n.first[recipient] > 1
		n.mu.Unlock()
		action := "dunno"
		switch {
		case recipient == "nobody@far.test":
			action = "550 5.1.1 nobody of that name"
		case recipient == "later@far.test" && !again:
			action = "450 4.7.1 greylisted"
		}
		fmt.Fprintf(c, "action=%s\n\n", action)
	}
}

func (n *nextHop) greylisted() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.first["later@far.test"]
}

// message waits for the one message of a user.
func (n *nextHop) message(b *boundary, user string) string {
	n.t.Helper()
	var text string
	b.eventually("Postfix has mail for "+user, func() error {
		files, err := filepath.Glob(filepath.Join(n.dir, "mail", "far.test", user, "new", "*"))
		if err != nil || len(files) == 0 {
			return errors.Join(errNotYet, err)
		}
		if len(files) > 1 {
			n.t.Errorf("%d messages for %s", len(files), user)
		}
		all, err := os.ReadFile(files[0])
		text = string(all)
		return err
	})
	return text
}

const nextHopMain = `mydestination =
mynetworks =
local_recipient_maps =
smtpd_tls_cert_file = DIR/server.pem
smtpd_tls_key_file = DIR/server.key
smtpd_tls_security_level = encrypt
smtpd_tls_loglevel = 1
smtpd_tls_session_cache_database =
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = private/auth
smtpd_sasl_security_options = noanonymous
smtpd_tls_auth_only = yes
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions = check_policy_service inet:POLICY, permit_sasl_authenticated, reject
smtpd_sender_restrictions =
smtpd_error_sleep_time = 0
virtual_mailbox_domains = far.test
virtual_mailbox_base = DIR/mail
virtual_mailbox_maps = texthash:DIR/mailboxes
virtual_uid_maps = static:UID
virtual_gid_maps = static:GID
virtual_minimum_uid = 1
`

const nextHopServices = `virtual unix - n n - - virtual
tlsmgr unix - - n 1000? 1 tlsmgr
`

const authConf = `
base_dir = DIR/run
state_dir = DIR/run
log_path = DIR/dovecot.log
info_log_path = DIR/dovecot.log
protocols =
ssl = no
default_internal_user = nobody
default_login_user = nobody
default_internal_group = nogroup
auth_mechanisms = plain login
auth_failure_delay = 0
service anvil {
  chroot =
}
service stats {
  chroot =
}
service auth {
  unix_listener DIR/spool/private/auth {
    mode = 0666
  }
}
passdb {
  driver = passwd-file
  args = DIR/users
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=DIR
}
`

// certify makes a CA, and a certificate of it for a name.
func certify(t *testing.T, dir, name string) {
	t.Helper()
	issue := func(c, by *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if signer == nil {
			by, signer = c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, by, key.Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		made, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return made, key
	}
	from, until := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	ca, caKey := issue(&x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotBefore: from, NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	leaf, leafKey := issue(&x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: until, DNSNames: []string{name}}, ca, caKey)
	der, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{"ca.pem": {Type: "CERTIFICATE", Bytes: ca.Raw}, "server.pem": {Type: "CERTIFICATE", Bytes: leaf.Raw}, "server.key": {Type: "PRIVATE KEY", Bytes: der}} {
		write(t, filepath.Join(dir, file), string(pem.EncodeToMemory(block)), 0o600)
	}
	write(t, filepath.Join(dir, "mailboxes"), "ann@far.test far.test/ann/\nlater@far.test far.test/later/\n", 0o644)
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func account(t *testing.T, name string) (uid, gid int) {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	uid, err = strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	return uid, gid
}
