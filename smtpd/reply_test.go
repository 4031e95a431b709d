package smtpd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"

	"mailraft/mail"
	"mailraft/mail/reply"
	"mailraft/smtpd/wire"
)

func TestEveryErrorIsAReply(t *testing.T) {
	s := New(Config{SizeMax: func() int64 { return 10 }})
	for _, tt := range []struct {
		err  error
		want string
	}{
		{mail.Replyf(421, "4.3.2", "no quorum"), "421 4.3.2 no quorum"},
		{fmt.Errorf("commit: %w", mail.Replyf(452, "4.3.1", "disk of m1")), "452 4.3.1 disk of m1"},
		{mail.Replyf(550, "5.1.1", "no such mailbox"), "550 5.1.1 no such mailbox"},
		{mail.Replyf(450, "", "later"), "450 4.0.0 later"},
		{mail.Replyf(450, "5.1.1", "class of another code"), "450 4.0.0 class of another code"},
		{mail.Replyf(450, "4.1.x", "odd"), "450 4.0.0 odd"},
		{mail.Replyf(451, "4.3.0", "two\r\nlines é"), "451 4.3.0 two  lines ?"},
		{mail.Replyf(250, "2.0.0", "success is no error"), "451 4.3.0 Temporary"},
		{mail.Replyf(0, "", ""), "451 4.3.0 Temporary"},
		{wire.ErrTooLarge, "552 5.3.4"},
		{wire.ErrBare, "550 5.6.11"},
		{wire.ErrSlow, "421 4.4.2"},
		{wire.ErrLost, reply.Lost.Reply().String()},
		{wire.ErrAborted, "421 4.4.2"},
		{context.DeadlineExceeded, "451 4.3.0 Temporary"},
		{context.Canceled, "451 4.3.0 Temporary"},
		{io.EOF, "451 4.3.0 Temporary"},
		{io.ErrUnexpectedEOF, "451 4.3.0 Temporary"},
		{net.ErrClosed, "451 4.3.0 Temporary"},
		{errors.New("raft: leadership lost while committing log"), "451 4.3.0 Temporary"},
		{fmt.Errorf("wrapped: %w", &smtp.SMTPError{Code: 554}), "451 4.3.0 Temporary"},
	} {
		err := smtpError(s.answer("message", &client{}, tt.err))
		e, ok := err.(*smtp.SMTPError)
		if !ok {
			t.Fatalf("%v: %T", tt.err, err)
		}
		got := fmt.Sprintf("%d %d.%d.%d %s", e.Code, e.EnhancedCode[0], e.EnhancedCode[1], e.EnhancedCode[2], e.Message)
		if !strings.HasPrefix(got, tt.want) || strings.Contains(got, "raft") {
			t.Errorf("%v: %s, want %s", tt.err, got, tt.want)
		}
	}
	long := smtpError(mail.Replyf(450, "4.0.0", "%s", strings.Repeat("é", 1000))).(*smtp.SMTPError)
	if len(long.Message) > replyMax {
		t.Error("a reply line too long")
	}
}

func TestPath(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"MAIL FROM:<a@b> SIZE=1", "a@b"},
		{"MAIL FROM: <a@b>", "a@b"},
		{"MAIL FROM:<>", ""},
		{"RCPT TO:a@b NOTIFY=NEVER", "a@b"},
		{"RCPT TO:<@r1,@r2:a@b>", "a@b"},
		{"RCPT TO:<@r1>", "none"},
		{`RCPT TO:<"a>b"@c> X=<y>`, `"a>b"@c`},
		{`RCPT TO:<"a\">b"@c>`, `"a\">b"@c`},
		{`RCPT TO:<"a\>`, "none"},
		{"RCPT TO:<a@b", "none"},
	} {
		got, ok := path(tt.line)
		if !ok {
			got = "none"
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.line, got, tt.want)
		}
	}
}

func TestProtocol(t *testing.T) {
	for _, tt := range []struct {
		ehlo, tls, auth, utf8 bool
		want                  string
	}{
		{false, false, false, false, "SMTP"}, {false, true, false, false, "SMTP"}, {true, false, false, false, "ESMTP"}, {true, true, false, false, "ESMTPS"},
		{true, false, false, true, "UTF8SMTP"}, {true, true, false, true, "UTF8SMTPS"}, {true, true, true, false, "ESMTPSA"}, {true, true, true, true, "UTF8SMTPSA"},
	} {
		if got := protocol(tt.ehlo, tt.tls, tt.auth, tt.utf8); got != tt.want {
			t.Errorf("%+v: %s", tt, got)
		}
	}
}

func TestClientAddress(t *testing.T) {
	for _, tt := range []struct{ ip, trace, limit string }{
		{"192.0.2.1", "192.0.2.1", "192.0.2.1/32"},
		{"::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1/32"},
		{"2001:db8:1:2:3::4", "IPv6:2001:db8:1:2:3::4", "2001:db8:1:2::/64"},
	} {
		addr := &net.TCPAddr{IP: net.ParseIP(tt.ip), Port: 25}
		if got := traceAddress(addr); got != tt.trace {
			t.Errorf("%s: %s", tt.ip, got)
		}
		if got := network(addr).String(); got != tt.limit {
			t.Errorf("%s counts for %s", tt.ip, got)
		}
	}
	if got := traceAddress(&net.UnixAddr{Name: "x"}); got != "unknown" {
		t.Error(got)
	}
}

func TestHeader(t *testing.T) {
	long := strings.Repeat("x", 2000)
	for _, tt := range []struct {
		name, text string
		want       mail.Fields
		hops       int
	}{
		{"plain", "Message-ID: <a@b>\r\nDate: today\r\nSubject: s\r\n\r\nSubject: body\r\n", mail.Fields{MessageID: "<a@b>", Date: "today", Subject: "s"}, 0},
		{"folded", "SUBJECT :\r\n a\r\n\tb\r\nReceived: x\r\n\ty\r\nreceived: z\r\n\r\n", mail.Fields{Subject: "a b"}, 2},
		{"first counts", "Subject: a\r\nSubject: b\r\n", mail.Fields{Subject: "a"}, 0},
		{"no header", "hello\r\nSubject: x\r\n", mail.Fields{}, 0},
		{"not closed", "Subject: a", mail.Fields{}, 0},
		{"long", "Subject: " + long + "\r\nDate: d\r\n\r\n", mail.Fields{Subject: long[:998], Date: "d"}, 0},
		{"long folded", "Subject: a\r\n " + long + "\r\n " + long + "\r\nDate: d\r\n\r\n", mail.Fields{Subject: "a " + long[:995], Date: "d"}, 0},
		{"not UTF-8", "Subject: a\xffb\x01c\r\n", mail.Fields{Subject: "a?b c"}, 0},
		{"too much", "X: " + strings.Repeat(long+"\r\n ", 40) + "\r\nSubject: s\r\n", mail.Fields{}, 0},
	} {
		for _, step := range []int{1, 7, 1 << 20} {
			var h header
			for text := []byte(tt.text); len(text) > 0; {
				n := min(step, len(text))
				h.look(text[:n])
				text = text[n:]
			}
			h.finish()
			if h.fields != tt.want || h.hops != tt.hops {
				t.Errorf("%s by %d: %+v, %d hops", tt.name, step, h.fields, h.hops)
			}
			if cap(h.line) > 4096 || cap(h.text) > 4096 {
				t.Errorf("%s: keeps %d and %d bytes", tt.name, cap(h.line), cap(h.text))
			}
		}
	}
}
