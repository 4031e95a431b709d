package frontend

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"mailraft/mail"
	"mailraft/mail/reply"
	"mailraft/smtpd"
	"mailraft/smtpd/handover"
)

// content is a message on its way to the member, in chunks (RFC 3030): no byte
// of it is looked at, and only LAST says that it came to its end.
type content struct {
	t          *transaction
	submission mail.ContentID // what the member calls it
	buf        []byte         // not sent yet
	unanswered int            // chunks
}

// Data implements smtpd.Transaction. The empty chunk asks whether the member
// wants the message at all, before the client is told to go ahead.
func (t *transaction) Data(context.Context) (smtpd.Content, error) {
	if t.refusal != nil {
		return nil, t.refusal
	}
	t.s.say("BDAT 0")
	r, err := t.s.answer(replyTime)
	if err != nil {
		return nil, t.broke(err)
	}
	if r.Code != 250 {
		t.done = true
		return nil, r
	}
	c := &content{t: t}
	if text, ok := strings.CutPrefix(r.Text, "submission "); ok {
		c.submission, err = mail.ParseContentID(text)
	}
	if err != nil || c.submission.IsZero() {
		return nil, t.broke(fmt.Errorf("%w: no submission id in %q", errStream, r.Text))
	}
	t.sending = true
	return c, nil
}

// Write implements smtpd.Content. An error that is a *mail.Reply is the
// member's answer to the message, before its end.
func (c *content) Write(p []byte) (int, error) {
	if len(c.buf)+len(p) < chunkSize {
		c.buf = append(c.buf, p...)
		return len(p), nil
	}
	if err := c.chunk(p, ""); err != nil {
		return 0, err
	}
	if c.unanswered >= windowMax {
		if err := c.catchUp(windowMax / 2); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// chunk sends what waits, and p behind it.
func (c *content) chunk(p []byte, last string) error {
	s := c.t.s
	s.say(fmt.Sprintf("BDAT %d%s", len(c.buf)+len(p), last))
	s.out = append(append(s.out, c.buf...), p...)
	c.buf = c.buf[:0]
	c.unanswered++
	if err := s.flush(); err != nil {
		return c.t.broke(err)
	}
	return nil
}

// catchUp reads the answers to chunks until only so many are missing.
func (c *content) catchUp(missing int) error {
	for ; c.unanswered > missing; c.unanswered-- {
		r, err := c.t.s.answer(replyTime)
		if err != nil {
			return c.t.broke(err)
		}
		if r.Code != 250 {
			return r // chunks are on their way to a message that is over: the stream ends with End
		}
	}
	return nil
}

// Commit implements smtpd.Content.
func (c *content) Commit(ctx context.Context) (*mail.Reply, error) {
	// From here the member may have all of it.
	r, err := c.end()
	if err == nil {
		return r, nil
	}
	if errors.As(err, &r) {
		return nil, err
	}
	t := c.t
	from := t.s.to
	t.f.log.Warn("the answer to a message was lost, asking what became of it", "member", from.name(), "session", t.client.Session,
		"submission", c.submission.String(), "error", err)
	t.drop()
	t.refusal = reply.Broke.Reply()
	return t.f.settle(ctx, t.b, from, c.submission)
}

// end sends the last chunk, and waits for the answer to the message.
func (c *content) end() (*mail.Reply, error) {
	s := c.t.s
	s.say(fmt.Sprintf("BDAT %d LAST", len(c.buf)))
	s.out = append(s.out, c.buf...)
	if err := s.flush(); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnknown, err)
	}
	for ; c.unanswered > 0; c.unanswered-- {
		r, err := s.answer(replyTime)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errUnknown, err)
		}
		if r.Code != 250 {
			return nil, r
		}
	}
	r, err := s.answer(commitTime)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnknown, err)
	}
	c.t.done = true
	if r.Code/100 != 2 {
		return nil, r
	}
	return r, nil
}

// fateTime is how long it is tried to learn what became of a message: the
// members' commit-timeout, and an election.
const fateTime = 40 * time.Second

// settle asks the boundary what became of a submission whose answer was lost.
// Asking makes it certain: either it was accepted, and the client is told so, or
// it never will be, and the client sends it again. Only where nobody answers
// that either may the message arrive twice.
func (f *Frontend) settle(ctx context.Context, b *boundary, from *peer, id mail.ContentID) (*mail.Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, fateTime)
	defer cancel()
	for but := []*peer{from}; ctx.Err() == nil; {
		p, err := b.choose(but)
		if err != nil && len(but) > 0 {
			but = nil // the member itself may be there again
			continue
		}
		if err == nil {
			var fate handover.Fate
			fate, err = call[handover.Fate](ctx, b, p, handover.KindFate, handover.FateRequest{Submission: id}, fateTime)
			switch {
			case err == nil && !fate.ID.IsZero():
				f.counters.settledTaken.Add(1)
				return reply.Queued.Reply(fate.ID), nil
			case err == nil:
				f.counters.settledNot.Add(1)
				return nil, reply.Broke.Reply()
			}
		}
		f.log.Debug("what became of a message is not known yet", "submission", id.String(), "error", err)
		select {
		case <-time.After(pollEvery / 2):
		case <-ctx.Done():
		}
	}
	f.counters.uncertain.Add(1)
	return nil, reply.Broke.Reply()
}
