package frontend

import (
	"context"
	"errors"
	"slices"
	"time"

	"mailraft/mail"
	"mailraft/mail/reply"
	"mailraft/smtpd"
	"mailraft/smtpd/handover"
)

const (
	// hedgeTime is how long the first answer may take while another member could
	// be asked: nothing was told to the client yet.
	hedgeTime = 3 * time.Second
	triesMax  = 5
	resetTime = 2 * time.Second
)

// transaction is a client's, on its way to a member. MAIL was answered here; it
// goes to the member with the first recipient, so until that is answered
// another member can be taken without the client seeing anything of it.
type transaction struct {
	f      *Frontend
	client handover.Client
	mail   string // the MAIL command

	b       *boundary   // nil: not decided yet
	s       *stream     // nil: none is taken
	tried   []*peer     // that gave no answer
	begun   bool        // the member has MAIL
	taken   bool        // a recipient was accepted
	sending bool        // the message has begun
	done    bool        // the member has answered the message
	refusal *mail.Reply // holds for whatever comes
}

// Begin implements smtpd.Relay. With one boundary the member is chosen at once.
func (f *Frontend) Begin(ctx context.Context, c handover.Client, mailCommand string) (smtpd.Transaction, error) {
	t := &transaction{f: f, client: c, mail: mailCommand}
	if len(f.boundaries) > 1 {
		return t, nil
	}
	t.b = f.boundaries[0]
	if err := t.open(ctx, false); err != nil {
		return nil, err
	}
	return t, nil
}

// open takes a stream to a member, and another member where that fails.
func (t *transaction) open(ctx context.Context, anew bool) error {
	for range triesMax {
		p, err := t.b.choose(t.tried)
		if err != nil {
			return err
		}
		if t.s, err = p.take(ctx, anew); err == nil {
			return nil
		}
		t.f.log.Info("a member is not reached, trying another", "member", p.name(), "address", p.addr, "session", t.client.Session, "error", err)
		t.f.counters.retries.Add(1)
		t.tried = append(t.tried, p)
	}
	return t.b.nobody(nil)
}

// Rcpt implements smtpd.Transaction.
func (t *transaction) Rcpt(ctx context.Context, command string, to mail.Address) error {
	if t.refusal != nil {
		return t.refusal
	}
	if t.b == nil {
		b, err := t.f.route(ctx, t.client, to)
		if err != nil {
			return err
		}
		t.b = b
	}
	r, err := t.ask(ctx, command)
	if err != nil {
		return err
	}
	switch {
	case r.Code/100 == 2:
		t.taken = true
		return nil
	case r == t.refusal || !r.Permanent() || len(t.f.boundaries) == 1:
		return r
	}
	return t.elsewhere(ctx, command, to, r)
}

// ask hands a RCPT command over, with all that must come before it.
func (t *transaction) ask(ctx context.Context, command string) (*mail.Reply, error) {
	if t.begun {
		t.s.say(command)
		r, err := t.s.answer(replyTime)
		if err != nil || r.Code == 421 {
			return nil, t.broke(err)
		}
		return r, nil
	}
	var last error
	for try := range triesMax {
		if t.s == nil {
			if err := t.open(ctx, try > 1); err != nil {
				return nil, err
			}
		}
		r, err := t.first(command)
		if err == nil {
			return r, nil
		}
		last = err
		t.f.counters.retries.Add(1)
		t.f.log.Info("a member gives no answer, trying again", "member", t.s.to.name(), "session", t.client.Session, "error", err)
		if t.s.fresh { // else it may only have been too old
			t.tried = append(t.tried, t.s.to)
		}
		t.drop()
	}
	return nil, t.broke(last)
}

// first says whose transaction it is, MAIL and the first RCPT in one. An error:
// the member did not answer, or is leaving.
func (t *transaction) first(command string) (*mail.Reply, error) {
	t.s.say(t.client.Line())
	t.s.say(t.mail)
	t.s.say(command)
	within := replyTime
	if t.b.others(append(slices.Clone(t.tried), t.s.to)) {
		within = hedgeTime
	}
	var replies [3]*mail.Reply
	for i := range replies {
		r, err := t.s.answer(within)
		if err == nil && r.Code == 421 {
			err = r
		}
		if err != nil {
			return nil, err
		}
		replies[i] = r
	}
	switch {
	case replies[0].Code != 250:
		t.f.log.Error("a member does not take transactions from front ends", "member", t.s.to.name(), "reply", replies[0].String())
		t.refusal = reply.Unexpected.Reply()
		t.drop() // it may have taken MAIL, and nobody knows for whom
		return t.refusal, nil
	case replies[1].Code != 250:
		t.refusal = replies[1]
		return t.refusal, nil
	}
	t.begun = true
	return replies[2], nil
}

// others reports whether another member could be asked.
func (b *boundary) others(but []*peer) bool {
	_, err := b.choose(but)
	return err == nil
}

// elsewhere says of a recipient that the chosen boundary refuses for good
// whether another one takes it.
func (t *transaction) elsewhere(ctx context.Context, command string, to mail.Address, refusal *mail.Reply) error {
	r := t.f.resolve(ctx, t.client, to, t.b)
	switch {
	case r.to != nil && t.taken:
		return reply.OtherBoundary.Reply()
	case r.to != nil: // it was remembered wrongly, and nothing keeps the transaction here
		t.f.forget(to)
		t.End()
		t.b, t.begun, t.tried = r.to, false, nil
		answer, err := t.ask(ctx, command)
		if err != nil {
			return err
		}
		if t.taken = answer.Code/100 == 2; t.taken {
			return nil
		}
		return answer
	case r.temporary() != nil:
		return r.temporary()
	}
	return refusal
}

// broke is what a client is told when the member is lost in the middle: the
// transaction is over, and nothing of it was accepted.
func (t *transaction) broke(err error) error {
	name := ""
	if t.s != nil {
		name = t.s.to.name()
	}
	t.f.log.Warn("a transaction is given up, its client sends it again", "member", name, "session", t.client.Session, "error", err)
	t.f.counters.broken.Add(1)
	t.refusal = reply.Broke.Reply()
	t.drop()
	return reply.Broke.Reply()
}

// drop lets go of the stream, which is in no known state.
func (t *transaction) drop() {
	if t.s != nil {
		t.s.to.give(t.s, false)
		t.s = nil
	}
	t.begun = false
}

// End implements smtpd.Transaction.
func (t *transaction) End() {
	switch {
	case t.s == nil:
	case t.sending && !t.done:
		t.drop()
	case t.begun && !t.done:
		t.s.say("RSET")
		r, err := t.s.answer(resetTime)
		t.s.to.give(t.s, err == nil && r.Code == 250)
	default:
		t.s.to.give(t.s, true)
	}
	t.s = nil
}

// errUnknown reports a message whose answer was lost.
var errUnknown = errors.New("the outcome is not known")
