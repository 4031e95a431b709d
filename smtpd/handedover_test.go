package smtpd

import (
	"net"
	"strings"
	"testing"

	"mailraft/mail"
	"mailraft/mail/reply"
	"mailraft/smtpd/milter"
)

func (u *upload) Submission() mail.ContentID { return mail.ContentID{7} }

// handOver serves cfg for front ends on loopback, with these milters for all.
func handOver(t *testing.T, cfg Config, filters ...*milter.Filter) (s *Server, addr string) {
	t.Helper()
	s = New(cfg)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.ServeHandedOver(l, func(Role) []*milter.Filter { return filters }) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s, l.Addr().String()
}

// A front end says whose each transaction is, and it is theirs.
func TestHandedOver(t *testing.T) {
	q := &queue{}
	s, addr := handOver(t, testConfig(q))
	p := dial(t, addr)
	p.send(hello + "XCLIENT ID=s1 ADDR=192.0.2.7 HELO=mx.client.example PROTO=ESMTP TLS=1 ROLE=mx RELAY=1\r\n" +
		"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@far.example>\r\nXCLIENT ID=s9\r\nBDAT 0\r\nBDAT 3 LAST\r\nx\r\n" +
		"XCLIENT ID=s2 ADDR=2001:db8::1 HELO=old PROTO=SMTP\r\nMAIL FROM:<>\r\nRCPT TO:<c@far.example>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n")
	p.want("250", reply.WhoseOk.Reply().String(), "250", "250", reply.WhoseOrder.Reply().String(), reply.Submission.Reply(mail.ContentID{7}).String(), "250 2.0.0 Ok: queued")
	p.want("250", "250", "550", "250", "354")
	p.send("x\r\n.\r\n")
	p.want("250")
	got := q.take()
	if len(got) != 2 {
		t.Fatalf("%d messages", len(got))
	}
	if tr := got[0].Trace; tr.Session != "s1" || tr.Address != "192.0.2.7" || tr.Helo != "mx.client.example" || tr.Protocol != "ESMTPS" || !got[0].Envelope.Relay {
		t.Errorf("%+v %+v", tr, got[0].Envelope)
	}
	if tr := got[1].Trace; tr.Session != "s2" || tr.Address != "IPv6:2001:db8::1" || tr.Helo != "old" || tr.Protocol != "SMTP" || got[1].Envelope.Relay {
		t.Errorf("%+v %+v", tr, got[1].Envelope)
	}
	if c := s.Counts(); c.FrontEnds != 1 || c.Open != 0 || c.Transactions != 0 || c.Received != 2 {
		t.Errorf("%+v", c)
	}
}

// What cannot be read is no client; errors of clients end no connection of a
// front end; and nobody else may say XCLIENT.
func TestHandedOverWrongly(t *testing.T) {
	q := &queue{}
	_, addr := handOver(t, testConfig(q))
	p := dial(t, addr)
	p.send(hello)
	p.want("250")
	for _, attributes := range []string{"", " ID=", " ADDR=192.0.2.1", " ID=1 ADDR=here", " ID=1 ROLE=king", " ID=1 NEW=1"} {
		p.send("XCLIENT" + attributes + "\r\n")
		p.want(reply.WhoseSyntax.Reply().String())
	}
	p.send("XCLIENT ID=1\r\nMAIL FROM:<a@b.example>\r\n")
	p.want("250", "250")
	for range 200 {
		p.send("RCPT TO:<nobody@example.org>\r\n")
		p.want("550")
	}
	p.send("RSET\r\nXCLIENT ID=2 LOGIN=anna RELAY=1\r\nXCLIENT ID=3 NEW=1\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@far.example>\r\n")
	p.want("250", reply.WhoseOk.Reply().String(), reply.WhoseSyntax.Reply().String(), "250", "550") // not by the right of the one before
	_, addr = start(t, testConfig(q))
	p = dial(t, addr)
	p.send(hello + "XCLIENT ID=1 ADDR=192.0.2.7\r\n")
	p.want("250", "500 5.5.2")
}

// A member that drains ends idle connections of front ends too, and lets what
// is handed over on the others finish.
func TestHandedOverDrain(t *testing.T) {
	q := &queue{}
	s, addr := handOver(t, testConfig(q))
	idle, busy := dial(t, addr), dial(t, addr)
	idle.send(hello)
	idle.want("250")
	busy.send(hello + "XCLIENT ID=1\r\n" + envelope)
	busy.want("250", "250", "250", "250")
	drained := make(chan error, 1)
	go func() { drained <- s.Drain(t.Context()) }()
	idle.want("421")
	busy.send("BDAT 2 LAST\r\n\r\n")
	if got := busy.reply(); !strings.HasPrefix(got, "250") {
		t.Error(got)
	}
	if err := <-drained; err != nil || len(q.take()) != 1 {
		t.Error(err)
	}
}

// Between transactions a connection of a front end holds no place at a milter:
// the next one is another client's, and many connections wait for it.
func TestHandedOverLetsMiltersGo(t *testing.T) {
	f, err := milter.New(milter.Config{Name: "f", Address: "inet:" + newFakeMilter(t, 0).l.Addr().String(), OpenMax: 1})
	if err != nil {
		t.Fatal(err)
	}
	_, addr := handOver(t, testConfig(&queue{}), f)
	for range 2 {
		p := dial(t, addr)
		p.send(hello + "XCLIENT ID=1 ADDR=192.0.2.7\r\n" + envelope)
		p.want("250", "250", "250", "250")
		if n := f.State().Open; n != 1 {
			t.Errorf("%d connections to the milter in a transaction", n)
		}
		p.send("BDAT 2 LAST\r\n\r\n")
		p.want("250")
		p.send("NOOP\r\n")
		p.want("250")
		if n := f.State().Open; n != 0 {
			t.Errorf("%d connections to the milter after it", n)
		}
	}
}
