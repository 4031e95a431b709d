package maildir

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailraft/deliver"
	"mailraft/mail"
)

type stored struct{ *bytes.Reader }

func (stored) Close() error { return nil }

func attempt(dir string, to ...string) *deliver.Attempt {
	a := &deliver.Attempt{
		Job: deliver.Job{
			ID: mail.NewID(1e12, 5, 0), ReversePath: "s@example.org", Accepted: 1e12, All: to,
			Trace: mail.Trace{By: "m1.example.test"}, Header: []byte("X-Mailraft-Resubmit: 9\r\n"), Destination: deliver.Destination{Addr: "maildir:" + dir},
		},
		Open:  func() (io.ReadSeekCloser, error) { return stored{bytes.NewReader([]byte(hello))}, nil },
		Final: func() error { return nil },
	}
	for i, r := range to {
		a.Recipients = append(a.Recipients, deliver.Recipient{Index: i, Address: r})
	}
	return a
}

func TestTransport(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made")
	tr := &Transport{Host: "mx", Retain: func() time.Duration { return hold }, Now: func() mail.Time { return 1e12 }, Create: func(path string) bool { return path == dir }}
	codes := func(answers []deliver.Answer) (s string) {
		for _, a := range answers {
			s += a.Reply.String()[:3]
			if a.Duplicate {
				s += "!"
			}
			if a.Down {
				s += "d"
			}
			s += " "
		}
		return s
	}
	ctx := context.Background()
	answers := tr.Deliver(ctx, attempt(dir, "alice@example.test", "bad@", "bob@example.test", "ALICE@example.test"))
	if got := codes(answers); got != "250 553 250 250 " || answers[0].Remote != filepath.Join(dir, "alice") {
		t.Fatalf("%s %+v", got, answers)
	}
	texts := inNew(t, filepath.Join(dir, "alice"))
	if len(texts) != 1 || !strings.Contains(texts[0], "Delivered-To: alice@example.test\r\nReceived: from unknown") || !strings.HasSuffix(texts[0], "X-Mailraft-Resubmit: 9\r\n"+hello) {
		t.Fatalf("%q", texts)
	}
	if got := codes(tr.Deliver(ctx, attempt(dir, "alice@example.test", "carol@example.test"))); got != "250! 250 " {
		t.Errorf("again: %s", got)
	}
	lost := attempt(dir, "dave@example.test")
	lost.Final = func() error { return errors.New("lease lost") }
	if a := tr.Deliver(ctx, lost)[0]; a.Reply.Code != 0 || len(inNew(t, filepath.Join(dir, "dave"))) != 0 {
		t.Errorf("without a lease: %+v", a)
	}
	unread := attempt(dir, "erin@example.test")
	unread.Open = func() (io.ReadSeekCloser, error) { return nil, errors.New("damaged") }
	if got := codes(tr.Deliver(ctx, unread)); got != "451 " {
		t.Errorf("damaged content: %s", got)
	}
	if got := codes(tr.Deliver(ctx, attempt(dir+"-away", "alice@example.test"))); got != "451d " {
		t.Errorf("missing directory: %s", got)
	}
}
