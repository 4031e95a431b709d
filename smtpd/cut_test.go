package smtpd

import (
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
				s, plain, implicit := start(t, withTLS(testConfig(q)))
				whole := 0
				for n := range len(text) + 1 {
					p := cutPeer(t, how, plain, implicit)
					p.send(text[:n])
					if n == len(text) && name != "last" {
						p.want("250", "250", "250")
						whole = 1
					}
					p.leave(how)
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

// leave goes away; where the client can still hear it, it must not be told
// that a message was queued.
func (p *peer) leave(how string) {
	p.t.Helper()
	switch c := p.Conn.(type) {
	case *net.TCPConn:
		if how == "reset" {
			c.SetLinger(0)
			break
		}
		c.CloseWrite()
	case interface {
		CloseWrite() error
		NetConn() net.Conn
	}:
		if strings.HasSuffix(how, "notify") {
			_ = c.CloseWrite()
		} else {
			c.NetConn().(*net.TCPConn).CloseWrite()
		}
	}
	if how != "reset" {
		if rest := p.rest(); strings.Contains(rest, "queued") && !strings.Contains(rest, "354") {
			// The whole message was answered before, in the caller.
			p.t.Errorf("%s: told %q", how, rest)
		}
	}
	p.Close()
}

// STARTTLS itself cut at every byte, and a handshake that is none.
func TestCutStartTLS(t *testing.T) {
	q := &queue{}
	s, plain, _ := start(t, withTLS(testConfig(q)))
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
