package mx

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mailraft/mail"
)

// zone is a fake resolver: what it says to "NAME TYPE". An empty answer is no
// data; "SERVFAIL" and the like are codes; "mute" says nothing; "referral" names
// other servers; a name that is not there at all does not exist.
type zone struct {
	records map[string]string // lines of a zone file
	mu      sync.Mutex
	asked   []string
}

func (z *zone) ServeDNS(w dns.ResponseWriter, m *dns.Msg) {
	q := m.Question[0]
	key := strings.ToLower(q.Name) + " " + dns.TypeToString[q.Qtype]
	z.mu.Lock()
	z.asked = append(z.asked, key)
	z.mu.Unlock()
	reply := new(dns.Msg)
	reply.SetReply(m)
	text, ok := z.records[key]
	code, isCode := dns.StringToRcode[text]
	switch {
	case text == "mute":
		return
	case isCode:
		reply.Rcode = code
	case text == "referral":
		ns, _ := dns.NewRR("test. 30 IN NS ns.test.")
		reply.Ns, text = append(reply.Ns, ns), ""
	case !ok:
		for k := range z.records {
			ok = ok || strings.HasPrefix(k, strings.ToLower(q.Name)+" ")
		}
		if !ok {
			reply.Rcode = dns.RcodeNameError
		}
		soa, _ := dns.NewRR(". 30 IN SOA ns. host. 1 2 3 4 20")
		reply.Ns = append(reply.Ns, soa)
	}
	if _, tcp := w.RemoteAddr().(*net.UDPAddr); tcp && strings.HasPrefix(text, "long ") {
		reply.Truncated, text = true, ""
	}
	for _, line := range strings.Split(strings.TrimPrefix(text, "long "), "\n") {
		if rr, err := dns.NewRR(line); err == nil && rr != nil && !isCode {
			reply.Answer = append(reply.Answer, rr)
		}
	}
	_ = w.WriteMsg(reply)
}

// serve answers on a loopback address until the test ends.
func (z *zone) serve(t *testing.T) string {
	t.Helper()
	var l net.Listener
	var p net.PacketConn
	err := errors.New("not tried")
	for range 10 { // until one port is free for both
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if p, err = net.ListenPacket("udp", l.Addr().String()); err == nil {
			break
		}
		l.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{Listener: l, Handler: z}, {PacketConn: p, Handler: z}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go s.ActivateAndServe()
		<-started
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return l.Addr().String()
}

var world = map[string]string{
	"plain.test. MX":        "plain.test. 60 IN MX 20 b.test.\nplain.test. 60 IN MX 10 a.test.",
	"a.test. A":             "a.test. 60 IN A 127.0.0.2\na.test. 60 IN A 127.0.0.3",
	"a.test. AAAA":          "a.test. 60 IN AAAA 2001:db8::2",
	"b.test. A":             "b.test. 60 IN A 127.0.0.4",
	"address.test. A":       "address.test. 60 IN A 127.0.0.5",
	"null.test. MX":         "null.test. 60 IN MX 0 .",
	"halfnull.test. MX":     "halfnull.test. 60 IN MX 0 .\nhalfnull.test. 60 IN MX 5 b.test.",
	"empty.test. TXT":       "empty.test. 60 IN TXT x",
	"broken.test. MX":       "SERVFAIL",
	"refused.test. MX":      "REFUSED",
	"mute.test. MX":         "mute",
	"elsewhere.test. MX":    "referral",
	"elsewhere.test. A":     "referral",
	"elsewhere.test. AAAA":  "referral",
	"gone.test. MX":         "gone.test. 60 IN MX 10 nowhere.test.",
	"half.test. MX":         "half.test. 60 IN MX 10 sick.test.\nhalf.test. 60 IN MX 20 b.test.",
	"sickonly.test. MX":     "sickonly.test. 60 IN MX 10 sick.test.\nsickonly.test. 60 IN MX 20 nowhere.test.",
	"sick.test. A":          "SERVFAIL",
	"sick.test. AAAA":       "SERVFAIL",
	"onlyfour.test. A":      "onlyfour.test. 60 IN A 127.0.0.6",
	"onlyfour.test. AAAA":   "SERVFAIL",
	"alias.test. MX":        "alias.test. 60 IN CNAME plain.test.\nplain.test. 60 IN MX 10 a.test.",
	"cname.test. MX":        "cname.test. 60 IN CNAME address.test.",
	"cname.test. A":         "cname.test. 60 IN CNAME address.test.",
	"cname.test. AAAA":      "cname.test. 60 IN CNAME address.test.",
	"circle.test. MX":       "circle.test. 60 IN CNAME circle.test.",
	"big.test. MX":          "long big.test. 60 IN MX 10 a.test.",
	"backup.test. MX":       "backup.test. 60 IN MX 10 a.test.\nbackup.test. 60 IN MX 20 me.test.\nbackup.test. 60 IN MX 20 b.test.\nbackup.test. 60 IN MX 30 b.test.",
	"ours.test. MX":         "ours.test. 60 IN MX 10 ME.test.\nours.test. 60 IN MX 20 b.test.",
	"byaddress.test. MX":    "byaddress.test. 60 IN MX 10 back.test.\nbyaddress.test. 60 IN MX 20 b.test.",
	"back.test. A":          "back.test. 60 IN A 127.0.0.9",
	"xn--strae-oqa.test. A": "xn--strae-oqa.test. 60 IN A 127.0.0.7",
}

func TestHosts(t *testing.T) {
	z := &zone{records: world}
	r := &Resolver{Servers: []string{z.serve(t)}, Self: func(name string, a netip.Addr) bool {
		return name == "me.test" || a == netip.MustParseAddr("127.0.0.9")
	}}
	for domain, want := range map[string]string{
		"plain.test":         "a.test[2001:db8::2 127.0.0.2 127.0.0.3] b.test[127.0.0.4]",
		"PLAIN.test":         "a.test[2001:db8::2 127.0.0.2 127.0.0.3] b.test[127.0.0.4]",
		"address.test":       "address.test[127.0.0.5]",
		"xn--strae-oqa.test": "xn--strae-oqa.test[127.0.0.7]",
		"null.test":          "556 5.1.10",
		"halfnull.test":      "b.test[127.0.0.4]",
		"nowhere.test":       "550 5.1.2",
		"empty.test":         "550 5.4.4",
		"broken.test":        "451 4.4.3",
		"refused.test":       "451 4.4.3",
		"elsewhere.test":     "451 4.4.3",
		"gone.test":          "550 5.4.4",
		"half.test":          "b.test[127.0.0.4]",
		"sickonly.test":      "451 4.4.3",
		"onlyfour.test":      "onlyfour.test[127.0.0.6]",
		"alias.test":         "a.test[2001:db8::2 127.0.0.2 127.0.0.3]",
		"cname.test":         "cname.test[127.0.0.5]",
		"circle.test":        "451 4.4.3",
		"big.test":           "a.test[2001:db8::2 127.0.0.2 127.0.0.3]",
		"backup.test":        "a.test[2001:db8::2 127.0.0.2 127.0.0.3]",
		"ours.test":          "554 5.4.6",
		"byaddress.test":     "554 5.4.6",
		"[127.0.0.8]":        "127.0.0.8[127.0.0.8]",
		"[IPv6:2001:db8::1]": "2001:db8::1[2001:db8::1]",
		"[ipv6:2001:db8::1]": "2001:db8::1[2001:db8::1]",
		"[127.0.0.9]":        "554 5.4.6",
		"[x]":                "550 5.1.2",
	} {
		if got := text(r.Hosts(t.Context(), domain)); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", domain, got, want)
		}
	}
}

func text(hosts []Host, err error) string {
	if err != nil {
		if r := (*mail.Reply)(nil); !errors.As(err, &r) {
			return "no reply: " + err.Error()
		}
		return err.Error()
	}
	var s []string
	for _, h := range hosts {
		list := make([]string, len(h.Addrs))
		for i, a := range h.Addrs {
			list[i] = a.String()
		}
		s = append(s, h.Name+"["+strings.Join(list, " ")+"]")
	}
	return strings.Join(s, " ")
}

// Hosts of one preference share the mail (RFC 5321 §5.1).
func TestEqualsTakeTurns(t *testing.T) {
	z := &zone{records: map[string]string{"x.test. MX": "x.test. 60 IN MX 10 a.test.\nx.test. 60 IN MX 10 b.test.\nx.test. 60 IN MX 20 a.test.",
		"a.test. A": world["a.test. A"], "b.test. A": world["b.test. A"]}}
	r := &Resolver{Servers: []string{z.serve(t)}}
	first := map[string]bool{}
	for range 100 {
		hosts, err := r.Hosts(t.Context(), "x.test")
		if err != nil || len(hosts) != 3 || hosts[2].Name != "a.test" {
			t.Fatal(text(hosts, err))
		}
		first[hosts[0].Name] = true
	}
	if len(first) != 2 {
		t.Errorf("always first: %v", first)
	}
}

// A resolver that is away or sick does not matter while another one knows, and
// what nobody could say is asked again soon; the rest is remembered.
func TestServersAndMemory(t *testing.T) {
	sick := &zone{records: map[string]string{"plain.test. MX": "SERVFAIL", "a.test. A": "REFUSED"}}
	well := &zone{records: world}
	r := &Resolver{Servers: []string{sick.serve(t), well.serve(t)}}
	for range 3 {
		if got := text(r.Hosts(t.Context(), "plain.test")); !strings.HasPrefix(got, "a.test") {
			t.Fatal(got)
		}
	}
	well.mu.Lock()
	defer well.mu.Unlock()
	if n := len(well.asked) - len(slices.Compact(slices.Sorted(slices.Values(well.asked)))); n != 0 {
		t.Errorf("asked again: %q", well.asked)
	}
	none := &Resolver{}
	if got := text(none.Hosts(t.Context(), "plain.test")); !strings.HasPrefix(got, "451 4.4.3") {
		t.Error(got)
	}
	a := none.cache[question{"plain.test.", dns.TypeMX}]
	if left := time.Until(a.until); left > troubleFor {
		t.Errorf("trouble is remembered for %s", left)
	}
}

// An answer counts for as long as it says, within bounds.
func TestTTL(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"x.test. 1 IN A 127.0.0.1": ttlMin, "x.test. 300 IN A 127.0.0.1": 5 * time.Minute, "x.test. 90000 IN A 127.0.0.1": ttlMax,
	} {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		m := new(dns.Msg)
		m.Answer = []dns.RR{rr}
		if left := time.Until(read(m, question{"x.test.", dns.TypeA}).until).Round(time.Second); left != want {
			t.Errorf("%s: %s, want %s", text, left, want)
		}
	}
}

// Whatever a resolver answers, nothing breaks.
func FuzzAnswer(f *testing.F) {
	for _, line := range world {
		m := new(dns.Msg)
		m.SetQuestion("x.test.", dns.TypeMX)
		for _, l := range strings.Split(line, "\n") {
			if rr, err := dns.NewRR(l); err == nil && rr != nil {
				m.Answer = append(m.Answer, rr)
			}
		}
		if b, err := m.Pack(); err == nil {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(dns.Msg)
		if m.Unpack(b) != nil {
			return
		}
		for _, kind := range []uint16{dns.TypeMX, dns.TypeA, dns.TypeAAAA} {
			a := read(m, question{"x.test.", kind})
			if a.until.Before(time.Now()) || slices.ContainsFunc(a.mx, func(mx *dns.MX) bool { return mx.Mx == "" }) {
				t.Fatalf("%+v", a)
			}
		}
	})
}
