// Package postfix runs a private Postfix on a loopback port, with its own
// configuration, queue and log, and leaves the host's alone: as what mailraft is
// compared with, and as a next hop in scenarios. It knows nothing of mailraft.
package postfix

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"mailraft/internal/fixedport"
)

// ErrNone says that Postfix is not installed, or that nobody but root may start
// it.
var ErrNone = errors.New("no Postfix here")

const daemons = "/usr/lib/postfix/sbin"

// Options say what to run.
type Options struct {
	Dir      string   // of its files; its daemons, which run as another user, get through to it
	Main     string   // lines of main.cf beyond those that make it private
	Services string   // lines of master.cf beyond smtpd and what every Postfix needs
	Wrap     []string // words before its command, such as those that slow it down
}

// Postfix is one that runs.
type Postfix struct {
	Addr string // where it takes mail
	PID  int    // of its master
	Dir  string

	cmd   *exec.Cmd
	ended chan struct{}
}

// Start runs it, and returns when it listens.
func Start(ctx context.Context, o Options) (*Postfix, error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: only root can start it", ErrNone)
	}
	if _, err := os.Stat(filepath.Join(daemons, "master")); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNone, err)
	}
	addr, err := fixedport.Addr()
	if err != nil {
		return nil, err
	}
	if err := lay(o, addr); err != nil {
		return nil, fmt.Errorf("lay out Postfix in %s: %w", o.Dir, err)
	}
	output, err := os.Create(filepath.Join(o.Dir, "output"))
	if err != nil {
		return nil, err
	}
	defer output.Close()
	words := append(slices.Clone(o.Wrap), filepath.Join(daemons, "master"), "-c", filepath.Join(o.Dir, "etc"), "-d")
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = append(os.Environ(), "MAIL_CONFIG="+filepath.Join(o.Dir, "etc"))
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start Postfix: %w", err)
	}
	p := &Postfix{Addr: addr, PID: cmd.Process.Pid, Dir: o.Dir, cmd: cmd, ended: make(chan struct{})}
	go func() { _ = cmd.Wait(); close(p.ended) }()
	return p, p.wait(ctx)
}

func (p *Postfix) wait(ctx context.Context) error {
	for {
		c, err := net.DialTimeout("tcp", p.Addr, time.Second)
		if err == nil {
			c.Close()
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-p.ended:
			text, _ := os.ReadFile(filepath.Join(p.Dir, "output"))
			return fmt.Errorf("wait for Postfix: it has ended: %s%s", text, p.Log())
		case <-ctx.Done():
			p.Stop()
			return fmt.Errorf("wait for Postfix: %w", err)
		}
	}
}

// Stop ends it.
func (p *Postfix) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	<-p.ended
}

// Log is what it has written so far.
func (p *Postfix) Log() string {
	text, _ := os.ReadFile(filepath.Join(p.Dir, "log", "mail.log"))
	return string(text)
}

// Version is that of the Postfix of this host; empty: none.
func Version() string {
	out, _ := exec.Command("/usr/sbin/postconf", "-dh", "mail_version").Output()
	return strings.TrimSpace(string(out))
}

const mainFile = `compatibility_level = 3.6
config_directory = %[1]s/etc
queue_directory = %[1]s/spool
data_directory = %[1]s/data
daemon_directory = ` + daemons + `
command_directory = /usr/sbin
maillog_file_prefixes = %[1]s
maillog_file = %[1]s/log/mail.log
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = postfix.example.test
smtpd_peername_lookup = no
disable_dns_lookups = yes
alias_maps =
alias_database =
`

const masterFile = `%s inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
local unix - n n - - local
error unix - - n - - error
retry unix - - n - - error
postlog unix-dgram n - n - 1 postlogd
`

func lay(o Options, addr string) error {
	uid, err := idOf(user.Lookup("postfix"))
	if err != nil {
		return err
	}
	// Its daemons run as another user: they must get through to here.
	for p := o.Dir; len(p) > len(os.TempDir()); p = filepath.Dir(p) {
		_ = os.Chmod(p, 0o755)
	}
	for _, d := range strings.Fields("etc log data spool spool/pid " +
		"spool/active spool/bounce spool/corrupt spool/defer spool/deferred spool/flush spool/hold spool/incoming " +
		"spool/maildrop spool/private spool/public spool/saved spool/trace") {
		p := filepath.Join(o.Dir, d)
		if err := os.MkdirAll(p, 0o755); err != nil {
			return err
		}
		if d == "data" || strings.Count(d, "/") == 1 && d != "spool/pid" {
			if err := errors.Join(os.Chown(p, uid, 0), os.Chmod(p, 0o700)); err != nil {
				return err
			}
		}
	}
	main := fmt.Sprintf(mainFile, o.Dir) + o.Main
	master := fmt.Sprintf(masterFile, addr) + o.Services
	return errors.Join(os.WriteFile(filepath.Join(o.Dir, "etc", "main.cf"), []byte(main), 0o644),
		os.WriteFile(filepath.Join(o.Dir, "etc", "master.cf"), []byte(master), 0o644))
}

func idOf(u *user.User, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(u.Uid)
}
