package smtpd

import (
	"io"
	"net"
	"net/netip"
	"time"

	"mailraft/mail"
	"mailraft/mail/reply"
	"mailraft/smtpd/limit"
	"mailraft/smtpd/wire"
)

// Limits bound what clients may do. Zero is the default, negative no limit,
// unless something else is said.
type Limits struct {
	Sessions   int // open at once; 4096. There is always a limit
	Commands   int // without progress to a message; 100
	Errors     int // refused commands since the last accepted message; 50
	Recipients int // of a message; 1000. There is always a limit
	Hops       int // Received fields; 50. There is always a limit
	OwnHops    int // of those, by members of this boundary; 5. There is always a limit

	// Of one client: an IPv4 address or an IPv6 /64.
	SessionsPerClient int        // open at once; 100
	Messages          int        // in one session; 1000
	ConnectionRate    limit.Rate // none is no limit
	MessageRate       limit.Rate
	RecipientRate     limit.Rate

	// Exempt are the networks whose clients these limits, and GreetDelay, are not
	// for. Nobody is in them who is not named.
	Exempt []netip.Prefix

	// GreetDelay is how long the greeting waits for a client that talks before
	// its turn; 0 looks only at what has come already.
	GreetDelay time.Duration
	// EarlyTalkers may send before the greeting, and before the answer to EHLO.
	EarlyTalkers bool

	RateMin int64 // bytes a second of a message; 100
	Times   wire.Timeouts
}

func (l Limits) withDefaults() Limits {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&l.Recipients, 1000)
	set(&l.Hops, 50)
	set(&l.OwnHops, 5)
	set(&l.Sessions, 4096)
	set(&l.SessionsPerClient, 100)
	set(&l.Messages, 1000)
	return l
}

// rates are the limiters of a server.
type rates struct{ connections, messages, recipients *limit.Limiter }

func newRates(l Limits) rates {
	return rates{limit.New(l.ConnectionRate), limit.New(l.MessageRate), limit.New(l.RecipientRate)}
}

// exempt reports a client that the limits of one client are not for. Where no
// address is known there is nobody to count for.
func (s *Server) exempt(addr net.Addr) bool {
	a, ok := addrOf(addr)
	return !ok || contains(s.cfg.Limits.Exempt, a)
}

// network is whom a client counts for: an IPv6 host has a /64.
func network(addr net.Addr) netip.Prefix {
	a, _ := addrOf(addr)
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// admit is asked before anything is done for a connection.
func (s *Server) admit(addr net.Addr) *mail.Reply {
	s.mu.Lock()
	full := s.open >= s.cfg.Limits.Sessions
	if !full {
		s.open++
	}
	s.mu.Unlock()
	if full {
		return s.turnAway(addr, reply.Busy)
	}
	s.stats.connections.Add(1)
	return nil
}

// identify is told who a client is, as soon as that is known, and lets it in or
// not.
func (s *Server) identify(c *wire.Conn, d *Listener) *mail.Reply {
	addr := c.RemoteAddr()
	cl := &client{listener: d, session: s.newSessionID(), address: traceAddress(addr), since: time.Now(), network: network(addr), exempt: s.exempt(addr)}
	c.Owner = refusedClient{cl}
	if cl.exempt {
		return nil
	}
	if !s.rates.connections.Allow(cl.network, cl.since) {
		return s.turnAway(addr, reply.ConnectionRate)
	}
	s.mu.Lock()
	many := s.cfg.Limits.SessionsPerClient > 0 && s.perClient[cl.network] >= s.cfg.Limits.SessionsPerClient
	if !many {
		cl.counted = true
		s.perClient[cl.network]++
	}
	s.mu.Unlock()
	if many {
		return s.turnAway(addr, reply.BusyYou)
	}
	return nil
}

func (s *Server) turnAway(addr net.Addr, e *reply.Entry) *mail.Reply {
	r := e.Reply()
	s.stats.refused("connect", r.Code)
	s.stats.limit(e.Limit)
	s.log.Info("rejected", "stage", "connect", "remote", addr.String(), "reply", r.String())
	return r
}

// proxyFailed is told of a proxy that did not say whom its connection is from.
// A connection that ends without a byte is a health check.
func (s *Server) proxyFailed(from net.Addr, err error) {
	if err == io.EOF {
		return
	}
	s.stats.proxyErrors.Add(1)
	s.log.Warn("a connection without a PROXY header is closed; see proxy-from of the listener", "remote", from.String(), "error", err)
}

func (s *Server) greetDelay(c *wire.Conn) time.Duration {
	if clientOf(c).exempt {
		return 0
	}
	return s.cfg.Limits.GreetDelay
}

// mayBegin holds a client to its messages. The transaction counts, whatever
// becomes of it.
func (s *Server) mayBegin(cl *client) error {
	if cl.exempt {
		return nil
	}
	if most := s.cfg.Limits.Messages; most > 0 && cl.messages >= most {
		return reply.Messages.Reply()
	}
	if !s.rates.messages.Allow(cl.network, time.Now()) {
		return reply.MessageRate.Reply()
	}
	return nil
}

// began counts a transaction that was let begin.
func (s *Server) began(cl *client) {
	cl.messages++
	s.stats.open.Add(1)
}

// mayAdd holds a client to its recipients.
func (s *Server) mayAdd(cl *client) error {
	if !cl.exempt && !s.rates.recipients.Allow(cl.network, time.Now()) {
		return reply.RecipientRate.Reply()
	}
	return nil
}
