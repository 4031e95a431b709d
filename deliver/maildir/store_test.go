package maildir

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mailraft/mail"
)

const hold = 4 * 24 * time.Hour

func newStore(t *testing.T, dir string, now *mail.Time) *Store {
	t.Helper()
	return New(Options{Dir: dir, Host: "mx.example.test", Retain: func() time.Duration { return hold }, Now: func() mail.Time { return *now }})
}

func message(to, content string) Message {
	a, err := mail.ParseAddress(to)
	if err != nil {
		panic(err)
	}
	return Message{Mailbox: a, ReversePath: "s@example.org", Header: []byte("Received: from x\r\n"), Content: strings.NewReader(content)}
}

// inNew returns the texts in new/ of a folder.
func inNew(t *testing.T, dir string) []string {
	t.Helper()
	names, err := os.ReadDir(filepath.Join(dir, "new"))
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, n := range names {
		b, err := os.ReadFile(filepath.Join(dir, "new", n.Name()))
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(b))
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "tmp")); len(left) > 0 {
		t.Errorf("left in tmp: %v", left)
	}
	return texts
}

const hello = "Message-ID: <1@example.org>\r\nDate: Mon, 1 Jan 2029 00:00:00 +0000\r\nSubject: hello\r\n\r\nhello\r\n"

func TestDeliver(t *testing.T) {
	dir, now := t.TempDir(), mail.Time(1e12)
	s := newStore(t, dir, &now)
	r, err := s.Deliver(message("Alice@Example.TEST", hello))
	if err != nil || r.Duplicate || r.Dir != filepath.Join(dir, "alice") {
		t.Fatalf("%+v, %v", r, err)
	}
	got := inNew(t, r.Dir)
	want := "Return-Path: <s@example.org>\r\nDelivered-To: Alice@Example.TEST\r\nReceived: from x\r\n" + hello
	if len(got) != 1 || got[0] != want {
		t.Fatalf("got %q", got)
	}
	other, err := s.Deliver(message("alice@example.org", hello))
	if err != nil || other.Dir != filepath.Join(dir, "alice@example.org") || other.Duplicate {
		t.Fatalf("a second alice: %+v, %v", other, err)
	}
	if again, _ := s.Deliver(message("alice@example.test", hello)); !again.Duplicate || again.Dir != r.Dir {
		t.Fatalf("again: %+v", again)
	}
}

func TestAdoptsMaildir(t *testing.T) {
	dir, now := t.TempDir(), mail.Time(1e12)
	for _, d := range []string{"tmp", "new", "cur"} {
		os.MkdirAll(filepath.Join(dir, "bob", d), 0o700)
	}
	if r, err := newStore(t, dir, &now).Deliver(message("bob@example.test", hello)); err != nil || r.Dir != filepath.Join(dir, "bob") {
		t.Fatalf("%+v, %v", r, err)
	}
}

func TestDuplicates(t *testing.T) {
	for name, c := range map[string]struct {
		second string
		to     string
		later  time.Duration
		dup    bool
	}{
		"same":                   {second: hello, dup: true},
		"resubmitted":            {second: "X-Mailraft-Resubmit: 7\r\nReceived: from y\r\n\tby z\r\n" + hello, dup: true},
		"trace in the middle":    {second: strings.Replace(hello, "Date:", "Delivered-To:\r\n x\r\nReturn-Path: <>\r\nDate:", 1), dup: true},
		"other Message-ID":       {second: strings.Replace(hello, "<1@", "<2@", 1)},
		"other Date":             {second: strings.Replace(hello, "2029", "2028", 1)},
		"other body":             {second: hello + "more\r\n"},
		"other subject":          {second: strings.Replace(hello, "Subject: hello", "Subject: hallo", 1)},
		"trace name in the body": {second: hello + "Received: x\r\n"},
		"other mailbox":          {second: hello, to: "bob@example.test"},
		"just retained":          {second: hello, later: hold, dup: true},
		"no longer retained":     {second: hello, later: hold + time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			now := mail.Time(1e12)
			s := newStore(t, t.TempDir(), &now)
			if r, err := s.Deliver(message("alice@example.test", hello)); err != nil || r.Duplicate {
				t.Fatalf("first: %+v, %v", r, err)
			}
			now = now.Add(c.later)
			to := c.to
			if to == "" {
				to = "alice@example.test"
			}
			r, err := s.Deliver(message(to, c.second))
			if err != nil || r.Duplicate != c.dup {
				t.Fatalf("second: %+v, %v", r, err)
			}
			want := 2
			if c.dup || c.to != "" {
				want = 1
			}
			if got := inNew(t, r.Dir); len(got) != want {
				t.Fatalf("%d messages", len(got))
			}
		})
	}
}

func TestNeverDuplicateWithoutMessageID(t *testing.T) {
	for _, text := range []string{
		"Subject: x\r\n\r\nbody\r\n", "Message-ID:\r\nSubject: x\r\n\r\nb", "Message-ID:  \r\n \r\n\r\nb", "message-id\r\n\r\nb",
		"Subject: x\r\n\r\nMessage-ID: <a@b>\r\n", "Message-IDs: <a@b>\r\n\r\n",
	} {
		now := mail.Time(1e12)
		s := newStore(t, t.TempDir(), &now)
		for range 2 {
			if r, err := s.Deliver(message("alice@example.test", text)); err != nil || r.Duplicate {
				t.Fatalf("%q: %+v, %v", text, r, err)
			}
		}
	}
}

// A delivery is cut at each step, as by a kill: afterwards the message is sent
// again, and shown once, whatever a mail reader has done with it meanwhile.
func TestCrashPoints(t *testing.T) {
	crash := errors.New("crash")
	readers := map[string]func(name string) string{
		"unread": func(name string) string { return name },
		"seen":   func(name string) string { return filepath.Join("..", "cur", name+":2,S") },
	}
	for _, step := range []string{"sync", "intent", "link", "name", "record", "settled"} {
		for reader, moved := range readers {
			t.Run(step+"/"+reader, func(t *testing.T) {
				dir, now := t.TempDir(), mail.Time(1e12)
				s, box := newStore(t, dir, &now), filepath.Join(dir, "alice")
				s.step = func(name string) error {
					if name == step {
						return crash
					}
					return nil
				}
				_, err := s.Deliver(message("alice@example.test", hello))
				left, _ := readNames(filepath.Join(box, "new"))
				if err == nil && len(left) != 1 {
					t.Fatalf("delivered, but %d in new", len(left))
				}
				s.step = nil
				for _, name := range left {
					if err := os.Rename(filepath.Join(box, "new", name), filepath.Join(box, "new", moved(name))); err != nil {
						t.Fatal(err)
					}
				}
				// Another message comes between, and must not cover the traces.
				if _, err := s.Deliver(message("alice@example.test", strings.Replace(hello, "<1@", "<2@", 1))); err != nil {
					t.Fatal(err)
				}
				r, err := s.Deliver(message("alice@example.test", hello))
				if err != nil || r.Duplicate != (len(left) == 1) {
					t.Fatalf("again: %+v, %v, of %d visible before", r, err, len(left))
				}
				cur, err := os.ReadDir(filepath.Join(box, "cur"))
				if err != nil {
					t.Fatal(err)
				}
				if n := len(inNew(t, box)) + len(cur); n != 2 {
					t.Fatalf("%d messages, want this one and the other", n)
				}
				if r, err := s.Deliver(message("alice@example.test", hello)); err != nil || !r.Duplicate {
					t.Fatalf("third time: %+v, %v", r, err)
				}
				if b, err := os.ReadFile(filepath.Join(box, intentFile)); err != nil || len(b) != 0 {
					t.Fatalf("an intent is left: %q, %v", b, err)
				}
			})
		}
	}
}

// A message that its owner has thrown away between the kill and the next
// attempt comes again: that it was there cannot be known, and losing is worse.
func TestIntentWithoutFile(t *testing.T) {
	dir, now := t.TempDir(), mail.Time(1e12)
	s, box := newStore(t, dir, &now), filepath.Join(dir, "alice")
	s.step = func(name string) error {
		if name == "record" {
			return errors.New("crash")
		}
		return nil
	}
	if _, err := s.Deliver(message("alice@example.test", hello)); err != nil {
		t.Fatal(err)
	}
	s.step = nil
	names, err := readNames(filepath.Join(box, "new"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		os.Remove(filepath.Join(box, "new", name))
	}
	if r, err := s.Deliver(message("alice@example.test", hello)); err != nil || r.Duplicate {
		t.Fatalf("%+v, %v", r, err)
	}
}

func FuzzIntent(f *testing.F) {
	f.Add([]byte{})
	f.Add(intent{at: 5, sum: fingerprint{1}, name: "1.M2P3Q4Rff.host,S=5"}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if i, ok := decodeIntent(b); ok && !bytes.Equal(i.encode(), b) {
			t.Fatalf("%+v of %x encodes as %x", i, b, i.encode())
		}
	})
}

func TestFinalRefused(t *testing.T) {
	dir, now := t.TempDir(), mail.Time(1e12)
	m := message("alice@example.test", hello)
	lost := errors.New("lease lost")
	m.Final = func() error { return lost }
	if _, err := newStore(t, dir, &now).Deliver(m); !errors.Is(err, lost) {
		t.Fatal(err)
	}
	if got := inNew(t, filepath.Join(dir, "alice")); len(got) != 0 {
		t.Fatalf("visible: %q", got)
	}
}

func TestReplies(t *testing.T) {
	now := mail.Time(1e12)
	missing := newStore(t, filepath.Join(t.TempDir(), "away"), &now)
	_, err := missing.Deliver(message("alice@example.test", hello))
	if r, down := missing.Reply(err); !down || r.Code != 451 || !strings.Contains(r.Text, missing.dir) {
		t.Fatalf("missing directory: %v, %v", r, down)
	}
	if missing.Probe() == nil {
		t.Error("probe of a missing directory succeeds")
	}
	s := newStore(t, t.TempDir(), &now)
	if err := s.Probe(); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		err  error
		code int
		down bool
	}{
		{&os.PathError{Op: "write", Path: s.dir, Err: syscall.ENOSPC}, 452, true},
		{&os.PathError{Op: "open", Path: s.dir, Err: syscall.EACCES}, 451, false},
		{&os.PathError{Op: "open", Path: s.dir, Err: syscall.EIO}, 451, true},
		{errors.New("odd"), 451, false},
	} {
		r, down := s.Reply(fmt.Errorf("deliver: %w", c.err))
		if r.Code != c.code || down != c.down || !strings.Contains(r.Text, s.dir) {
			t.Errorf("%v: %v, %v", c.err, r, down)
		}
	}
}

func TestRecordDamage(t *testing.T) {
	dir, now := t.TempDir(), mail.Time(1e12)
	s := newStore(t, dir, &now)
	text := func(n int) string { return strings.Replace(hello, "<1@", fmt.Sprintf("<%d@", n), 1) }
	deliver := func(n int) bool {
		r, err := s.Deliver(message("alice@example.test", text(n)))
		if err != nil {
			t.Fatal(err)
		}
		return r.Duplicate
	}
	for n := range 3 {
		deliver(n)
	}
	file := filepath.Join(dir, "alice", seenFile)
	b, _ := os.ReadFile(file)
	b[len(seenHead)+entrySize+10] ^= 1                    // the second entry is damaged
	os.WriteFile(file, append(b, "torn entry"...), 0o600) // and the last append was cut
	if deliver(1) {
		t.Error("a damaged entry was believed")
	}
	for _, n := range []int{0, 1, 2} {
		if !deliver(n) {
			t.Errorf("entry %d is gone", n)
		}
	}
	os.WriteFile(file, []byte("something else"), 0o600)
	if deliver(0) || !deliver(0) {
		t.Error("a foreign file was not replaced")
	}
}

func TestRecordCompacts(t *testing.T) {
	dir, now := t.TempDir(), mail.Time(1e12)
	os.Mkdir(filepath.Join(dir, "m"), 0o700)
	fp := func(n int) (f fingerprint) { copy(f[:], fmt.Sprint(n)); return f }
	for n := range 3 * compactMin {
		s, err := readSeen(filepath.Join(dir, "m"), fp(n), now.Add(-hold))
		if err != nil || s.found {
			t.Fatal(n, err)
		}
		if err := s.add(now, fp(n)); err != nil {
			t.Fatal(err)
		}
		now = now.Add(hold / 100)
	}
	fi, _ := os.Stat(filepath.Join(dir, "m", seenFile))
	if limit := int64(entrySize * (compactMin + 300)); fi.Size() > limit {
		t.Errorf("%d bytes, more than %d", fi.Size(), limit)
	}
	for n := 3*compactMin - 100; n < 3*compactMin; n++ {
		if s, _ := readSeen(filepath.Join(dir, "m"), fp(n), now.Add(-hold)); !s.found {
			t.Fatalf("entry %d is gone", n)
		}
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte{})
	f.Add(seenHead)
	f.Add(appendEntry(bytes.Clone(seenHead), 5, fingerprint{1}))
	f.Add(appendEntry(appendEntry(bytes.Clone(seenHead), 5, fingerprint{1}), 6, fingerprint{2})[:70])
	f.Fuzz(func(t *testing.T, b []byte) {
		var s seen
		s.scan(b, fingerprint{1}, 0)
		if s.whole > int64(len(b)) || len(s.live)%entrySize != 0 {
			t.Fatalf("%+v", s)
		}
		again := seen{}
		again.scan(append(bytes.Clone(seenHead), s.live...), fingerprint{1}, 0)
		if again.found != s.found || again.expired != 0 || !bytes.Equal(again.live, s.live) {
			t.Fatalf("live entries read differently: %+v, %+v", s, again)
		}
	})
}

func FuzzFingerprint(f *testing.F) {
	f.Add([]byte(hello), 7)
	f.Add([]byte("Received: "+strings.Repeat("x", 200)+"\r\n y\r\nMessage-ID:"+strings.Repeat(" ", 100)+"\r\n <a@b>\r\n\r\n"), 64)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		whole, parts := newFingerprinter(), newFingerprinter()
		whole.Write(b)
		step := max(1, cut&0xff)
		for rest := b; len(rest) > 0; {
			n := min(step, len(rest))
			parts.Write(rest[:n])
			rest = rest[n:]
		}
		a, ok := whole.result()
		b2, ok2 := parts.result()
		if a != b2 || ok != ok2 {
			t.Fatal("the fingerprint depends on how the message is cut")
		}
		traced := newFingerprinter()
		traced.Write([]byte("Received: a\r\n\tb\r\nX-MAILRAFT-resubmit : 1\r\n"))
		traced.Write(b)
		if c, _ := traced.result(); c != a && (len(b) == 0 || b[0] != ' ' && b[0] != '\t') {
			t.Fatal("trace fields count")
		}
	})
}

// Two stores and a second process deliver the same messages into one mailbox
// at once: each is there once.
func TestLock(t *testing.T) {
	if dir := os.Getenv("MAILDIR_TEST_DIR"); dir != "" {
		now := mail.At(time.Now())
		deliverMany(t, newStore(t, dir, &now))
		return
	}
	dir, now := t.TempDir(), mail.At(time.Now())
	child := exec.Command(os.Args[0], "-test.run=^TestLock$")
	child.Env = append(os.Environ(), "MAILDIR_TEST_DIR="+dir)
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { deliverMany(t, newStore(t, dir, &now)) })
	}
	wg.Wait()
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := inNew(t, filepath.Join(dir, "alice")); len(got) != many {
		t.Fatalf("%d messages, want %d", len(got), many)
	}
}

const many = 50

func deliverMany(t *testing.T, s *Store) {
	for n := range many {
		if _, err := s.Deliver(message("alice@example.test", strings.Replace(hello, "<1@", fmt.Sprintf("<%d@", n), 1))); err != nil {
			t.Error(err)
		}
	}
}
