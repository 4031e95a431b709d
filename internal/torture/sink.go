package torture

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"net"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"time"

	"mailraft/internal/ledger"
)

// sink is a mailbox server, by LMTP, that loses nothing and writes down
// whatever it takes. It can be dead for a while.
type sink struct {
	name, addr string

	mu    sync.Mutex
	l     net.Listener // nil: dead
	conns map[net.Conn]bool
	got   map[string][]taken // by marker
}

// taken is one delivery.
type taken struct {
	at     time.Time
	sum    [sha256.Size]byte
	resent bool // by a resubmit request
}

func newSink(name, addr string) (*sink, error) {
	s := &sink{name: name, addr: addr, conns: map[net.Conn]bool{}, got: map[string][]taken{}}
	return s, s.live()
}

// live lets it answer.
func (s *sink) live() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.l != nil {
		return nil
	}
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		return fmt.Errorf("mailbox server %s: %w", s.name, err)
	}
	s.l = l
	go s.accept(l)
	return nil
}

// die ends it, with all that is under way.
func (s *sink) die() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.l != nil {
		s.l.Close()
	}
	s.l = nil
	for c := range s.conns { // the order does not matter
		c.Close()
	}
}

func (s *sink) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		alive := s.l == l
		if alive {
			s.conns[c] = true
		}
		s.mu.Unlock()
		if !alive {
			c.Close()
			return
		}
		go s.serve(c)
	}
}

func (s *sink) serve(c net.Conn) {
	defer func() {
		c.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, c)
	}()
	t := textproto.NewReader(bufio.NewReader(c))
	say := func(text string) { fmt.Fprintf(c, "%s\r\n", text) }
	say("220 sink LMTP")
	recipients := 0
	for {
		_ = c.SetDeadline(time.Now().Add(5 * time.Minute))
		line, err := t.ReadLine()
		if err != nil {
			return
		}
		verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
		switch verb {
		case "LHLO":
			say("250-sink\r\n250-8BITMIME\r\n250-PIPELINING\r\n250 ENHANCEDSTATUSCODES")
			continue
		case "MAIL", "RSET":
			recipients = 0
		case "RCPT":
			recipients++
		case "DATA":
			say("354 go on")
			text, err := t.ReadDotBytes() // line ends become LF
			if err != nil {
				return
			}
			s.take(text)
			say(strings.TrimSuffix(strings.Repeat("250 2.0.0 taken\r\n", recipients), "\r\n"))
			continue
		case "QUIT":
			say("221 2.0.0 bye")
			return
		}
		say("250 2.0.0 ok")
	}
}

func (s *sink) take(text []byte) {
	marker, sum, err := ledger.Read(bytes.NewReader(text))
	if err != nil || marker == "" {
		return
	}
	head, _, _ := bytes.Cut(text, []byte("\n\n"))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got[marker] = append(s.got[marker], taken{time.Now(), sum, bytes.Contains(head, []byte("X-Mailraft-Resubmit:"))})
}

func (s *sink) deliveries(marker string) []taken {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got[marker])
}
