package torture

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// envInside marks the run within namespaces of its own.
const envInside = "MAILRAFT_TORTURE_INSIDE"

// Inside runs this command again in a network and a mount namespace of its
// own, where that is possible: links can be cut there, and file systems filled,
// with nobody else seeing it. ran is false where the caller is to go on itself.
func Inside() (ran bool, err error) {
	if os.Getenv(envInside) != "" || os.Getuid() != 0 {
		return false, nil
	}
	if out, err := exec.Command("unshare", "--net", "--mount", "ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "no namespaces: %v: %s\n", err, out)
		return false, nil
	}
	cmd := exec.Command("unshare", append([]string{"--net", "--mount"}, os.Args...)...)
	cmd.Env = append(os.Environ(), envInside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return true, cmd.Run()
}

// network is one namespace for each member, on a link of its own; this one is
// the router between them.
type network struct {
	lossy bool // the kernel can delay and lose packets
}

const (
	mailboxHost = "10.78.99.1" // where mailbox servers listen: no member is cut off from it
	subnet      = "10.78.%d.0/24"
)

func hostAddr(i int) string { return fmt.Sprintf("10.78.%d.2", i) }

func command(line string, a ...any) error {
	words := strings.Fields(fmt.Sprintf(line, a...))
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(words, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// newNetwork makes the hosts; nil: this is not a namespace of our own.
func newNetwork() (*network, error) {
	if os.Getenv(envInside) == "" {
		return nil, nil
	}
	lines := []string{"ip link set lo up", "ip addr add " + mailboxHost + "/32 dev lo", "mount -t tmpfs tmpfs /run"}
	for i := range members {
		host := func(format string, a ...any) { lines = append(lines, fmt.Sprintf(format, a...)) }
		host("ip netns add h%d", i)
		host("ip link add v%d type veth peer name eth0 netns h%d", i, i)
		host("ip addr add 10.78.%d.1/24 dev v%d", i, i)
		host("ip link set v%d up", i)
		host("ip -n h%d addr add %s/24 dev eth0", i, hostAddr(i))
		host("ip -n h%d link set lo up", i)
		host("ip -n h%d link set eth0 up", i)
		host("ip -n h%d route add default via 10.78.%d.1", i, i)
	}
	for _, line := range lines {
		if err := command("%s", line); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		return nil, fmt.Errorf("make a router: %w", err)
	}
	n := &network{}
	n.lossy = n.lose(0) == nil
	if n.lossy {
		return n, n.lossless(0)
	}
	return n, nil
}

// cut drops what host i sends to host k, silently; heal lets it pass again.
func (n *network) cut(i, k int) error  { return n.rule("add", i, k) }
func (n *network) heal(i, k int) error { return n.rule("del", i, k) }

func (n *network) rule(verb string, i, k int) error {
	return command("ip rule %s from "+subnet+" to "+subnet+" blackhole", verb, i, k)
}

func (n *network) lose(i int) error {
	return command("tc qdisc add dev v%d root netem delay 40ms 20ms loss 5%%", i)
}

func (n *network) lossless(i int) error { return command("tc qdisc del dev v%d root", i) }

// mountDisks gives each member a small disk of its own below dir; false: it
// has the one that dir is on.
func mountDisks(dir string) (bool, error) {
	if os.Getenv(envInside) == "" {
		return false, nil
	}
	for i := range members {
		d := filepath.Join(dir, memberName(i))
		if err := os.MkdirAll(d, 0o700); err != nil {
			return false, fmt.Errorf("make a disk: %w", err)
		}
		if err := command("mount -t tmpfs -o size=%d tmpfs %s", diskSize, d); err != nil {
			return false, err
		}
	}
	return true, nil
}

// unmountDisks leaves empty directories.
func unmountDisks(dir string) error {
	var errs []error
	for i := range members {
		errs = append(errs, command("umount -l %s", filepath.Join(dir, memberName(i))))
	}
	return errors.Join(errs...)
}

func memberName(i int) string { return fmt.Sprintf("m%d", i+1) }

// keepDisks copies what lies on disks that end with this process.
func keepDisks(dir, to string) error {
	var errs []error
	for i := range members {
		errs = append(errs, os.CopyFS(filepath.Join(to, memberName(i)), os.DirFS(filepath.Join(dir, memberName(i)))))
	}
	return errors.Join(errs...)
}
