//go:build e2e

package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/smtp"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"mailraft/internal/fixedport"
	"mailraft/internal/loopback"
)

// OpenDKIM signs, and a filter of libmilter's Python binding decides. What they
// do to a header is there whoever delivers, so the signature verifies at the
// receiver: below our trace fields and below those of Dovecot.
func TestMilters(t *testing.T) {
	t.Parallel()
	f := newFilters(t)
	f.start(f.opendkim())
	decides := f.start(f.decides())
	b := startWith(t, 2*time.Minute, loopback.Options{Edit: func(_ int, text string) string { return text + f.toml() }})
	d := newDovecot(t)
	d.start()
	b.cli("database", "add", "DB2", "--copy", "a=lmtp://"+d.addr)
	b.cli("directory", "domain", "add", "dovecot.test", "--any-mailbox", "--database", "DB2")

	for _, c := range []struct{ from, to, text, want string }{
		{"spammer@sender.example", "a@example.test", "x", "554 5.7.1 No mail from spammers, 100% sure"},
		{"ann@sender.example", "greylisted@example.test", "x", "451 4.7.1 "},
		{"ann@sender.example", "a@example.test", "Subject: x\r\n\r\n" + strings.Repeat("body\r\n", 40_000) + "EICAR\r\n", "550 5.7.1 "},
		{"ann@sender.example", "a@example.test", "Subject: discard\r\n\r\nx\r\n", ""},
	} {
		if got := send(b.Members[0].SMTP, c.from, c.text, c.to); !strings.HasPrefix(got, c.want) || got != "" && c.want == "" {
			t.Errorf("from %s to %s: %q, not %q", c.from, c.to, got, c.want)
		}
	}
	signed := f.text("archive", "X-Old: 1\r\nX-Old: 2\r\n") // to be signed, and by nobody read
	for i, to := range [][]string{{"maildir@example.test", "dave@dovecot.test"}, {"folded@example.test"}} {
		if got := send(b.Members[i].SMTP, "ann@sender.example", signed, to...); got != "" {
			t.Fatal(got)
		}
	}
	for _, who := range []string{"maildir", "folded"} {
		f.good(b.message(who))
	}
	b.eventually("two copies for the archive", func() error {
		files, err := filepath.Glob(filepath.Join(b.mail(), "DB1", "a", "archive", "new", "*"))
		if len(files) == 2 {
			return err
		}
		return errors.Join(errNotYet, err)
	})
	b.eventually("Dovecot has it", func() error {
		files, err := filepath.Glob(filepath.Join(d.mail(), "dave*", "*", "new", "*"))
		if len(files) == 0 {
			files, err = filepath.Glob(filepath.Join(d.mail(), "dave*", "new", "*"))
		}
		if len(files) != 1 {
			return errors.Join(errNotYet, err)
		}
		text, err := os.ReadFile(files[0])
		f.good(string(text))
		return err
	})
	f.takenOver(b)
	f.away(b, decides)
	b.sameState()
}

// takenOver has a message set aside, loses the member that took it, and has it
// released: its shadow delivers it, with the header as the filters left it.
func (f *filters) takenOver(b *boundary) {
	f.t.Helper()
	primary := b.Members[1]
	if got := send(primary.SMTP, "ann@sender.example", f.text("quarantine", ""), "held@example.test"); got != "" {
		f.t.Fatal(got)
	}
	id := strings.TrimSpace(b.cli("message", "list", "--state", "suspended", "--reason-match", "quarantine", "-o", "id"))
	if show := b.cli("message", "show", id); !strings.Contains(show, "suspicious: quarantine") || !strings.Contains(show, "QUARANTINE") {
		f.t.Errorf("it is shown as\n%s", show)
	}
	b.kill(primary)
	b.eventually("another member has it", func() error {
		if out := b.cli("message", "list", "--member", primary.Name, "--state", "active", "-o", "id"); strings.Contains(out, id) &&
			!strings.Contains(b.cli("message", "show", id), "TAKEOVER") {
			return errNotYet
		}
		return nil
	})
	b.cli("message", "resume", id)
	f.good(b.message("held"))
	b.back(primary)
	b.ready()
}

// away loses a filter: mail is told to come again, and status says why.
func (f *filters) away(b *boundary, decides *exec.Cmd) {
	f.t.Helper()
	f.stop(decides)
	if got := send(b.Members[0].SMTP, "ann@sender.example", f.text("x", ""), "a@example.test"); !strings.HasPrefix(got, "451 4.7.1 ") && !strings.HasPrefix(got, "421 4.7.1 ") {
		f.t.Errorf("without a filter: %q", got)
	}
	out, err := b.CLI(b.ctx, "status")
	if want := "m1: milter decides (inet:" + f.addr + ") is away for "; err == nil || !strings.Contains(out+err.Error(), want) {
		f.t.Errorf("status says %v:\n%s", err, out)
	}
	f.start(f.decides())
	b.eventually("it is found to be back", func() error {
		if got := send(b.Members[0].SMTP, "ann@sender.example", f.text("back", ""), "back@example.test"); got != "" {
			return errors.New(got)
		}
		return nil
	})
	f.good(b.message("back"))
}

// debianPython has the modules that Debian's packages bring.
const debianPython = "/usr/bin/python3"

// filters are the filter programs of a test, and OpenDKIM's key.
type filters struct {
	t      *testing.T
	dir    string
	addr   string // of the one that decides
	public string
}

func newFilters(t *testing.T) *filters {
	t.Helper()
	dir, err := os.MkdirTemp("", "milter-") // short: it has a socket in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	addr, err := fixedport.Addr()
	if err != nil {
		t.Fatal(err)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	private := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	if err := os.WriteFile(filepath.Join(dir, "key"), private, 0o600); err != nil {
		t.Fatal(err)
	}
	return &filters{t: t, dir: dir, addr: addr, public: base64.StdEncoding.EncodeToString(der)}
}

func (f *filters) toml() string {
	return fmt.Sprintf("\n[[smtp.milter]]\nname = \"decides\"\naddress = \"inet:%s\"\n\n[[smtp.milter]]\nname = \"opendkim\"\naddress = \"unix:%s/s\"\n", f.addr, f.dir)
}

// opendkim signs for sender.example.
func (f *filters) opendkim() (*exec.Cmd, string, string) {
	conf := filepath.Join(f.dir, "opendkim.conf")
	text := strings.ReplaceAll("Socket local:DIR/s\nPidFile DIR/pid\nBackground no\nMode s\nDomain sender.example\nSelector s1\nKeyFile DIR/key\n"+
		"RequireSafeKeys no\nCanonicalization relaxed/simple\nOversignHeaders From\nUMask 0\nSyslog no\n", "DIR", f.dir)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
	return exec.Command("opendkim", "-f", "-x", conf), "unix", filepath.Join(f.dir, "s")
}

func (f *filters) decides() (*exec.Cmd, string, string) {
	_, port, _ := net.SplitHostPort(f.addr)
	return exec.Command(debianPython, "testdata/filter.py", port), "tcp", f.addr
}

// start runs a filter until the test ends, and waits until it answers.
func (f *filters) start(cmd *exec.Cmd, network, address string) *exec.Cmd {
	f.t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { f.stop(cmd) })
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		c, err := net.Dial(network, address)
		if err == nil {
			c.Close()
			return cmd
		}
		if time.Now().After(end) {
			f.t.Fatalf("%s does not answer: %v", cmd, err)
		}
	}
}

func (f *filters) stop(cmd *exec.Cmd) {
	if cmd.ProcessState == nil {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // killed
	}
}

// text is a message that OpenDKIM signs, and the other filter changes.
func (f *filters) text(subject, more string) string {
	return "From: Ann <ann@sender.example>\r\nTo: somebody@example.test\r\nSubject: " + subject + "\r\nMessage-ID: <" + subject + "@sender.example>\r\n" + more +
		"Date: Thu, 1 Jan 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\n\r\nHello,\r\n.\r\n  there  \r\n\r\n"
}

var checked = regexp.MustCompile(`(?m)^X-Checked: <ann@sender\.example> from 127\.0\.0\.1,\r?\n\tid [0-9a-f]{16}\.\d+, \d+ bytes\r?$`)

// good: the message has what both filters put into it, and the signature holds.
func (f *filters) good(text string) {
	f.t.Helper()
	if !checked.MatchString(text) || strings.Contains(text, "X-Old") || !strings.Contains(text, "\nDKIM-Signature: ") {
		f.t.Errorf("filters left no trace in\n%s", text)
	}
	if strings.Index(text, "Received: from ") > strings.Index(text, "DKIM-Signature: ") {
		f.t.Errorf("our trace field is not above the signature in\n%s", text)
	}
	cmd := exec.Command(debianPython, "testdata/verify.py", "s1", "sender.example", f.public)
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		f.t.Errorf("%v: %s", err, out)
	}
}

// send returns the refusal, empty if there was none.
func send(addr, from, text string, to ...string) string {
	err := smtp.SendMail(addr, nil, from, to, []byte(text))
	if said := (*textproto.Error)(nil); errors.As(err, &said) {
		return fmt.Sprintf("%d %s", said.Code, said.Msg)
	}
	if err != nil {
		return err.Error()
	}
	return ""
}
