package maildir

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"mailraft/deliver"
	"mailraft/mail"
)

// Scheme begins the address of a copy that is a directory.
const Scheme = "maildir"

// Transport delivers jobs whose address is "maildir:PATH".
type Transport struct {
	Host   string
	Retain func() time.Duration
	Now    func() mail.Time
	Create func(path string) bool // whether a directory that is missing is to be made; nil: never

	mu     sync.Mutex
	probes map[string]*probing     // that run, by path
	probe  func(path string) error // tests let probes hang here; nil: Store.Probe
}

func (t *Transport) store(path string) *Store {
	return New(Options{Dir: path, Host: t.Host, Retain: t.Retain, Now: t.Now, Create: t.Create != nil && t.Create(path)})
}

// Deliver implements deliver.Transport. Recipients that are the same mailbox
// get one copy.
func (t *Transport) Deliver(ctx context.Context, a *deliver.Attempt) []deliver.Answer {
	s := t.store(strings.TrimPrefix(a.Destination.Addr, Scheme+":"))
	answers := make([]deliver.Answer, len(a.Recipients))
	content, err := a.Open()
	if err != nil {
		for i := range answers {
			answers[i].Reply = *mail.Replyf(451, "4.3.0", "stored content cannot be read: %v", err)
		}
		return answers
	}
	defer content.Close()
	top := a.Top()
	done := make(map[string]deliver.Answer)
	for i, rcpt := range a.Recipients {
		if ctx.Err() != nil {
			break
		}
		addr, err := mail.ParseAddress(rcpt.Address)
		if err != nil {
			answers[i].Reply = *mail.Replyf(553, "5.1.3", "malformed address")
			continue
		}
		who := identity(addr)
		if _, again := done[who]; !again {
			done[who] = s.attempt(a, addr, top, content)
		}
		answers[i] = done[who]
	}
	return answers
}

func (s *Store) attempt(a *deliver.Attempt, to mail.Address, top []byte, content io.ReadSeeker) deliver.Answer {
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return deliver.Answer{Reply: *mail.Replyf(451, "4.3.0", "stored content cannot be read: %v", err)}
	}
	var lost error
	final := func() error { lost = a.Final(); return lost }
	r, err := s.Deliver(Message{Mailbox: to, ReversePath: a.ReversePath, Header: top, Content: content, Final: final})
	ans := deliver.Answer{Remote: r.Dir, Duplicate: r.Duplicate}
	if ans.Remote == "" {
		ans.Remote = s.dir
	}
	switch {
	case err == nil && r.Duplicate:
		ans.Reply = mail.Reply{Code: 250, Enhanced: "2.0.0", Text: deliver.HadIt}
	case err == nil:
		ans.Reply = mail.Reply{Code: 250, Enhanced: "2.0.0", Text: "delivered to " + r.Dir}
	case lost != nil && errors.Is(err, lost):
		return deliver.Answer{}
	default:
		ans.Reply, ans.Down = s.Reply(err)
	}
	return ans
}
