package smtpd

import (
	"math"
	"net"
	"net/netip"
	"time"

	"mailraft/mail"
	"mailraft/mail/reply"
	"mailraft/smtpd/handover"
	"mailraft/smtpd/milter"
	"mailraft/smtpd/users"
	"mailraft/smtpd/wire"
)

// ServeHandedOver answers the connections of l, on which front ends hand over
// their clients' transactions, until Close. Who is at the other end is known to
// be a front end, so it is believed whose a transaction is. It has limited its
// clients' connections and errors; they do not count here.
//
// filters are the milters of a role: what they look at is not seen at the front
// end.
func (s *Server) ServeHandedOver(l net.Listener, filters func(Role) []*milter.Filter) error {
	cfg := s.wire
	cfg.ErrorsMax, cfg.CommandsMax, cfg.EarlyTalkers = math.MaxInt, math.MaxInt, true
	cfg.Admit, cfg.Identify, cfg.Closed = nil, s.identifyFrontEnd, s.leftFrontEnd
	cfg.Greet = s.greetFrontEnd
	cfg.Handover = func(c *wire.Conn, attributes string) *mail.Reply { return s.handOver(c, attributes, filters) }
	return s.serve(l, cfg.Listen(l, false))
}

func (s *Server) identifyFrontEnd(c *wire.Conn) *mail.Reply {
	c.Owner = &client{listener: &Listener{}, session: s.newSessionID(), address: traceAddress(c.RemoteAddr()), since: time.Now(), frontEnd: true, exempt: true}
	s.stats.frontEnds.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients++
	return nil
}

// greetFrontEnd takes the connection in any case: whether mail is taken is
// asked at MAIL.
func (s *Server) greetFrontEnd(*wire.Conn) *mail.Reply { return nil }

func (s *Server) leftFrontEnd(c *wire.Conn) {
	if clientOf(c) == nil {
		return
	}
	s.stats.frontEnds.Add(-1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients--
	s.checkEmpty()
}

// handOver answers XCLIENT: what follows is this client's.
func (s *Server) handOver(c *wire.Conn, attributes string, filters func(Role) []*milter.Filter) *mail.Reply {
	cl := clientOf(c)
	// Who cannot be read is nobody, and not the client before.
	cl.handed, cl.user, cl.method, cl.certificate = handover.Client{}, nil, "", ""
	h, err := handover.Parse(attributes)
	if err != nil || h.Session == "" {
		return reply.WhoseSyntax.Reply()
	}
	d := &Listener{}
	if h.Role != "" && d.Role.UnmarshalText([]byte(h.Role)) != nil {
		return reply.WhoseSyntax.Reply()
	}
	if filters != nil {
		d.Milters = filters(d.Role)
	}
	cl.handovers++
	h.Address = h.Address.Unmap()
	cl.handed, cl.listener, cl.session, cl.address = h, d, clean(h.Session, sessionMax), traceIP(h.Address)
	cl.method, cl.certificate = h.Method, h.Certificate
	if h.Login != "" {
		cl.user = &users.User{Name: h.Login}
	}
	return reply.WhoseOk.Reply()
}

const (
	sessionMax = 64   // of what a front end calls a session
	lineMax    = 2000 // of the command that says who a client is
)

// handover is who the client of a session is, as a member is told.
func (cl *client) handover(c *wire.Conn, helo string) handover.Client {
	h := handover.Client{Session: cl.session, Helo: clean(helo, heloMax), Proto: "SMTP", TLS: c.TLS() != nil, Role: cl.listener.Role.String(), Relay: cl.mayRelay(c)}
	h.Address, _ = addrOf(c.RemoteAddr())
	if c.Extended() {
		h.Proto = extendedSMTP
	}
	h.Certificate = cl.certificate // found when the right to relay was
	if cl.user != nil {
		h.Login, h.Method = cl.user.Name, cl.method
	}
	if len(h.Line()) > lineMax { // of a name that is none
		h.Helo = clean(helo, heloMax/4)
	}
	return h
}

// name tells a front end what a submission is called, so that it can ask what
// became of it when it does not hear the answer.
func (s *session) name(m *wire.Message, up Upload) {
	if n, ok := up.(interface{ Submission() mail.ContentID }); ok && s.client.frontEnd {
		m.Tell(reply.Submission.Reply(n.Submission()))
	}
}

// traceIP is an address as in a trace field (RFC 5321 §4.1.3).
func traceIP(a netip.Addr) string {
	switch {
	case !a.IsValid():
		return "unknown"
	case a.Is6():
		return "IPv6:" + a.String()
	}
	return a.String()
}
