package milter

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"mailraft/mail"
	"mailraft/mail/reply"
)

// Client is what filters are told of a client for as long as it is connected.
type Client struct {
	Session  string // its id, in logs and in the macro "i"
	Addr     netip.AddrPort
	Name     string // verified host name; empty: none
	Hostname string // ours, also as the name of the daemon: Rspamd signs its findings with that
	Port     uint16 // of ours that it came to
}

// Sender is what is known at MAIL.
type Sender struct {
	Helo   string
	TLS    *tls.ConnectionState // nil: none
	Method string               // of AUTH; empty: none
	User   string               // who that was
	Path   string               // address without brackets; empty is the null reverse-path
	Params []string             // of MAIL
	Size   int64                // as declared; 0: not
}

// Session is one client's session at all filters, in their order. A nil one
// asks nobody. It belongs to one goroutine.
type Session struct {
	ctx    context.Context
	client Client
	peers  []*peer
	failed bool // a filter was away, and the client was told to come again

	messages int
	message
}

// Begin makes the session of a client. No filter hears of it before MAIL: then
// TLS and AUTH are as they will be, and who only looks in costs nothing. When
// ctx ends all connections to filters do.
func Begin(ctx context.Context, filters []*Filter, c Client) *Session {
	if len(filters) == 0 {
		return nil
	}
	s := &Session{ctx: ctx, client: c}
	for _, f := range filters {
		s.peers = append(s.peers, &peer{f: f})
	}
	return s
}

// Mail tells filters of a sender: nil, or the answer to the client, as with all
// that follow. Filters that do not know the client yet are told of it first.
func (s *Session) Mail(m Sender) error {
	if s == nil {
		return nil
	}
	s.Abort()
	s.messages++
	s.message = message{id: s.client.Session + "." + strconv.Itoa(s.messages)}
	for _, p := range s.peers {
		p.begin()
		if p.f.cfg.SizeMax > 0 && m.Size > p.f.cfg.SizeMax {
			p.tooLarge()
		}
	}
	return s.each(func(p *peer) error {
		if err := p.greet(s.ctx, &s.client, &m); err != nil || p.pass {
			return err
		}
		p.open = true
		args := append([]string{"<" + m.Path + ">"}, m.Params...)
		return p.ask(cmdMail, texts(args...), s.senderMacros(&m))
	})
}

// ID is the macro "i" of the message: the session and a number. The queue id is
// made when the message is accepted, which is after filters have decided.
func (s *Session) ID() string {
	if s == nil {
		return ""
	}
	return s.id
}

// Rcpt tells filters of a recipient that would be taken. A refusal is of this
// recipient alone.
func (s *Session) Rcpt(addr string, params []string) error {
	if s == nil {
		return nil
	}
	_, host, _ := strings.Cut(addr, "@")
	macros := []string{"i", s.id, "{rcpt_addr}", addr, "{rcpt_host}", host, "{rcpt_mailer}", "smtp"}
	return s.each(func(p *peer) error {
		return p.ask(cmdRcpt, texts(append([]string{"<" + addr + ">"}, params...)...), macros)
	})
}

// Data tells filters that the message comes.
func (s *Session) Data() error {
	if s == nil {
		return nil
	}
	return s.each(func(p *peer) error { return p.ask(cmdData, nil, []string{"i", s.id}) })
}

// Abort ends a message that will not be accepted. Nothing happens if there is
// none.
func (s *Session) Abort() {
	if s == nil {
		return
	}
	for _, p := range s.peers {
		p.abort()
	}
	s.message = message{id: s.id}
}

// Close ends the session at all filters.
func (s *Session) Close() {
	if s == nil {
		return
	}
	for _, p := range s.peers {
		p.leave()
	}
}

// each asks the filters in their order, and looks at what they say. A refusal
// ends it; at RCPT the others keep the message open.
func (s *Session) each(ask func(*peer) error) error {
	for _, p := range s.peers {
		if p.pass {
			continue
		}
		if err := ask(p); err != nil {
			if err = s.answer(p, err); err != nil {
				return err
			}
		}
		if p.discards && s.discarded == "" {
			s.discarded = p.f.Name()
			for _, other := range s.peers { // nobody need look at it any more
				other.abort()
				other.pass = true
			}
		}
	}
	return nil
}

// answer is what the client is told of an error: what the filter says, or what
// the policy makes of one that failed.
func (s *Session) answer(p *peer, err error) error {
	var r *mail.Reply
	if errors.As(err, &r) {
		return r
	}
	if errors.Is(err, errLost) && s.away != nil {
		return s.away
	}
	if s.ctx.Err() != nil {
		return fmt.Errorf("ask milter %s: %w", p.f.Name(), err)
	}
	p.fail(err)
	switch p.f.cfg.WhenAway {
	case Accept:
		p.f.log.Info("accepting without a milter", "session", s.client.Session, "message", s.id, "error", err)
		p.pass = true
		return nil
	case Quarantine:
		p.pass = true
		s.quarantine = cmp.Or(s.quarantine, plain(fmt.Sprintf("%s did not see it: %v", p.f.Name(), err), textMax))
		return nil
	}
	p.f.log.Info("turned away for want of a milter", "session", s.client.Session, "message", s.id, "error", err)
	// A client that keeps its connection open would get one tempfail for each
	// message; another server may have a filter.
	s.away = reply.FilterAway.Reply()
	if s.failed || p.f.awayFor() > awayLong {
		s.away = reply.FilterGone.Reply()
	}
	s.failed = true
	return s.away
}

// senderMacros are those that go with MAIL.
func (s *Session) senderMacros(m *Sender) []string {
	_, host, _ := strings.Cut(m.Path, "@")
	macros := []string{"i", s.id, "{mail_addr}", m.Path, "{mail_host}", host, "{mail_mailer}", "smtp"}
	if m.User != "" {
		macros = append(macros, "{auth_type}", m.Method, "{auth_authen}", m.User)
	}
	return macros
}

// connectMacros are those that go with the connection.
func (c *Client) connectMacros() []string {
	name := cmp.Or(c.Name, "unknown")
	addr := c.Addr.Addr().String()
	return []string{"j", c.Hostname, "{daemon_name}", c.Hostname, "{daemon_port}", strconv.Itoa(int(c.Port)), "v", "mailraft", "_", name + " [" + addr + "]",
		"{client_addr}", addr, "{client_port}", strconv.Itoa(int(c.Addr.Port())), "{client_name}", name, "{client_ptr}", name}
}

// connectData is the body of the command that tells of a connection.
func (c *Client) connectData() []byte {
	a := c.Addr.Addr().Unmap().WithZone("")
	b := texts(cmp.Or(c.Name, "["+a.String()+"]"))
	switch {
	case a.Is4():
		b = append(b, '4')
	case a.Is6():
		b = append(b, '6')
	default:
		return append(b, 'U')
	}
	b = append(b, byte(c.Addr.Port()>>8), byte(c.Addr.Port()))
	return append(b, texts(a.String())...)
}

// helloMacros are those that go with EHLO.
func (m *Sender) helloMacros() []string {
	if m.TLS == nil {
		return nil
	}
	list := []string{"{tls_version}", strings.ReplaceAll(tls.VersionName(m.TLS.Version), "TLS ", "TLSv"),
		"{cipher}", tls.CipherSuiteName(m.TLS.CipherSuite), "{cipher_bits}", strconv.Itoa(cipherBits(m.TLS.CipherSuite))}
	if len(m.TLS.PeerCertificates) > 0 {
		c := m.TLS.PeerCertificates[0]
		list = append(list, "{cert_subject}", plain(c.Subject.String(), 255), "{cert_issuer}", plain(c.Issuer.String(), 255))
	}
	return list
}

func cipherBits(suite uint16) int {
	for _, word := range []struct {
		text string
		bits int
	}{{"AES_128", 128}, {"AES_256", 256}, {"CHACHA20", 256}, {"3DES", 168}} {
		if strings.Contains(tls.CipherSuiteName(suite), word.text) {
			return word.bits
		}
	}
	return 0
}

// same reports whether a filter need not hear of a greeting again.
func (m *Sender) same(o *Sender) bool {
	return o != nil && m.Helo == o.Helo && slices.Equal(m.helloMacros(), o.helloMacros())
}
