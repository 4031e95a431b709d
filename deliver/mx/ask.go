package mx

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// How long an answer counts, whatever it says of itself.
const (
	ttlMin     = 10 * time.Second
	ttlMax     = time.Hour
	noneMax    = 5 * time.Minute // that a name or a record is not there
	troubleFor = 5 * time.Second // that no resolver can say
	cacheMax   = 20_000          // answers
	chainMax   = 8               // CNAMEs that we follow ourselves
)

type question struct {
	name string // in lower case, with the dot
	kind uint16
}

// answer is what the resolvers said. No records and not none: the name is
// there, and has none of this kind.
type answer struct {
	none  bool // the name does not exist
	mx    []*dns.MX
	addrs []netip.Addr
	alias string // the answer ends with this name, and says nothing more
	err   error  // nobody could say
	until time.Time
}

// ask answers from memory while it may.
func (r *Resolver) ask(ctx context.Context, name string, kind uint16) (*answer, error) {
	for range chainMax {
		q := question{strings.ToLower(dns.Fqdn(name)), kind}
		a := r.remembered(q)
		if a == nil {
			a = r.exchange(ctx, q)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			r.remember(q, a)
		}
		if a.err != nil || a.alias == "" {
			return a, a.err
		}
		name = a.alias
	}
	return nil, fmt.Errorf("%s: too many aliases", name)
}

func (r *Resolver) remembered(q question) *answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a := r.cache[q]; a != nil && time.Now().Before(a.until) {
		return a
	}
	return nil
}

func (r *Resolver) remember(q question, a *answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cache == nil {
		r.cache = make(map[question]*answer)
	}
	for old := range r.cache {
		if len(r.cache) < cacheMax {
			break
		}
		delete(r.cache, old)
	}
	r.cache[q] = a
}

// exchange asks one resolver after the other, until one knows.
func (r *Resolver) exchange(ctx context.Context, q question) *answer {
	m := new(dns.Msg)
	m.SetQuestion(q.name, q.kind)
	m.SetEdns0(1232, false)
	err := errors.New("no resolver is configured")
	for _, server := range r.Servers {
		var reply *dns.Msg
		if reply, err = exchangeWith(ctx, m, server); err != nil {
			continue
		}
		says := dns.RcodeToString[reply.Rcode]
		switch {
		case reply.Rcode == dns.RcodeSuccess && referral(reply):
			says = "whom else to ask, and does not ask himself"
		case reply.Rcode == dns.RcodeSuccess, reply.Rcode == dns.RcodeNameError:
			return read(reply, q)
		}
		err = fmt.Errorf("%s %s: resolver %s says %s", q.name, dns.TypeToString[q.kind], server, says)
	}
	return &answer{err: err, until: time.Now().Add(troubleFor)}
}

// exchangeWith asks by UDP twice, since packets are lost, and by TCP for what
// does not fit.
func exchangeWith(ctx context.Context, m *dns.Msg, server string) (reply *dns.Msg, err error) {
	for _, network := range []string{"udp", "udp", "tcp"} {
		if network == "tcp" && (reply == nil || !reply.Truncated) {
			break
		}
		c := dns.Client{Net: network, Timeout: queryTime, UDPSize: 1232}
		var got *dns.Msg
		if got, _, err = c.ExchangeContext(ctx, m.Copy(), server); err != nil {
			continue
		}
		if reply = got; network == "tcp" || !got.Truncated {
			return reply, nil
		}
	}
	if err == nil {
		err = errors.New("the answer is cut off")
	}
	return nil, fmt.Errorf("ask %s: %w", server, err)
}

// read takes from an answer what is asked for, whatever aliases lead to it.
func read(m *dns.Msg, q question) *answer {
	a := &answer{}
	ttl := ttlMax
	target := q.name
	aliased := false
	for _, rr := range m.Answer {
		ttl = min(ttl, time.Duration(rr.Header().Ttl)*time.Second)
		if c, ok := rr.(*dns.CNAME); ok {
			target, aliased = strings.ToLower(c.Target), true
		} else if rr.Header().Rrtype == q.kind {
			a.add(rr)
		}
	}
	if len(a.mx) == 0 && len(a.addrs) == 0 {
		a.none = m.Rcode == dns.RcodeNameError
		if aliased && !a.none && !soa(m) {
			a.alias = target // a resolver that does not follow
		}
		ttl = min(ttl, negativeTTL(m), noneMax)
	}
	a.until = time.Now().Add(max(ttl, ttlMin))
	return a
}

// add takes one record. One without data, as hostile answers have, is none.
func (a *answer) add(rr dns.RR) {
	var ip []byte
	switch rr := rr.(type) {
	case *dns.MX:
		if rr.Mx != "" {
			a.mx = append(a.mx, rr)
		}
	case *dns.A:
		ip = rr.A.To4()
	case *dns.AAAA:
		ip = rr.AAAA
	}
	if addr, ok := netip.AddrFromSlice(ip); ok {
		a.addrs = append(a.addrs, addr.Unmap())
	}
}

// soa reports that the answer says where the search ended (RFC 2308 §2.2).
func soa(m *dns.Msg) bool {
	for _, rr := range m.Ns {
		if _, ok := rr.(*dns.SOA); ok {
			return true
		}
	}
	return false
}

// referral reports that the answer names other servers and says nothing of the
// question (RFC 2308 §2.2): it is from one that does not look up for others, and
// no word that there is no such record.
func referral(m *dns.Msg) bool {
	servers := slices.ContainsFunc(m.Ns, func(rr dns.RR) bool { _, ok := rr.(*dns.NS); return ok })
	return len(m.Answer) == 0 && servers && !soa(m)
}

// negativeTTL is how long "there is none" counts (RFC 2308 §5).
func negativeTTL(m *dns.Msg) time.Duration {
	for _, rr := range m.Ns {
		if s, ok := rr.(*dns.SOA); ok {
			return time.Duration(min(s.Hdr.Ttl, s.Minttl)) * time.Second
		}
	}
	return ttlMin
}
