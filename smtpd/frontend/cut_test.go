package frontend

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"mailraft/mail"
	"mailraft/mail/reply"
)

// A client that goes away at any byte: only a message that came to its end is
// accepted, and once.
func TestClientCutAnywhere(t *testing.T) {
	for name, session := range map[string]string{
		"DATA": hello + envelope + "DATA\r\n" + dotted,
		"BDAT": hello + envelope + "BDAT 12\r\nSubject: x\r\nBDAT 9 LAST\r\n\r\nhello\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, 1, 1)
			for n := range len(session) + 1 {
				nc, err := net.Dial("tcp", h.addr)
				if err != nil {
					t.Fatal(err)
				}
				// Waiting where a client would: a command sent too early is another case.
				head, rest := session[:n], ""
				if i := strings.Index(head, "DATA\r\n"); i >= 0 && name == "DATA" {
					head, rest = head[:i+6], head[i+6:]
				}
				io.WriteString(nc, head)
				if rest != "" {
					waitFor(t, nc, "354")
				}
				io.WriteString(nc, rest)
				nc.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, nc)
				nc.Close()
				h.until("the session is over", func() bool { c := h.f.smtp.Counts(); return c.Open == 0 && c.Transactions == 0 })
				got := h.logs[0].take()
				if whole := n == len(session); len(got) > 1 || (len(got) == 1) != whole {
					t.Fatalf("cut after %d of %d bytes: %d messages", n, len(session), len(got))
				}
			}
		})
	}
}

func waitFor(t *testing.T, nc net.Conn, code string) {
	t.Helper()
	nc.SetReadDeadline(time.Now().Add(20 * time.Second))
	var got []byte
	for b := make([]byte, 1); !strings.Contains(string(got), "\r\n"+code+" "); {
		if _, err := nc.Read(b); err != nil {
			t.Fatalf("no %s in %q: %v", code, got, err)
		}
		got = append(got, b[0])
	}
}

// scissors cuts a stream after so many bytes in one direction.
type scissors struct {
	net.Conn
	mu   sync.Mutex
	sent int // bytes that may be; negative: no limit
	got  int
	cuts *int
}

func (s *scissors) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sent >= 0 && len(p) > s.sent {
		s.Conn.Write(p[:s.sent])
		s.cut()
		return s.sent, net.ErrClosed
	}
	if s.sent >= 0 {
		s.sent -= len(p)
	}
	return s.Conn.Write(p)
}

func (s *scissors) Read(p []byte) (int, error) {
	s.mu.Lock()
	left := s.got
	s.mu.Unlock()
	if left == 0 {
		s.mu.Lock()
		s.cut()
		s.mu.Unlock()
		return 0, io.EOF
	}
	if left > 0 {
		p = p[:min(len(p), left)]
	}
	n, err := s.Conn.Read(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.got > 0 {
		s.got -= n
	}
	return n, err
}

func (s *scissors) cut() {
	if s.sent != -2 {
		*s.cuts++
	}
	s.sent, s.got = -2, 0
	s.Conn.Close()
}

// A stream to a member that breaks at any byte, in either direction: a client
// that is told 250 has its message there once, and one that is told 4xx has it
// nowhere, since what became of it is asked.
func TestMemberCutAnywhere(t *testing.T) {
	for _, direction := range []string{"to the member", "from the member"} {
		t.Run(direction, func(t *testing.T) {
			h := newHouse(t, 1, 2)
			taken, refused := 0, 0
			for n := 0; ; n++ {
				cuts, limit := 0, n
				h.wrapping(func(nc net.Conn) net.Conn {
					s := &scissors{Conn: nc, sent: -1, got: -1, cuts: &cuts}
					if direction == "to the member" {
						s.sent = limit
					} else {
						s.got = limit
					}
					limit = -1 // the next one is whole
					return s
				})
				answer := h.post()
				got := h.logs[0].take()
				switch {
				case strings.HasPrefix(answer, "250 2.0.0 Ok: queued as "):
					taken++
					if len(got) != 1 {
						t.Fatalf("cut after %d bytes: told %q, there %d times", n, answer, len(got))
					}
				case strings.HasPrefix(answer, "451 4.4.2"):
					refused++
					if len(got) != 0 {
						t.Fatalf("cut after %d bytes: told %q, and it is there", n, answer)
					}
				default:
					t.Fatalf("cut after %d bytes: told %q", n, answer)
				}
				if cuts == 0 {
					break
				}
			}
			c := &h.f.counters
			t.Logf("%d answered 250, %d 451; %d unseen, %d found taken, %d found not taken", taken, refused, c.retries.Load(), c.settledTaken.Load(), c.settledNot.Load())
			if refused == 0 || c.retries.Load() == 0 || c.uncertain.Load() != 0 || direction == "from the member" && c.settledTaken.Load() == 0 {
				t.Error("not every kind of cut was met")
			}
		})
	}
}

// post sends a message in a session of its own, and returns the answer to it,
// or to what refused it before.
func (h *house) post() string {
	c := h.client()
	defer c.Close()
	c.say(hello, 2)
	for _, r := range c.say(envelope+"DATA\r\n", 3) {
		if !strings.HasPrefix(r, "250") && !strings.HasPrefix(r, "354") {
			return r
		}
	}
	return c.say(dotted, 1)[0]
}

// What became of a message whose answer was lost is asked of another member,
// and of the same one only if there is no other. Where nobody knows it is said
// to be not taken, and counted.
func TestSettle(t *testing.T) {
	h := newHouse(t, 1, 2)
	b, l := h.f.boundaries[0], h.logs[0]
	from := b.list()[0]
	taken, lost, later := mail.ContentID{1}, mail.ContentID{2}, mail.ContentID{3}
	id := l.answer(taken, &message{}).ID
	h.member["b1m1"].set(func() { h.member["b1m1"].away = true })
	if r, err := h.f.settle(t.Context(), b, from, taken); err != nil || !strings.HasSuffix(r.Text, "queued as "+id.String()) {
		t.Errorf("taken: %v, %v", r, err)
	}
	if r, err := h.f.settle(t.Context(), b, from, lost); r != nil || !broke(err) {
		t.Errorf("lost: %v, %v", r, err)
	}
	if l.answer(lost, &message{}).Refusal == nil {
		t.Error("accepted after its client was told that it is not")
	}
	l.mu.Lock()
	l.silent = true
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if r, err := h.f.settle(ctx, b, from, later); r != nil || !broke(err) || h.f.counters.uncertain.Load() != 1 {
		t.Errorf("%v, %v, %d uncertain", r, err, h.f.counters.uncertain.Load())
	}
}

func broke(err error) bool {
	r := (*mail.Reply)(nil)
	return errors.As(err, &r) && *r == *reply.Broke.Reply()
}
