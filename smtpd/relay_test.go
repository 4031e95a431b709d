package smtpd

import (
	"context"
	"crypto/tls"
	"net/netip"
	"strings"
	"testing"

	"mailraft/directory"
	"mailraft/mail"
	"mailraft/smtpd/users"
)

// relayDirectory has accepted domains, a relay domain and a default route.
type relayDirectory struct{}

var relayDomains = map[string]directory.Domain{
	"corp.example":    {Name: "corp.example", Kind: directory.Accepted, Database: "DB1"},
	"any.example":     {Name: "any.example", Kind: directory.Accepted, Database: "DB1", AnyMailbox: true},
	"partner.example": {Name: "partner.example", Kind: directory.Relay, NextHop: "smtp://partner:25"},
	"*":               {Name: "*", Kind: directory.Relay, NextHop: "smtp://out:25"},
}

func (relayDirectory) Domain(key string) (directory.Domain, bool) {
	d, ok := relayDomains[key]
	return d, ok
}

func (relayDirectory) Mailbox(key string) (directory.Mailbox, bool) {
	return directory.Mailbox{Address: key, Database: "DB1"}, key == "bob@corp.example"
}

func (relayDirectory) Group(string, uint64) (directory.Group, bool) { return directory.Group{}, false }

func (d relayDirectory) Verify(_ context.Context, a mail.Address, relay bool) error {
	return directory.Verify(d, a, relay)
}

// tricks are recipients that have made open relays of other servers, with what
// is answered to somebody without the right to relay. "250": they are one of
// our own mailboxes, and nothing else.
var tricks = []struct{ to, want string }{
	{"<victim@evil.example>", "550 5.7.1"},
	{"victim@evil.example", "550 5.7.1"},
	{"<victim@EVIL.example.>", "550 5.7.1"},
	{"<victim@corp.example.evil.example>", "550 5.7.1"},
	{"<victim@sub.corp.example>", "550 5.7.1"},
	{"<victim@evilcorp.example>", "550 5.7.1"},
	{"<victim%evil.example@corp.example>", "550 5.1.1"},
	{"<victim%evil.example@any.example>", "250"},
	{"<victim%evil.example@partner.example>", "550 5.7.1"},
	{"<victim%evil.example%partner.example@PARTNER.example.>", "550 5.7.1"},
	{"<victim%evil.example>", "501"},
	{"<evil.example!victim>", "501"},
	{"<evil.example!victim@corp.example>", "550 5.1.1"},
	{"<evil.example!victim@partner.example>", "550 5.7.1"},
	{`<"victim@evil.example">`, "501"},
	{`<"victim@evil.example"@corp.example>`, "550 5.1.1"},
	{`<"victim@evil.example"@any.example>`, "250"},
	{`<"victim@evil.example"@partner.example>`, "550 5.7.1"},
	{`<"victim\@evil.example"@partner.example>`, "550 5.7.1"},
	{`<"victim@evil.example> "@partner.example>`, "550 5.7.1"},
	{`<"victim%evil.example"@partner.example>`, "550 5.7.1"},
	{`<"victim%evil.example">`, "501"},
	{"<victim@evil.example@corp.example>", "501"},
	{"<victim@corp.example@evil.example>", "501"},
	{"<@corp.example:victim@evil.example>", "550 5.7.1"},
	{"<@corp.example,@partner.example:victim@evil.example>", "550 5.7.1"},
	{"<@evil.example:bob@corp.example>", "250"},
	{"<@corp.example:victim%evil.example@partner.example>", "550 5.7.1"},
	{"<victim@[127.0.0.1]>", "550 5.7.1"},
	{"<victim@[192.0.2.1]>", "550 5.7.1"},
	{"<victim@[IPv6:::1]>", "550 5.7.1"},
	{"<victim@127.0.0.1>", "550 5.7.1"},
	{"<victim%evil.example@[127.0.0.1]>", "550 5.7.1"},
	{`<"victim@evil.example"@[127.0.0.1]>`, "550 5.7.1"},
	{"<victim@localhost>", "550 5.7.1"},
	{"<victim@mx.example.org>", "550 5.7.1"},
	{"<victim@*>", "501"},
	{"<*@corp.example>", "550 5.1.1"},
	{"<victim>", "501"},
	{"<>", "501"},
	{"<@>", "501"},
	{"<victim@>", "501"},
	{"<@evil.example>", "501"},
	{"<victim@evil.example,bob@corp.example>", "501"},
	{"<bob@corp.example>,<victim@evil.example>", "555"},
	{"<bob@corp.example> <victim@evil.example>", "555"},
	{"<victim@corp.example\x01evil.example>", "501"},
	{"<bob+victim%evil.example@corp.example>", "250"},
	{"<victim@partner.example>", "250"}, // what a relay domain is for
	{"<bob@corp.example>", "250"},
}

// nobody has a password.
type nobody struct{}

func (nobody) Authenticate(context.Context, users.Login) (users.User, error) {
	return users.User{}, users.ErrDenied
}

// strangers are ports, and clients without any right at them.
func strangers() map[string]Listener {
	elsewhere := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("::1/128")}
	return map[string]Listener{
		"mx":       {},
		"mx relay": {RelayNetworks: elsewhere},
		"internal": {Role: Internal, RelayNetworks: elsewhere},
		"mx auth":  {TLS: TLSImplicit, Certificate: serverTLS, Auth: AuthMay},
		"mx cert":  {TLS: TLSImplicit, Certificate: serverTLS, RelayClient: func(tls.ConnectionState) (string, bool) { return "", false }},

		"submission": {Role: Submission, TLS: TLSImplicit, Certificate: serverTLS, Auth: AuthRequired},
	}
}

// Whatever a client without the right to relay says: nothing leaves but what is
// for a relay domain, and that without a way on in its local part.
func TestNeverAnOpenRelay(t *testing.T) {
	for name, d := range strangers() {
		for _, from := range []string{"", "a@b.example", "bob@corp.example", "victim@evil.example", "postmaster@[127.0.0.1]"} {
			t.Run(name+" from "+from, func(t *testing.T) { tryToRelay(t, d, from) })
		}
	}
}

func tryToRelay(t *testing.T, d Listener, from string) {
	q := &queue{}
	cfg := testConfig(q)
	cfg.Directory, cfg.Users = relayDirectory{}, nobody{}
	_, addrs := serve(t, cfg, d)
	for _, trick := range tricks {
		p := dialRaw(t, addrs[0])
		if d.TLS == TLSImplicit {
			p = p.secure()
		}
		p.want("220")
		if d.Auth != AuthOff { // a password that is wrong gives no right either
			p.send(hello + "AUTH PLAIN AGFubmEAd3Jvbmc=\r\n")
			p.want("250")
			if r := p.reply(); !strings.HasPrefix(r, "535") && !strings.HasPrefix(r, "454 4.7.0 Too many failed") {
				t.Fatalf("a wrong password: %s", r)
			}
		}
		p.send(hello + "MAIL FROM:<" + from + ">\r\n")
		if d.Auth == AuthRequired {
			p.want("250", "530 5.7.0")
			p.cmd("RCPT TO:"+trick.to, "503 5.5.1")
			p.Close()
			continue
		}
		p.want("250", "250")
		p.send("RCPT TO:" + trick.to + "\r\nDATA\r\n")
		got := p.reply()
		if !strings.HasPrefix(got, trick.want) {
			t.Errorf("%s: %s", trick.to, got)
		}
		if strings.HasPrefix(got, "250") {
			p.want("354")
			p.send("x\r\n.\r\n")
			p.want("250")
		}
		p.Close()
	}
	for _, m := range q.take() {
		if m.Envelope.Relay {
			t.Errorf("the right to relay for %v", m.Envelope)
		}
		now, _ := directory.Resolve(relayDirectory{}, m.Envelope.Recipients, m.Envelope.Relay, 100)
		for _, r := range now {
			if r.Kind == directory.ToRelay && r.Address != "victim@partner.example" {
				t.Errorf("%v leaves to %s by %s", m.Envelope.Recipients, r.Address, r.NextHop)
			}
		}
	}
}

// So may who has shown a certificate with the right, which needs TLS.
func TestRelayClient(t *testing.T) {
	q := &queue{}
	_, addrs := serve(t, testConfig(q), Listener{TLS: TLSMay, Certificate: serverTLS, RelayClient: func(s tls.ConnectionState) (string, bool) {
		return "app.example", s.HandshakeComplete
	}})
	p := dial(t, addrs[0])
	p.send(hello + "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@far.example>\r\nRSET\r\nSTARTTLS\r\n")
	p.want("250", "250", "550 5.7.1", "250", "220")
	p = p.secure()
	p.send(hello + "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@far.example>\r\nDATA\r\n")
	p.want("250", "250", "250", "354")
	p.send("x\r\n.\r\n")
	p.want("250")
	if got := q.take(); len(got) != 1 || !got[0].Envelope.Relay || got[0].Trace.User != "app.example" || got[0].Trace.Protocol != "ESMTPS" {
		t.Errorf("%+v", got)
	}
}

// Who comes from a relay network may, and the right is in the envelope.
func TestRelayNetworks(t *testing.T) {
	for _, role := range []Role{MX, Internal} {
		q := &queue{}
		_, addrs := serve(t, testConfig(q), Listener{Role: role, RelayNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
		p := dial(t, addrs[0])
		p.send(hello + "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@far.example>\r\nRCPT TO:<nobody@example.org>\r\nDATA\r\n")
		p.want("250", "250", "250", "550 5.1.1", "354")
		p.send("x\r\n.\r\n")
		p.want("250")
		if got := q.take(); len(got) != 1 || !got[0].Envelope.Relay || got[0].Trace.Protocol != "ESMTP" {
			t.Errorf("%+v", got)
		}
	}
}
