package mx

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"mailraft/mail"
)

// Bounds.
const (
	hostsMax     = 10 // MX records of a domain that count: the best
	addressesMax = 4  // of a host, of each family
	queryTime    = 5 * time.Second
)

// Resolver asks resolvers. Fill in the fields before the first question.
type Resolver struct {
	Servers []string // host:port of recursive resolvers, asked one after the other
	// Self reports that mail sent there would come back to this boundary. nil: never.
	Self func(name string, addr netip.Addr) bool

	mu    sync.Mutex
	cache map[question]*answer
}

// SystemServers are the resolvers of the host: those of /etc/resolv.conf.
func SystemServers() ([]string, error) {
	c, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil {
		return nil, fmt.Errorf("find resolvers: %w", err)
	}
	var servers []string
	for _, s := range c.Servers {
		servers = append(servers, net.JoinHostPort(s, c.Port))
	}
	if len(servers) == 0 {
		return nil, errors.New("find resolvers: /etc/resolv.conf names none")
	}
	return servers, nil
}

// Host is one that takes mail for a domain.
type Host struct {
	Name  string // without a dot at the end; an address as text for an address literal
	Addrs []netip.Addr
}

// Hosts are those that take mail for a domain, the best first, equals in an
// order by chance (RFC 5321 §5.1). An error is a *mail.Reply: permanent only
// where a resolver has said for sure that mail can go nowhere.
func (r *Resolver) Hosts(ctx context.Context, domain string) ([]Host, error) {
	if literal, ok := strings.CutPrefix(domain, "["); ok {
		return r.literal(domain, literal)
	}
	answered, err := r.ask(ctx, domain, dns.TypeMX)
	if err != nil {
		return nil, unknown(domain, err)
	}
	records, err := r.best(domain, answered)
	if err != nil {
		return nil, err
	}
	var hosts []Host
	var trouble error
	for _, mx := range records {
		addrs, err := r.addresses(ctx, mx.Mx)
		switch {
		case err != nil:
			trouble = err // another one may do
		case slices.ContainsFunc(addrs, func(a netip.Addr) bool { return r.self(mx.Mx, a) }):
			// As if its name were ours: neither it nor what comes after it.
			return hosts, loops(domain, hosts)
		case len(addrs) > 0:
			hosts = append(hosts, Host{Name: strings.TrimSuffix(mx.Mx, "."), Addrs: addrs})
		}
	}
	switch {
	case len(hosts) > 0:
		return hosts, nil
	case trouble != nil:
		return nil, unknown(domain, trouble)
	}
	return nil, mail.Replyf(550, "5.4.4", "none of the hosts that take mail for %s has an address", domain)
}

// best are the MX records that count, in order. Where we are among them, only
// those that are preferred to us do (RFC 5321 §5.1).
func (r *Resolver) best(domain string, a *answer) ([]*dns.MX, error) {
	if a.none {
		return nil, mail.Replyf(550, "5.1.2", "there is no domain %s", domain)
	}
	records := slices.Clone(a.mx)
	if len(records) == 1 && records[0].Mx == "." {
		return nil, mail.Replyf(556, "5.1.10", "%s takes no mail (null MX)", domain)
	}
	if len(records) == 0 { // its own address, implicitly
		records = []*dns.MX{{Mx: domain + "."}}
	}
	records = slices.DeleteFunc(records, func(mx *dns.MX) bool { return mx.Mx == "." })
	rand.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
	slices.SortStableFunc(records, func(x, y *dns.MX) int { return cmp.Compare(x.Preference, y.Preference) })
	for i, mx := range records {
		if r.self(mx.Mx, netip.Addr{}) {
			// Equals of ours are no better than we are.
			n := slices.IndexFunc(records[:i+1], func(other *dns.MX) bool { return other.Preference == mx.Preference })
			records = records[:n]
			break
		}
	}
	if len(records) == 0 {
		return nil, loops(domain, nil)
	}
	return records[:min(len(records), hostsMax)], nil
}

// loops is nil while there are better hosts than ourselves.
func loops(domain string, better []Host) error {
	if len(better) > 0 {
		return nil
	}
	return mail.Replyf(554, "5.4.6", "mail for %s would come back here: its MX records name this server", domain)
}

func (r *Resolver) self(name string, addr netip.Addr) bool {
	return r.Self != nil && r.Self(strings.ToLower(strings.TrimSuffix(name, ".")), addr)
}

// unknown is the answer where nobody can say: it is for now.
func unknown(domain string, err error) *mail.Reply {
	return mail.Replyf(451, "4.4.3", "the hosts that take mail for %s cannot be found now: %v", domain, err)
}

// literal is a host that is named by its address (RFC 5321 §4.1.3).
func (r *Resolver) literal(domain, text string) ([]Host, error) {
	text = strings.TrimSuffix(text, "]")
	if len(text) > 5 && strings.EqualFold(text[:5], "IPv6:") {
		text = text[5:]
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return nil, mail.Replyf(550, "5.1.2", "%s is not an address", domain)
	}
	if r.self(text, a) {
		return nil, loops(domain, nil)
	}
	return []Host{{Name: a.String(), Addrs: []netip.Addr{a}}}, nil
}

// addresses of a host, IPv6 and IPv4 in turn. An error only where nothing is known.
func (r *Resolver) addresses(ctx context.Context, name string) ([]netip.Addr, error) {
	six, err6 := r.ask(ctx, name, dns.TypeAAAA)
	four, err4 := r.ask(ctx, name, dns.TypeA)
	var addrs []netip.Addr
	for i := range addressesMax {
		for _, a := range []*answer{six, four} {
			if a != nil && i < len(a.addrs) {
				addrs = append(addrs, a.addrs[i])
			}
		}
	}
	if len(addrs) > 0 {
		return addrs, nil
	}
	return nil, errors.Join(err6, err4)
}
