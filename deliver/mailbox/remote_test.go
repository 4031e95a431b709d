package mailbox

import (
	"bytes"
	"context"
	"io"
	"testing"

	"mailraft/deliver"
	"mailraft/deliver/remote"
	"mailraft/mail"
)

type stored struct{ *bytes.Reader }

func (stored) Close() error { return nil }

// What our own transport sends arrives, and a resubmission is known for what it is.
func TestWithTransport(t *testing.T) {
	addr, dir, _ := serve(t)
	tr := &remote.Transport{Host: "m1.example.test"}
	defer tr.Close()
	a := &deliver.Attempt{
		Job: deliver.Job{
			ID: mail.NewID(1e12, 5, 0), ReversePath: "s@example.org", Accepted: 1e12, EightBit: true, UTF8: true,
			Destination: deliver.Destination{Addr: "lmtp://" + addr},
			Recipients:  []deliver.Recipient{{Index: 0, Address: "alice@example.test"}, {Index: 1, Address: `"a b"@example.test`}, {Index: 2, Address: "jörg@example.test"}},
		},
		Open:  func() (io.ReadSeekCloser, error) { return stored{bytes.NewReader([]byte(text))}, nil },
		Final: func() error { return nil },
	}
	for _, resubmit := range []string{"", "X-Mailraft-Resubmit: 9\r\n"} {
		a.Header = []byte(resubmit)
		for i, ans := range tr.Deliver(context.Background(), a) {
			if ans.Reply.Code != 250 || ans.Duplicate != (resubmit != "") {
				t.Errorf("%q, recipient %d: %+v", resubmit, i, ans)
			}
		}
	}
	for _, folder := range []string{"alice", "a%20b", "j%c3%b6rg"} {
		if got := files(t, dir, folder); len(got) != 1 {
			t.Errorf("%s: %d messages", folder, len(got))
		}
	}
}
