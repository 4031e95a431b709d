//go:build e2e

package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailraft/internal/ledger"
	"mailraft/internal/loopback"
)

// exe is the binary under test, built once.
var exe string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "mailraft-e2e-")
	if err != nil {
		panic(err)
	}
	exe = filepath.Join(dir, "mailraft")
	code := 1
	if err := build(exe, ""); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// build makes the binary, with build tags.
func build(to, tags string) error {
	cmd := exec.Command("go", "build", "-tags", tags, "-o", to, "mailraft/cmd/mailraft")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
}

// boundary is a running boundary of a test, with what tests do to it.
type boundary struct {
	*loopback.Boundary
	t   *testing.T
	ctx context.Context
}

// start runs three members. The test ends with them, or at the time given.
func start(t *testing.T, bound time.Duration, params map[string]string) *boundary {
	t.Helper()
	return startWith(t, bound, loopback.Options{Params: params})
}

// startWith is start with options; what every test wants is filled in.
func startWith(t *testing.T, bound time.Duration, o loopback.Options) *boundary {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	t.Cleanup(cancel)
	p := map[string]string{"shadow-resubmit-time-span": "5s", "shadow-heartbeat-frequency": "1s"}
	for k, v := range o.Params {
		p[k] = v
	}
	o.Exe, o.Dir, o.Members, o.Domain, o.Params = cmp.Or(o.Exe, exe), t.TempDir(), 3, "example.test", p
	b, err := loopback.Start(ctx, o)
	if err != nil {
		logs(t, o.Dir)
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.Stop()
		noPanic(t, o.Dir)
		if t.Failed() {
			logs(t, o.Dir)
		}
	})
	return &boundary{b, t, ctx}
}

// noPanic looks for the traces of a process that ended by accident: the others
// may have done its work meanwhile.
func noPanic(t *testing.T, dir string) {
	files, _ := filepath.Glob(filepath.Join(dir, "m*", "mailraft.log"))
	for _, f := range files {
		text, _ := os.ReadFile(f)
		for _, trace := range []string{"\npanic: ", "\nfatal error: "} {
			if bytes.Contains(text, []byte(trace)) {
				t.Errorf("%s says %q", f, trace)
			}
		}
	}
}

// logs prints the end of each member's log.
func logs(t *testing.T, dir string) {
	files, _ := filepath.Glob(filepath.Join(dir, "m*", "mailraft.log"))
	for _, f := range files {
		text, _ := os.ReadFile(f)
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		t.Logf("%s:\n%s", f, strings.Join(lines[max(0, len(lines)-30):], "\n"))
	}
}

func (b *boundary) mail() string { return filepath.Join(b.Dir, "mail") }

func (b *boundary) targets() []string {
	var all []string
	for _, m := range b.Members {
		all = append(all, m.SMTP)
	}
	return all
}

// sender sends small and middling mail to all members until stopped.
func (b *boundary) sender(count, sessions int, every time.Duration) *ledger.Sender {
	return &ledger.Sender{Ledger: ledger.New(), Targets: b.targets(), From: "sender@example.org", Count: count, Sessions: sessions,
		Pause: 100 * time.Millisecond, Every: every,
		Recipient: func(n int) string { return fmt.Sprintf("user%d@example.test", n%mailboxes) },
		Size:      func(n int) int { return 500 + n*997%60_000 }}
}

// load runs a sender in the background; the function returned stops it.
func (b *boundary) load(s *ledger.Sender) (stop func()) {
	ctx, cancel := context.WithCancel(b.ctx)
	done := make(chan struct{})
	go func() { s.Run(ctx); close(done) }()
	return func() { cancel(); <-done }
}

func (b *boundary) cli(args ...string) string {
	b.t.Helper()
	out, err := b.CLI(b.ctx, args...)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// eventually waits until f is nil, for as long as the test may run.
func (b *boundary) eventually(what string, f func() error) {
	b.t.Helper()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-b.ctx.Done():
			b.t.Fatalf("%s: %v (last: %v)", what, b.ctx.Err(), err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// ready waits until all running members take mail.
func (b *boundary) ready() {
	b.t.Helper()
	if err := b.Ready(b.ctx); err != nil {
		b.t.Fatal(err)
	}
}

// audit waits until everything that was acknowledged has arrived unchanged,
// and reports how many copies there are too many, and why.
func (b *boundary) audit(l *ledger.Ledger) ledger.Audit {
	b.t.Helper()
	return b.auditIn(l, b.mail())
}

func (b *boundary) auditIn(l *ledger.Ledger, dir string) ledger.Audit {
	b.t.Helper()
	var a ledger.Audit
	b.eventually("every acknowledged message arrives", func() (err error) {
		a, err = l.Audit(dir)
		if err == nil && len(a.Lost) > 0 {
			err = fmt.Errorf("%d of %d are missing, such as %s", len(a.Lost), a.Accepted, a.Lost[0])
		}
		return err
	})
	if len(a.Damaged) > 0 {
		b.t.Errorf("%d messages arrived with other content, such as %s", len(a.Damaged), a.Damaged[0])
	}
	if r := l.Refusals(); len(r) > 0 {
		b.t.Errorf("%d permanent replies, such as %q", len(r), r[0])
	}
	b.t.Logf("accepted %d, delivered %d, duplicates %d (of messages sent again %d), delivered without an answer %d",
		a.Accepted, a.Delivered, a.Duplicates, a.Explained, a.Unclear)
	return a
}

// sameState compares the hashes of all members' states.
func (b *boundary) sameState() {
	b.t.Helper()
	b.eventually("all members answer with the same hash of the state", func() error {
		out, err := b.CLI(b.ctx, "state", "hash", "-o", "json")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		var h struct {
			Items []struct{ Member, Hash string } `json:"items"`
		}
		if err := json.Unmarshal([]byte(out), &h); err != nil {
			return err
		}
		if len(h.Items) != len(b.Members) {
			return fmt.Errorf("%d members answered", len(h.Items))
		}
		for _, i := range h.Items {
			if i.Hash == "" || i.Hash != h.Items[0].Hash {
				b.t.Fatalf("states differ: %s", out)
			}
		}
		return nil
	})
}

func (b *boundary) leader() *loopback.Member {
	b.t.Helper()
	var m *loopback.Member
	b.eventually("a member leads", func() (err error) {
		m, err = b.Leader(b.ctx)
		return err
	})
	return m
}
