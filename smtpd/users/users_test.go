package users

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

func init() { standard.memory = 64 } // fast enough for tests

func TestMaySendAs(t *testing.T) {
	anna := User{Name: "anna@example.test", Senders: []string{"sales@example.test", "@lists.example.test"}}
	for address, want := range map[string]bool{
		"anna@example.test": true, "ANNA@Example.Test": true, "sales@example.test": true, "x@lists.example.test": true,
		`"a@b"@lists.example.test`: true, "bob@example.test": false, "x@sub.lists.example.test": false, "x@alists.example.test": false,
		"@lists.example.test": true, `"x@lists.example.test"@evil.example`: false, "lists.example.test": false,
	} {
		if got := anna.MaySendAs(address, "example.org"); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
	for _, c := range []struct {
		user    User
		address string
		want    bool
	}{
		{User{Name: "bob"}, "bob@example.org", true}, {User{Name: "bob"}, "bob@example.test", false}, {User{Name: "bob"}, "bob", false},
		{User{Name: "root", Senders: []string{"*"}}, "any@where.example", true},
	} {
		if got := c.user.MaySendAs(c.address, "example.org"); got != c.want {
			t.Errorf("%v as %s: %v", c.user, c.address, got)
		}
	}
}

func TestParseHash(t *testing.T) {
	const good = "$argon2id$v=19$m=64,t=2,p=1$c29tZXNhbHRzb21l$AAAAAAAAAAAAAAAAAAAAAA"
	if h, err := ParseHash(good); err != nil || h.String() != good {
		t.Fatalf("%v %v", h, err)
	}
	for _, bad := range []string{"", "$", "secret", "$argon2i$v=19$m=64,t=2,p=1$c29tZXNhbHRzb21l$AAAAAAAAAAAAAAAAAAAAAA",
		strings.Replace(good, "v=19", "v=16", 1), strings.Replace(good, "m=64,", "", 1), strings.Replace(good, "m=64", "m=064", 1),
		strings.Replace(good, "m=64", "m=64,m=65", 1), strings.Replace(good, "m=64", "m=262145", 1), strings.Replace(good, "m=64", "m=4294967296", 1),
		strings.Replace(good, "m=64", "m=7", 1), strings.Replace(good, "t=2", "t=0", 1), strings.Replace(good, "t=2", "t=65", 1),
		strings.Replace(good, "p=1", "p=0", 1), strings.Replace(good, "p=1", "p=17", 1), strings.Replace(good, "p=1", "p=257", 1),
		strings.Replace(good, "p=1", "p=1,x=1", 1), strings.Replace(good, "c29tZXNhbHRzb21l", "c2hvcnQ", 1), good + "=", good + "$", good[:len(good)-1] + "B", good + "!",
		strings.Replace(good, "c29tZXNhbHRzb21l", strings.Repeat("AAAA", 22), 1), good + strings.Repeat("AAAA", 20)} {
		if h, err := ParseHash(bad); !errors.Is(err, ErrHash) {
			t.Errorf("%q: %v %v", bad, h, err)
		}
	}
}

func TestHashMatches(t *testing.T) {
	a, b := NewHash("s3cret"), NewHash("s3cret")
	if a.String() == b.String() {
		t.Error("two hashes have one salt")
	}
	again, err := ParseHash(a.String())
	if err != nil || !again.Matches("s3cret") || again.Matches("S3cret") || again.Matches("") {
		t.Error("the hash does not say what it should", err)
	}
	// Made by libsodium: doveadm pw -s ARGON2ID -r 3.
	other, err := ParseHash("$argon2id$v=19$m=262144,t=3,p=1$1wZ3lPgtDmjARpweZvBntQ$AF1Xf60wKPJgYKHizPVxsudFRPzVyNSndAgwDOjv04s")
	if err != nil || !other.Matches("password") {
		t.Error("a hash made elsewhere does not match", err)
	}
}

func FuzzParseHash(f *testing.F) {
	f.Add(NewHash("x").String())
	f.Add("$argon2id$v=19$m=64,t=2,p=1$c29tZXNhbHRzb21l$AAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := ParseHash(s)
		if err != nil {
			return
		}
		again, err := ParseHash(h.String())
		if err != nil || again.String() != h.String() {
			t.Errorf("%q is read as %q, and that as %q, %v", s, h, again, err)
		}
		if h.memory <= 1024 && h.time < 4 {
			h.Matches("x") // whatever was read can be computed
		}
	})
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	var log bytes.Buffer
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := OpenFile(path, hclog.NewNullLogger()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	must(Add(path, User{Name: "anna@example.test", Senders: []string{"sales@example.test"}}, "one"))
	must(Add(path, User{Name: "bob"}, "two"))
	f, err := OpenFile(path, hclog.New(&hclog.LoggerOptions{Output: &log}))
	must(err)
	login := func(name, password string, want error) User {
		t.Helper()
		u, err := f.Authenticate(context.Background(), Login{Name: name, Password: password})
		if !errors.Is(err, want) {
			t.Errorf("%s with %s: %v, want %v", name, password, err, want)
		}
		return u
	}
	if u := login("anna@example.test", "one", nil); len(u.Senders) != 1 {
		t.Errorf("%+v", u)
	}
	login("bob", "two", nil)
	for _, wrong := range [][2]string{{"bob", "one"}, {"bob", ""}, {"Bob", "two"}, {"carol", "two"}, {"", ""}, {"#x", "one"}, {"a:b", "two"}, {"bob", strings.Repeat("x", passwordMax+1)}} {
		login(wrong[0], wrong[1], ErrDenied)
	}
	must(SetPassword(path, "anna@example.test", "three"))
	login("anna@example.test", "one", ErrDenied)
	if u := login("anna@example.test", "three", nil); len(u.Senders) != 1 {
		t.Errorf("a new password took the senders away: %+v", u)
	}
	must(Remove(path, "bob"))
	login("bob", "two", ErrDenied)
	login("bob", "three", ErrDenied) // the hash that is computed for him is anna's
	must(os.WriteFile(path, []byte("nonsense with s3cret in it\n"), 0o600))
	login("anna@example.test", "three", nil)
	login("anna@example.test", "three", nil)
	must(os.Remove(path))
	login("anna@example.test", "three", nil)
	if strings.Count(log.String(), "is no good") != 1 || strings.Contains(log.String(), "s3cret") {
		t.Errorf("log:\n%s", &log)
	}
	must(os.WriteFile(path, nil, 0o600))
	login("anna@example.test", "three", ErrDenied)
}

func TestEdit(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "users")
	if err := os.WriteFile(path, []byte("# ours\n\nanna:"+NewHash("x").String()+":@example.test\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{Add(path, User{Name: "anna"}, "y"), ErrUser.Error()},
		{Add(path, User{Name: "a b"}, "y"), "cannot be a user's name"},
		{Add(path, User{Name: "#a"}, "y"), "cannot be a user's name"},
		{Add(path, User{Name: "b", Senders: []string{"x"}}, "y"), "is none of user@domain"},
		{Add(path, User{Name: "bob"}, strings.Repeat("y", passwordMax+1)), "a password has"},
		{Add(path, User{Name: "bob"}, ""), "a password has"},
		{SetPassword(path, "anna", "a\x00b"), "a password has"},
		{SetPassword(path, "ann", "y"), ErrNoUser.Error()},
		{Remove(path, "# ours"), ErrNoUser.Error()},
		{Add(path, User{Name: "bob", Senders: []string{"*"}}, "y"), ""},
		{Remove(path, "anna"), ""},
	} {
		if c.err == nil && c.want != "" || c.err != nil && (c.want == "" || !strings.Contains(c.err.Error(), c.want)) {
			t.Errorf("%v, want %q", c.err, c.want)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(text), "# ours\n\nbob:$argon2id$") || !strings.HasSuffix(string(text), ":*\n") {
		t.Errorf("%q %v", text, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if list, err := List(path); err != nil || len(list) != 1 || list[0].Name != "bob" {
		t.Errorf("%v %v", list, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("%v are left", left)
	}
}

func TestParseNamesTheLine(t *testing.T) {
	hash := NewHash("x").String()
	for text, want := range map[string]string{
		"a:" + hash + "\nb":                  "line 2: want NAME:HASH",
		"a:s3cret":                           `line 1: user "a": not an argon2id hash`,
		"\n\na:" + hash + "\na:" + hash:      `line 4: user "a" is there twice`,
		"a:" + hash + ":x":                   `line 1: sender "x" is none of`,
		"a:" + hash + ":x@y,":                `line 1: sender "" is none of`,
		"a:" + hash + ":x@y:z":               "line 1: want NAME:HASH",
		" a:" + hash:                         `line 1: " a" cannot be`,
		"a:" + strings.Repeat("s3cret", 100): `line 1: user "a": not an argon2id hash`,
	} {
		_, err := parse(text)
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
