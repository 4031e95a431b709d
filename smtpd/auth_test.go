package smtpd

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"mailraft/mail/reply"
)

// No password, and nothing that may be one, gets into a log: neither what
// belongs to an AUTH, nor what a client sends after one was refused.
func TestSecretsAreNotLogged(t *testing.T) {
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	const secret = "0penSesame"
	plain := b64("\x00anna\x00" + secret)
	for _, d := range []Listener{{}, {TLS: TLSImplicit, Certificate: serverTLS}, {Role: Submission, TLS: TLSImplicit, Certificate: serverTLS, Auth: AuthRequired}} {
		q := &queue{}
		cfg := testConfig(q)
		var log bytes.Buffer
		cfg.Logger = hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Trace})
		s, addrs := serve(t, cfg, d)
		for _, lines := range []string{
			"AUTH PLAIN " + plain, "auth plain " + plain, "AUTH\tPLAIN " + plain, " AUTH PLAIN " + plain, "AUTH " + plain, "XAUTH PLAIN " + plain,
			"AUTH PLAIN\r\n" + plain, "AUTH LOGIN\r\n" + b64("anna") + "\r\n" + b64(secret), "AUTH LOGIN " + b64("anna") + "\r\n" + b64(secret),
			"AUTH PLAIN " + plain + " " + plain, "AUTH PLAIN " + secret + "!", "AUTH CRAM-MD5\r\n" + b64(secret), "AUTH PLAIN =\r\n" + plain,
			"AUTH LOGIN\r\n" + strings.Repeat("A", 3000) + "\r\n" + b64(secret), "AUTH PLAIN " + strings.Repeat("A", 3000) + "\r\n" + b64(secret),
			"MAIL FROM:<a@b.example>\r\nAUTH PLAIN " + plain, "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@example.org>\r\nBDAT 1\r\nxAUTH PLAIN " + plain + "\r\n" + plain,
		} {
			for _, greeting := range []string{"", "HELO x\r\n", "EHLO x\r\n"} {
				p := dialRaw(t, addrs[0])
				if d.TLS == TLSImplicit {
					p = p.secure()
				}
				p.want("220")
				p.send(greeting + lines + "\r\nQUIT\r\n")
				p.rest()
			}
		}
		s.Close()
		for _, no := range []string{secret, plain, plain[8:20], b64(secret), b64("anna")} {
			if strings.Contains(strings.ToLower(log.String()), strings.ToLower(no)) {
				i := strings.Index(strings.ToLower(log.String()), strings.ToLower(no))
				t.Errorf("%v: %q is in the log: %s", d.Auth, no, log.String()[max(0, i-200):i+50])
			}
		}
		if !strings.Contains(log.String(), "stage=auth") {
			t.Errorf("refusals are not logged:\n%s", &log)
		}
	}
}

// An authenticated user is in the trace, and his client may relay.
func TestAuthenticated(t *testing.T) {
	q := &queue{}
	s, addrs := serve(t, testConfig(q), Listener{Role: Submission, TLS: TLSImplicit, Certificate: serverTLS, Auth: AuthRequired})
	p := dialRaw(t, addrs[0]).secure()
	p.want("220")
	p.send(hello + "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("anna\x00anna\x00secret")) + "\r\n")
	p.want("250", "235")
	p.send("MAIL FROM:<a@b.example>\r\nRCPT TO:<c@far.example>\r\nDATA\r\n")
	p.want("250", "250", "354")
	p.send("x\r\n.\r\n")
	p.want("250")
	if m := q.take()[0]; !m.Envelope.Relay || m.Trace.User != "anna" || m.Trace.Protocol != "ESMTPSA" {
		t.Errorf("%+v", m)
	}
	if n := s.Counts().Auth; n[authOk] != 1 || len(n) != 1 {
		t.Errorf("%v", n)
	}
}

// Guessing is slowed down and then not listened to, also from many connections
// at once; the user himself gets in from where he is known.
func TestGuesses(t *testing.T) {
	var g guesses
	now := time.Now()
	known, ok := g.begin("192.0.2.9", "anna", now)
	g.succeeded(known, now)
	if !ok || known.delays != 1 {
		t.Fatalf("the first: %+v", known)
	}
	for i := range guessesMax {
		x, ok := g.begin("192.0.2.1", "anna", now)
		if want := min(i+1, guessDelays); !ok || x.delays != want {
			t.Fatalf("guess %d: %v %+v", i, ok, x)
		}
	}
	for _, c := range []struct {
		addr, name string
		want       bool
	}{
		{"192.0.2.1", "anna", false}, {"192.0.2.1", "bob", false}, {"192.0.2.2", "anna", false}, {"192.0.2.2", "Anna", false}, {"192.0.2.2", "bob", true}, {"192.0.2.9", "anna", true},
	} {
		x, ok := g.begin(c.addr, c.name, now)
		if ok != c.want {
			t.Errorf("%s from %s: %v", c.name, c.addr, ok)
		}
		if ok {
			g.undecided(x)
		}
	}
	for range guessesMax { // known, and guessing all the same
		g.begin("192.0.2.9", "anna", now)
	}
	if _, ok := g.begin("192.0.2.9", "anna", now); ok {
		t.Error("from a known address one may guess for ever")
	}
	if _, ok := g.begin("192.0.2.1", "anna", now.Add(guessWindow+time.Minute)); ok {
		t.Error("forgotten after one window")
	}
	if _, ok := g.begin("192.0.2.1", "anna", now.Add(2*guessWindow+time.Minute)); !ok {
		t.Error("not forgotten after two windows")
	}
}

// The memory of guesses is bounded.
func TestGuessesAreForgotten(t *testing.T) {
	var g guesses
	now := time.Now()
	for i := range 3 * guessesKept {
		x, _ := g.begin(fmt.Sprint(i), fmt.Sprint("u", i), now)
		if i%2 == 0 {
			g.succeeded(x, now)
		}
	}
	for _, n := range []int{len(g.fails.now), len(g.fails.before), len(g.known.now), len(g.known.before)} {
		if n > guessesKept+2 {
			t.Errorf("%d keys are kept", n)
		}
	}
}

// An answer to a wrong password waits, in a session of its own; after too many
// the password is not looked at any more.
func TestGuessingIsSlow(t *testing.T) {
	q := &queue{}
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig(q)
		cfg.GuessDelay = 0
		s := New(cfg)
		defer s.Close()
		cl := &client{}
		from := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 25}
		begun := time.Now()
		for i := range guessesMax {
			if err := s.login(from, cl, "anna", "guess"); err == nil {
				t.Fatal(err)
			}
			if i == 9 {
				if took := time.Since(begun); took != (1+2+3+4+5+6+7+8+8+8)*time.Second {
					t.Errorf("10 guesses took %s", took)
				}
			}
		}
		n := q.logins
		err := s.login(from, cl, "anna", "secret")
		if err == nil || err.Error() != reply.AuthOften.Reply().Error() || q.logins != n || s.Counts().Auth[authLimited] != 1 {
			t.Errorf("guess %d: %v", guessesMax+1, err)
		}
		go func() { time.Sleep(time.Minute); s.cancel() }()
		s.pause(time.Hour)
		if err := context.Cause(s.ctx); err == nil {
			t.Error("closing does not end a wait")
		}
	})
}
