package frontend

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"mailraft/mail"
)

const (
	// replyTime is how long a member may take to answer anything but the end of
	// a message: longer than any of its own limits.
	replyTime = 2 * time.Minute
	// commitTime is how long it may take to answer the end of a message; its
	// own limit is the commit-timeout, 30 s by default.
	commitTime = 5 * time.Minute
	writeTime  = time.Minute // until a member takes what is written

	chunkSize  = 32 << 10
	windowMax  = 32       // chunks that are not answered yet
	replyMax   = 64 << 10 // bytes of one answer
	streamIdle = 2 * time.Minute
)

// errStream reports that a member said what is no SMTP, or hung up.
var errStream = errors.New("the connection to the member broke")

// stream is a connection to a member on which transactions follow each other.
// One goroutine at a time.
type stream struct {
	to    *peer
	nc    net.Conn
	r     *bufio.Reader
	out   []byte // commands that are not sent yet
	since time.Time
	fresh bool // nothing was handed over on it yet
}

// greet begins the dialogue on a new connection.
func (s *stream) greet(hostname string) error {
	s.nc.SetDeadline(time.Now().Add(dialTime))
	if err := s.expect(220); err != nil {
		return err
	}
	s.say("EHLO " + hostname)
	return s.expect(250)
}

func (s *stream) expect(code int) error {
	r, err := s.reply()
	if err != nil {
		return err
	}
	if r.Code != code {
		return fmt.Errorf("the member answers %w", r)
	}
	return nil
}

// say puts a command on its way. It leaves with the next flush or reply.
func (s *stream) say(line string) { s.out = append(append(s.out, line...), '\r', '\n') }

func (s *stream) flush() error {
	if len(s.out) == 0 {
		return nil
	}
	s.nc.SetWriteDeadline(time.Now().Add(writeTime))
	_, err := s.nc.Write(s.out)
	s.out = s.out[:0]
	if err != nil {
		return fmt.Errorf("%w: %w", errStream, err)
	}
	return nil
}

// answer waits for a reply, for so long.
func (s *stream) answer(within time.Duration) (*mail.Reply, error) {
	s.nc.SetReadDeadline(time.Now().Add(within))
	return s.reply()
}

// reply reads one, of any number of lines.
func (s *stream) reply() (*mail.Reply, error) {
	if err := s.flush(); err != nil {
		return nil, err
	}
	var r mail.Reply
	var text []string
	for size := 0; ; {
		line, err := s.r.ReadSlice('\n')
		if size += len(line); err != nil || size > replyMax {
			return nil, fmt.Errorf("%w: %w", errStream, errors.Join(err, io.ErrUnexpectedEOF))
		}
		code, more, rest, ok := parseLine(strings.TrimRight(string(line), "\r\n"))
		if !ok || r.Code != 0 && code != r.Code {
			return nil, fmt.Errorf("%w: it said %q", errStream, line)
		}
		r.Code = code
		if enhanced, after, ok := cutEnhanced(code, rest); ok {
			r.Enhanced, rest = enhanced, after
		}
		text = append(text, rest)
		if !more {
			r.Text = strings.Join(text, " ")
			return &r, nil
		}
	}
}

// parseLine reads a line of a reply (RFC 5321 §4.2).
func parseLine(line string) (code int, more bool, text string, ok bool) {
	if len(line) < 3 {
		return 0, false, "", false
	}
	code, err := strconv.Atoi(line[:3])
	if err != nil || code < 200 || code > 599 {
		return 0, false, "", false
	}
	if len(line) == 3 {
		return code, false, "", true
	}
	return code, line[3] == '-', line[4:], line[3] == '-' || line[3] == ' '
}

// cutEnhanced takes the enhanced status code off (RFC 3463 §2).
func cutEnhanced(code int, text string) (enhanced, rest string, ok bool) {
	word, rest, _ := strings.Cut(text, " ")
	parts := strings.Split(word, ".")
	if len(parts) != 3 || parts[0] != strconv.Itoa(code/100) {
		return "", "", false
	}
	for _, p := range parts {
		if n, err := strconv.Atoi(p); err != nil || n < 0 || n > 999 || len(p) > 3 {
			return "", "", false
		}
	}
	return word, rest, true
}

// cut ends the connection from any goroutine: what is under way fails.
func (s *stream) cut() { _ = s.nc.SetDeadline(time.Unix(1, 0)) }
