package smtpd

import (
	"strings"
	"testing"

	"mailraft/smtpd/wire"
)

// What is known of SMTP smuggling: sequences that some servers take for the end
// of a message. Here only CRLF.CRLF ends it; what is inside is mended or
// refused, and never run as commands.
var smuggling = []struct {
	name, in string // after DATA, without the true end
	want     string // with Normalise
}{
	{"LF.LF", "a\n.\nMAIL FROM:<evil@b.example>", "a\r\n.\r\nMAIL FROM:<evil@b.example>\r\n"},
	{"LF.CRLF", "a\n.\r\nMAIL FROM:<evil@b.example>", "a\r\n.\r\nMAIL FROM:<evil@b.example>\r\n"},
	{"CRLF.LF", "a\r\n.\nRSET", "a\r\n\r\nRSET\r\n"},
	{"CR.CR", "a\r.\rRSET", "a . RSET\r\n"},
	{"CR.CRLF", "a\r.\r\nRSET", "a .\r\nRSET\r\n"},
	{"CRLF.CR", "a\r\n.\rRSET", "a\r\n RSET\r\n"},
	{"CRLF.CRCRLF", "a\r\n.\r\r\nRSET", "a\r\n \r\nRSET\r\n"},
	{"CRCRLF", "a\r\r\nb", "a \r\nb\r\n"},
	{"LFLF", "a\n\nb", "a\r\n\r\nb\r\n"},
	{"LFCR", "a\n\rb", "a\r\n b\r\n"},
	{"LF..CRLF", "a\n..\r\nb", "a\r\n..\r\nb\r\n"},
	{"CRs at the end", "a\r\r", "a  \r\n"},
	{"NUL.CRLF", "a\r\n\x00.\r\nRSET", "a\r\n\x00.\r\nRSET\r\n"},
	{"CRLF.NULCRLF", "a\r\n.\x00\r\nRSET", "a\r\n\x00\r\nRSET\r\n"},
	{"none", "a\r\n..b\r\n...", "a\r\n.b\r\n..\r\n"},
}

func TestSmuggling(t *testing.T) {
	for _, tt := range smuggling {
		for _, bare := range []wire.Bare{wire.Normalise, wire.Reject} {
			q := &queue{}
			cfg := testConfig(q)
			cfg.Bare = bare
			_, addr := start(t, cfg)
			clean := !strings.Contains(strings.NewReplacer("\r\n", "").Replace(tt.in), "\r") && !strings.Contains(strings.ReplaceAll(tt.in, "\r\n", ""), "\n")
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

// CR CR LF . CR LF ends a message, which go-smtp alone would miss.
func TestEndAfterBareCR(t *testing.T) {
	q := &queue{}
	_, addr := start(t, testConfig(q))
	p := dial(t, addr)
	p.send(hello + envelope + "DATA\r\na\r\r\n.\r\nNOOP\r\n")
	p.want("250", "250", "250", "354", "250 2.0.0 Ok: queued", "250")
	if got := q.take(); len(got) != 1 || got[0].body != "a \r\n" {
		t.Fatalf("%+v", got)
	}
}

func TestBareInChunks(t *testing.T) {
	for _, tt := range []struct {
		chunks []string
		want   string
	}{
		{[]string{"a\r", "\nb"}, "a\r\nb\r\n"},
		{[]string{"a\r", "b\r"}, "a b \r\n"},
		{[]string{"a\n", "\nb\r\n"}, "a\r\n\r\nb\r\n"},
		{[]string{"a", ""}, "a\r\n"},
		{[]string{"", ""}, ""},
		{[]string{"\r\n.\r\n", "x\r\n"}, "\r\n.\r\nx\r\n"},
	} {
		q := &queue{}
		_, addr := start(t, testConfig(q))
		p := dial(t, addr)
		p.send(hello + envelope + bdat(len(tt.chunks[0]), "") + tt.chunks[0] + bdat(len(tt.chunks[1]), " last") + tt.chunks[1])
		p.want("250", "250", "250", "250", "250 2.0.0 Ok: queued")
		if got := q.take(); len(got) != 1 || got[0].body != tt.want {
			t.Errorf("%q: got %+v", tt.chunks, got)
		}
	}
}

func TestLongLines(t *testing.T) {
	q := &queue{}
	_, addr := start(t, testConfig(q))
	p := dial(t, addr)
	p.send(hello)
	p.want("250")
	for _, n := range []int{3000, 64<<10 - 3, 64<<10 - 2, 64<<10 - 1, 64 << 10, 64<<10 + 1, 100_000} {
		line := strings.Repeat("y", n) + "\r\n.dot\r\n"
		p.send(envelope + "DATA\r\n")
		p.want("250", "250", "354")
		p.send(strings.Replace(line, "\r\n.", "\r\n..", 1) + ".\r\n" + envelope + bdat(len(line), " LAST") + line)
		p.want("250", "250", "250", "250")
		got := q.take()
		if len(got) != 2 || got[0].body != line || got[1].body != line {
			t.Fatalf("%d bytes: got %d messages", n, len(got))
		}
	}
	p.cmd("NOOP "+strings.Repeat("x", 2041), "250") // 2,048 with CRLF
	p.cmd("NOOP "+strings.Repeat("x", 2042), "500 5.5.2")
	p.cmd("NOOP "+strings.Repeat("x", 100_000), "500 5.5.2")
	p.cmd("NOOP", "250")
}
