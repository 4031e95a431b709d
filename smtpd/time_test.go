package smtpd

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailraft/mail/reply"
)

// pipes is a listener whose connections are net.Pipes, so that time is virtual.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error {
	select {
	case <-l.done:
	default:
		close(l.done)
	}
	return nil
}

func (l *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 25} }

func (l *pipes) dial(t *testing.T) *peer {
	a, b := net.Pipe()
	l.conns <- b
	p := &peer{t: t, Conn: a, r: bufio.NewReader(a), early: true}
	p.want("220")
	return p
}

// virtual runs f with a server in virtual time.
func virtual(t *testing.T, q *queue, f func(t *testing.T, s *Server, l *pipes)) {
	synctest.Test(t, func(t *testing.T) {
		l := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
		cfg := testConfig(q)
		cfg.Limits.EarlyTalkers = true
		s := New(cfg)
		served := make(chan error)
		go func() { served <- s.Serve(l, Listener{}) }()
		f(t, s, l)
		s.Close()
		<-served
	})
}

// A sender that is slow but steady may take longer than any timeout for a
// command or a read.
func TestSlowSteadySender(t *testing.T) {
	q := &queue{}
	virtual(t, q, func(t *testing.T, _ *Server, l *pipes) {
		p := l.dial(t)
		for _, cmd := range []string{"EHLO x", "MAIL FROM:<a@b.example>", "RCPT TO:<c@example.org>"} {
			time.Sleep(4 * time.Minute)
			p.cmd(cmd, "250")
		}
		p.cmd("DATA", "354")
		for range 20 {
			time.Sleep(2 * time.Minute)
			p.send(strings.Repeat("x", 20_000) + "\r\n")
		}
		p.cmd(".", "250 2.0.0 Ok: queued")
		if got := q.take(); len(got) != 1 || len(got[0].body) != 20*20_002 {
			t.Errorf("got %d messages", len(got))
		}
		p.send(envelope)
		p.want("250", "250")
		for range 20 {
			time.Sleep(150 * time.Second)
			p.cmd(bdat(20_000, "")+strings.Repeat("x", 19_998), "250")
		}
		p.cmd("BDAT 0 LAST", "250 2.0.0 Ok: queued")
	})
	if got := q.take(); len(got) != 1 {
		t.Errorf("got %d messages", len(got))
	}
}

func TestTooSlow(t *testing.T) {
	tests := []struct {
		name  string
		start string
		piece string
		every time.Duration
		after time.Duration // no sooner than
		until time.Duration // no later than
		reply *reply.Entry
	}{
		{"no command", "", "", time.Hour, 5 * time.Minute, 5 * time.Minute, reply.Idle},
		{"half a command", "NO", "", time.Hour, 5 * time.Minute, 5 * time.Minute, reply.Idle},
		{"nothing in data", hello + envelope + "DATA\r\nx", "", time.Hour, 3 * time.Minute, 3 * time.Minute, reply.Slow},
		{"nothing in chunk", hello + envelope + bdat(9, " LAST") + "x", "", time.Hour, 3 * time.Minute, 3 * time.Minute, reply.Slow},
		{"nothing between chunks", hello + envelope + bdat(1, "") + "x", "", time.Hour, 5 * time.Minute, 5 * time.Minute, reply.Slow},
		{"refused chunk", hello + bdat(9, " LAST") + "x", "", time.Hour, 3 * time.Minute, 3 * time.Minute, reply.Slow},
		{"trickle", hello + envelope + "DATA\r\n", "x", time.Minute, 3 * time.Minute, 4 * time.Minute, reply.Slow},
		{"for ever", hello + envelope + "DATA\r\n", strings.Repeat("x", 9000), time.Minute, time.Hour, time.Hour, reply.Slow},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := &queue{}
			virtual(t, q, func(t *testing.T, _ *Server, l *pipes) {
				p := l.dial(t)
				begun := time.Now()
				told := make(chan string)
				go func() { told <- p.rest() }()
				if tt.start != "" {
					p.send(tt.start)
				}
				tick := time.NewTicker(tt.every)
				defer tick.Stop()
				for open := true; open; {
					select {
					case rest := <-told:
						open = false
						if took := time.Since(begun); took < tt.after || took > tt.until {
							t.Errorf("hung up after %v", took)
						}
						if !strings.Contains(rest, tt.reply.Reply().String()) || strings.Contains(rest, "queued") {
							t.Errorf("told %q", rest)
						}
					case <-tick.C:
						if tt.piece != "" {
							p.send(tt.piece)
						}
					}
				}
			})
			if q.got != nil || q.aborted != q.begun {
				t.Errorf("%d messages, %d uploads, %d aborted", len(q.got), q.begun, q.aborted)
			}
		})
	}
}

// A transaction ends, however many commands keep it going.
func TestSlowTransaction(t *testing.T) {
	virtual(t, &queue{}, func(t *testing.T, _ *Server, l *pipes) {
		p := l.dial(t)
		p.cmd("EHLO x", "250")
		p.cmd("MAIL FROM:<a@b.example>", "250")
		begun := time.Now()
		for i := range 14 {
			time.Sleep(4 * time.Minute)
			p.cmd(fmt.Sprintf("RCPT TO:<c%d@example.org>", i), "250")
		}
		p.want(reply.TransactionSlow.Reply().String(), "!closed")
		if took := time.Since(begun); took != time.Hour {
			t.Errorf("hung up after %v", took)
		}
	})
}
