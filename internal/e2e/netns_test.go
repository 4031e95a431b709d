//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"mailraft/internal/ledger"
	"mailraft/internal/loopback"
)

// hosts are network namespaces that stand for the hosts of the members, each
// on a link of its own; this namespace is the router between them. Everything
// lies within namespaces that the test made for itself.
type hosts struct{ t *testing.T }

// inNamespace runs the test again, alone, in a network and a mount namespace
// of its own. It returns true in the inner run.
func inNamespace(t *testing.T) bool {
	t.Helper()
	const mark = "MAILRAFT_E2E_NAMESPACE"
	if os.Getenv(mark) != "" {
		return true
	}
	if os.Getuid() != 0 {
		t.Skip("network namespaces are for root")
	}
	cmd := exec.Command("unshare", "--net", "--mount", os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), mark+"=1")
	out, err := cmd.CombinedOutput()
	t.Logf("in a namespace of its own:\n%s", out)
	if err != nil {
		t.Fatal(err)
	}
	return false
}

func newHosts(t *testing.T, n int) *hosts {
	t.Helper()
	h := &hosts{t}
	h.ip("link set lo up")
	h.ip("addr add %s/32 dev lo", mailboxHost)
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	run(t, "mount", "-t", "tmpfs", "tmpfs", "/run")
	for i := range n {
		h.ip("netns add h%d", i)
		h.ip("link add v%d type veth peer name eth0 netns h%d", i, i)
		h.ip("addr add 10.77.%d.1/24 dev v%d", i, i)
		h.ip("link set v%d up", i)
		h.ip("-n h%d addr add %s/24 dev eth0", i, hostAddr(i))
		h.ip("-n h%d link set lo up", i)
		h.ip("-n h%d link set eth0 up", i)
		h.ip("-n h%d route add default via 10.77.%d.1", i, i)
	}
	return h
}

// mailboxHost is where mailbox servers listen: no member is cut off from it.
const mailboxHost = "10.77.99.1"

func hostAddr(i int) string { return fmt.Sprintf("10.77.%d.2", i) }

func (h *hosts) ip(format string, a ...any) {
	h.t.Helper()
	run(h.t, "ip", strings.Fields(fmt.Sprintf(format, a...))...)
}

// cut drops what host i sends to host k, silently; heal lets it pass again.
func (h *hosts) cut(i, k int)  { h.rule("add", i, k) }
func (h *hosts) heal(i, k int) { h.rule("del", i, k) }

func (h *hosts) rule(verb string, i, k int) {
	h.t.Helper()
	h.ip("rule %s from 10.77.%d.0/24 to 10.77.%d.0/24 blackhole", verb, i, k)
}

// A primary server is cut off from the other members, but not from the mailbox
// server: it must have stopped delivering before its shadow begins.
func TestPrimaryCutOff(t *testing.T) {
	t.Parallel()
	if !inNamespace(t) {
		return
	}
	h := newHosts(t, 3)
	b := startOn(t, h)
	server := slowMailboxServer(t)
	b.cli("database", "add", "DB2", "--copy", "a=lmtp://"+server.addr)
	b.cli("directory", "domain", "add", "slow.test", "--any-mailbox", "--database", "DB2")
	b.cli("queue", "suspend", "db/DB2", "--reason", "until all is in")

	const cutOff = 0
	s := b.sender(300, 6, 0)
	s.Targets = []string{b.Members[cutOff].SMTP}
	s.Recipient = func(int) string { return "user@slow.test" }
	s.Run(b.ctx)
	b.cli("queue", "resume", "db/DB2")
	b.eventually("the primary server delivers", func() error { return server.seen(hostAddr(cutOff), 20) })
	for _, other := range []int{1, 2} {
		h.cut(cutOff, other)
		h.cut(other, cutOff)
	}
	cutAt := time.Now()
	b.eventually("the others have delivered the rest", func() error { return server.all(s.Ledger.Accepted()) })
	for _, other := range []int{1, 2} {
		h.heal(cutOff, other)
		h.heal(other, cutOff)
	}
	b.ready()
	last, first, twice := server.handover(hostAddr(cutOff))
	t.Logf("after the cut the old primary server went on for %s, the others began after %s; %d messages were delivered by both, in flight at the cut",
		last.Sub(cutAt).Round(time.Millisecond), first.Sub(cutAt).Round(time.Millisecond), twice)
	if !last.Before(first) {
		t.Errorf("the old primary server delivered at %s, after a new owner had begun at %s", last, first)
	}
	b.sameState()
}

func startOn(t *testing.T, h *hosts) *boundary {
	t.Helper()
	return startWith(t, 3*time.Minute, loopback.Options{
		Host: hostAddr,
		Wrap: func(i int) []string { return []string{"ip", "netns", "exec", fmt.Sprintf("h%d", i)} },
	})
}

// mailboxServer is an LMTP server that takes half a second for a message, and
// writes down who delivered what when.
type mailboxServer struct {
	addr string

	mu  sync.Mutex
	log []delivery
}

type delivery struct {
	marker, from string
	at           time.Time
}

func slowMailboxServer(t *testing.T) *mailboxServer {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(mailboxHost, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	s := &mailboxServer{addr: l.Addr().String()}
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

func (s *mailboxServer) serve(c net.Conn) {
	defer c.Close()
	fmt.Fprint(c, "220 slow.test LMTP\r\n")
	marker, data := "", false
	for in := bufio.NewScanner(c); in.Scan(); {
		line := in.Text()
		verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
		switch {
		case data && line == ".":
			host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			s.mu.Lock()
			s.log = append(s.log, delivery{marker, host, time.Now()})
			s.mu.Unlock()
			time.Sleep(500 * time.Millisecond)
			fmt.Fprint(c, "250 2.0.0 taken\r\n")
			data, marker = false, ""
		case data:
			if v, ok := strings.CutPrefix(line, ledger.Marker+": "); ok && marker == "" {
				marker = v
			}
		case verb == "LHLO":
			fmt.Fprint(c, "250-slow.test\r\n250 ENHANCEDSTATUSCODES\r\n")
		case verb == "DATA":
			fmt.Fprint(c, "354 go on\r\n")
			data = true
		case verb == "QUIT":
			fmt.Fprint(c, "221 2.0.0 bye\r\n")
			return
		default:
			fmt.Fprint(c, "250 2.0.0 ok\r\n")
		}
	}
}

// seen is nil when n messages came from a host.
func (s *mailboxServer) seen(from string, n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.log {
		if d.from == from {
			n--
		}
	}
	if n > 0 {
		return errNotYet
	}
	return nil
}

// all is nil when n different messages have come.
func (s *mailboxServer) all(n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	markers := map[string]bool{}
	for _, d := range s.log {
		markers[d.marker] = true
	}
	if len(markers) < n {
		return fmt.Errorf("%d of %d messages have come", len(markers), n)
	}
	return nil
}

// handover tells when the old owner delivered last, when others first, and how
// many messages came from both.
func (s *mailboxServer) handover(old string) (last, first time.Time, twice int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := map[string]map[string]bool{}
	for _, d := range s.log {
		if from[d.marker] == nil {
			from[d.marker] = map[string]bool{}
		}
		from[d.marker][d.from] = true
		if d.from == old {
			last = d.at
		} else if first.IsZero() {
			first = d.at
		}
	}
	for _, hosts := range from {
		if hosts[old] && len(hosts) > 1 {
			twice++
		}
	}
	return last, first, twice
}
