package smtpd

import (
	"encoding/hex"
	"io"
	"net"
	"net/netip"
	"time"

	"mailraft/mail"
	"mailraft/mail/reply"
	"mailraft/smtpd/handover"
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
	method string      // of AUTH, how it did so
	denied int         // authentications that failed

	certificate string // that gave it the right to relay, by its name

	network  netip.Prefix // whom it counts for
	exempt   bool         // from the limits of one client
	counted  bool         // among the sessions of its network
	messages int          // transactions begun

	frontEnd  bool            // a front end's connection
	handed    handover.Client // whose transaction is handed over on it
	handovers int             // how many clients that were
}

// greet decides whether a connection gets its 220.
func (s *Server) greet(c *wire.Conn) *mail.Reply {
	cl := clientOf(c)
	s.log.Debug("connected", "session", cl.session, "remote", cl.address, "role", cl.listener.Role.String(), "tls", c.TLS() != nil)
	if err := s.ready(); err != nil {
		return s.answer("connect", cl, err)
	}
	c.Owner = cl
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients++
	return nil
}

// refusedClient is one that has not got its 220.
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
	if cl != nil && cl.counted {
		if s.perClient[cl.network]--; s.perClient[cl.network] <= 0 {
			delete(s.perClient, cl.network)
		}
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

// commandMax is how much of a refused command is logged, in bytes.
const commandMax = 512

// refused is told of every reply from 400 up, ours and go-smtp's.
func (s *Server) refused(c *wire.Conn, stage string, code int, line string) {
	s.stats.refused(stage, code)
	if e, ok := reply.Find(line); ok && e.Limit != "" {
		s.stats.limit(e.Limit)
	}
	args := []any{"stage", stage, "reply", line, "command", clean(c.Command(), commandMax)}
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
	a, _ := addrOf(addr)
	return traceIP(a)
}
