package maildir

import (
	"path/filepath"
	"strings"
	"testing"

	"mailraft/mail"
)

func TestNames(t *testing.T) {
	for _, c := range []struct{ local, want string }{
		{"alice", "alice"},
		{"Alice", "alice"},
		{"a.b-c_d+e=f", "a.b-c_d+e=f"},
		{"..", "%2e."},
		{".hidden", "%2ehidden"},
		{"-rf", "%2drf"},
		{"../../etc/passwd", "%2e.%2f..%2fetc%2fpasswd"},
		{"a/b", "a%2fb"},
		{"a%2fb", "a%252fb"},
		{"a@b", "a%40b"},
		{"nul\x00", "nul%00"},
		{"jörg", "j%c3%b6rg"},
		{"con", "con"},
		{"a b\\c", "a%20b%5cc"},
	} {
		if got := shortName(mail.Address{Local: c.local, Domain: "example.test"}); got != c.want {
			t.Errorf("%q: %q, want %q", c.local, got, c.want)
		}
	}
	long := strings.Repeat("ü", 80)
	if a, b := shortName(mail.Address{Local: long + "a"}), shortName(mail.Address{Local: long + "b"}); a == b || len(a) > nameMax {
		t.Errorf("long names: %q, %q", a, b)
	}
	if a, b := longName(mail.Address{Local: "alice", Domain: "B.example"}), shortName(mail.Address{Local: "alice@b.example"}); a == b || a != "alice@b.example" {
		t.Errorf("a long and a short name: %q, %q", a, b)
	}
}

// Names stay inside the directory, are safe on any file system, and differ
// where the mailboxes do.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"alice", "..", ".", "", "A", "a/../b", "%2e", "\x00", strings.Repeat("x", 300), "é", "a@b"} {
		f.Add(s, "example.test", "bob", "example.test")
	}
	f.Fuzz(func(t *testing.T, l1, d1, l2, d2 string) {
		a, b := mail.Address{Local: l1, Domain: d1}, mail.Address{Local: l2, Domain: d2}
		for _, n := range []string{shortName(a), longName(a)} {
			if n == "" {
				if l1 != "" {
					t.Fatalf("%q has no name", l1)
				}
				continue
			}
			if filepath.Base(n) != n || n[0] == '.' || len(n) > nameMax || strings.ToLower(n) != n || strings.ContainsAny(n, "/\\\x00:") {
				t.Fatalf("name %q of %q", n, a)
			}
		}
		if shortName(a) == longName(b) {
			t.Fatalf("short name of %q is long name of %q", a, b)
		}
		if same := fold(l1) == fold(l2) && fold(d1) == fold(d2); (longName(a) == longName(b)) != same {
			t.Fatalf("%q and %q: one folder %v, one mailbox %v", a, b, !same, same)
		}
	})
}
