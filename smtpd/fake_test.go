package smtpd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"mailraft/mail"
	"mailraft/mail/reply"
	"mailraft/smtpd/users"
)

// message is what the fake queue was given.
type message struct {
	mail.Submission
	body string
}

// queue is a Queue, Directory and Gate whose answers a test can set.
type queue struct {
	mu                                       sync.Mutex
	got                                      []message
	logins                                   int
	begun, aborted                           int
	beginErr, writeErr, commitErr, verifyErr error
	readyErr, usersErr                       error
	panics                                   bool          // in Write
	hold                                     chan struct{} // commits wait for it
	committing                               chan struct{} // gets one for every commit that waits
}

type upload struct {
	q    *queue
	body bytes.Buffer
}

func (q *queue) locked(f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	f()
}

func (q *queue) Ready() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.readyErr
}

func (q *queue) Begin(context.Context) (Upload, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.beginErr != nil {
		return nil, q.beginErr
	}
	q.begun++
	return &upload{q: q}, nil
}

// Verify knows example.org, and nobody in it whose name begins with "no". With
// the right to relay it knows every other domain too.
func (q *queue) Verify(_ context.Context, a mail.Address, relay bool) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.verifyErr != nil:
		return q.verifyErr
	case !strings.EqualFold(a.Domain, "example.org") && relay:
		return nil
	case !strings.EqualFold(a.Domain, "example.org"):
		return reply.Relaying.Reply(a.Domain)
	case strings.HasPrefix(a.Local, "no"):
		return reply.NoMailbox.Reply()
	}
	return nil
}

func (u *upload) Write(p []byte) (int, error) {
	u.q.mu.Lock()
	defer u.q.mu.Unlock()
	if u.q.panics {
		panic("out of order")
	}
	if u.q.writeErr != nil {
		return 0, u.q.writeErr
	}
	return u.body.Write(p)
}

func (u *upload) Abort() { u.q.locked(func() { u.q.aborted++ }) }

func (u *upload) Commit(ctx context.Context, s mail.Submission) (mail.ID, error) {
	if u.q.hold != nil {
		u.q.committing <- struct{}{}
		select {
		case <-u.q.hold:
		case <-ctx.Done():
			return mail.ID{}, ctx.Err()
		}
	}
	u.q.mu.Lock()
	defer u.q.mu.Unlock()
	if u.q.commitErr != nil {
		return mail.ID{}, u.q.commitErr
	}
	u.q.got = append(u.q.got, message{s, u.body.String()})
	return mail.NewID(1, uint64(len(u.q.got)), 0), nil
}

// Authenticate knows anna, whose password is secret and who may send as
// sales@example.org too.
func (q *queue) Authenticate(_ context.Context, l users.Login) (users.User, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.logins++
	switch {
	case q.usersErr != nil:
		return users.User{}, q.usersErr
	case l.Name != "anna" || l.Password != "secret":
		return users.User{}, users.ErrDenied
	}
	return users.User{Name: l.Name, Senders: []string{"sales@example.org"}}, nil
}

func (q *queue) take() []message {
	q.mu.Lock()
	defer q.mu.Unlock()
	got := q.got
	q.got = nil
	return got
}

var serverTLS = sync.OnceValue(func() *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
})

var clientTLS = &tls.Config{InsecureSkipVerify: true}

// testConfig is a server with a fake queue, that takes up to 1 MB.
func testConfig(q *queue) Config {
	return Config{
		Hostname: "mx.example.org", DefaultDomain: "example.org",
		Queue: q, Directory: q, Gate: q, Users: q,
		SizeMax: func() int64 { return 1 << 20 }, GuessDelay: time.Millisecond,
	}
}

// start serves cfg on loopback, in clear text without STARTTLS.
func start(t testing.TB, cfg Config) (s *Server, addr string) {
	t.Helper()
	s, addrs := serve(t, cfg, Listener{})
	return s, addrs[0]
}

// startTLS serves cfg on loopback, with STARTTLS and with implicit TLS.
func startTLS(t testing.TB, cfg Config) (s *Server, plain, implicit string) {
	t.Helper()
	s, addrs := serve(t, cfg, Listener{TLS: TLSMay, Certificate: serverTLS}, Listener{TLS: TLSImplicit, Certificate: serverTLS})
	return s, addrs[0], addrs[1]
}

// serve serves cfg on loopback, with a port for each of the listeners.
func serve(t testing.TB, cfg Config, listeners ...Listener) (s *Server, addrs []string) {
	t.Helper()
	s = New(cfg)
	for _, d := range listeners {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, l.Addr().String())
		done := make(chan error, 1)
		go func() { done <- s.Serve(l, d) }()
		t.Cleanup(func() {
			s.Close()
			if err := <-done; err != nil && err != net.ErrClosed {
				t.Errorf("serve: %v", err)
			}
		})
	}
	return s, addrs
}

// peer is a client that says exactly what it is told to.
type peer struct {
	t testing.TB
	net.Conn
	r     *bufio.Reader
	early bool // does not wait for the answer to EHLO
}

func dialRaw(t testing.TB, addr string) *peer {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	t.Cleanup(func() { nc.Close() })
	return &peer{t: t, Conn: nc, r: bufio.NewReader(nc)}
}

func dial(t testing.TB, addr string) *peer {
	t.Helper()
	p := dialRaw(t, addr)
	p.want("220")
	return p
}

func (p *peer) secure() *peer {
	tc := tls.Client(p.Conn, clientTLS)
	return &peer{t: p.t, Conn: tc, r: bufio.NewReader(tc)}
}

// send sends. What stands behind an EHLO waits for its answer, which is put
// back: only then may a client pipeline (RFC 2920).
func (p *peer) send(s string) {
	if rest, ok := strings.CutPrefix(s, hello); ok && rest != "" && !p.early {
		p.send(hello)
		p.r = bufio.NewReader(io.MultiReader(strings.NewReader(p.reply()), p.r))
		s = rest
	}
	_, _ = io.WriteString(p.Conn, s) // the server may have hung up; the reply tells
}

// reply reads one reply, all its lines.
func (p *peer) reply() string {
	var all strings.Builder
	for {
		line, err := p.r.ReadString('\n')
		all.WriteString(line)
		if err != nil {
			return all.String() + "!closed"
		}
		if len(line) < 4 || line[3] == ' ' {
			if strings.Count(all.String(), "\n") == 1 {
				p.known(line)
			}
			return all.String()
		}
	}
}

// known fails the test if a reply is not in the table. That to EHLO and HELO
// is a list.
func (p *peer) known(line string) {
	line = strings.TrimRight(line, "\r\n")
	if _, ok := reply.Find(line); !ok && !helloReply.MatchString(line) && !strings.HasSuffix(line, milterSays) {
		p.t.Errorf("a reply that is not in mail/reply: %s", line)
	}
}

var helloReply = regexp.MustCompile(`^250(-.*| mx\.example\.org| SIZE \d+)$`)

func (p *peer) want(prefixes ...string) (last string) {
	p.t.Helper()
	for _, w := range prefixes {
		if last = p.reply(); !strings.HasPrefix(last, w) {
			p.t.Fatalf("want %q, got %q", w, last)
		}
	}
	return last
}

func (p *peer) cmd(line, want string) string {
	p.t.Helper()
	p.send(line + "\r\n")
	return p.want(want)
}

// rest is everything up to the end of the connection.
func (p *peer) rest() string {
	b, _ := io.ReadAll(p.r) // a reset is an end too
	return string(b)
}

const hello = "EHLO client.example\r\n"
const envelope = "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@example.org>\r\n"

func bdat(n int, last string) string { return fmt.Sprintf("BDAT %d%s\r\n", n, last) }
