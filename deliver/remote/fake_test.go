package remote

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailraft/deliver"
	"mailraft/mail"
)

// script is a mail server that says what a test wants. The key is what it
// answers to: "connect", the first word of a command in upper case, or
// "RCPT <address>", "DOT", "DOT <address>"; the value is the answer, "cut"
// to hang up instead, or "mute" to say nothing more.
type script map[string]string

type fake struct {
	script script
	most   int // recipients of one transaction; 0: any number
	lmtp   bool
	tls    *tls.Config
	list   string // further lines of the EHLO answer, by commas

	mu       sync.Mutex
	got      []got
	conns    int
	commands []string
	logins   []string
}

type got struct {
	from, data string
	to         []string
	tls        bool
}

// listen serves on a loopback port until the test ends.
func (f *fake) listen(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.serve(t, l)
	return l.Addr().String()
}

func (f *fake) serve(t *testing.T, l net.Listener) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			wg.Go(func() { f.session(c); c.Close() })
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
}

// say answers by the script; false ends the connection.
func (f *fake) say(c net.Conn, key, other string) bool {
	f.mu.Lock()
	answer, ok := f.script[key]
	f.mu.Unlock()
	if !ok {
		answer = other
	}
	switch answer {
	case "cut":
		return false
	case "mute":
		io.Copy(io.Discard, c)
		return false
	}
	fmt.Fprint(c, answer+"\r\n")
	return !strings.HasPrefix(answer, "421")
}

func (f *fake) session(c net.Conn) {
	f.mu.Lock()
	f.conns++
	f.mu.Unlock()
	br, m := bufio.NewReader(c), got{}
	if !f.say(c, "connect", "220 fake ready") {
		return
	}
	for {
		l, err := br.ReadString('\n')
		if err != nil {
			return
		}
		l = strings.TrimRight(l, "\r\n")
		verb := strings.ToUpper(strings.Fields(l + " x")[0])
		f.mu.Lock()
		f.commands = append(f.commands, l)
		f.mu.Unlock()
		switch verb {
		case "EHLO", "LHLO", "HELO":
			if !f.say(c, verb, strings.Join(append([]string{"250-fake"}, f.lines()...), "\r\n")) {
				return
			}
		case "STARTTLS":
			if !f.say(c, verb, "220 go") {
				return
			}
			if f.script[verb] == "" {
				tc := tls.Server(c, f.tls)
				c, br, m.tls = tc, bufio.NewReader(tc), true
			}
		case "MAIL":
			m = got{from: between(l), tls: m.tls}
			if !f.say(c, verb, "250 2.1.0 ok") {
				return
			}
		case "RCPT":
			key := "RCPT " + between(l)
			if f.most > 0 && len(m.to) >= f.most {
				f.say(c, key, "452 4.5.3 too many recipients")
				continue
			}
			if !f.say(c, key, "250 2.1.5 ok") {
				return
			}
			f.mu.Lock()
			if s := f.script[key]; s == "" || s[0] == '2' {
				m.to = append(m.to, between(l))
			}
			f.mu.Unlock()
		case "DATA":
			if !f.say(c, verb, "354 go on") {
				return
			}
			f.mu.Lock()
			refused := f.script["DATA"] != ""
			f.mu.Unlock()
			if !refused && !f.body(c, br, m) {
				return
			}
		case "AUTH":
			if !f.auth(c, br, l) {
				return
			}
		case "QUIT":
			f.say(c, verb, "221 2.0.0 bye")
			return
		default:
			if !f.say(c, verb, "250 2.0.0 ok") {
				return
			}
		}
	}
}

// auth asks for what the client did not say at once, and takes one password.
func (f *fake) auth(c net.Conn, br *bufio.Reader, l string) bool {
	words := strings.Fields(l)
	for _, prompt := range []string{"VXNlciBOYW1lAA==", "UGFzc3dvcmQA"} {
		if words[1] == "LOGIN" {
			fmt.Fprint(c, "334 "+prompt+"\r\n")
			answer, err := br.ReadString('\n')
			if err != nil {
				return false
			}
			words = append(words, strings.TrimSpace(answer))
		}
	}
	f.mu.Lock()
	f.logins = append(f.logins, strings.Join(words[1:], " "))
	f.mu.Unlock()
	return f.say(c, "AUTH", "235 2.7.0 welcome")
}

func (f *fake) body(c net.Conn, br *bufio.Reader, m got) bool {
	var data strings.Builder
	for {
		l, err := br.ReadString('\n')
		if err != nil {
			return false
		}
		if l == ".\r\n" {
			break
		}
		if f.script["BODY"] == "cut" {
			return false
		} else if answer := f.script["BODY"]; answer != "" { // early, and then deaf
			fmt.Fprint(c, answer+"\r\n")
			if !strings.HasPrefix(answer, "421") {
				time.Sleep(time.Hour)
			}
			return false
		}
		data.WriteString(strings.TrimPrefix(l, "."))
	}
	m.data = data.String()
	f.mu.Lock()
	f.got = append(f.got, m)
	f.mu.Unlock()
	if !f.lmtp {
		return f.say(c, "DOT", "250 2.0.0 saved as 1")
	}
	for _, to := range m.to {
		if !f.say(c, "DOT "+to, "250 2.0.0 <"+to+"> saved") {
			return false
		}
	}
	return true
}

func (f *fake) lines() []string {
	list := "SIZE 100000,8BITMIME,ENHANCEDSTATUSCODES"
	if f.list != "" {
		list = f.list
	}
	if f.tls != nil {
		list += ",STARTTLS"
	}
	var out []string
	for _, e := range strings.Split(list, ",") {
		out = append(out, "250-"+e)
	}
	out = append(out, "250 HELP")
	return out
}

func (f *fake) messages() []got {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.got)
}

func (f *fake) heard() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.commands)
}

func (f *fake) connections() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.conns
}

func between(l string) string {
	i, j := strings.IndexByte(l, '<'), strings.LastIndexByte(l, '>')
	return l[i+1 : j]
}

type stored struct{ *bytes.Reader }

func (stored) Close() error { return nil }

const text = "Message-ID: <1@example.org>\r\n\r\n.dot\r\nbody\r\n"

func attempt(addr string, to ...string) *deliver.Attempt {
	a := &deliver.Attempt{
		Job: deliver.Job{
			ID: mail.NewID(1e12, 5, 0), ReversePath: "s@example.org", Trace: mail.Trace{Helo: "c.example.org", Address: "192.0.2.1", By: "m1.example.test", Protocol: "ESMTP"},
			Content: mail.Content{Size: int64(len(text))}, Accepted: 1e12, Header: []byte("X-Mailraft-Resubmit: 9\r\n"), All: to,
			Destination: deliver.Destination{Key: "db/DB1", Addr: addr},
		},
		Open:  func() (io.ReadSeekCloser, error) { return stored{bytes.NewReader([]byte(text))}, nil },
		Final: func() error { return nil },
	}
	for i, r := range to {
		a.Recipients = append(a.Recipients, deliver.Recipient{Index: i, Address: r})
	}
	return a
}

func send(t *testing.T, tr *Transport, a *deliver.Attempt) []deliver.Answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return tr.Deliver(ctx, a)
}

func newTransport(t *testing.T) *Transport {
	tr := &Transport{Host: "m1.example.test"}
	t.Cleanup(tr.Close)
	return tr
}

func serverTLS(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}}}
}

var errLease = errors.New("no lease")
