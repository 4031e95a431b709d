package smtpd

import (
	"crypto/tls"
	"net"
	"net/netip"
	"strings"
	"testing"
)

// A client that goes away at any byte, in any way, leaves nothing in the queue
// unless its message was whole.
func TestCutAnywhere(t *testing.T) {
	const body = "a: b\r\n\r\n..x\r\n.y\r\n"
	scripts := map[string]string{
		"data": hello + envelope + "DATA\r\n" + body + ".\r\n",
		"bdat": hello + envelope + bdat(5, "") + "12345" + bdat(8, " LAST") + "abcdef\r\n",
		"last": hello + envelope + bdat(1000, " LAST") + strings.Repeat("z", 20),
	}
	for name, text := range scripts {
		for _, how := range []string{"fin", "reset", "tls-notify", "tls-fin", "starttls-notify", "starttls-fin", "proxy", "proxytls-notify"} {
			t.Run(name+"/"+how, func(t *testing.T) {
				q := &queue{}
				s, plain, implicit := startCut(t, q, strings.HasPrefix(how, "proxy"))
				whole := 0
				for n := range len(text) + 1 {
					p := cutPeer(t, how, plain, implicit)
					p.send(text[:n])
					if n == len(text) && name != "last" {
						p.want("250", "250", "250", "") // 354 or 250
						p.want("250 2.0.0 Ok: queued")
						whole = 1
					}
					if rest := p.leave(how); strings.Contains(rest, "queued") {
						t.Errorf("cut at %d: told %q", n, rest)
					}
				}
				s.Close() // nothing is running any more
				if got := q.take(); len(got) != whole {
					t.Errorf("%d messages, want %d: %+v", len(got), whole, got)
				}
				if q.begun != q.aborted+whole {
					t.Errorf("%d uploads, %d aborted", q.begun, q.aborted)
				}
			})
		}
	}
}

const proxyHeader = "PROXY TCP4 192.0.2.1 198.51.100.2 1025 25\r\n"

func startCut(t *testing.T, q *queue, behindProxy bool) (s *Server, plain, implicit string) {
	cfg := testConfig(q)
	var from []netip.Prefix
	if behindProxy {
		from = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	}
	s, addrs := serve(t, cfg, Listener{TLS: TLSMay, Certificate: serverTLS, ProxyFrom: from}, Listener{TLS: TLSImplicit, Certificate: serverTLS, ProxyFrom: from})
	return s, addrs[0], addrs[1]
}

func cutPeer(t *testing.T, how, plain, implicit string) *peer {
	switch {
	case strings.HasPrefix(how, "proxytls"):
		p := dialRaw(t, implicit)
		p.send(proxyHeader)
		p = p.secure()
		p.want("220")
		return p
	case strings.HasPrefix(how, "proxy"):
		p := dialRaw(t, plain)
		p.send(proxyHeader)
		p.want("220")
		return p
	case strings.HasPrefix(how, "tls"):
		p := dialRaw(t, implicit).secure()
		p.want("220")
		return p
	case strings.HasPrefix(how, "starttls"):
		p := dial(t, plain)
		p.cmd("STARTTLS", "220")
		return p.secure()
	}
	return dial(t, plain)
}

// leave goes away, and returns what the client can still hear.
func (p *peer) leave(how string) (rest string) {
	defer p.Close()
	switch c := p.Conn.(type) {
	case *net.TCPConn:
		if how == "reset" {
			c.SetLinger(0)
			return ""
		}
		c.CloseWrite()
	case *tls.Conn:
		if strings.HasSuffix(how, "notify") {
			_ = c.CloseWrite() // the server may have hung up
		} else {
			c.NetConn().(*net.TCPConn).CloseWrite()
		}
	}
	return p.rest()
}

// STARTTLS itself cut at every byte, and a handshake that is none.
func TestCutStartTLS(t *testing.T) {
	q := &queue{}
	s, plain, _ := startTLS(t, testConfig(q))
	const text = hello + "STARTTLS\r\n" + "\x16\x03\x01\x00\x05hello" + "MAIL FROM:<a@b>\r\n"
	for n := range len(text) + 1 {
		p := dial(t, plain)
		p.send(text[:n])
		p.Conn.(*net.TCPConn).CloseWrite()
		rest := p.rest()
		if _, after, ok := strings.Cut(rest, "220 2.0.0"); ok && strings.Contains(after, "\r\n250") || strings.Contains(rest, "421") && ok {
			t.Fatalf("cut at %d: clear text after STARTTLS: %q", n, rest)
		}
		p.Close()
	}
	s.Close()
	if got := q.take(); got != nil {
		t.Fatal(got)
	}
}

// cutter lets so many bytes through to the network, and then no more.
type cutter struct {
	net.Conn
	left int
	sent int
}

func (c *cutter) Write(p []byte) (int, error) {
	n := min(len(p), c.left)
	c.left -= n
	c.sent += n
	if _, err := c.Conn.Write(p[:n]); err != nil || n == len(p) {
		return n, err
	}
	_ = c.Conn.(*net.TCPConn).CloseWrite() // the server may have hung up
	return n, net.ErrClosed
}

// A session in TLS, cut at every byte of its records, close_notify included:
// also within a record nothing is taken for the end of a message.
func TestCutInsideRecords(t *testing.T) {
	const text = "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@example.org>\r\nDATA\r\n"
	for _, how := range []string{"tls", "starttls", "proxytls"} {
		q := &queue{}
		s, plain, implicit := startCut(t, q, how == "proxytls")
		begin := func() (*cutter, *peer) {
			addr := implicit
			if how == "starttls" {
				addr = plain
			}
			p := dialRaw(t, addr)
			switch how {
			case "starttls":
				p.want("220")
				p.cmd("STARTTLS", "220")
			case "proxytls":
				p.send(proxyHeader)
			}
			c := &cutter{Conn: p.Conn, left: 1 << 30}
			p = (&peer{t: t, Conn: c}).secure()
			if how != "starttls" {
				p.want("220")
			}
			p.cmd("EHLO client.example", "250")
			return c, p
		}
		dialogue := func(p *peer) {
			p.send(text)
			p.send("a: b\r\n\r\nx\r\n")
			p.send(".\r\n")
			_ = p.Conn.(*tls.Conn).CloseWrite() // a cut is met here
		}
		c, p := begin()
		from := c.sent
		dialogue(p)
		if rest := p.rest(); !strings.Contains(rest, "queued") {
			t.Fatalf("%s: uncut, told %q", how, rest)
		}
		p.Close()
		total, heard := c.sent-from, 0
		for n := range total {
			c, p := begin()
			c.left = n
			dialogue(p)
			if strings.Contains(p.rest(), "queued") {
				heard++
			}
			p.Close()
		}
		s.Close()
		// Behind the final dot only close_notify is cut: 24 bytes of TLS 1.3.
		if got := len(q.take()) - 1; got != heard || got > 30 || got == 0 {
			t.Errorf("%s: %d messages of %d sessions cut, %d answered", how, got, total, heard)
		}
		if q.begun <= q.aborted {
			t.Errorf("%s: %d uploads, %d aborted", how, q.begun, q.aborted)
		}
	}
}

// A proxy's header cut at every byte: nothing is answered, and nothing counts.
func TestCutProxyHeader(t *testing.T) {
	for _, header := range []string{proxyHeader, "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x02\x04\x01\x00\x19"} {
		q := &queue{}
		s, plain, _ := startCut(t, q, true)
		for n := range len(header) {
			p := dialRaw(t, plain)
			p.send(header[:n])
			p.Conn.(*net.TCPConn).CloseWrite()
			if rest := p.rest(); rest != "" {
				t.Errorf("cut at %d: told %q", n, rest)
			}
		}
		s.Close()
		if c := s.Counts(); c.Open != 0 || c.Sessions != 0 || c.ProxyErrors != int64(len(header)-1) {
			t.Errorf("%+v", c)
		}
	}
}
