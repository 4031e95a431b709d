//go:build e2e

package e2e

import (
	"bufio"
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
)

// refuseAll is an LMTP server that knows nobody.
func refuseAll(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go refuseOne(c)
		}
	}()
	return l.Addr().String()
}

func refuseOne(c net.Conn) {
	defer c.Close()
	fmt.Fprint(c, "220 nobody.test LMTP\r\n")
	for in := bufio.NewScanner(c); in.Scan(); {
		switch verb, _, _ := strings.Cut(strings.ToUpper(in.Text()), " "); verb {
		case "LHLO":
			fmt.Fprint(c, "250-nobody.test\r\n250 ENHANCEDSTATUSCODES\r\n")
		case "RCPT":
			fmt.Fprint(c, "550 5.1.1 nobody of that name here\r\n")
		case "DATA":
			fmt.Fprint(c, "503 5.5.1 no recipients\r\n")
		case "QUIT":
			fmt.Fprint(c, "221 2.0.0 bye\r\n")
			return
		default:
			fmt.Fprint(c, "250 2.0.0 ok\r\n")
		}
	}
}

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

// dovecot is a private Dovecot with nothing but LMTP.
type dovecot struct {
	t    *testing.T
	dir  string
	addr string
	cmd  *exec.Cmd
}

func newDovecot(t *testing.T) *dovecot {
	t.Helper()
	addr, err := fixedport.Addr()
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
	return &dovecot{t: t, dir: dir, addr: addr}
}

func (d *dovecot) mail() string { return filepath.Join(d.dir, "mail") }

func (d *dovecot) start() {
	d.t.Helper()
	_, port, _ := net.SplitHostPort(d.addr)
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
	conf := strings.NewReplacer("DIR", d.dir, "PORT", port, "UID", fmt.Sprint(uid), "GID", fmt.Sprint(gid)).Replace(dovecotConf)
	path := filepath.Join(d.dir, "dovecot.conf")
	if err := os.WriteFile(path, []byte(conf), 0o644); err != nil {
		d.t.Fatal(err)
	}
	d.cmd = exec.Command("dovecot", "-F", "-c", path)
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
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

const dovecotConf = `
base_dir = DIR/run
state_dir = DIR/run
log_path = DIR/dovecot.log
info_log_path = DIR/dovecot.log
protocols = lmtp
ssl = no
default_internal_user = nobody
default_login_user = nobody
default_internal_group = nogroup
first_valid_uid = 1
mail_location = maildir:DIR/mail/%n
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
}
`
