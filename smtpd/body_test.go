package smtpd

import (
	"strings"
	"testing"
)

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
