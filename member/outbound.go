package member

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"mailraft/deliver/mx"
	"mailraft/deliver/remote"
	"mailraft/directory"
	"mailraft/fsm"
	"mailraft/mail"
)

// Deliver is the way out, as far as it is this member's own: what depends on its
// addresses and its network, and its secrets. How mail is handed over at an
// address is replicated; see "mailraft directory next-hop".
type Deliver struct {
	Hello           string                `toml:"hello"`           // what we greet as; default: hostname
	SourceAddresses []string              `toml:"source-address"`  // of our side of connections: one of IPv4, one of IPv6; default: the system's choice
	Resolvers       []string              `toml:"resolvers"`       // host:port of DNS resolvers; default: those of /etc/resolv.conf
	ConnectionsMax  int                   `toml:"connections-max"` // deliveries at once; default 100
	ConnectionsHost int                   `toml:"connections-per-host"`
	MessagesMax     int                   `toml:"messages-per-connection"`
	TimeConnect     string                `toml:"time-connect"`
	TimeGreeting    string                `toml:"time-greeting"`
	TimeMail        string                `toml:"time-mail"`
	TimeRcpt        string                `toml:"time-rcpt"`
	TimeData        string                `toml:"time-data"`
	TimeBlock       string                `toml:"time-block"`
	TimeAnswer      string                `toml:"time-answer"`
	TimeIdle        string                `toml:"time-idle"`
	Credentials     map[string]Credential `toml:"credential"`
	sources         []netip.Addr
	times           remote.Times
}

// Credential is what to log in with at a next hop. The password is in a file of
// its own, whose first line it is, and is read at each login: it can be changed
// without a restart, and is neither in this configuration nor in the boundary.
type Credential struct {
	User         string `toml:"user"`
	PasswordFile string `toml:"password-file"`
}

// complete reads addresses and times, and names the first key that cannot stand.
func (d *Deliver) complete() error {
	for _, s := range d.SourceAddresses {
		a, err := netip.ParseAddr(s)
		if err != nil || slices.ContainsFunc(d.sources, func(b netip.Addr) bool { return a.Is4() == b.Is4() }) {
			return fmt.Errorf("deliver.source-address: %q: want one address of IPv4 and one of IPv6 at most", s)
		}
		d.sources = append(d.sources, a)
	}
	for i, s := range d.Resolvers {
		if _, _, err := net.SplitHostPort(s); err != nil {
			s = net.JoinHostPort(strings.Trim(s, "[]"), "53")
		}
		if a, err := netip.ParseAddrPort(s); err != nil || a.Port() == 0 {
			return fmt.Errorf("deliver.resolvers: %q: want an address, with a port if it is not 53", d.Resolvers[i])
		}
		d.Resolvers[i] = s
	}
	if d.ConnectionsMax < 0 || d.ConnectionsHost < 0 || d.MessagesMax < 0 {
		return fmt.Errorf("deliver.connections-max, connections-per-host and messages-per-connection: want more than 0")
	}
	for name, c := range d.Credentials {
		if c.User == "" || c.PasswordFile == "" {
			return fmt.Errorf("deliver.credential.%s: want user and password-file", name)
		}
	}
	for _, t := range []struct {
		key, text string
		d         *time.Duration
	}{
		{"connect", d.TimeConnect, &d.times.Connect}, {"greeting", d.TimeGreeting, &d.times.Greeting}, {"mail", d.TimeMail, &d.times.Mail},
		{"rcpt", d.TimeRcpt, &d.times.Rcpt}, {"data", d.TimeData, &d.times.Data}, {"block", d.TimeBlock, &d.times.Block},
		{"answer", d.TimeAnswer, &d.times.Answer}, {"idle", d.TimeIdle, &d.times.Idle},
	} {
		if t.text == "" {
			continue
		}
		v, err := mail.ParseDuration(t.text)
		if err != nil || v < time.Second || v > time.Hour {
			return fmt.Errorf("deliver.time-%s: %q: want a time from 1s to 1h", t.key, t.text)
		}
		*t.d = v
	}
	return nil
}

// outbound is the transport of SMTP and LMTP.
func (m *Member) outbound() *remote.Transport {
	c := m.cfg.Deliver
	resolver := &mx.Resolver{Servers: c.Resolvers, Self: (&loops{m: m}).back}
	if len(resolver.Servers) == 0 {
		servers, err := mx.SystemServers()
		if err != nil {
			m.log.Warn("no MX records can be looked up", "error", err)
		}
		resolver.Servers = servers
	}
	t := &remote.Transport{Host: m.cfg.Hostname, Source: c.sources, Times: c.times, MessagesMax: c.MessagesMax, HostMax: c.ConnectionsHost,
		MX: resolver, Hop: m.nextHop, Credential: c.credential}
	if c.Hello != "" {
		t.Host = c.Hello
	}
	return t
}

// nextHop is what is set for an address now; a domain that is found by MX
// records has what is set for all of them, where nothing is set for itself.
func (m *Engine) nextHop(addr string) directory.NextHop {
	v := m.fsm.View()
	defer v.Close()
	h, ok := v.NextHop(addr)
	if !ok && strings.HasPrefix(addr, directory.MX+":") {
		h, ok = v.NextHop(directory.MX + ":")
	}
	if !ok {
		h = directory.NextHop{Address: addr}
	}
	return h
}

// credential reads what to log in with.
func (d *Deliver) credential(name string) (remote.Credential, error) {
	c, ok := d.Credentials[name]
	if !ok {
		return remote.Credential{}, fmt.Errorf("the configuration has no [deliver.credential.%s]", name)
	}
	b, err := os.ReadFile(c.PasswordFile)
	if err != nil {
		return remote.Credential{}, fmt.Errorf("read password: %w", err)
	}
	password, _, _ := strings.Cut(string(b), "\n")
	return remote.Credential{User: c.User, Password: strings.TrimSuffix(password, "\r")}, nil
}

// loops tells which hosts are this boundary: a member by its name, or an address
// of this machine. Mail that is sent there by MX records would come back.
type loops struct {
	m *Member

	mu  sync.Mutex
	at  time.Time
	own []netip.Addr
}

// addressesFor is how long the addresses of the machine are remembered.
const addressesFor = 30 * time.Second

// back is asked for a name, and for each address of a host.
func (l *loops) back(name string, addr netip.Addr) bool {
	if addr.IsValid() {
		return addr.IsLoopback() || addr.IsUnspecified() || slices.Contains(l.addresses(), addr)
	}
	c := l.m.cfg
	return strings.EqualFold(name, c.Hostname) || strings.EqualFold(name, c.Deliver.Hello) ||
		slices.ContainsFunc(l.m.fsm.Settings().Members, func(x fsm.Member) bool { return strings.EqualFold(x.Host, name) })
}

func (l *loops) addresses() []netip.Addr {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.at) < addressesFor {
		return l.own
	}
	l.at, l.own = time.Now(), nil
	all, _ := net.InterfaceAddrs() // without them names are left to tell by
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			l.own = append(l.own, p.Addr().Unmap())
		}
	}
	return l.own
}
