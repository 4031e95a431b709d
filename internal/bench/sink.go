package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"
)

// sink is a mailbox server that takes everything over LMTP and throws it away.
// Of a message that says when it was due to be sent it notes how long it took.
type sink struct {
	l    net.Listener
	work sync.WaitGroup

	mu    sync.Mutex
	took  []time.Duration // guarded by mu
	count int             // guarded by mu: all messages
}

// dueField says when a message of an open loop was due, in nanoseconds.
const dueField = "X-Load-Due: "

func newSink() (*sink, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &sink{l: l}
	s.work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); s.serve(c) }() // ends with its member
		}
	})
	return s, nil
}

func (s *sink) addr() string { return "lmtp://" + s.l.Addr().String() }

func (s *sink) close() {
	s.l.Close()
	s.work.Wait()
}

// latencies are those since the last call, sorted.
func (s *sink) latencies() []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	took := s.took
	s.took = nil
	slices.Sort(took)
	return took
}

func (s *sink) serve(c net.Conn) {
	r, w := bufio.NewReader(c), bufio.NewWriter(c)
	rcpts := 0
	answer := func(text string) {
		fmt.Fprintf(w, "%s\r\n", text)
		if r.Buffered() == 0 {
			w.Flush()
		}
	}
	answer("220 sink")
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		switch verb := string(bytes.ToUpper(line[:min(4, len(line))])); verb {
		case "LHLO":
			answer("250-sink\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n250 8BITMIME")
		case "RCPT":
			rcpts++
			answer("250 2.1.5 ok")
		case "DATA":
			answer("354 go on")
			w.Flush()
			if !s.message(r) {
				return
			}
			for ; rcpts > 0; rcpts-- {
				answer("250 2.0.0 taken")
			}
		case "QUIT":
			answer("221 2.0.0 bye")
			w.Flush()
			return
		default:
			rcpts = 0
			answer("250 2.0.0 ok")
		}
	}
}

// message reads up to the dot.
func (s *sink) message(r *bufio.Reader) bool {
	var due int64
	for begun := true; ; {
		line, err := r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			return false
		}
		if begun && string(line) == ".\r\n" {
			break
		}
		if rest, ok := bytes.CutPrefix(line, []byte(dueField)); ok && begun && due == 0 {
			due, _ = strconv.ParseInt(string(bytes.TrimSpace(rest)), 10, 64)
		}
		begun = err == nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count++; due != 0 {
		s.took = append(s.took, time.Since(time.Unix(0, due)))
	}
	return true
}

// fresh is an open loop: a message each interval, whatever became of those
// before, until ctx ends. Sessions take turns, so that none waits for another.
func fresh(ctx context.Context, targets []string, every time.Duration, size int, to string) error {
	const sessions = 12
	var wg sync.WaitGroup
	errs := make([]error, sessions)
	begin := time.Now().Add(100 * time.Millisecond)
	for i := range sessions {
		wg.Go(func() {
			s, err := Dial(ctx, targets[i%len(targets)])
			defer func() { s.Close() }()
			for n := i; err == nil; n += sessions {
				due := begin.Add(time.Duration(n) * every)
				if sleep(ctx, time.Until(due)) != nil {
					return
				}
				err = s.send(to, fmt.Sprintf("%s%d\r\n", dueField, due.UnixNano()), size)
			}
			if ctx.Err() == nil {
				errs[i] = err
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return fmt.Errorf("fresh mail: %w", err)
		}
	}
	return nil
}

// send sends one message with a header field of its own.
func (s *Session) send(to, field string, size int) error {
	if err := s.command("MAIL FROM:<load@sender.invalid>\r\nRCPT TO:<"+to+">\r\nDATA\r\n", "250", "250", "354"); err != nil {
		return err
	}
	text := append(net.Buffers{[]byte(field)}, message(to, size-len(field))...)
	if _, err := text.WriteTo(s.nc); err != nil {
		return err
	}
	return s.expect("250")
}
