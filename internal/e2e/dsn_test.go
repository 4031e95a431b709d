//go:build e2e

package e2e

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// What a sender asked to be told he is told, once, in reports that Python's
// email library reads; and nothing else.
func TestReports(t *testing.T) {
	t.Parallel()
	b := start(t, 2*time.Minute, nil)
	b.cli("directory", "domain", "add", "nowhere.test", "--any-mailbox", "--database", "DB1")
	b.cli("database", "add", "DB2", "--copy", "a=lmtp://"+refuseAll(t))
	b.cli("directory", "domain", "set", "nowhere.test", "--database", "DB2")
	b.cli("directory", "group", "add", "staff@example.test", "--member", "ann@example.test", "--member", "bob@example.test")
	host, port, err := net.SplitHostPort(b.Members[0].SMTP)
	if err != nil {
		t.Fatal(err)
	}
	run(t, "python3", "testdata/dsn.py", "send", host, port, "asks@example.test", "carl@example.test=SUCCESS,FAILURE", "dora@example.test=FAILURE",
		"staff@example.test=SUCCESS", "gone@nowhere.test=FAILURE,DELAY", "silent@nowhere.test=NEVER")
	want := []string{
		"delivered 2.0.0 rfc822; carl@example.test rfc822; was+carl@example.test text/rfc822-headers",
		"expanded 2.0.0 rfc822; staff@example.test rfc822; was+staff@example.test text/rfc822-headers",
		"failed 5.1.1 rfc822; gone@nowhere.test rfc822; was+gone@nowhere.test message/rfc822",
	}
	for _, who := range []string{"carl", "dora", "ann", "bob"} {
		b.message(who)
	}
	b.eventually("the sender is told", func() error {
		if got := b.told("asks"); !slices.Equal(got, want) {
			return errNotYet
		}
		return nil
	})
	time.Sleep(2 * time.Second) // and of nothing else
	if got := b.told("asks"); !slices.Equal(got, want) {
		t.Errorf("told\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// told reads the reports that a mailbox has, by a foreign parser.
func (b *boundary) told(mailbox string) (lines []string) {
	b.t.Helper()
	files, err := filepath.Glob(filepath.Join(b.mail(), "DB1", "a", mailbox, "new", "*"))
	if err != nil {
		b.t.Fatal(err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			b.t.Fatal(err)
		}
		c := exec.Command("python3", "testdata/dsn.py", "read")
		c.Stdin = bytes.NewReader(raw)
		out, err := c.CombinedOutput()
		if err != nil {
			b.t.Fatalf("%v: %s\n%s", err, out, raw)
		}
		lines = append(lines, strings.Split(strings.TrimSpace(string(out)), "\n")...)
	}
	slices.Sort(lines)
	return lines
}
