package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"mailraft/internal/fixedport"
)

// ErrNoPostfix says that Postfix is not installed, or that nobody but root may
// start it.
var ErrNoPostfix = errors.New("no Postfix to compare with")

const (
	postfixDaemons = "/usr/lib/postfix/sbin"
	postfixLimit   = 120 // smtpd processes, and so sessions
)

// startPostfix runs a Postfix of its own: it takes all mail and holds it, so
// that it does what taking a message costs (cleanup writes one file and syncs
// it before the answer) and nothing else. What concerns its disk is as Postfix
// has it by default.
func startPostfix(ctx context.Context, dir string) (*system, error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: only root can start it", ErrNoPostfix)
	}
	if _, err := os.Stat(filepath.Join(postfixDaemons, "master")); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoPostfix, err)
	}
	addr, err := fixedport.Addr()
	if err != nil {
		return nil, err
	}
	if err := layPostfix(dir, addr); err != nil {
		return nil, fmt.Errorf("lay out Postfix in %s: %w", dir, err)
	}
	log, err := os.Create(filepath.Join(dir, "output"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(postfixDaemons, "master"), "-c", filepath.Join(dir, "etc"), "-d")
	cmd.Env = append(os.Environ(), "MAIL_CONFIG="+filepath.Join(dir, "etc"))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start Postfix: %w", err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	s := &system{name: "Postfix", targets: []string{addr}, members: 1,
		pids: func() []int { return family(cmd.Process.Pid) },
		stop: func() {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			<-ended
		}}
	for {
		c, err := Dial(ctx, addr)
		if err == nil {
			c.Close()
			return s, nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ended:
			text, _ := os.ReadFile(log.Name())
			return nil, fmt.Errorf("wait for Postfix: it has ended: %s", text)
		case <-ctx.Done():
			s.stop()
			return nil, fmt.Errorf("wait for Postfix: %w", err)
		}
	}
}

const postfixMain = `compatibility_level = 3.6
config_directory = %[1]s/etc
queue_directory = %[1]s/spool
data_directory = %[1]s/data
daemon_directory = ` + postfixDaemons + `
command_directory = /usr/sbin
maillog_file_prefixes = %[1]s
maillog_file = %[1]s/log/mail.log
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = postfix.example.test
mydestination = example.test
local_recipient_maps =
mynetworks = 127.0.0.0/8
smtpd_peername_lookup = no
disable_dns_lookups = yes
smtpd_recipient_restrictions = check_recipient_access static:HOLD, permit_mynetworks, reject
smtpd_client_connection_count_limit = 0
default_process_limit = %[2]d
message_size_limit = 0
mailbox_size_limit = 0
alias_maps =
alias_database =
`

const postfixMaster = `%s inet n - n - - smtpd
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

func layPostfix(dir, addr string) error {
	uid, err := idOf(user.Lookup("postfix"))
	if err != nil {
		return err
	}
	// Its daemons run as another user: they must get through to here.
	for p := dir; len(p) > len(os.TempDir()); p = filepath.Dir(p) {
		_ = os.Chmod(p, 0o755)
	}
	for _, d := range strings.Fields("etc log data spool spool/pid " +
		"spool/active spool/bounce spool/corrupt spool/defer spool/deferred spool/flush spool/hold spool/incoming " +
		"spool/maildrop spool/private spool/public spool/saved spool/trace") {
		p := filepath.Join(dir, d)
		if err := os.MkdirAll(p, 0o755); err != nil {
			return err
		}
		if d == "data" || strings.Count(d, "/") == 1 && d != "spool/pid" {
			if err := errors.Join(os.Chown(p, uid, 0), os.Chmod(p, 0o700)); err != nil {
				return err
			}
		}
	}
	main := fmt.Sprintf(postfixMain, dir, postfixLimit)
	master := fmt.Sprintf(postfixMaster, addr)
	return errors.Join(os.WriteFile(filepath.Join(dir, "etc", "main.cf"), []byte(main), 0o644),
		os.WriteFile(filepath.Join(dir, "etc", "master.cf"), []byte(master), 0o644))
}

func idOf(u *user.User, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(u.Uid)
}

func postfixVersion() string {
	out, _ := exec.Command("/usr/sbin/postconf", "-dh", "mail_version").Output()
	return strings.TrimSpace(string(out))
}
