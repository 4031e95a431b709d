package handover

import (
	"net/netip"
	"strings"
	"testing"
)

func TestLine(t *testing.T) {
	for _, c := range []Client{
		{},
		{Session: "1f", Address: netip.MustParseAddr("192.0.2.1"), Helo: "mx.example", Proto: "ESMTP", TLS: true, Login: "anna@example.test", Method: "PLAIN", Certificate: "app.example", Role: "mx", Relay: true},
		{Address: netip.MustParseAddr("2001:db8::1"), Helo: "a b=c+d\x7f\xff\r\n", Login: "ü"},
	} {
		line := c.Line()
		rest, ok := strings.CutPrefix(line, Verb)
		if !ok || strings.ContainsAny(line, "\r\n\x00") {
			t.Errorf("%+v is %q", c, line)
		}
		if got, err := Parse(rest); err != nil || got != c {
			t.Errorf("%q is %+v, %v; want %+v", line, got, err, c)
		}
	}
}

func TestMalformed(t *testing.T) {
	for _, s := range []string{"ID", "ID=", "ID=+", "ID=+0", "ID=+0g", "ID=+0a=", "ADDR=host", "ADDR=fe80::1+25lo", "NEW=1", "ID=a B", "id=a"} {
		if c, err := Parse(s); err == nil {
			t.Errorf("%q is %+v", s, c)
		}
	}
}

// What is understood is written the same way again, and is one line.
func FuzzParse(f *testing.F) {
	f.Add("ID=1 ADDR=192.0.2.1 HELO=a+20b PROTO=ESMTP TLS=1 LOGIN=x ROLE=mx")
	f.Add("ADDR=::ffff:1.2.3.4 ID=+00")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := Parse(s)
		if err != nil {
			return
		}
		again, err := Parse(strings.TrimPrefix(c.Line(), Verb))
		if err != nil || again != c || strings.ContainsAny(c.Line(), "\r\n") {
			t.Fatalf("%q: %+v, then %+v, %v", s, c, again, err)
		}
	})
}
