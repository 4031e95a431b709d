// Package mailbox is an LMTP server (RFC 2033) in front of the Maildirs of one
// copy, for a store on a host of its own. It is as simple as its task: it
// takes every well-formed address, answers for each recipient once that
// recipient's message is on disk, and leaves duplicates to package maildir.
//
// It has no queue, and knows nothing of members. Whoever reaches its port can
// deliver: it is to listen where only members can.
package mailbox

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/hashicorp/go-hclog"

	"mailraft/deliver/maildir"
	"mailraft/mail"
)

const (
	recipientsMax  = 1000
	connectionsMax = 256
	lineMax        = 1 << 20         // go-smtp counts body lines too
	idleTime       = 5 * time.Minute // between two reads; RFC 5321 §4.5.3.2.7
	writeTime      = time.Minute
)

// Options say what is served.
type Options struct {
	Dir     string               // PATH of the copy
	Host    string               // how we greet
	Retain  func() time.Duration // see maildir.Options
	Now     func() mail.Time
	Create  bool
	SizeMax int64 // bytes of a message; 0 = no limit
	Logger  hclog.Logger
}

// Server serves one copy.
type Server struct {
	opts  Options
	store *maildir.Store
	smtp  *smtp.Server

	mu       sync.Mutex
	draining bool
	incoming int           // messages that are read or delivered, and sessions that have not answered for theirs
	drained  chan struct{} // closed when draining and nothing comes in
}

// New returns a server; it does nothing before Serve.
func New(o Options) *Server {
	s := &Server{opts: o, drained: make(chan struct{}), store: maildir.New(maildir.Options{Dir: o.Dir, Host: o.Host, Retain: o.Retain, Now: o.Now, Create: o.Create})}
	s.smtp = smtp.NewServer(smtp.BackendFunc(s.session))
	s.smtp.LMTP = true
	s.smtp.Domain = o.Host
	s.smtp.MaxRecipients = recipientsMax
	s.smtp.MaxLineLength = lineMax
	s.smtp.WriteTimeout = writeTime
	s.smtp.EnableSMTPUTF8 = true
	s.smtp.ErrorLog = o.Logger.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Warn})
	if o.SizeMax > 0 {
		s.smtp.MaxMessageBytes = o.SizeMax + 1 // go-smtp refuses a message of just this size
	}
	return s
}

// Serve takes connections from l until Close; it then returns nil.
func (s *Server) Serve(l net.Listener) error {
	err := s.smtp.Serve(&listener{Listener: l, free: make(chan struct{}, connectionsMax)})
	if errors.Is(err, net.ErrClosed) || errors.Is(err, smtp.ErrServerClosed) {
		return nil
	}
	return err
}

// Close takes no further message, waits for those that are coming in until
// ctx ends, and closes all connections.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	first := !s.draining
	s.draining = true
	if first && s.incoming == 0 {
		close(s.drained)
	}
	s.mu.Unlock()
	select {
	case <-s.drained:
	case <-ctx.Done():
	}
	err := s.smtp.Close()
	<-s.drained // their connections are closed now
	if errors.Is(err, smtp.ErrServerClosed) {
		return nil
	}
	return err
}

// begin counts a message in, unless the server is closing. end is called
// twice: when it is delivered, and when go-smtp has written the answers.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.draining {
		s.incoming += 2 // for the message, and for its answer
	}
	return !s.draining
}

func (s *Server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.incoming--; s.draining && s.incoming == 0 {
		close(s.drained)
	}
}

// listener bounds the connections, and wraps them.
type listener struct {
	net.Listener
	free chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	l.free <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	return &conn{Conn: c, release: sync.OnceFunc(func() { <-l.free })}, nil
}
