package ledger

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/smtp"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Sender sends messages to members, several at a time.
type Sender struct {
	Ledger     *Ledger
	Targets    []string // host:port; a message goes to the next one when the last did not take it
	From       string   // reverse-path
	Recipient  func(n int) string
	Size       func(n int) int // bytes of the body, about
	Count      int             // messages; 0: until the context ends
	Sessions   int             // at once
	PerSession int             // messages on one connection; 0 is 20
	Timeout    time.Duration   // of one transaction; 0 is a minute
	Pause      time.Duration   // before trying again, and between messages if Rate is set
	Every      time.Duration   // least time between two messages of one session; 0: none
	Progress   func(accepted int)

	next atomic.Int64
	run  string
}

// Run sends until Count messages are acknowledged, or ctx ends. Messages that
// no target has acknowledged by then stay in the ledger without a mark.
func (s *Sender) Run(ctx context.Context) {
	var tag [6]byte
	_, _ = rand.Read(tag[:])
	s.run = fmt.Sprintf("%x", tag)
	s.next.Store(0)
	var wg sync.WaitGroup
	for i := range s.Sessions {
		wg.Go(func() { s.session(ctx, i) })
	}
	wg.Wait()
}

func (s *Sender) session(ctx context.Context, target int) {
	var c *conn
	defer func() { c.close() }()
	for ctx.Err() == nil {
		n := int(s.next.Add(1) - 1)
		if s.Count > 0 && n >= s.Count {
			return
		}
		began := time.Now()
		c = s.deliver(ctx, c, n, &target)
		if left := s.Every - time.Since(began); left > 0 {
			sleep(ctx, left)
		}
	}
}

// deliver sends one message until somebody has taken it.
func (s *Sender) deliver(ctx context.Context, c *conn, n int, target *int) *conn {
	text, e := s.compose(n)
	s.Ledger.add(e)
	for ctx.Err() == nil {
		addr := s.Targets[*target%len(s.Targets)]
		var err error
		if c == nil || c.addr != addr || c.sent >= max(s.PerSession, 20) {
			c.close()
			c, err = s.dial(ctx, addr)
		}
		if err == nil {
			err = s.transact(c, e, n, text)
		}
		if err == nil {
			if s.Progress != nil {
				s.Progress(s.Ledger.Accepted())
			}
			return c
		}
		if p := (*textproto.Error)(nil); errors.As(err, &p) && p.Code >= 500 {
			s.Ledger.refusal(p.Error())
		}
		c.close()
		c = nil
		*target++
		sleep(ctx, s.Pause)
	}
	return c
}

func (s *Sender) transact(c *conn, e *Entry, n int, text []byte) error {
	_ = c.nc.SetDeadline(time.Now().Add(s.timeout()))
	if err := c.smtp.Mail(s.From); err != nil {
		return err
	}
	if err := c.smtp.Rcpt(s.Recipient(n)); err != nil {
		return err
	}
	s.Ledger.attempt(e) // from here on the other side may have it
	id, err := c.data(text)
	if err != nil {
		return err
	}
	c.sent++
	s.Ledger.ack(e, c.addr, id, time.Now())
	return nil
}

// compose makes a message of random content.
func (s *Sender) compose(n int) ([]byte, *Entry) {
	marker := fmt.Sprintf("%s-%d", s.run, n)
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s: %s\r\nFrom: <%s>\r\nTo: <%s>\r\nSubject: message %d\r\nMessage-ID: <%s@ledger.invalid>\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\n\r\n",
		Marker, marker, s.From, s.Recipient(n), n, marker)
	raw := make([]byte, s.Size(n)*3/4)
	_, _ = rand.Read(raw)
	body := base64.StdEncoding.EncodeToString(raw)
	for len(body) > 76 {
		b.WriteString(body[:76])
		b.WriteString("\r\n")
		body = body[76:]
	}
	b.WriteString(body + "\r\n.dot\r\n..dots\r\n")
	sum := sha256.Sum256(bytes.ReplaceAll(b.Bytes(), []byte("\r\n"), []byte("\n")))
	return b.Bytes(), &Entry{Marker: marker, Sum: sum, Size: b.Len()}
}

func (s *Sender) timeout() time.Duration {
	if s.Timeout == 0 {
		return time.Minute
	}
	return s.Timeout
}

// conn is one SMTP session.
type conn struct {
	addr string
	nc   net.Conn
	smtp *smtp.Client
	sent int
}

func (s *Sender) dial(ctx context.Context, addr string) (*conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second}
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	_ = nc.SetDeadline(time.Now().Add(s.timeout()))
	c, err := smtp.NewClient(nc, "localhost")
	if err != nil {
		nc.Close()
		return nil, err
	}
	if err := c.Hello("ledger.invalid"); err != nil {
		nc.Close()
		return nil, err
	}
	return &conn{addr: addr, nc: nc, smtp: c}, nil
}

// data sends the content and returns the queue id of the 250. net/smtp's own
// writer does not show the reply.
func (c *conn) data(text []byte) (id string, err error) {
	t := c.smtp.Text
	if err := command(t, 354, "DATA"); err != nil {
		return "", err
	}
	w := t.DotWriter()
	if _, err := w.Write(text); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	_, line, err := t.ReadResponse(250)
	if err != nil {
		return "", err
	}
	if _, after, ok := strings.Cut(line, "queued as "); ok {
		id, _, _ = strings.Cut(after, " ")
	}
	return id, nil
}

func command(t *textproto.Conn, want int, verb string) error {
	n, err := t.Cmd("%s", verb)
	if err != nil {
		return err
	}
	t.StartResponse(n)
	defer t.EndResponse(n)
	_, _, err = t.ReadResponse(want)
	return err
}

func (c *conn) close() {
	if c != nil {
		c.nc.Close()
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
