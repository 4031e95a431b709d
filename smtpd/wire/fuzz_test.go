package wire

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"mailraft/mail"
)

// chopped is a connection whose input comes in pieces of the given size, and
// ends in EOF.
type chopped struct {
	net.Conn
	in   []byte
	step int
	sent bytes.Buffer
}

func (c *chopped) Read(p []byte) (int, error) {
	if len(c.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.in[:min(c.step, len(c.in))])
	c.in = c.in[n:]
	return n, nil
}
func (c *chopped) Write(p []byte) (int, error)      { return c.sent.Write(p) }
func (c *chopped) RemoteAddr() net.Addr             { return nil }
func (c *chopped) LocalAddr() net.Addr              { return nil }
func (c *chopped) Close() error                     { return nil }
func (c *chopped) SetReadDeadline(time.Time) error  { return nil }
func (c *chopped) SetWriteDeadline(time.Time) error { return nil }

func chop(in []byte, step int, cfg Config) (*Conn, *chopped) {
	ch := &chopped{in: in, step: max(step, 1)}
	c := newConn(ch, cfg.withDefaults(), false)
	c.greeted, c.hello = true, "EHLO"
	return c, ch
}

func readAll(m *Message) (string, error) {
	var all strings.Builder
	for {
		p, err := m.Next()
		all.Write(p)
		if err != nil {
			return all.String(), err
		}
	}
}

// refData is the plainest reader of DATA: whole lines that end in CRLF.
func refData(in string) (text, rest string, ok bool) {
	for {
		line, rest, found := strings.Cut(in, "\r\n")
		if !found {
			return "", "", false
		}
		if line == "." {
			return text, rest, true
		}
		text += strings.TrimPrefix(line, ".") + "\r\n"
		in = rest
	}
}

// refClean is the plainest mender of bare CR and LF.
func refClean(text string) string {
	const mark = "\x00\x01pair\x01\x00"
	text = strings.ReplaceAll(text, "\r\n", mark)
	text = strings.ReplaceAll(text, "\n", mark)
	text = strings.ReplaceAll(text, "\r", " ")
	parts := strings.Split(text, mark)
	for i := range parts {
		parts[i] = strings.ReplaceAll(parts[i], "\x00", " ")
	}
	text = strings.Join(parts, mark)
	if text != "" && !strings.HasSuffix(text, mark) {
		text += mark
	}
	return strings.ReplaceAll(text, mark, "\r\n")
}

func FuzzData(f *testing.F) {
	for _, s := range []string{"a\r\n.\r\nNOOP\r\n", ".\r\n", "..\r\n.\r\n", "a\r\r\n.\r\n", "a\n.\n.\r\n\r\n.\r\n", ".\r.\r\n.\r\n", "a\r\n.", "\r\n\r\n.\r", strings.Repeat("x", 5000) + "\r\n.\r\n"} {
		for _, step := range []int{1, 2, 3, 4096} {
			f.Add([]byte(s), step)
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, step int) {
		if bytes.Contains(in, []byte("\x00\x01pair\x01\x00")) {
			return
		}
		want, rest, whole := refData(string(in))
		for _, policy := range []Bare{Normalise, Reject} {
			c, ch := chop(in, step, Config{Bare: policy})
			c.verb, c.inMessage, c.goAhead = "DATA", true, []byte("354 go\r\n")
			m := c.Begin()
			got, err := readAll(m)
			clean := refClean(want)
			switch {
			case err == io.EOF && (!whole || got != clean):
				t.Fatalf("%q: got %q, want %q", in, got, clean)
			case policy == Reject && err == io.EOF && clean != want:
				t.Fatalf("%q: bare, and passed on", in)
			case err != io.EOF && whole && (policy == Normalise || clean == want):
				t.Fatalf("%q: %v", in, err)
			}
			if endErr := c.endMessage(); endErr != nil || string(c.pend) != ".\r\n" {
				t.Fatalf("%q: %v %q", in, endErr, c.pend)
			}
			if left := string(c.unread()) + string(ch.in); whole && left != rest {
				t.Fatalf("%q: left %q, want %q", in, left, rest)
			}
		}
	})
}

// refChunks is the plainest reader of a message by BDAT, from behind the first
// command line.
func refChunks(in string, size int64, last bool) (text string, whole bool) {
	for {
		if int64(len(in)) < size {
			return "", false
		}
		text, in = text+in[:size], in[size:]
		if last {
			return text, true
		}
		for {
			line, rest, found := strings.Cut(in, "\n")
			line, crlf := strings.CutSuffix(line, "\r")
			if !found || !crlf || strings.ContainsAny(line, "\r\x00") || len(line)+2 > lineMax {
				return "", false
			}
			in = rest
			verb, arg, _ := strings.Cut(strings.TrimRight(line, " \t"), " ")
			switch strings.ToUpper(verb) {
			case "RSET", "EHLO", "HELO", "QUIT":
				return "", false
			case "BDAT":
				var ok bool
				if size, last, ok = parseChunk(arg); !ok {
					return "", false
				}
			default:
				continue
			}
			break
		}
	}
}

func FuzzChunks(f *testing.F) {
	for _, s := range []string{"abcBDAT 2 LAST\r\nde", "abcBDAT 0\r\nBDAT 1 last\r\n\nNOOP\r\n", "abcNOOP\r\nBDAT 1 LAST\r\nx", "abcRSET\r\n", "abcBDAT 2 LAST\r\nd", "ab\rBDAT 1 LAST\r\n\n",
		"abcBDAT 99999999999999999999\r\n", "abcBDAT 1\nx", "abc" + strings.Repeat("x", 3000) + "\r\nBDAT 0 LAST\r\n"} {
		for _, step := range []int{1, 3, 4096} {
			f.Add([]byte(s), step, 3, false)
			f.Add([]byte(s), step, 3, true)
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, step, size int, last bool) {
		if size < 0 || bytes.Contains(in, []byte("\x00\x01pair\x01\x00")) {
			return
		}
		want, whole := refChunks(string(in), int64(size), last)
		c, _ := chop(in, step, Config{CommandsMax: -1, ErrorsMax: -1})
		c.verb, c.inMessage, c.chunk, c.last = "BDAT", true, int64(size), last
		got, err := readAll(c.Begin())
		if whole != (err == io.EOF) || whole && got != refClean(want) {
			t.Fatalf("%q: got %q %v, want %q %v", in, got, err, refClean(want), whole)
		}
	})
}

// refCommands is the plainest framing: which lines reach go-smtp, when every
// command but those we answer ourselves does.
func refCommands(in string) (lines []string) {
	for {
		line, rest, found := strings.Cut(in, "\n")
		if !found {
			return lines
		}
		in = rest
		if len(line)+1 > lineMax {
			continue
		}
		line, crlf := strings.CutSuffix(line, "\r")
		if !crlf || strings.ContainsAny(line, "\r\x00") {
			return lines
		}
		line = strings.TrimRight(line, " \t")
		verb, arg, _ := strings.Cut(line, " ")
		switch verb = strings.ToUpper(verb); verb {
		case "NOOP", "RSET", "RCPT", "EHLO", "HELO", "VRFY", "HELP", "EXPN":
			lines = append(lines, line)
		case "QUIT", "DATA", "MAIL":
			return append(lines, line)
		case "BDAT":
			size, _, ok := parseChunk(arg)
			if !ok {
				return lines
			}
			lines = append(lines, "DATA")
			in = in[min(size, int64(len(in))):]
		}
	}
}

func FuzzCommands(f *testing.F) {
	for _, s := range []string{"NOOP\r\nRSET\r\n", "NOOP\nRSET\r\n", "noop x \r\nQUIT\r\n", "N\x00OOP\r\nNOOP\r\n", "NO\rOP\r\nNOOP\r\n", "\r\n\r\nNOOP\r\n", "STARTTLS\r\nNOOP\r\n",
		"RCPT TO:<postmaster>\r\n", "BDAT 4\r\nNOOPNOOP\r\n", "BDAT 4 LAST\r\nNO", "BDAT\r\nNOOP\r\n", strings.Repeat("x", 2047) + "\nNOOP\r\n", strings.Repeat("NOOP\r\n", 900), "NOOP" + strings.Repeat(" ", 2042) + "\r\nNOOP" + strings.Repeat(" ", 2043) + "\r\n"} {
		for _, step := range []int{1, 7, 4096} {
			f.Add([]byte(s), step)
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, step int) {
		want := refCommands(string(in))
		c, _ := chop(in, step, Config{ErrorsMax: -1, CommandsMax: -1, EarlyTalkers: true})
		var got []string
		buf := make([]byte, 4096)
		for {
			n, err := c.Read(buf)
			if err != nil {
				break
			}
			line, ok := strings.CutSuffix(string(buf[:n]), "\r\n")
			if !ok || strings.ContainsAny(line, "\r\n\x00") {
				t.Fatalf("%q: passed on %q", in, buf[:n])
			}
			got = append(got, line)
			if c.verb == "QUIT" || c.verb == "DATA" || c.verb == "MAIL" {
				break
			}
			c.reply(mail.Replyf(250, "2.0.0", "OK"))
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Fatalf("%q: got %q, want %q", in, got, want)
		}
	})
}
