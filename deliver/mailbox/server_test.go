package mailbox

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"mailraft/mail"
)

// serve runs a server on a loopback port until the test ends.
func serve(t *testing.T) (addr, dir string, s *Server) {
	t.Helper()
	dir = t.TempDir()
	s = New(Options{
		Dir: dir, Host: "store.example.test", Retain: func() time.Duration { return time.Hour },
		Now: func() mail.Time { return mail.At(time.Now()) }, SizeMax: 100_000, Logger: hclog.NewNullLogger(),
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String(), dir, s
}

// client speaks LMTP line by line.
type client struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, addr string) *client {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	cl := &client{t, c, bufio.NewReader(c)}
	cl.expect("220")
	cl.say("LHLO me", "250")
	return cl
}

// expect reads one answer, of one or more lines.
func (c *client) expect(prefix string) {
	c.t.Helper()
	for {
		l, err := c.r.ReadString('\n')
		if err != nil {
			c.t.Fatalf("want %s: %v", prefix, err)
		}
		if len(l) > 3 && l[3] == '-' {
			continue
		}
		if !strings.HasPrefix(l, prefix) {
			c.t.Fatalf("answer %q, want %s", l, prefix)
		}
		return
	}
}

func (c *client) say(line, prefix string) {
	c.t.Helper()
	fmt.Fprint(c, line+"\r\n")
	c.expect(prefix)
}

func files(t *testing.T, dir, mailbox string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, mailbox, "new", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(b))
	}
	return texts
}

const text = "Message-ID: <1@example.org>\r\n\r\n..dot\r\n"

func TestDelivers(t *testing.T) {
	addr, dir, _ := serve(t)
	c := dial(t, addr)
	for range 2 { // the second time all have it already
		c.say("MAIL FROM:<s@example.org>", "250")
		c.say("RCPT TO:<alice@example.test>", "250")
		c.say("RCPT TO:<bob@example.test>", "250")
		c.say("DATA", "354")
		fmt.Fprint(c, text+".\r\n")
		c.expect("250 2.0.0 <alice@example.test>")
		c.expect("250 2.0.0 <bob@example.test>")
	}
	for _, name := range []string{"alice", "bob"} {
		want := "Return-Path: <s@example.org>\r\nDelivered-To: " + name + "@example.test\r\n" + strings.Replace(text, "..", ".", 1)
		if got := files(t, dir, name); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestAnswersDiffer(t *testing.T) {
	addr, dir, _ := serve(t)
	os.WriteFile(filepath.Join(dir, "bob"), nil, 0o600) // no folder can be made
	c := dial(t, addr)
	c.say("MAIL FROM:<>", "250")
	c.say("RCPT TO:<bob@example.test>", "250")
	c.say("RCPT TO:<alice@example.test>", "250")
	c.say("DATA", "354")
	fmt.Fprint(c, text+".\r\n")
	c.expect("451 4.3.0 <bob@example.test>")
	c.expect("250 2.0.0 <alice@example.test>")
}

func TestAddresses(t *testing.T) {
	addr, dir, _ := serve(t)
	c := dial(t, addr)
	c.say("MAIL FROM:<s@example.org>", "250")
	c.say("MAIL FROM:<t@example.org>", "50")
	for _, odd := range []string{`<"a\` + "\x01" + `b"@x>`, "<a@b@-x>", "<@>", `<""@x.test>`, "<a@x..y>"} {
		c.say("RCPT TO:"+odd, "5")
	}
	c.say(`RCPT TO:<"../../up"@example.test>`, "250")
	c.say(`RCPT TO:<"a b"@example.test>`, "250")
	c.say("BDAT 6 LAST\r\nbody", "250") // say adds the end of the line
	c.expect("250")
	for _, folder := range []string{"%2e.%2f..%2fup", "a%20b"} {
		if got := files(t, dir, folder); len(got) != 1 {
			t.Errorf("%s: %q", folder, got)
		}
	}
}

// A connection that is cut inside a message delivers nothing.
func TestCut(t *testing.T) {
	for name, body := range map[string]string{
		"DATA":             "DATA\r\n" + text,
		"DATA, half a dot": "DATA\r\n" + text + ".\r",
		"BDAT":             "BDAT 1000\r\n" + text,
		"BDAT LAST":        "BDAT 1000 LAST\r\n" + text,
		"BDAT, not last":   fmt.Sprintf("BDAT %d\r\n%s", len(text), text),
	} {
		t.Run(name, func(t *testing.T) {
			addr, dir, s := serve(t)
			c := dial(t, addr)
			c.say("MAIL FROM:<s@example.org>", "250")
			c.say("RCPT TO:<alice@example.test>", "250")
			fmt.Fprint(c, body)
			c.Conn.(*net.TCPConn).CloseWrite()
			c.r.WriteTo(discard{}) // until the server has hung up
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			s.Close(ctx)
			if got := files(t, dir, "alice"); len(got) != 0 {
				t.Fatalf("delivered: %q", got)
			}
		})
	}
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

func TestTooLarge(t *testing.T) {
	addr, dir, _ := serve(t)
	c := dial(t, addr)
	c.say("MAIL FROM:<s@example.org>", "250")
	c.say("RCPT TO:<alice@example.test>", "250")
	c.say("DATA", "354")
	fmt.Fprint(c, text+strings.Repeat("0123456789\r\n", 10_000)+".\r\n")
	c.expect("552")
	if got := files(t, dir, "alice"); len(got) != 0 {
		t.Fatalf("delivered: %q", got)
	}
	c.say("NOOP", "250")
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited too long")
		}
	}
}

func TestCloseRefusesNew(t *testing.T) {
	addr, dir, s := serve(t)
	busy, idle := dial(t, addr), dial(t, addr)
	busy.say("MAIL FROM:<s@example.org>", "250")
	busy.say("RCPT TO:<alice@example.test>", "250")
	busy.say("DATA", "354")
	fmt.Fprint(busy, "Message-ID: <1@x>\r\n")
	waitFor(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.incoming == 2 })
	closed := make(chan error, 1)
	go func() { closed <- s.Close(context.Background()) }()
	waitFor(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.draining })
	idle.say("MAIL FROM:<s@example.org>", "250")
	idle.say("RCPT TO:<alice@example.test>", "250")
	idle.say("DATA", "354")
	fmt.Fprint(idle, text+".\r\n")
	idle.expect("421")
	fmt.Fprint(busy, "\r\nbody\r\n.\r\n")
	busy.expect("250")
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	if got := files(t, dir, "alice"); len(got) != 1 {
		t.Fatalf("%q", got)
	}
}
