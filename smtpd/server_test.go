package smtpd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"mailraft/mail/reply"
)

// TestMain sees that no goroutine outlives its server.
func TestMain(m *testing.M) {
	before := runtime.NumGoroutine()
	code := m.Run()
	for range 100 {
		if runtime.NumGoroutine() <= before {
			os.Exit(code)
		}
		time.Sleep(10 * time.Millisecond)
	}
	var stacks [1 << 16]byte
	fmt.Printf("goroutines left:\n%s\n", stacks[:runtime.Stack(stacks[:], true)])
	os.Exit(1)
}

func TestForeignClient(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	q := &queue{}
	_, plain, implicit := startTLS(t, testConfig(q))
	if out, err := exec.Command(python, "testdata/client.py", plain, implicit).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var got []string
	for _, m := range q.take() {
		got = append(got, m.Trace.Protocol+" "+m.Fields.Subject)
	}
	want := "ESMTP plain,ESMTPS starttls,UTF8SMTPS grüße,ESMTPS implicit"
	if strings.Join(got, ",") != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestRecipientLimit(t *testing.T) {
	q := &queue{}
	_, addr := start(t, testConfig(q))
	p := dial(t, addr)
	p.send(hello + "MAIL FROM:<a@b.example>\r\n")
	p.want("250", "250")
	for i := range 1500 { // a few replies behind, as a pipelining client is
		p.send(fmt.Sprintf("RCPT TO:<r%d@example.org>\r\n", i))
		if i < 1000 {
			p.want("250")
		} else {
			p.want("452 4.5.3")
		}
	}
	p.send("DATA\r\nx\r\n.\r\n")
	p.want("354", "250")
	if got := q.take(); len(got) != 1 || len(got[0].Envelope.Recipients) != 1000 {
		t.Fatal("not 1000 recipients")
	}
	p.send("MAIL FROM:<a@b.example>\r\n")
	p.want("250")
	refused := 0
	for i := 0; ; i++ {
		p.send(fmt.Sprintf("RCPT TO:<r%d@example.org>\r\n", i))
		if r := p.reply(); strings.HasPrefix(r, "421") {
			break
		} else if strings.HasPrefix(r, "452") {
			refused++
		}
	}
	if refused != 9000 {
		t.Errorf("%d refused before the end", refused)
	}
}

func TestTooManyErrors(t *testing.T) {
	q := &queue{}
	_, addr := start(t, testConfig(q))
	for _, tt := range []struct {
		cmd   string
		want  int // answered before the 421
		reply *reply.Entry
	}{
		{"FOO", 51, reply.Errors}, {"RCPT TO:<c@other.example>", 51, reply.Errors}, {"NOOP", 98, reply.Commands}, {"VRFY x", 98, reply.Commands}, {"EHLO x", 98, reply.Commands},
	} {
		p := dial(t, addr)
		p.send(hello + "MAIL FROM:<a@b.example>\r\n")
		p.want("250", "250")
		n := 0
		for r := ""; !strings.HasPrefix(r, tt.reply.Reply().String()); n++ {
			if p.send(tt.cmd + "\r\n"); n > 200 {
				t.Fatalf("%s: never hung up on", tt.cmd)
			}
			r = p.reply()
		}
		if n--; n != tt.want {
			t.Errorf("%s: %d answered", tt.cmd, n)
		}
	}
}

func TestConnectionLimits(t *testing.T) {
	q := &queue{}
	cfg := testConfig(q)
	cfg.Limits.Sessions = 3
	s, addr, implicit := startTLS(t, cfg)
	first := dial(t, addr)
	dial(t, addr)
	p := dialRaw(t, implicit).secure()
	p.want("220")
	dialRaw(t, addr).want("421 4.7.0 Too many connections")
	if n := s.Counts(); n.Open != 3 || n.Rejects[Reject{"connect", 421}] != 1 {
		t.Errorf("%+v", n)
	}
	first.cmd("QUIT", "221")
	first.rest()
	for { // the place is free a moment after the client sees the end
		p := dialRaw(t, addr)
		if strings.HasPrefix(p.reply(), "220") {
			break
		}
	}
	cfg.Limits.Sessions, cfg.Limits.SessionsPerClient = 0, 1
	_, addr = start(t, cfg)
	dial(t, addr)
	dialRaw(t, addr).want("421 4.7.0 Too many connections from your address")
}

// Every connection that has no transaction ends at once, the others when they
// are through; nothing new begins.
func TestDrain(t *testing.T) {
	q := &queue{hold: make(chan struct{}), committing: make(chan struct{}, 2)}
	s, addr := start(t, testConfig(q))
	idle, greeted, open, busy, chunks := dial(t, addr), dial(t, addr), dial(t, addr), dial(t, addr), dial(t, addr)
	greeted.send(hello)
	greeted.want("250")
	open.send(hello + envelope)
	open.want("250", "250", "250")
	busy.send(hello + envelope + "DATA\r\nx\r\n.\r\n")
	busy.want("250", "250", "250", "354")
	chunks.send(hello + envelope + bdat(1, "") + "x")
	chunks.want("250", "250", "250", "250")
	<-q.committing
	drained := make(chan error, 1)
	go func() { drained <- s.Drain(context.Background()) }()
	idle.want(reply.Stopping.Reply().String(), "!closed")
	greeted.want("421 4.3.2", "!closed")
	dialRaw(t, addr).want("421 4.3.2", "!closed")
	close(q.hold)
	busy.want("250 2.0.0 Ok: queued", "421 4.3.2", "!closed")
	chunks.send(bdat(1, " LAST") + "y" + envelope)
	chunks.want("250 2.0.0 Ok: queued", "421 4.3.2", "!closed")
	open.send("RCPT TO:<d@example.org>\r\nDATA\r\n")
	open.want("250", "354")
	select {
	case err := <-drained:
		t.Fatal("drained with a transaction open", err)
	default:
	}
	open.send("x\r\n.\r\nQUIT\r\n")
	open.want("250 2.0.0 Ok: queued")
	if err := <-drained; err != nil {
		t.Fatal(err)
	}
	if got := q.take(); len(got) != 3 {
		t.Errorf("%d messages", len(got))
	}
}

func TestDrainGivesUp(t *testing.T) {
	virtual(t, &queue{}, func(t *testing.T, s *Server, l *pipes) {
		p := l.dial(t)
		p.send(hello + envelope)
		p.want("250", "250", "250")
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		p.send("RSET\r\n") // now it is through
		p.want("250", "421 4.3.2")
		if err := s.Drain(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// Close does not wait for clients in whatever state, nor for the queue.
func TestClose(t *testing.T) {
	for _, state := range []string{"", hello, hello + envelope, hello + envelope + "DATA\r\nab", hello + envelope + bdat(9, "") + "ab",
		hello + envelope + bdat(2, "") + "ab", hello + envelope + bdat(9, " LAST") + "ab", hello + envelope + "DATA\r\nab\r\n.\r\n"} {
		q := &queue{}
		virtual(t, q, func(t *testing.T, s *Server, l *pipes) {
			q.hold, q.committing = make(chan struct{}), make(chan struct{}, 1) // of this bubble
			p := l.dial(t)
			go p.rest()
			if state != "" {
				p.send(state)
			}
			synctest.Wait()
			s.Close()
			if err := s.Serve(l, Listener{}); err == nil {
				t.Error("serves after Close")
			}
		})
	}
}

// A client that is gone before it hears the 250 changes nothing.
func TestGoneDuringCommit(t *testing.T) {
	q := &queue{hold: make(chan struct{}), committing: make(chan struct{}, 1)}
	s, addr := start(t, testConfig(q))
	p := dial(t, addr)
	p.send(hello + envelope + "DATA\r\nx\r\n.\r\n")
	p.want("250", "250", "250", "354")
	<-q.committing
	p.Close()
	close(q.hold)
	if err := s.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := q.take(); len(got) != 1 || q.aborted != 0 {
		t.Errorf("%d messages, %d aborted", len(got), q.aborted)
	}
}

// A fault of ours is temporary for the client, and ends its connection only.
func TestPanic(t *testing.T) {
	q := &queue{panics: true}
	s, addr := start(t, testConfig(q))
	p := dial(t, addr)
	p.send(hello + envelope + "DATA\r\n")
	p.want("250", "250", "250", "354")
	p.send("QUIT\r\n.\r\nQUIT\r\n")
	p.want(reply.Internal.Reply().String(), "!closed")
	dial(t, addr).cmd("QUIT", "221")
	s.Close()
	if q.begun != 1 || q.aborted != 1 || q.got != nil {
		t.Errorf("%+v", q)
	}
}

func TestTraceAndLog(t *testing.T) {
	q := &queue{}
	cfg := testConfig(q)
	var log bytes.Buffer
	cfg.Logger = hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Debug})
	cfg.Rand = strings.NewReader("12345678abcdefgh")
	s, addr := start(t, cfg)
	p := dial(t, addr)
	p.cmd("EHLO client\xff.example", "250")
	p.send(envelope + "DATA\r\nMessage-ID: <m@b>\r\nSecret: body\r\n.\r\nNOSUCH\r\n")
	p.want("250", "250", "354", "250", "500")
	p.Close()
	s.Close()
	m := q.take()[0]
	if m.Trace.Helo != "client?.example" || m.Trace.Address != "127.0.0.1" || m.Trace.By != "mx.example.org" || m.Trace.Session != "3132333435363738" {
		t.Errorf("%+v", m.Trace)
	}
	for _, want := range []string{"connected: session=3132333435363738", "id=000000000400000000002000", "message_id=<m@b>", "recipients=1",
		"rejected: stage=other reply=\"500 5.5.2", "sender=a@b.example"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %q in\n%s", want, log.String())
		}
	}
	if strings.Contains(log.String(), "Secret") {
		t.Error("content in the log")
	}
	n := s.Counts()
	if n.Open != 0 || n.Connections != 1 || n.Sessions != 1 || n.Received != 1 || n.Bytes != int64(len(m.body)) || n.Commit.Total != 1 || n.Rejects[Reject{"other", 500}] != 1 {
		t.Errorf("%+v", n)
	}
}
