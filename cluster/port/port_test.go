package port_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mailraft/cluster/pki"
	"mailraft/cluster/port"
	"mailraft/cluster/port/porttest"
)

// echo serves a protocol by sending back one line.
func echo(t *testing.T, p *port.Port, proto string) {
	t.Helper()
	l := p.Listener(proto)
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				line, err := bufio.NewReader(c).ReadString('\n')
				if err == nil {
					io.WriteString(c, c.(*port.Conn).Peer().Name+" said "+line)
				}
			}()
		}
	}()
}

func say(c net.Conn) (string, error) {
	if _, err := io.WriteString(c, "hello\n"); err != nil {
		return "", err
	}
	return bufio.NewReader(c).ReadString('\n')
}

func dial(from, to *port.Port, proto string) (net.Conn, error) {
	return from.Dial(context.Background(), to.Addr().String(), proto)
}

func TestProtocolsAreSplit(t *testing.T) {
	b := porttest.New(t, "mail-a")
	one, two := b.Open(1), b.Open(2)
	for _, proto := range []string{port.Raft, port.Link, port.Content} {
		echo(t, one, proto)
		c, err := dial(two, one, proto)
		if err != nil {
			t.Fatal(err)
		}
		got, err := say(c)
		if err != nil || got != "m2 said hello\n" {
			t.Errorf("%s: %q, %v", proto, got, err)
		}
		if peer := c.(*port.Conn).Peer(); peer.Name != "m1" || peer.Member != 1 || peer.Serial == "" {
			t.Errorf("%s: peer %+v", proto, peer)
		}
		c.Close()
	}
}

// The rules for who may speak what, seen from the dialling side.
func TestWhoMaySpeakWhat(t *testing.T) {
	a, foreign := porttest.New(t, "mail-a"), porttest.New(t, "mail-a")
	other := porttest.New(t, "mail-b")
	server := a.Open(1)
	for _, proto := range []string{port.Raft, port.Link, port.Content, port.Front, port.SMTP, port.API} {
		echo(t, server, proto)
	}
	// other's CA is believed, by mistake: the boundary must still differ.
	trusting := a.Issue(a.Member(1), pki.CertLife)
	trusting.CA = trusting.CA.Clone()
	ca, _ := x509.ParseCertificate(other.CA.Cert())
	trusting.CA.AddCert(ca)
	lax := a.Open(1, func(c *port.Config) { c.Credentials = func() port.Credentials { return trusting } })
	echo(t, lax, port.Raft)

	client := pki.Identity{Boundary: "mail-a", Role: pki.RoleClient, Name: "op"}
	frontend := pki.Identity{Boundary: "mail-a", Role: pki.RoleFrontend, Name: "fe"}
	with := func(creds port.Credentials) port.Credentials { creds.CA = trusting.CA; return creds }
	foreignCreds := foreign.Issue(foreign.Member(2), pki.CertLife)
	foreignCreds.CA = a.Pool
	for _, c := range []struct {
		name  string
		creds port.Credentials
		to    *port.Port
		proto string
		ok    bool
	}{
		{"member", a.Issue(a.Member(2), pki.CertLife), server, port.Raft, true},
		{"member to API", a.Issue(a.Member(2), pki.CertLife), server, port.API, true},
		{"client to API", a.Issue(client, pki.CertLife), server, port.API, true},
		{"front end asks", a.Issue(frontend, pki.CertLife), server, port.Front, true},
		{"front end hands over", a.Issue(frontend, pki.CertLife), server, port.SMTP, true},
		{"front end to API", a.Issue(frontend, pki.CertLife), server, port.API, false},
		{"front end to content", a.Issue(frontend, pki.CertLife), server, port.Content, false},
		{"member hands over", a.Issue(a.Member(2), pki.CertLife), server, port.SMTP, false},
		{"client hands over", a.Issue(client, pki.CertLife), server, port.SMTP, false},
		{"client asks as a front end", a.Issue(client, pki.CertLife), server, port.Front, false},
		{"expired front end", a.Issue(frontend, -time.Hour), server, port.SMTP, false},
		{"client to raft", a.Issue(client, pki.CertLife), server, port.Raft, false},
		{"front end to raft", a.Issue(frontend, pki.CertLife), server, port.Raft, false},
		{"front end to link", a.Issue(frontend, pki.CertLife), server, port.Link, false},
		{"client to content", a.Issue(client, pki.CertLife), server, port.Content, false},
		{"expired", a.Issue(a.Member(2), -time.Hour), server, port.Raft, false},
		{"expired to API", a.Issue(client, -time.Hour), server, port.API, false},
		{"foreign CA", foreignCreds, server, port.Raft, false},
		{"foreign CA to API", foreignCreds, server, port.API, false},
		{"foreign boundary", with(other.Issue(other.Member(2), pki.CertLife)), lax, port.Raft, false},
		{"unknown protocol", a.Issue(a.Member(2), pki.CertLife), server, "mailraft-raft/2", false},
		{"protocol nobody listens on", a.Issue(a.Member(2), pki.CertLife), lax, port.Link, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			from := a.Open(2, func(cfg *port.Config) { cfg.Credentials = func() port.Credentials { return c.creds } })
			conn, err := dial(from, c.to, c.proto)
			if err == nil {
				defer conn.Close()
				_, err = say(conn)
			}
			if (err == nil) != c.ok {
				t.Fatalf("got %v", err)
			}
		})
	}
}

// The rules for whom we speak to, seen from the listening side's certificate.
func TestWhoMayAnswer(t *testing.T) {
	a, foreign := porttest.New(t, "mail-a"), porttest.New(t, "mail-a")
	client := pki.Identity{Boundary: "mail-a", Role: pki.RoleClient, Name: "op"}
	from := a.Open(2)
	foreignCreds := foreign.Issue(foreign.Member(1), pki.CertLife)
	foreignCreds.CA = a.Pool
	for name, creds := range map[string]port.Credentials{
		"client":     a.Issue(client, pki.CertLife),
		"front end":  a.Issue(pki.Identity{Boundary: "mail-a", Role: pki.RoleFrontend, Name: "fe"}, pki.CertLife),
		"expired":    a.Issue(a.Member(1), -time.Hour),
		"foreign CA": foreignCreds,
	} {
		t.Run(name, func(t *testing.T) {
			to := a.Open(1, func(cfg *port.Config) { cfg.Credentials = func() port.Credentials { return creds } })
			echo(t, to, port.Raft)
			if c, err := dial(from, to, port.Raft); err == nil {
				c.Close()
				t.Fatal("believed")
			}
		})
	}
}

// A clock that is days off cuts nobody off: not the member whose it is, and
// not who got a certificate from it. One that is over is over.
func TestWrongClocks(t *testing.T) {
	b := porttest.New(t, "mail-a")
	for _, c := range []struct {
		name string
		off  time.Duration
		ok   bool
	}{
		{"three days ahead", 72 * time.Hour, true},
		{"three days behind", -72 * time.Hour, true},
		{"years behind", -5 * 365 * 24 * time.Hour, true},
		{"longer ahead than a certificate lives", pki.CertLife + time.Hour, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			wrong := func(cfg *port.Config) {
				cfg.Now = func() time.Time { return time.Now().Add(c.off) }
			}
			for _, changes := range [][2]func(*port.Config){{wrong, func(*port.Config) {}}, {func(*port.Config) {}, wrong}} {
				from, to := b.Open(2, changes[0]), b.Open(1, changes[1])
				echo(t, to, port.Raft)
				conn, err := dial(from, to, port.Raft)
				if err == nil {
					_, err = say(conn)
					conn.Close()
				}
				if (err == nil) != c.ok {
					t.Errorf("%v", err)
				}
			}
		})
	}
}

func TestNoCertificateOnlyForJoin(t *testing.T) {
	b := porttest.New(t, "mail-a")
	p := b.Open(1)
	for _, proto := range []string{port.Raft, port.Link, port.Content, port.Front, port.SMTP, port.Join, port.API} {
		echo(t, p, proto)
	}
	for _, c := range []struct {
		name   string
		protos []string
		min    uint16
		ok     bool
	}{
		{"raft", []string{port.Raft}, 0, false},
		{"link", []string{port.Link}, 0, false},
		{"content", []string{port.Content}, 0, false},
		{"front end", []string{port.SMTP}, 0, false},
		{"API", []string{port.API}, 0, false},
		{"join", []string{port.Join}, 0, true},
		{"join and raft", []string{port.Join, port.Raft}, 0, false},
		{"raft and join", []string{port.Raft, port.Join}, 0, false},
		{"nothing", nil, 0, false},
		{"unknown", []string{"http/1.1"}, 0, false},
		{"join over TLS 1.2", []string{port.Join}, tls.VersionTLS12, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw, err := net.Dial("tcp", p.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			conn := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: c.protos, MinVersion: c.min, MaxVersion: c.min})
			_, err = io.WriteString(conn, "hello\n")
			var b [1]byte
			if err == nil {
				_, err = io.ReadFull(conn, b[:])
			}
			if (err == nil && b[0] == 0) != c.ok {
				t.Fatalf("%v, first byte %d", err, b[0])
			}
		})
	}
}

func TestRemovedMemberIsRefusedOnBothSides(t *testing.T) {
	b := porttest.New(t, "mail-a")
	var removed atomic.Bool
	allow := func(id pki.Identity) error {
		if removed.Load() && id.Name == "m2" {
			return port.Gone(errors.New("m2 was removed from the boundary"))
		}
		return nil
	}
	one := b.Open(1, func(c *port.Config) { c.Allow = allow })
	var gone atomic.Int32
	two := b.Open(2, func(c *port.Config) {
		c.Gone = func(peer pki.Identity, reason error) {
			if peer.Name == "m1" && errors.Is(reason, port.ErrGone) {
				gone.Add(1)
			}
		}
	})
	echo(t, one, port.Link)
	echo(t, two, port.Link)
	in, err := dial(two, one, port.Link)
	if err != nil {
		t.Fatal(err)
	}
	out, err := dial(one, two, port.Link)
	if err != nil {
		t.Fatal(err)
	}
	removed.Store(true)
	one.Drop(func(id pki.Identity) bool { return id.Name == "m2" })
	for _, c := range []net.Conn{in, out} {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("still open")
		}
	}
	_, err = dial(two, one, port.Link)
	if !errors.Is(err, port.ErrRefused) || !errors.Is(err, port.ErrGone) || !strings.Contains(err.Error(), "m2 was removed") {
		t.Errorf("it dials: %v", err)
	}
	if gone.Load() != 1 {
		t.Error("it was not told that it is gone")
	}
	if _, err := dial(one, two, port.Link); err == nil || !strings.Contains(err.Error(), "m2 was removed") {
		t.Errorf("it is dialled: %v", err)
	}
}

// Connections that rest on a CA that was dropped are closed, and no others.
func TestRecheck(t *testing.T) {
	old, fresh := porttest.New(t, "mail-a"), porttest.New(t, "mail-a")
	both := func(c port.Credentials) port.Credentials {
		c.CA = x509.NewCertPool()
		for _, ca := range []*pki.CA{old.CA, fresh.CA} {
			cert, err := x509.ParseCertificate(ca.Cert())
			if err != nil {
				t.Fatal(err)
			}
			c.CA.AddCert(cert)
		}
		return c
	}
	var creds atomic.Pointer[port.Credentials]
	c := both(fresh.Issue(fresh.Member(1), pki.CertLife))
	creds.Store(&c)
	one := old.Open(1, func(c *port.Config) { c.Credentials = func() port.Credentials { return *creds.Load() } })
	behind, renewed := both(old.Issue(old.Member(2), pki.CertLife)), both(fresh.Issue(fresh.Member(3), pki.CertLife))
	two := old.Open(2, func(c *port.Config) { c.Credentials = func() port.Credentials { return behind } })
	three := old.Open(3, func(c *port.Config) { c.Credentials = func() port.Credentials { return renewed } })
	echo(t, one, port.Link)
	cut, err := dial(two, one, port.Link)
	if err != nil {
		t.Fatal(err)
	}
	stays, err := dial(three, one, port.Link)
	if err != nil {
		t.Fatal(err)
	}
	dropped := c
	dropped.CA = fresh.Pool
	creds.Store(&dropped)
	one.Recheck()
	if _, err := cut.Read(make([]byte, 1)); err == nil {
		t.Error("a connection by the old CA is open")
	}
	if _, err := say(stays); err != nil {
		t.Errorf("a connection by the new CA: %v", err)
	}
	if _, err := dial(two, one, port.Link); err == nil {
		t.Error("the old CA is believed")
	}
	if _, err := dial(one, two, port.Link); !errors.Is(err, port.ErrCA) || !strings.Contains(err.Error(), "boundary token --replace") {
		t.Errorf("dials a member of the old CA: %v", err)
	}
}

func TestRenewalWithoutRestart(t *testing.T) {
	b := porttest.New(t, "mail-a")
	var creds atomic.Pointer[port.Credentials]
	expired, good := b.Issue(b.Member(1), -time.Hour), b.Issue(b.Member(1), pki.CertLife)
	creds.Store(&expired)
	one := b.Open(1, func(c *port.Config) { c.Credentials = func() port.Credentials { return *creds.Load() } })
	two := b.Open(2)
	echo(t, one, port.Raft)
	echo(t, two, port.Raft)
	for _, want := range []bool{false, true} {
		for name, ports := range map[string][2]*port.Port{"in": {two, one}, "out": {one, two}} {
			c, err := dial(ports[0], ports[1], port.Raft)
			if (err == nil) != want {
				t.Errorf("%s, renewed %v: %v", name, want, err)
			}
			if err == nil {
				c.Close()
			}
		}
		creds.Store(&good)
	}
}

func TestRefusedWithoutListener(t *testing.T) {
	b := porttest.New(t, "mail-a")
	one, two := b.Open(1), b.Open(2)
	l := one.Listener(port.Raft)
	l.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
	_, err := dial(two, one, port.Raft)
	if !errors.Is(err, port.ErrRefused) || !strings.Contains(err.Error(), "nobody listens") {
		t.Errorf("got %v", err)
	}
	echo(t, one, port.Raft) // a new listener may follow the old
	c, err := dial(two, one, port.Raft)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestWaitingConnectionsAreBounded(t *testing.T) {
	b := porttest.New(t, "mail-a")
	one, two := b.Open(1), b.Open(2)
	l := one.Listener(port.Raft)
	for i := range 65 {
		_, err := dial(two, one, port.Raft)
		if i < 64 && err != nil {
			t.Fatal(err)
		}
		if i == 64 && !errors.Is(err, port.ErrRefused) {
			t.Fatalf("one too many: %v", err)
		}
	}
	if _, err := l.Accept(); err != nil {
		t.Fatal(err)
	}
	if _, err := dial(two, one, port.Raft); err != nil {
		t.Fatalf("a place was free: %v", err)
	}
}

// A handshake that sends nothing, a little, or garbage ends by itself, and
// keeps nobody out.
func TestSlowAndBrokenHandshakes(t *testing.T) {
	b := porttest.New(t, "mail-a")
	one := b.Open(1, func(c *port.Config) { c.HandshakeTimeout = 100 * time.Millisecond })
	echo(t, one, port.Raft)
	for name, start := range map[string][]byte{
		"nothing": nil,
		"a byte":  {22},
		"a part":  {22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3},
		"garbage": bytes.Repeat([]byte("\x00\xffGET / HTTP/1.1\r\n"), 100),
		"huge":    {22, 3, 1, 0xff, 0xff, 1, 0xff, 0xff, 0xff},
	} {
		raw, err := net.Dial("tcp", one.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		raw.Write(start)
		if _, err := io.Copy(io.Discard, raw); err != nil {
			t.Logf("%s: %v", name, err) // a reset is as good as an end
		}
		raw.Close()
	}
	c, err := dial(b.Open(2), one, port.Raft)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestFloodCutsTheOldestHandshake(t *testing.T) {
	b := porttest.New(t, "mail-a")
	one := b.Open(1, func(c *port.Config) { c.HandshakesMax, c.HandshakeTimeout = 3, time.Hour })
	echo(t, one, port.Raft)
	var silent []net.Conn
	for range 10 {
		c, err := net.Dial("tcp", one.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		silent = append(silent, c)
	}
	c, err := dial(b.Open(2), one, port.Raft)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, err := silent[0].Read(make([]byte, 1)); err == nil {
		t.Fatal("the oldest is still there")
	}
}

// A peer that goes silent between the hello and the welcome is given up with
// the context.
func TestDialEndsWithItsContext(t *testing.T) {
	b := porttest.New(t, "mail-a")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		c, err := l.Accept()
		if err == nil {
			c.Read(make([]byte, 1))
			cancel()
			io.Copy(io.Discard, c)
			c.Close()
		}
	}()
	if _, err := b.Open(1).Dial(ctx, l.Addr().String(), port.Raft); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}

// net/http must serve HTTP/2 on the port's connections, and know the peer.
func TestHTTP2(t *testing.T) {
	b := porttest.New(t, "mail-a")
	one, two := b.Open(1), b.Open(2)
	type key struct{}
	var protos http.Protocols
	protos.SetUnencryptedHTTP2(true)
	srv := &http.Server{
		Protocols:   &protos,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, key{}, c) },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, r.Proto+" "+r.Context().Value(key{}).(*port.Conn).Peer().Name)
		}),
	}
	l := one.Listener(port.API)
	done := make(chan error)
	go func() { done <- srv.Serve(l) }()
	defer func() { srv.Close(); <-done }()

	ours := &http.Transport{Protocols: &protos, DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
		return two.Dial(ctx, addr, port.API)
	}}
	creds := b.Issue(pki.Identity{Boundary: "mail-a", Role: pki.RoleClient, Name: "op"}, pki.CertLife)
	stock := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{
		Certificates: []tls.Certificate{creds.Cert}, InsecureSkipVerify: true, Rand: rand.Reader,
	}}
	for want, tr := range map[string]*http.Transport{"HTTP/2.0 m2": ours, "HTTP/2.0 op": stock} {
		scheme := "http://"
		if tr == stock {
			scheme = "https://"
		}
		resp, err := (&http.Client{Transport: tr}).Get(scheme + one.Addr().String() + "/")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		tr.CloseIdleConnections()
		if string(body) != want {
			t.Errorf("got %q, want %q", body, want)
		}
	}
}

func TestCloseEndsEverything(t *testing.T) {
	b := porttest.New(t, "mail-a")
	one, two := b.Open(1), b.Open(2)
	l := one.Listener(port.Raft)
	c, err := dial(two, one, port.Raft)
	if err != nil {
		t.Fatal(err)
	}
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{c, in} {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("still open")
		}
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if _, err := dial(one, two, port.Raft); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dial from a closed port: %v", err)
	}
	if err := one.Close(); err != nil {
		t.Error(err)
	}
}
