//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mailraft/internal/fixedport"
	"mailraft/internal/ledger"
)

// A real Dovecot takes the mail by LMTP; while it is away its mail waits.
func TestDovecot(t *testing.T) {
	t.Parallel()
	b := start(t, 3*time.Minute, nil)
	d := newDovecot(t)
	d.start()
	b.cli("database", "add", "DB2", "--copy", "a=lmtp://"+d.addr)
	b.cli("directory", "domain", "add", "dovecot.test", "--any-mailbox", "--database", "DB2")
	s := b.sender(60, 3, 0)
	s.Recipient = func(n int) string { return fmt.Sprintf("user%d@dovecot.test", n%3) }
	s.Run(b.ctx)
	b.auditIn(s.Ledger, d.mail())
	d.stop()
	s.Run(b.ctx) // accepted while Dovecot is away
	d.start()
	b.auditIn(s.Ledger, d.mail())
}

// The first of two Dovecots dies; the second was restored from a copy of the
// first's mail, taken earlier. Its users find over IMAP what was delivered to
// the first since then, and, by the recipe of docs/safetynet.md, nothing twice.
// Then the first comes back.
func TestDovecotFailsOver(t *testing.T) {
	t.Parallel()
	b := start(t, 3*time.Minute, map[string]string{"failover-after": "2s"})
	first, second := newDovecot(t), newDovecot(t)
	first.start()
	b.cli("database", "add", "DB2", "--copy", "a=lmtp://"+first.addr)
	b.cli("directory", "domain", "add", "dovecot.test", "--any-mailbox", "--database", "DB2")
	users := []string{"ann", "bob", "cyd"}
	const lastNight = 60
	s := b.sender(lastNight, 3, 0)
	s.Recipient = func(n int) string { return users[n%len(users)] + "@dovecot.test" }
	s.Size = func(n int) int { return 500 + n%5000 }
	s.Run(b.ctx)
	b.delivered()
	began := time.Now().UTC().Format(time.RFC3339)
	run(t, "cp", "-a", first.mail(), second.mail())
	second.start()
	b.cli("database", "copy", "add", "DB2", "b=lmtp://"+second.addr, "--data-through", began)
	b.healthy("DB2", "a")
	b.healthy("DB2", "b")

	s.Count, s.Every = 0, 30*time.Millisecond
	stop := b.load(s)
	time.Sleep(2 * time.Second) // of load, the first has it alone
	first.kill()
	b.moved("DB2", "b")
	time.Sleep(time.Second) // of load on the second
	stop()
	b.delivered()
	requests := b.completed()
	a, err := s.Ledger.Audit(first.mail())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the first had %d messages, %d of them since the backup", a.Delivered, a.Delivered-lastNight)
	if len(requests) != 1 || a.Delivered <= lastNight || requests[0].Sent <= lastNight {
		t.Errorf("what was delivered since the backup was not sent again: %+v", requests)
	}
	second.once(s.Ledger, users, lastNight)

	first.start()
	b.cli("database", "activate", "DB2", "--copy", "a", "--reason", "mbx1 is repaired")
	b.delivered()
	b.completed()
	first.once(s.Ledger, users, a.Delivered)
	b.sameState()
}

// dovecot is a private Dovecot with LMTP and IMAP. Its Sieve leaves out what is
// sent again and is there, as docs/safetynet.md has it.
type dovecot struct {
	t    *testing.T
	dir  string
	addr string // of LMTP
	imap string
	cmd  *exec.Cmd
}

func newDovecot(t *testing.T) *dovecot {
	t.Helper()
	addr, err := fixedport.Addr()
	if err != nil {
		t.Fatal(err)
	}
	imap, err := fixedport.Addr()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "dovecot-") // short: it makes sockets below
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return &dovecot{t: t, dir: dir, addr: addr, imap: imap}
}

func (d *dovecot) mail() string { return filepath.Join(d.dir, "mail") }

func (d *dovecot) start() {
	d.t.Helper()
	_, port, _ := net.SplitHostPort(d.addr)
	_, imap, _ := net.SplitHostPort(d.imap)
	uid, gid := os.Getuid(), os.Getgid()
	if err := os.MkdirAll(d.mail(), 0o777); err != nil {
		d.t.Fatal(err)
	}
	if uid == 0 {
		uid, gid = 65534, 65534 // Dovecot delivers as root to nobody
		if err := os.Chown(d.mail(), uid, gid); err != nil {
			d.t.Fatal(err)
		}
	}
	conf := strings.NewReplacer("DIR", d.dir, "PORT", port, "IMAP", imap, "UID", fmt.Sprint(uid), "GID", fmt.Sprint(gid)).Replace(dovecotConf)
	path := filepath.Join(d.dir, "dovecot.conf")
	if err := os.WriteFile(path, []byte(conf), 0o644); err != nil {
		d.t.Fatal(err)
	}
	script := filepath.Join(d.dir, "before.sieve")
	if err := os.WriteFile(script, []byte(sieveBefore), 0o644); err != nil {
		d.t.Fatal(err)
	}
	run(d.t, "sievec", "-c", path, script)
	d.cmd = exec.Command("dovecot", "-F", "-c", path)
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	cmd := d.cmd
	d.t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGTERM); _ = cmd.Wait() })
	for range 100 {
		if c, err := net.Dial("tcp", d.addr); err == nil {
			c.Close()
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	log, _ := os.ReadFile(filepath.Join(d.dir, "dovecot.log"))
	d.t.Fatalf("dovecot does not listen on %s:\n%s", d.addr, log)
}

func (d *dovecot) stop() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	_ = d.cmd.Wait()
}

// audit holds what users find over IMAP against what was accepted.
func (d *dovecot) audit(l *ledger.Ledger, users []string) ledger.Audit {
	d.t.Helper()
	a, err := l.Audit(d.download(users...))
	if err != nil {
		d.t.Fatal(err)
	}
	if len(a.Lost) > 0 || len(a.Damaged) > 0 {
		d.t.Errorf("of %d accepted messages %d are missing, %d have other content: %+v", a.Accepted, len(a.Lost), len(a.Damaged), a)
	}
	d.t.Logf("over IMAP: accepted %d, there %d, twice %d (of messages sent again by the client %d)", a.Accepted, a.Delivered, a.Duplicates, a.Explained)
	return a
}

// once holds what users find against what was accepted, before and after the
// duplicates that Sieve missed are removed: it forgets some of the messages that
// come to one user at the same moment. So many were there and came again.
func (d *dovecot) once(l *ledger.Ledger, users []string, there int) {
	d.t.Helper()
	if a := d.audit(l, users); a.Duplicates >= there {
		d.t.Errorf("Sieve has left out nothing: %d messages were there, %d are there twice", there, a.Duplicates)
	}
	for _, user := range users {
		run(d.t, "doveadm", "-c", filepath.Join(d.dir, "dovecot.conf"), "deduplicate", "-m", "-u", user, "mailbox", "INBOX")
	}
	if a := d.audit(l, users); a.Duplicates > 0 {
		d.t.Errorf("users see %d messages twice", a.Duplicates)
	}
}

// kill ends it and all that it has started, at once.
func (d *dovecot) kill() {
	d.t.Helper()
	if err := syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL); err != nil {
		d.t.Fatal(err)
	}
	_ = d.cmd.Wait()
}

// sieveBefore runs before the scripts of the users.
const sieveBefore = `require ["duplicate"];
if allof (duplicate :seconds 345600, exists "X-Mailraft-Resubmit") { discard; stop; }
`

const dovecotConf = `
base_dir = DIR/run
state_dir = DIR/run
log_path = DIR/dovecot.log
info_log_path = DIR/dovecot.log
protocols = lmtp imap
ssl = no
disable_plaintext_auth = no
default_internal_user = nobody
default_login_user = nobody
default_internal_group = nogroup
first_valid_uid = 1
mail_location = maildir:~/Maildir
mail_uid = UID
mail_gid = GID
auth_mechanisms = plain
lmtp_save_to_detail_mailbox = no
lmtp_rcpt_check_quota = no
service anvil {
  chroot =
}
service stats {
  chroot =
}
service lmtp {
  chroot =
  user = nobody
  inet_listener lmtp {
    address = 127.0.0.1
    port = PORT
  }
}
service imap-login {
  chroot =
  inet_listener imap {
    address = 127.0.0.1
    port = IMAP
  }
  inet_listener imaps {
    port = 0
  }
}
passdb {
  driver = static
  args = nopassword=y
}
userdb {
  driver = static
  args = uid=UID gid=GID home=DIR/mail/%n allow_all_users=yes
}
protocol lmtp {
  postmaster_address = postmaster@dovecot.test
  mail_plugins = sieve
}
plugin {
  sieve_before = DIR/before.sieve
  sieve_duplicate_max_period = 4d
}
`
