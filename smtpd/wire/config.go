package wire

import (
	"crypto/tls"
	"errors"
	"net"
	"time"

	"mailraft/mail"
)

// Bare says what to do with a message that has CR or LF outside a CRLF pair, or
// NUL.
// Whatever it is, only CRLF "." CRLF ends a message (RFC 5321 §2.3.8), so
// neither choice lets one message be taken for two.
type Bare int

const (
	// Normalise turns a bare LF into CRLF, NUL and a bare CR into a space: as a line
	// end it would turn the CR CR LF of some old senders into the empty line
	// that ends the header. It is the default, as in Postfix since 3.9.
	Normalise Bare = iota
	// Reject reads the message to its true end, and fails it with ErrBare.
	Reject
)

// What ends a message other than its end.
var (
	ErrTooLarge = errors.New("message is too large")
	ErrBare     = errors.New("bare CR or LF in message")
	ErrSlow     = errors.New("message did not come in time")
	ErrLost     = errors.New("connection lost inside a message")
	ErrAborted  = errors.New("client gave the message up")
)

// Timeouts are the limits of time; zero is the default.
type Timeouts struct {
	Command   time.Duration // until the next command; 5m (RFC 5321 §4.5.3.2.7)
	Block     time.Duration // one network read inside a message; 3m (§4.5.3.2.5)
	Message   time.Duration // a transaction, from MAIL to the end of its message; 1h
	Handshake time.Duration // of TLS; 30s
	Proxy     time.Duration // the header of a proxy; 5s
	Write     time.Duration // until the client has taken our replies; 1m
}

// Config is common to the connections of a server.
type Config struct {
	Domain     string             // our name, first word of the EHLO reply
	Postmaster string             // domain for RCPT TO:<postmaster>
	TLS        func() *tls.Config // nil, or returning nil: no STARTTLS
	// TLSRequired: what has to do with mail is refused in clear text.
	TLSRequired bool
	// Mechanisms of AUTH are offered under TLS, and only there; none: no AUTH.
	// Auth begins an exchange by one of them.
	Mechanisms []string
	Auth       func(c *Conn, mechanism string) Exchange
	Hide       []string     // EHLO keywords of go-smtp that are not offered
	SizeMax    func() int64 // largest message; nil or zero is no limit
	Bare       Bare
	Timeouts   Timeouts
	// RateMin is how many bytes a second a message must bring on average, after
	// a first Timeouts.Block; 0 is 100, negative none.
	RateMin     int64
	ErrorsMax   int // refused commands since the last accepted message; 0 is 50, negative no limit
	CommandsMax int // commands without progress since then; 0 is 100, negative no limit

	EarlyTalkers bool                      // may send before the greeting and before the answer to EHLO
	GreetDelay   func(*Conn) time.Duration // how long the greeting waits for them; nil is not at all

	// ProxyFrom reports a proxy, whose connections begin with a header of the
	// PROXY protocol. Nobody else's may. nil is nobody.
	ProxyFrom func(net.Addr) bool
	// ProxyFailed hears of headers that did not come, or could not be read.
	ProxyFailed func(from net.Addr, err error)

	// Handover is told what stands behind the verb XCLIENT: whose the next
	// transaction is. Nil: nobody may say so.
	Handover func(c *Conn, attributes string) *mail.Reply

	// Admit is asked before anything is done for a connection, and must not
	// block. A reply refuses it.
	Admit func(net.Addr) *mail.Reply
	// Identify is asked when the client is known, which may be behind a proxy, and
	// must not block. A reply refuses it. RemoteAddr holds from here on.
	Identify func(*Conn) *mail.Reply
	// Greet is asked when the 220 is due (TLS being on, if implicit).
	Greet func(*Conn) *mail.Reply
	// Refused hears of every reply from 400 up. The stage is the command in
	// lower case, or connect, idle, message, other.
	Refused func(c *Conn, stage string, code int, line string)
	// Closed is called once for every connection that Admit let in.
	Closed func(*Conn)
}

const (
	lineMax   = 2048      // command line with CRLF: RFC 5321's 512 and what extensions add
	bodyBuf   = 64 << 10  // only while a message is coming
	outMax    = 16 << 10  // replies that wait for the next network read
	lingerMax = 256 << 10 // what a client may still have under way when we hang up

	lingerTime = time.Second
	closeTime  = 2 * time.Second
)

func or[T comparable](v, other T) T {
	var zero T
	if v == zero {
		return other
	}
	return v
}

// withDefaults fills in what was left zero.
func (cfg Config) withDefaults() *Config {
	t := &cfg.Timeouts
	t.Command = or(t.Command, 5*time.Minute)
	t.Block = or(t.Block, 3*time.Minute)
	t.Message = or(t.Message, time.Hour)
	t.Handshake = or(t.Handshake, 30*time.Second)
	t.Proxy = or(t.Proxy, 5*time.Second)
	t.Write = or(t.Write, time.Minute)
	cfg.RateMin = or(cfg.RateMin, 100)
	cfg.ErrorsMax = or(cfg.ErrorsMax, 50)
	cfg.CommandsMax = or(cfg.CommandsMax, 100)
	return &cfg
}

func (cfg *Config) tls() *tls.Config {
	if cfg.TLS == nil {
		return nil
	}
	return cfg.TLS()
}

func (cfg *Config) sizeMax() int64 {
	if cfg.SizeMax == nil {
		return 0
	}
	return cfg.SizeMax()
}
