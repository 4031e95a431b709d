package frontend

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"mailraft/mail"
	"mailraft/mail/reply"
)

const (
	hello    = "EHLO client.example\r\n"
	envelope = "MAIL FROM:<a@b.example> BODY=8BITMIME\r\nRCPT TO:<bob@b1.example>\r\n"
	text     = "Subject: x\r\n\r\nhello\r\n.dot\r\n"
	dotted   = "Subject: x\r\n\r\nhello\r\n..dot\r\n.\r\n"
)

// What the client says arrives, what the member answers comes back, and whose
// it is is known there.
func TestPassedOn(t *testing.T) {
	h := newHouse(t, 1, 1)
	c := h.client()
	want(t, c.say("", 1), "220 fe1.example")
	want(t, c.say(hello, 1), "250 fe1.example")
	want(t, c.say("MAIL FROM:<a@b.example>\r\nRCPT TO:<nobody@b1.example>\r\nRCPT TO:<bob@b1.example>\r\nRCPT TO:<x@other.example>\r\nDATA\r\n", 5),
		"250", "550 5.1.1 no mailbox of this name", "250", "550 5.7.1 relaying to other.example is not permitted", "354")
	want(t, c.say(dotted, 1), "250 2.0.0 Ok: queued as ")
	got := h.logs[0].take()
	if len(got) != 1 || got[0].text != text || got[0].env.ReversePath != "a@b.example" || strings.Join(got[0].env.Recipients, " ") != "bob@b1.example" {
		t.Fatalf("%+v", got)
	}
	if tr := got[0].trace; tr.Helo != "client.example" || tr.Address != "127.0.0.1" || tr.Protocol != "ESMTP" || tr.By != "b1m1.example" || len(tr.Session) != 16 {
		t.Errorf("trace %+v", tr)
	}
	// The next one goes by the same stream; a message by chunks, and a large one.
	large := strings.Repeat("0123456789abcde\n", 1<<16)
	want(t, c.say(envelope+fmt.Sprintf("BDAT %d\r\n%sBDAT 5 LAST\r\nend\r\n", len(large), large), 4), "250", "250", "250", "250 2.0.0 Ok: queued as ")
	if got := h.logs[0].take(); len(got) != 1 || got[0].text != strings.ReplaceAll(large, "\n", "\r\n")+"end\r\n" {
		t.Errorf("%d messages", len(got))
	}
	if p := h.f.boundaries[0].list()[0]; len(p.idle) != 1 || p.handed != 2 {
		t.Errorf("%d streams wait, %d transactions", len(p.idle), p.handed)
	}
}

// Nothing is opened before MAIL, and RSET and EHLO give everything back.
func TestOpenedAtMail(t *testing.T) {
	h := newHouse(t, 1, 1)
	p := h.f.boundaries[0].list()[0]
	state := func() string {
		p.mu.Lock()
		defer p.mu.Unlock()
		return fmt.Sprint(len(p.busy), len(p.idle))
	}
	c := h.client()
	for _, s := range []struct {
		say     string
		replies int
		state   string
	}{
		{hello, 2, "0 0"}, {"MAIL FROM:<>\r\n", 1, "1 0"}, {"RSET\r\n", 1, "0 1"}, {envelope, 2, "1 0"}, {"EHLO again\r\n", 1, "0 1"},
		{envelope, 2, "1 0"}, {"BDAT 3\r\nabc", 1, "1 0"}, {"RSET\r\n", 1, "0 0"}, {envelope + "DATA\r\n", 3, "1 0"}, {dotted, 1, "0 1"}, {envelope, 2, "1 0"},
	} {
		c.say(s.say, s.replies)
		if got := state(); got != s.state {
			t.Fatalf("after %q: %s, want %s", s.say, got, s.state)
		}
	}
	c.Close()
	h.until("the stream is given back", func() bool { return state() == "0 1" })
	if n := len(h.logs[0].take()); n != 1 {
		t.Errorf("%d messages", n)
	}
}

// A refusal of the message comes back as it is, at once or at its end.
func TestRefused(t *testing.T) {
	h := newHouse(t, 1, 1)
	m := h.member["b1m1"]
	c := h.client()
	c.say(hello, 2)
	m.set(func() { m.begin = mail.Replyf(452, "4.3.1", "the disk of m1 is almost full") })
	want(t, c.say(envelope+"DATA\r\n", 3), "250", "250", "452 4.3.1 the disk of m1 is almost full")
	m.set(func() { m.begin, m.commit = nil, mail.Replyf(451, "4.4.0", "too few members") })
	want(t, c.say(envelope+"DATA\r\n", 3), "250", "250", "354")
	want(t, c.say(dotted, 1), "451 4.4.0 too few members")
	m.set(func() { m.commit = nil })
	want(t, c.say("MAIL FROM:<a@b.example> SIZE=999999999\r\n", 1), "552 5.3.4")
	want(t, c.say(envelope+"DATA\r\n", 3), "250", "250", "354")
	want(t, c.say(dotted, 1), "250")
	m.set(func() { m.refusal = mail.Replyf(421, "4.3.2", "no quorum") })
	h.until("it is known", func() bool { return h.f.Ready() != nil })
	want(t, c.say(envelope, 1), line(reply.NoMember))
	want(t, []string{h.client().reply()}, line(reply.NoMember))
	if n := len(h.logs[0].take()); n != 1 {
		t.Errorf("%d messages", n)
	}
}

// Members of the front end's site come first; of others the less busy; those
// that refuse, do not answer or have left, not at all.
func TestChoose(t *testing.T) {
	h := newHouse(t, 1, 3)
	b := h.f.boundaries[0]
	spread := func() map[string]int {
		got := map[string]int{}
		for range 200 {
			if p, err := b.choose(nil); err == nil {
				got[p.name()]++
			}
		}
		return got
	}
	if got := spread(); got["b1m1"] < 30 || got["b1m2"] < 30 || got["b1m3"] < 30 {
		t.Errorf("not spread: %v", got)
	}
	p := b.list()
	p[0].mu.Lock()
	p[0].others = 5
	p[0].mu.Unlock()
	if got := spread(); got["b1m1"] != 0 {
		t.Errorf("the busiest was chosen: %v", got)
	}
	p[1].mu.Lock()
	p[1].state.Site = "east"
	p[1].mu.Unlock()
	if got := spread(); got["b1m2"] != 200 {
		t.Errorf("not the own site's: %v", got)
	}
	m := h.member["b1m3"]
	m.set(func() { m.refusal = mail.Replyf(421, "4.3.2", "draining") })
	h.until("it is known", func() bool { return p[2].ready(time.Now()) != nil })
	p[1].drop()
	if got := spread(); got["b1m1"] != 200 {
		t.Errorf("not the only one left: %v", got)
	}
}

// Until the first recipient is answered another member is taken unseen.
func TestAnotherUnseen(t *testing.T) {
	h := newHouse(t, 1, 2)
	dead := 0
	h.wrapping(func(nc net.Conn) net.Conn {
		if dead++; dead == 1 {
			nc.Close()
		}
		return nc
	})
	c := h.client()
	c.say(hello, 2)
	want(t, c.say(envelope+"DATA\r\n", 3), "250", "250", "354")
	want(t, c.say(dotted, 1), "250")
	// A stream that waited too long, and a member that left meanwhile.
	for _, b := range h.f.boundaries {
		for _, p := range b.list() {
			p.mu.Lock()
			for _, s := range p.idle {
				s.nc.Close()
			}
			p.mu.Unlock()
		}
	}
	want(t, c.say(envelope+"DATA\r\n", 3), "250", "250", "354")
	want(t, c.say(dotted, 1), "250")
	if n := len(h.logs[0].take()); n != 2 {
		t.Errorf("%d messages", n)
	}
}

// Of several boundaries the first accepted recipient decides; who belongs to
// another one is told to come again, and nobody is unknown while one is away.
func TestSeveralBoundaries(t *testing.T) {
	h := newHouse(t, 2, 1)
	c := h.client()
	c.say(hello, 2)
	want(t, c.say("MAIL FROM:<a@b.example>\r\nRCPT TO:<nobody@b2.example>\r\nRCPT TO:<x@c.example>\r\nRCPT TO:<bob@b2.example>\r\nRCPT TO:<bob@b1.example>\r\nRCPT TO:<no@b1.example>\r\nRCPT TO:<eve@b2.example>\r\nDATA\r\n", 8),
		"250", "550 5.1.1", "550 5.7.1", "250", line(reply.OtherBoundary), "550", "250", "354")
	want(t, c.say(dotted, 1), "250")
	if got := h.logs[1].take(); len(got) != 1 || strings.Join(got[0].env.Recipients, " ") != "bob@b2.example eve@b2.example" || len(h.logs[0].take()) != 0 {
		t.Errorf("%+v", got)
	}
	want(t, c.say(envelope+"DATA\r\n", 3), "250", "250", "354")
	want(t, c.say(dotted, 1), "250")
	if got := h.logs[0].take(); len(got) != 1 {
		t.Errorf("%+v", got)
	}
	// A recipient that has moved since it was looked for.
	for i, l := range h.logs {
		l.mu.Lock()
		l.domain = fmt.Sprintf("b%d.example", 2-i)
		l.mu.Unlock()
	}
	want(t, c.say(envelope+"DATA\r\n", 3), "250", "250", "354")
	want(t, c.say(dotted, 1), "250")
	if got := h.logs[1].take(); len(got) != 1 {
		t.Errorf("%+v", got)
	}
	m := h.member["b1m1"]
	m.set(func() { m.refusal = mail.Replyf(421, "4.3.2", "no quorum") })
	h.until("it is known", func() bool { return h.f.boundaries[0].list()[0].ready(time.Now()) != nil })
	want(t, c.say("MAIL FROM:<a@b.example>\r\nRCPT TO:<who@c.example>\r\nRCPT TO:<amy@b1.example>\r\nRCPT TO:<who@b2.example>\r\nRSET\r\n", 5),
		"250", line(reply.Unasked), "250", line(reply.Unasked), "250")
}

// A front end that is drained sends clients elsewhere until it is undrained.
func TestDrain(t *testing.T) {
	h := newHouse(t, 1, 1)
	c := h.client()
	c.say(hello+envelope, 4)
	h.f.draining.Store(true)
	want(t, []string{h.client().reply()}, line(reply.Drained))
	if s := h.f.Status().State; s != "draining" {
		t.Error(s)
	}
	want(t, c.say("DATA\r\n", 1), "354")
	want(t, c.say(dotted, 1), "250")
	if s := h.f.Status().State; s != "drained" {
		t.Error(s)
	}
	h.f.draining.Store(false)
	want(t, c.say(envelope, 2), "250", "250")
}

// line is a reply that a textproto client sees.
func line(e *reply.Entry) string { return e.Reply().String() }

// A member that does not know what a front end says is not believed to have
// taken anything.
func TestForeignMember(t *testing.T) {
	h := newHouse(t, 1, 1)
	h.wrapping(func(nc net.Conn) net.Conn { return &foreign{Conn: nc} })
	c := h.client()
	c.say(hello, 2)
	want(t, c.say(envelope+"DATA\r\n", 3), "250", line(reply.Unexpected), "503")
	// Nor is its connection used again: MAIL was taken there.
	h.mu.Lock()
	h.wrap = nil
	h.mu.Unlock()
	want(t, c.say("RSET\r\n"+envelope, 3), "250", "250", "250")
}

// foreign spoils the verb that front ends have.
type foreign struct{ net.Conn }

func (f *foreign) Write(p []byte) (int, error) {
	_, err := f.Conn.Write([]byte(strings.ReplaceAll(string(p), "XCLIENT", "XFOREIGN")))
	return len(p), err
}
