package smtpd

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"mailraft/deliver"
	"mailraft/deliver/remote"
	"mailraft/mail"
	"mailraft/smtpd/wire"
)

// evil is what stands behind a false end in an attack: commands for a server
// that takes it for the true one.
const evil = "MAIL FROM:<evil@b.example>\r\nRCPT TO:<victim@example.org>\r\nDATA\r\nSubject: smuggled\r\n\r\nx"

// What is known of SMTP smuggling (SEC Consult, December 2023, and what was
// found since): sequences that some servers take for the end of a message. Here
// only CRLF.CRLF ends it; what is inside is mended or refused, and never run as
// commands.
var smuggling = []struct {
	name, in string // after DATA, without the true end
	want     string // with Normalise
}{
	{"LF.LF", "a\n.\n" + evil, "a\r\n.\r\n" + evil + "\r\n"},
	{"LF.CRLF", "a\n.\r\n" + evil, "a\r\n.\r\n" + evil + "\r\n"},
	{"CRLF.LF", "a\r\n.\n" + evil, "a\r\n\r\n" + evil + "\r\n"},
	{"LF.CR", "a\n.\r" + evil, "a\r\n. " + evil + "\r\n"},
	{"CR.CR", "a\r.\r" + evil, "a . " + evil + "\r\n"},
	{"CR.LF", "a\r.\n" + evil, "a .\r\n" + evil + "\r\n"},
	{"CR.CRLF", "a\r.\r\n" + evil, "a .\r\n" + evil + "\r\n"},
	{"CRLF.CR", "a\r\n.\r" + evil, "a\r\n " + evil + "\r\n"},
	{"CRLF.CRCRLF", "a\r\n.\r\r\n" + evil, "a\r\n \r\n" + evil + "\r\n"},
	{"CRCRLF.CRLF, stuffed", "a\r\r\n..\r\n" + evil, "a \r\n.\r\n" + evil + "\r\n"},
	{"LFCR.CRLF", "a\n\r.\r\n" + evil, "a\r\n .\r\n" + evil + "\r\n"},
	{"CRCRLF", "a\r\r\nb", "a \r\nb\r\n"},
	{"LFLF", "a\n\nb", "a\r\n\r\nb\r\n"},
	{"LFCR", "a\n\rb", "a\r\n b\r\n"},
	{"LF..CRLF", "a\n..\r\n" + evil, "a\r\n..\r\n" + evil + "\r\n"},
	{"CRs at the end", "a\r\r", "a  \r\n"},
	{"CRLF NUL.CRLF", "a\r\n\x00.\r\n" + evil, "a\r\n .\r\n" + evil + "\r\n"},
	{"CRLF.NUL CRLF", "a\r\n.\x00\r\n" + evil, "a\r\n \r\n" + evil + "\r\n"},
	{"CRLF.CR NUL LF", "a\r\n.\r\x00\n" + evil, "a\r\n  \r\n" + evil + "\r\n"},
	{"CR NUL LF.CRLF", "a\r\x00\n.\r\n" + evil, "a  \r\n.\r\n" + evil + "\r\n"},
	{"LF NUL.NUL LF", "a\n\x00.\x00\n" + evil, "a\r\n . \r\n" + evil + "\r\n"},
	{"CRLF. SP CRLF", "a\r\n. \r\n" + evil, "a\r\n \r\n" + evil + "\r\n"},
	{"VT and FF as line ends", "a\x0b.\x0b\x0c.\x0c" + evil, "a\x0b.\x0b\x0c.\x0c" + evil + "\r\n"},
	{"NEL as line end", "a\xc2\x85.\xc2\x85" + evil, "a\xc2\x85.\xc2\x85" + evil + "\r\n"},
	{"998 octets", strings.Repeat("x", 998), strings.Repeat("x", 998) + "\r\n"},
	{"1,000 octets", strings.Repeat("x", 1000), strings.Repeat("x", 1000) + "\r\n"},
	{"3,000 octets", strings.Repeat("x", 3000), strings.Repeat("x", 3000) + "\r\n"},
	{"none", "a\r\n..b\r\n...", "a\r\n.b\r\n..\r\n"},
}

func TestSmuggling(t *testing.T) {
	for _, tt := range smuggling {
		for _, bare := range []wire.Bare{wire.Normalise, wire.Reject} {
			q := &queue{}
			cfg := testConfig(q)
			cfg.Bare = bare
			_, addr := start(t, cfg)
			clean := !strings.ContainsAny(strings.ReplaceAll(tt.in, "\r\n", ""), "\r\n\x00")
			for _, step := range []int{1, len(tt.in) + 5} {
				p := dial(t, addr)
				p.send(hello + envelope + "DATA\r\n")
				p.want("250", "250", "250", "354")
				for in := tt.in + "\r\n.\r\n"; in != ""; {
					n := min(step, len(in))
					p.send(in[:n])
					in = in[n:]
				}
				if bare == wire.Reject && !clean {
					p.want("550 5.6.11")
				} else {
					p.want("250")
				}
				p.cmd("QUIT", "221")
				got := q.take()
				if bare == wire.Reject && !clean {
					if got != nil {
						t.Errorf("%s: accepted %q", tt.name, got[0].body)
					}
				} else if len(got) != 1 || got[0].body != tt.want {
					t.Errorf("%s: got %+v, want %q", tt.name, got, tt.want)
				}
			}
		}
	}
}

// The same by BDAT, where nothing is stuffed and a true end is text (RFC 3030
// §2), and with a message by DATA inside a chunk.
var smuggledChunks = []struct{ name, in, want string }{
	{"CRLF.CRLF", "a\r\n.\r\n" + evil, "a\r\n.\r\n" + evil + "\r\n"},
	{"LF.LF", "a\n.\n" + evil, "a\r\n.\r\n" + evil + "\r\n"},
	{"CR.CR", "a\r.\r" + evil, "a . " + evil + "\r\n"},
	{"NUL", "a\r\n\x00.\r\n" + evil, "a\r\n .\r\n" + evil + "\r\n"},
	{"BDAT inside", "a\r\nBDAT 5 LAST\r\nx\r\n.\r\n" + evil, "a\r\nBDAT 5 LAST\r\nx\r\n.\r\n" + evil + "\r\n"},
}

// nextHop is a server that takes any of ends for the end of a message, and runs
// what follows as commands. drop is what it throws away as it reads.
type nextHop struct {
	ends []string
	drop string

	mu    sync.Mutex
	count int
}

var nextHops = map[string]*nextHop{
	"strict":    {ends: []string{"\r\n.\r\n"}},
	"lax":       {ends: []string{"\r\n.\r\n", "\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r.\n", "\r.\r\n", "\n.\r", "\r\n.\r\r\n", "\r\n. \r\n"}},
	"drops NUL": {ends: []string{"\r\n.\r\n", "\n.\n"}, drop: "\x00"},
	"drops CR":  {ends: []string{"\n.\n"}, drop: "\r"},
}

func (h *nextHop) listen(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var sessions sync.WaitGroup
	t.Cleanup(func() { l.Close(); sessions.Wait() })
	sessions.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			sessions.Go(func() { defer c.Close(); h.session(c) })
		}
	})
	return l.Addr().String()
}

func (h *nextHop) session(c net.Conn) {
	c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprint(c, "220 next.example\r\n")
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		switch verb := strings.ToUpper(strings.Fields(line + " x")[0]); verb {
		case "EHLO":
			fmt.Fprint(c, "250-next.example\r\n250-8BITMIME\r\n250 PIPELINING\r\n")
		case "DATA":
			fmt.Fprint(c, "354 go\r\n")
			if !h.body(r) {
				return
			}
			fmt.Fprint(c, "250 ok\r\n")
		case "QUIT":
			fmt.Fprint(c, "221 bye\r\n")
			return
		default:
			fmt.Fprint(c, "250 ok\r\n")
		}
	}
}

func (h *nextHop) body(r *bufio.Reader) bool {
	text := "\r\n"
	for {
		b, err := r.ReadByte()
		if err != nil {
			return false
		}
		if strings.IndexByte(h.drop, b) >= 0 {
			continue
		}
		text += string([]byte{b})
		for _, end := range h.ends {
			if strings.HasSuffix(text, end) {
				if b == '\r' && follows(r, '\n') {
					_, _ = r.ReadByte() // the LF of that CR
				}
				h.mu.Lock()
				defer h.mu.Unlock()
				h.count++
				return true
			}
		}
	}
}

func follows(r *bufio.Reader, b byte) bool {
	next, err := r.Peek(1)
	return err == nil && next[0] == b
}

func (h *nextHop) messages() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.count
	h.count = 0
	return n
}

// Whatever is smuggled in a message: behind our clients a next hop that is
// strict, and ones that take any of its tricks for an end, see one message.
func TestNothingIsSmuggledOn(t *testing.T) {
	out := &remote.Transport{Host: "mx.example.org"}
	defer out.Close()
	for name, hop := range nextHops {
		addr := hop.listen(t)
		for _, tt := range smuggling {
			passOn(t, out, addr, tt.want)
			if n := hop.messages(); n != 1 {
				t.Errorf("%s, DATA, next hop %s: %d messages", tt.name, name, n)
			}
		}
		for _, tt := range smuggledChunks {
			q := &queue{}
			_, in := start(t, testConfig(q))
			p := dial(t, in)
			p.send(hello + envelope + bdat(len(tt.in), " LAST") + tt.in)
			p.want("250", "250", "250", "250 2.0.0 Ok: queued")
			got := q.take()
			if len(got) != 1 || got[0].body != tt.want {
				t.Fatalf("%s: got %+v, want %q", tt.name, got, tt.want)
			}
			passOn(t, out, addr, got[0].body)
			if n := hop.messages(); n != 1 {
				t.Errorf("%s, BDAT, next hop %s: %d messages", tt.name, name, n)
			}
		}
	}
}

type content struct{ *bytes.Reader }

func (content) Close() error { return nil }

// passOn delivers what the queue was given.
func passOn(t *testing.T, out *remote.Transport, addr, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if got := out.Deliver(ctx, attemptAt(addr, body)); len(got) != 1 || got[0].Reply.Code != 250 {
		t.Errorf("%q: %+v", body, got)
	}
}

func attemptAt(addr, body string) *deliver.Attempt {
	return &deliver.Attempt{
		Job: deliver.Job{ID: mail.NewID(1e12, 5, 0), ReversePath: "a@b.example", Content: mail.Content{Size: int64(len(body))}, Accepted: 1e12,
			Destination: deliver.Destination{Key: "db/DB1", Addr: "smtp://" + addr}, Recipients: []deliver.Recipient{{Address: "c@example.org"}}, All: []string{"c@example.org"}},
		Open:  func() (io.ReadSeekCloser, error) { return content{bytes.NewReader([]byte(body))}, nil },
		Final: func() error { return nil },
	}
}

// Answers that somebody puts behind a next hop's 220 to STARTTLS are not heard
// as answers: they are no TLS, so the connection ends, and nothing was said on
// it but the beginning of a handshake.
func TestInjectedAnswers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heard := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		l.Close() // a second attempt, without TLS, finds nobody
		c.SetDeadline(time.Now().Add(20 * time.Second))
		r := bufio.NewReader(c)
		fmt.Fprint(c, "220 next.example\r\n")
		_, _ = r.ReadString('\n')
		fmt.Fprint(c, "250-next.example\r\n250 STARTTLS\r\n")
		_, _ = r.ReadString('\n')
		fmt.Fprint(c, "220 go\r\n250-next.example\r\n250 8BITMIME\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n")
		all, _ := io.ReadAll(r) // a reset is an end too
		c.Close()
		heard <- string(all)
	}()
	out := &remote.Transport{Host: "mx.example.org"}
	defer out.Close()
	a := attemptAt(l.Addr().String(), "x\r\n")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if got := out.Deliver(ctx, a); len(got) != 1 || !got[0].Reply.Temporary() {
		t.Errorf("delivered: %+v", got)
	}
	if said := <-heard; said == "" || said[0] != 0x16 || strings.Contains(said, "MAIL") {
		t.Errorf("said %.80q", said)
	}
}
