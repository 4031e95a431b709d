//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var errNotYet = errors.New("not yet")

// Foreign clients: swaks, and Python's mail library.
func TestForeignClients(t *testing.T) {
	t.Parallel()
	b := start(t, 2*time.Minute, nil)
	for i, m := range b.Members {
		host, port, err := net.SplitHostPort(m.SMTP)
		if err != nil {
			t.Fatal(err)
		}
		out := run(t, "swaks", "--server", host, "--port", port, "--from", "s@example.org", "--to", fmt.Sprintf("swaks%d@example.test", i),
			"--header", "Message-ID: <swaks@example.org>", "--body", "from swaks\n.\n..\n")
		if !strings.Contains(out, "250 2.0.0") || !strings.Contains(out, "queued as ") {
			t.Errorf("swaks: %s", out)
		}
		run(t, "python3", "testdata/send.py", host, port, fmt.Sprintf("python%d@example.test", i))
	}
	for i := range b.Members {
		for _, who := range []string{"swaks", "python"} {
			text := b.message(fmt.Sprintf("%s%d", who, i))
			if !strings.Contains(text, "from "+who) || !strings.Contains(text, "Received: from ") || !strings.HasPrefix(text, "Return-Path: <s@example.org>") {
				t.Errorf("message of %s:\n%s", who, text)
			}
		}
	}
	if out, err := exec.Command("swaks", "--server", b.Members[0].SMTP, "--from", "s@example.org", "--to", "someone@elsewhere.example").CombinedOutput(); err == nil {
		t.Errorf("mail for a foreign domain was taken: %s", out)
	}
	b.sameState()
}

// message waits for the one message of a mailbox, with its line ends as LF.
func (b *boundary) message(mailbox string) string {
	b.t.Helper()
	var text string
	b.eventually("mail for "+mailbox+" arrives", func() error {
		files, err := filepath.Glob(filepath.Join(b.mail(), "DB1", "a", mailbox, "new", "*"))
		if err != nil || len(files) == 0 {
			return errors.Join(errNotYet, err)
		}
		if len(files) > 1 {
			b.t.Errorf("%d messages for %s", len(files), mailbox)
		}
		raw, err := os.ReadFile(files[0])
		text = strings.ReplaceAll(string(raw), "\r\n", "\n")
		return err
	})
	return text
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// A message of 150 MB passes through without any member holding it in memory.
func TestLargeMessage(t *testing.T) {
	b := start(t, 4*time.Minute, map[string]string{"message-size-max": "200MiB"})
	warm := b.sender(1000, 6, 0)
	warm.Run(b.ctx)
	b.audit(warm.Ledger)
	before := b.resident()
	const size = 150 << 20
	large := b.sender(1, 1, 0)
	large.Size = func(int) int { return size * 76 / 78 } // line ends make up the rest
	large.Timeout = 2 * time.Minute
	peak := b.watchResident(func() { large.Run(b.ctx); b.audit(large.Ledger) })
	for i, m := range b.Members {
		grown := peak[i] - before[i]
		t.Logf("%s: resident %d MB after 1,000 messages, %d MB at most meanwhile", m.Name, before[i]>>20, peak[i]>>20)
		if grown > 48<<20 {
			t.Errorf("%s grew by %d MB", m.Name, grown>>20)
		}
	}
	b.sameState()
}

// watchResident runs f, and returns the highest resident size of each member.
func (b *boundary) watchResident(f func()) []int64 {
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	peak := b.resident()
	for {
		select {
		case <-done:
			return peak
		case <-time.After(20 * time.Millisecond):
			for i, n := range b.resident() {
				peak[i] = max(peak[i], n)
			}
		}
	}
}

func (b *boundary) resident() []int64 {
	var all []int64
	for _, m := range b.Members {
		var pages, size int64
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", m.PID()))
		if err != nil {
			b.t.Error(err)
		}
		fmt.Sscan(string(raw), &size, &pages)
		all = append(all, pages*int64(os.Getpagesize()))
	}
	return all
}

// What a mailbox server refuses for good comes back to the sender.
func TestBounce(t *testing.T) {
	t.Parallel()
	b := start(t, 2*time.Minute, nil)
	b.cli("directory", "domain", "add", "nowhere.test", "--any-mailbox", "--database", "DB1")
	b.cli("database", "add", "DB2", "--copy", "a=lmtp://"+refuseAll(t))
	b.cli("directory", "domain", "set", "nowhere.test", "--database", "DB2")
	err := smtp.SendMail(b.Members[1].SMTP, nil, "sender@example.test", []string{"gone@nowhere.test"},
		[]byte("Subject: hello\r\nMessage-ID: <hello@example.test>\r\n\r\nbody\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	text := b.message("sender")
	for _, want := range []string{"multipart/report", "Final-Recipient: rfc822; gone@nowhere.test", "Action: failed", "Status: 5.1.1", "Return-Path: <>"} {
		if !strings.Contains(text, want) {
			t.Errorf("bounce lacks %q:\n%s", want, text)
		}
	}
}
