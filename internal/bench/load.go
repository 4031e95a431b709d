// Package bench measures how fast mail is taken: a generator of SMTP load, a
// boundary of three members and a Postfix to compare it with, both on loopback
// and on the same disk, and the table of the results. "make bench" runs it.
//
// A figure counts only beside another one of the same run: machines differ,
// and one machine differs from hour to hour. The systems therefore take turns,
// and medians and their ratios are what is printed.
//
// It knows SMTP, the command line and what the system says of processes, and
// nothing of a member's inside.
package bench

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Load is a closed loop: every session sends a message, waits for its answer,
// and sends the next one on the same connection.
type Load struct {
	Targets  []string // host:port; sessions take turns
	Sessions int
	Size     int           // bytes of a message, header included
	Warm     time.Duration // not counted, first
	Time     time.Duration
	To       string
	Messages int           // ends when so many were acknowledged; 0: with Time
	OneByOne bool          // without pipelining: MAIL, RCPT and DATA wait for each other
	Every    time.Duration // least time from one message of a session to its next; 0: none
	Progress func(messages int)
}

// Result is what a Load saw.
type Result struct {
	Messages  int // acknowledged in Time
	Time      time.Duration
	Latencies []time.Duration // from MAIL to the answer to the message, sorted
	Errors    int
	Err       error // the first
}

// Rate is messages per second.
func (r Result) Rate() float64 { return float64(r.Messages) / r.Time.Seconds() }

// Percentile is the latency that p of 100 messages do not exceed.
func (r Result) Percentile(p int) time.Duration {
	if len(r.Latencies) == 0 {
		return 0
	}
	return r.Latencies[min(len(r.Latencies)*p/100, len(r.Latencies)-1)]
}

// errorsMax ends a session that does not get on.
const errorsMax = 50

// Run sends until Warm and Time are over, or ctx ends.
func (l Load) Run(ctx context.Context) Result {
	var r Result
	var mu sync.Mutex
	var wg sync.WaitGroup
	lines() // takes a while the first time
	begin := time.Now().Add(l.Warm)
	end := begin.Add(l.Time)
	ctx, cancel := context.WithDeadline(ctx, end.Add(time.Minute))
	defer cancel()
	var left *atomic.Int64 // messages that have not begun yet, if there is a limit
	if l.Messages > 0 {
		left = new(atomic.Int64)
		left.Store(int64(l.Messages))
	}
	note := func(began time.Time, err error) {
		mu.Lock()
		defer mu.Unlock()
		now := time.Now()
		switch {
		case err != nil:
			if r.Errors++; r.Err == nil {
				r.Err = err
			}
		case !now.Before(begin) && now.Before(end):
			r.Messages++
			r.Latencies = append(r.Latencies, now.Sub(began))
			if l.Progress != nil {
				l.Progress(r.Messages)
			}
		}
	}
	for i := range l.Sessions {
		wg.Go(func() { l.session(ctx, l.Targets[i%len(l.Targets)], end, left, note) })
	}
	wg.Wait()
	r.Time = l.Time
	slices.Sort(r.Latencies)
	return r
}

func (l Load) session(ctx context.Context, target string, end time.Time, left *atomic.Int64, note func(time.Time, error)) {
	var s *Session
	defer func() { s.Close() }()
	for failed := 0; failed < errorsMax && time.Now().Before(end) && ctx.Err() == nil && (left == nil || left.Add(-1) >= 0); {
		began := time.Now()
		var err error
		if s == nil {
			s, err = Dial(ctx, target)
		}
		if err == nil {
			err = s.Send(l.To, l.Size, !l.OneByOne)
		}
		note(began, err)
		if left := l.Every - time.Since(began); left > 0 && err == nil {
			time.Sleep(left)
		}
		if err != nil {
			failed++
			s.Close()
			s = nil
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// Session is one SMTP connection.
type Session struct {
	nc   net.Conn
	r    *bufio.Reader
	stop func() bool
}

// Dial connects and says EHLO.
func Dial(ctx context.Context, target string) (*Session, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", target)
	if err != nil {
		return nil, err
	}
	s := &Session{nc: nc, r: bufio.NewReaderSize(nc, 1<<10)}
	s.stop = context.AfterFunc(ctx, func() { nc.Close() })
	if err = s.expect("220"); err == nil {
		err = s.command("EHLO load.invalid\r\n", "250")
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Close hangs up.
func (s *Session) Close() {
	if s != nil {
		s.stop()
		s.nc.Close()
	}
}

func (s *Session) command(text string, codes ...string) error {
	if _, err := io.WriteString(s.nc, text); err != nil {
		return err
	}
	for _, code := range codes {
		if err := s.expect(code); err != nil {
			return fmt.Errorf("after %q: %w", strings.TrimSpace(text), err)
		}
	}
	return nil
}

func (s *Session) expect(code string) error {
	for {
		line, err := s.r.ReadSlice('\n')
		switch {
		case err != nil:
			return err
		case len(line) < 4 || string(line[:3]) != code:
			return fmt.Errorf("answer %q, want %s", strings.TrimSpace(string(line)), code)
		case line[3] != '-':
			return nil
		}
	}
}

// Send sends one message of size bytes. Pipelined is how mail servers do it:
// MAIL, RCPT and DATA in one packet (RFC 2920).
func (s *Session) Send(to string, size int, pipelined bool) error {
	from, rcpt := "MAIL FROM:<load@sender.invalid>\r\n", "RCPT TO:<"+to+">\r\n"
	if pipelined {
		if err := s.command(from+rcpt+"DATA\r\n", "250", "250", "354"); err != nil {
			return err
		}
	} else {
		for _, c := range [][2]string{{from, "250"}, {rcpt, "250"}, {"DATA\r\n", "354"}} {
			if err := s.command(c[0], c[1]); err != nil {
				return err
			}
		}
	}
	text := message(to, size)
	if _, err := text.WriteTo(s.nc); err != nil {
		return err
	}
	if err := s.expect("250"); err != nil {
		return fmt.Errorf("after the message: %w", err)
	}
	return nil
}

const lineLen = 78 // with CRLF

// lines are random bytes as mail carries them. Content must not be the same
// twice, nor be compressible: a store may know tricks for either.
var lines = sync.OnceValue(func() []byte {
	raw := make([]byte, 57<<17)
	_, _ = rand.Read(raw)
	text := make([]byte, 0, lineLen<<17)
	for ; len(raw) > 0; raw = raw[57:] {
		text = append(base64.StdEncoding.AppendEncode(text, raw[:57]), '\r', '\n')
	}
	return text
})

// stretch is whole lines of them, n bytes or a few more.
func stretch(n int) []byte {
	all := lines()
	n = min((n/lineLen+1)*lineLen, len(all)/2)
	at := mathrand.IntN((len(all)-n)/lineLen+1) * lineLen
	return all[at : at+n]
}

// message is a header and a stretch of the random lines, in all size bytes
// (but at least the header), and the dot that ends it.
func message(to string, size int) net.Buffers {
	head := fmt.Appendf(nil, "Date: Thu, 01 Jan 2026 00:00:00 +0000\r\nFrom: <load@sender.invalid>\r\nTo: <%s>\r\nSubject: load\r\nMessage-ID: <%016x@load.invalid>\r\n\r\n",
		to, mathrand.Uint64())
	bufs := net.Buffers{head}
	all := lines()
	for left := max(size-len(head)-2, 0); left > 0; {
		n := min(left, len(all)/2)
		at := mathrand.IntN((len(all)-n)/lineLen+1) * lineLen
		left -= n
		if n%lineLen == lineLen-1 { // never between CR and LF
			n--
		}
		bufs = append(bufs, all[at:at+n])
	}
	return append(bufs, []byte("\r\n.\r\n"))
}
