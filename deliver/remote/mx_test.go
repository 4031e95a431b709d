package remote

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"mailraft/deliver"
	"mailraft/deliver/mx"
	"mailraft/directory"
	"mailraft/mail"
)

// resolver answers MX questions from lines of a zone file.
func resolver(t *testing.T, lines ...string) *mx.Resolver {
	t.Helper()
	p, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{PacketConn: p, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
		reply := new(dns.Msg)
		reply.SetReply(m)
		for _, l := range lines {
			if rr, err := dns.NewRR(l); err == nil && rr.Header().Name == m.Question[0].Name && rr.Header().Rrtype == m.Question[0].Qtype {
				reply.Answer = append(reply.Answer, rr)
			}
		}
		_ = w.WriteMsg(reply)
	})}
	started := make(chan struct{})
	s.NotifyStartedFunc = func() { close(started) }
	go s.ActivateAndServe()
	<-started
	t.Cleanup(func() { _ = s.Shutdown() })
	return &mx.Resolver{Servers: []string{p.LocalAddr().String()}, Self: func(name string, _ netip.Addr) bool { return name == "m1.example.test" }}
}

var zone = []string{
	"one.test. 60 IN MX 10 a.hosts.test.", "one.test. 60 IN MX 20 b.hosts.test.",
	"two.test. 60 IN MX 10 a.hosts.test.",
	"null.test. 60 IN MX 0 .",
	"own.test. 60 IN MX 10 m1.example.test.",
	"a.hosts.test. 60 IN A 127.0.0.2", "b.hosts.test. 60 IN A 127.0.0.3",
}

// hostsOf serves the fakes at 127.0.0.2, 127.0.0.3 … on one port. Of a nil one
// the port is held, and connections are refused.
func hostsOf(t *testing.T, fakes ...*fake) (port string) {
	t.Helper()
	for range 10 {
		var open []net.Listener
		port = "0"
		err := error(nil)
		for i := range fakes {
			var l net.Listener
			if l, err = net.Listen("tcp", net.JoinHostPort(netip.AddrFrom4([4]byte{127, 0, 0, byte(i + 2)}).String(), port)); err != nil {
				break
			}
			open = append(open, l)
			_, port, _ = net.SplitHostPort(l.Addr().String())
		}
		if err == nil {
			for i, l := range open {
				if fakes[i] == nil {
					l.Close()
				} else {
					fakes[i].serve(t, l)
				}
			}
			return port
		}
		for _, l := range open {
			l.Close()
		}
	}
	t.Fatal("no port is free on all addresses")
	return ""
}

func mxTransport(t *testing.T, port string) *Transport {
	tr := newTransport(t)
	tr.MX, tr.MXPort = resolver(t, zone...), port
	return tr
}

func TestMX(t *testing.T) {
	a, b := &fake{}, &fake{}
	tr := mxTransport(t, hostsOf(t, a, b))
	for range 2 {
		got := send(t, tr, attempt("mx:one.test", "x@one.test"))
		if brief(got) != "250" || !strings.HasPrefix(got[0].Remote, "a.hosts.test[127.0.0.2]:") {
			t.Fatalf("%+v", got)
		}
	}
	if a.connections() != 1 || b.connections() != 0 {
		t.Errorf("%d and %d connections", a.connections(), b.connections())
	}
	if got := brief(send(t, tr, attempt("mx:null.test", "x@null.test"))); got != "556" {
		t.Error(got)
	}
	if got := brief(send(t, tr, attempt("mx:own.test", "x@own.test"))); got != "554" {
		t.Error(got)
	}
	if got := brief(send(t, tr, attempt("mx:none.test", "x@none.test"))); got != "550" {
		t.Error(got)
	}
	tr.MX = nil
	if got := brief(send(t, tr, attempt("mx:one.test", "x@one.test"))); got != "451d" {
		t.Error(got)
	}
}

// The next host is for mail that the first could say nothing of: one that is
// away, that has too much to do, that hangs up, without the TLS that is wanted.
func TestNextHost(t *testing.T) {
	for name, c := range map[string]struct {
		first *fake
		hop   directory.NextHop
		want  string // the answers
		at    string // the host that gave the last
	}{
		"up":            {&fake{}, directory.NextHop{}, "250 250", "a.hosts.test"},
		"away":          {nil, directory.NextHop{}, "250 250", "b.hosts.test"},
		"busy":          {&fake{script: script{"connect": "421 4.3.2 later"}}, directory.NextHop{}, "250 250", "b.hosts.test"},
		"closed":        {&fake{script: script{"connect": "554 5.3.2 no service"}}, directory.NextHop{}, "250 250", "b.hosts.test"},
		"421 at MAIL":   {&fake{script: script{"MAIL": "421 4.3.2 later"}}, directory.NextHop{}, "250 250", "b.hosts.test"},
		"cut at RCPT":   {&fake{script: script{"RCPT x@one.test": "550 5.1.1 no", "RCPT y@one.test": "cut"}}, directory.NextHop{}, "550 250", "b.hosts.test"},
		"greylisting":   {&fake{script: script{"RCPT x@one.test": "450 4.7.1 later"}}, directory.NextHop{}, "450 250", "a.hosts.test"},
		"refused":       {&fake{script: script{"DOT": "554 5.7.1 no"}}, directory.NextHop{}, "554 554", "a.hosts.test"},
		"cut in a body": {&fake{script: script{"BODY": "cut"}}, directory.NextHop{}, "451u 451u", "a.hosts.test"},
		"without TLS":   {&fake{}, directory.NextHop{TLS: directory.TLSRequired}, "250 250", "b.hosts.test"},
	} {
		t.Run(name, func(t *testing.T) {
			second := &fake{}
			if c.hop.TLS != 0 {
				second.tls = serverTLS(t)
			}
			tr := mxTransport(t, hostsOf(t, c.first, second))
			tr.Hop = func(addr string) directory.NextHop { c.hop.Address = addr; return c.hop }
			got := send(t, tr, attempt("mx:one.test", "x@one.test", "y@one.test"))
			if brief(got) != c.want || !strings.HasPrefix(got[1].Remote, c.at) {
				t.Fatalf("%+v", got)
			}
		})
	}
}

// A host that is dead is tried for one domain, and not again for the next; a
// message for which this is the last attempt is tried all the same.
func TestDeadHostIsShared(t *testing.T) {
	a := &fake{script: script{"connect": "cut"}}
	tr := mxTransport(t, hostsOf(t, a, &fake{}))
	if got := brief(send(t, tr, attempt("mx:two.test", "x@two.test"))); got != "451d" || a.connections() != 1 {
		t.Fatal(got, a.connections())
	}
	if got := brief(send(t, tr, attempt("mx:one.test", "x@one.test"))); got != "250" || a.connections() != 1 {
		t.Fatal(got, a.connections())
	}
	last := attempt("mx:two.test", "x@two.test")
	last.Last = true
	if got := brief(send(t, tr, last)); got != "451d" || a.connections() != 2 {
		t.Fatal(got, a.connections())
	}
}

// Two domains with one host share its connections.
func TestHostMax(t *testing.T) {
	tr := mxTransport(t, hostsOf(t, &fake{}, nil))
	tr.HostMax = 1
	first := attempt("mx:two.test", "x@two.test")
	var inner atomic.Pointer[[]deliver.Answer]
	first.Final = func() error {
		got := send(t, tr, attempt("mx:two.test", "y@two.test"))
		inner.Store(&got)
		return nil
	}
	if got := brief(send(t, tr, first)); got != "250" {
		t.Fatal(got)
	}
	if got := *inner.Load(); len(got) != 1 || !got[0].Busy || got[0].Down || got[0].Reply.Code != 0 {
		t.Fatalf("%+v", got)
	}
	if got := brief(send(t, tr, attempt("mx:two.test", "y@two.test"))); got != "250" {
		t.Fatal(got)
	}
}

func TestHostMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h hosts
		why := mail.Replyf(451, "4.4.1", "away")
		enter := func(last bool) entry { e, _ := h.enter("x:25", 2, last); return e }
		if got := []entry{enter(false), enter(false), enter(false)}; !slices.Equal(got, []entry{entered, entered, full}) {
			t.Fatal("two places")
		}
		h.leave("x:25", why, true) // refused while another one is open: that is as many as it takes
		if enter(false) != full {
			t.Fatal("one place for a while")
		}
		h.leave("x:25", nil, false)
		time.Sleep(2 * time.Minute)
		if got := []entry{enter(false), enter(false)}; !slices.Equal(got, []entry{entered, entered}) {
			t.Fatal("two places again")
		}
		h.leave("x:25", why, false)
		h.leave("x:25", why, false)
		if enter(false) != dead || enter(true) != entered {
			t.Fatal("dead, but not for the last attempt")
		}
		h.leave("x:25", why, false)
		time.Sleep(time.Minute)
		if enter(false) != entered || enter(false) != dead {
			t.Fatal("one tries, the others wait")
		}
		h.leave("x:25", nil, false)
		if enter(false) != entered {
			t.Fatal("alive")
		}
	})
}

func TestSourceAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	from := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			from <- err.Error()
			return
		}
		host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
		c.Close()
		from <- host
	}()
	tr := newTransport(t)
	tr.Source = []netip.Addr{netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.77")}
	send(t, tr, attempt("smtp://"+l.Addr().String(), "a@x.test"))
	if got := <-from; got != "127.0.0.77" {
		t.Errorf("from %s", got)
	}
}
