package smtpd

import (
	"encoding/hex"
	"io"
	"net"
	"net/netip"
	"time"

	"mailraft/mail"
	"mailraft/mail/reply"
	"mailraft/smtpd/users"
	"mailraft/smtpd/wire"
)

// client is what is known of a connection for as long as it lasts.
type client struct {
	listener *Listener // that it came to
	session  string    // id in logs and in Received's comments
	address  string    // as in Received: "192.0.2.1" or "IPv6:…"
	since    time.Time
	sender   string // of the transaction that is open, for the log

	user   *users.User // who it has proved to be; nil: nobody
	denied int         // authentications that failed

	certificate string // that gave it the right to relay, by its name
}

// admit counts connections, before anything is done for them.
func (s *Server) admit(addr net.Addr) *mail.Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := limitKey(addr)
	refuse := func(r *mail.Reply) *mail.Reply {
		s.stats.refused("connect", r.Code)
		s.log.Info("rejected", "stage", "connect", "remote", addr.String(), "reply", r.String())
		return r
	}
	switch {
	case s.open >= s.cfg.ConnectionsMax:
		return refuse(reply.Busy.Reply())
	case s.cfg.ConnectionsPerClient > 0 && s.perClient[key] >= s.cfg.ConnectionsPerClient:
		return refuse(reply.BusyYou.Reply())
	}
	s.open++
	s.perClient[key]++
	s.stats.connections.Add(1)
	return nil
}

// greet decides whether a connection to the listener d gets its 220.
func (s *Server) greet(c *wire.Conn, d *Listener) *mail.Reply {
	cl := &client{listener: d, session: s.newSessionID(), address: traceAddress(c.RemoteAddr()), since: time.Now()}
	c.Owner = cl
	s.log.Debug("connected", "session", cl.session, "remote", cl.address, "role", d.Role.String(), "tls", c.TLS() != nil)
	if err := s.ready(); err != nil {
		c.Owner = refusedClient{cl}
		return s.answer("connect", cl, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients++
	return nil
}

// refusedClient is one that never got its 220.
type refusedClient struct{ *client }

// left is the end of a connection that was let in.
func (s *Server) left(c *wire.Conn) {
	cl := clientOf(c)
	if cl != nil {
		s.log.Debug("disconnected", "session", cl.session, "remote", cl.address, "duration", time.Since(cl.since))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	key := limitKey(c.RemoteAddr())
	if s.perClient[key]--; s.perClient[key] <= 0 {
		delete(s.perClient, key)
	}
	if _, greeted := c.Owner.(*client); greeted {
		s.clients--
		s.checkEmpty()
	}
}

func clientOf(c *wire.Conn) *client {
	switch cl := c.Owner.(type) {
	case *client:
		return cl
	case refusedClient:
		return cl.client
	}
	return nil
}

// ready asks whether a transaction may begin.
func (s *Server) ready() error {
	s.mu.Lock()
	draining := s.draining
	s.mu.Unlock()
	if draining {
		return reply.Stopping.Reply()
	}
	return s.cfg.Gate.Ready()
}

// refused is told of every reply from 400 up, ours and go-smtp's.
func (s *Server) refused(c *wire.Conn, stage string, code int, line string) {
	s.stats.refused(stage, code)
	args := []any{"stage", stage, "reply", line, "command", c.Command()}
	if cl := clientOf(c); cl != nil {
		args = append(args, "session", cl.session, "remote", cl.address, "sender", cl.sender)
	}
	s.log.Info("rejected", args...)
}

func (s *Server) newSessionID() string {
	var b [8]byte
	if _, err := io.ReadFull(s.cfg.Rand, b[:]); err != nil {
		s.log.Error("drawing a session id", "error", err)
	}
	return hex.EncodeToString(b[:])
}

func addrOf(addr net.Addr) (netip.Addr, bool) {
	ap, err := netip.ParseAddrPort(addr.String())
	return ap.Addr().Unmap().WithZone(""), err == nil
}

// traceAddress is a client's address as in a trace field (RFC 5321 §4.1.3).
func traceAddress(addr net.Addr) string {
	a, ok := addrOf(addr)
	switch {
	case !ok:
		return "unknown"
	case a.Is6():
		return "IPv6:" + a.String()
	}
	return a.String()
}

// limitKey is whom a connection counts for: an IPv6 host has a /64.
func limitKey(addr net.Addr) string {
	a, ok := addrOf(addr)
	if !ok {
		return ""
	}
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}
