package mail

import (
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	for text, want := range map[string]Address{
		"alice@example.test":           {"alice", "example.test"},
		"Alice.B+tag@Example.Test.":    {"Alice.B+tag", "Example.Test"},
		`"a b"@example.test`:           {"a b", "example.test"},
		`"a\"b\\c"@example.test`:       {`a"b\c`, "example.test"},
		`"a@b"@example.test`:           {"a@b", "example.test"},
		"postmaster":                   {"postmaster", ""},
		"u@[192.0.2.1]":                {"u", "[192.0.2.1]"},
		"u@[IPv6:2001:db8::1]":         {"u", "[IPv6:2001:db8::1]"},
		"grüße@bücher.example":         {"grüße", "bücher.example"},
		"a/b=c%d@example.test":         {"a/b=c%d", "example.test"},
		`"victim@x> "@allowed.example`: {"victim@x> ", "allowed.example"},
	} {
		got, err := ParseAddress(text)
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v; want %+v", text, got, err, want)
			continue
		}
		again, err := ParseAddress(got.String())
		if err != nil || again != got {
			t.Errorf("%s: written as %s, read as %+v, %v", text, got, again, err)
		}
	}
}

func TestMalformedAddresses(t *testing.T) {
	for _, s := range []string{
		"", "alice", "@example.test", "alice@", "a b@example.test", "a@b@example.test", ".a@example.test", "a.@example.test", "a..b@example.test",
		`"a@example.test`, `"a"b@example.test`, `""@example.test`, "a\r\n@example.test", "\"a\r\n\"@example.test", "\"a\x00\"@example.test",
		"a@example..test", "a@-example.test", "a@exa mple.test", "a@[192.0.2.1", "a@[]", "a@[a b]", "a@[x>]", "a@example.test>", "<a@example.test>",
		"a@" + strings.Repeat("x", 64) + ".test", strings.Repeat("x", 65) + "@example.test", "\xff@example.test",
	} {
		if a, err := ParseAddress(s); err == nil {
			t.Errorf("%q was taken as %+v", s, a)
		}
	}
}

// What is parsed and written again names the same mailbox, and never holds
// what would end the angle brackets or the line outside quotes.
func FuzzAddress(f *testing.F) {
	for _, s := range []string{"a@b.c", `"x> y"@b.c`, `"\\\""@[1.2.3.4]`, "postmaster", "ü@ü.c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			return
		}
		text := a.String()
		if again, err := ParseAddress(text); err != nil || again != a {
			t.Fatalf("%q: %+v, written %q, read %+v, %v", s, a, text, again, err)
		}
		if strings.ContainsAny(text, "\r\n\x00") || !strings.HasPrefix(text, `"`) && strings.ContainsAny(text, "<> ") {
			t.Fatalf("%q is written as %q", s, text)
		}
	})
}
