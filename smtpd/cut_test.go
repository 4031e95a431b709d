package smtpd

import (
	"crypto/tls"
	"net"
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
		for _, how := range []string{"fin", "reset", "tls-notify", "tls-fin", "starttls-notify", "starttls-fin"} {
			t.Run(name+"/"+how, func(t *testing.T) {
				q := &queue{}
				s, plain, implicit := startTLS(t, testConfig(q))
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

func cutPeer(t *testing.T, how, plain, implicit string) *peer {
	switch {
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
