package smtpd

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/hashicorp/go-hclog"

	"mailraft/mail"
	"mailraft/smtpd/handover"
	"mailraft/smtpd/wire"
)

// Queue takes messages. Begin is asked before the client is told to go ahead.
// When ctx ends the server is closing, and Write and Commit must return.
type Queue interface {
	Begin(ctx context.Context) (Upload, error)
}

// Upload is one message on its way into the queue. Commit or Abort is called
// once, and nothing after it; the outcome of Commit stands whether or not the
// client is still there to hear it. Write must not keep the slice. Commit is
// given all of the submission but its content, primary and holders.
type Upload interface {
	io.Writer
	Commit(context.Context, mail.Submission) (mail.ID, error)
	Abort()
}

// Directory tells whether mail for a recipient is taken: nil, or a reply. With
// the right to relay a recipient may lie outside our domains.
type Directory interface {
	Verify(ctx context.Context, rcpt mail.Address, relay bool) error
}

// Gate tells whether this member takes mail: asked at connect and at MAIL.
type Gate interface {
	Ready() error
}

// Relay takes transactions that belong elsewhere: what a front end has in place
// of a queue and a directory. A *mail.Reply that it returns as an error is the
// client's answer, as it is.
type Relay interface {
	// Begin opens a transaction of a client; mail is its MAIL command.
	Begin(ctx context.Context, c handover.Client, mail string) (Transaction, error)
}

// Transaction is one that is handed over. End ends it in any case, also after
// Commit.
type Transaction interface {
	// Rcpt hands a RCPT command over, which names the recipient to.
	Rcpt(ctx context.Context, rcpt string, to mail.Address) error
	// Data begins the message. Nil: the client may be told to go ahead.
	Data(ctx context.Context) (Content, error)
	End()
}

// Content is a message on its way through. Commit returns the answer to it,
// and is called only when it came to its end; without it, it is forgotten.
// Write must not keep the slice.
type Content interface {
	io.Writer
	Commit(ctx context.Context) (*mail.Reply, error)
}

// Config is what a Server is made of.
type Config struct {
	Hostname      string // our name: in the 220, the EHLO reply and Received
	DefaultDomain string // where mail to a bare postmaster goes; empty is Hostname

	Queue     Queue
	Directory Directory
	Gate      Gate
	Relay     Relay                  // in place of Queue and Directory
	Own       func(host string) bool // a member of this boundary, by its name in Received fields; nil: none is known
	Users     Users                  // who may authenticate; nil where no listener asks for it

	GuessDelay time.Duration // how long a wrong password is answered later, for each; 0 is 1s

	SizeMax func() int64 // message-size-max; nil or zero is no limit

	Limits Limits
	Bare   wire.Bare

	Logger hclog.Logger
	Rand   io.Reader // for session ids; nil is crypto/rand
}

// Server serves SMTP on any number of listeners.
type Server struct {
	cfg   Config
	log   hclog.Logger
	wire  wire.Config
	smtp  *smtp.Server
	stats stats
	rates rates

	guesses guesses

	ctx     context.Context // of the queue's work; ends with Close
	cancel  context.CancelFunc
	serving sync.WaitGroup // accept loops

	mu        sync.Mutex
	listeners []*wire.Listener
	open      int                  // connections let in
	perClient map[netip.Prefix]int // of those, without the exempt ones
	clients   int                  // connections greeted with 220
	draining  bool
	closed    bool
	empty     chan struct{} // closed when draining and no client is left
}

// New makes a server. It listens to nothing yet.
func New(cfg Config) *Server {
	cfg = cfg.withDefaults()
	s := &Server{cfg: cfg, log: cfg.Logger, perClient: map[netip.Prefix]int{}, rates: newRates(cfg.Limits), empty: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.wire = wire.Config{
		Domain:     cfg.Hostname,
		Postmaster: cfg.DefaultDomain,
		SizeMax:    cfg.SizeMax,
		Bare:       cfg.Bare,
		Timeouts:   cfg.Limits.Times,
		RateMin:    cfg.Limits.RateMin,
		ErrorsMax:  cfg.Limits.Errors, CommandsMax: cfg.Limits.Commands,
		EarlyTalkers: cfg.Limits.EarlyTalkers,
		GreetDelay:   s.greetDelay,
		Admit:        s.admit,
		ProxyFailed:  s.proxyFailed,
		Greet:        s.greet,
		Refused:      s.refused,
		Closed:       s.left,
	}
	s.smtp = smtp.NewServer(smtp.BackendFunc(s.newSession))
	s.smtp.Domain = cfg.Hostname
	s.smtp.MaxLineLength = 0 // limited by wire; here it would hold for bodies too
	s.smtp.EnableSMTPUTF8 = true
	s.smtp.EnableDSN = true
	// What go-smtp still logs is a panic or a failing accept.
	s.smtp.ErrorLog = s.log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Error})
	return s
}

func (cfg Config) withDefaults() Config {
	if cfg.GuessDelay == 0 {
		cfg.GuessDelay = time.Second
	}
	cfg.Limits = cfg.Limits.withDefaults()
	if cfg.DefaultDomain == "" {
		cfg.DefaultDomain = cfg.Hostname
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	return cfg
}

func (s *Server) started(l *wire.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if s.draining {
		l.Drain()
	}
	s.listeners = append(s.listeners, l)
	s.serving.Add(1)
	return true
}

// Drain refuses new connections and transactions with 421, closes connections
// that have no transaction open, and waits until those that have are through.
// The listeners stay, so that a client hears why. It cannot be undone.
func (s *Server) Drain(ctx context.Context) error {
	s.mu.Lock()
	listeners := s.listeners
	if !s.draining {
		s.draining = true
		s.checkEmpty()
	}
	s.mu.Unlock()
	for _, l := range listeners {
		l.Drain()
	}
	select {
	case <-s.empty:
		return nil
	case <-ctx.Done():
		s.mu.Lock()
		defer s.mu.Unlock()
		return fmt.Errorf("drain SMTP: %d sessions left: %w", s.clients, ctx.Err())
	}
}

// checkEmpty is called with mu held, when a client left or draining began.
func (s *Server) checkEmpty() {
	if !s.draining || s.clients > 0 {
		return
	}
	select {
	case <-s.empty:
	default:
		close(s.empty)
	}
}

// Close ends everything: listeners, connections, and the context of commits
// under way. It returns when no goroutine is left.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	listeners := s.listeners
	s.listeners = nil
	s.mu.Unlock()
	s.cancel()
	for _, l := range listeners {
		l.Kill()
		l.Close()
	}
	// Only when no accept loop can start another goroutine may go-smtp wait for them.
	s.serving.Wait()
	if err := s.smtp.Shutdown(context.Background()); err != nil && err != smtp.ErrServerClosed {
		s.log.Debug("closing SMTP listeners", "error", err) // closed above
	}
	return nil
}
