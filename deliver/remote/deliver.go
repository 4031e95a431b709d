package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"mailraft/deliver"
	"mailraft/directory"
	"mailraft/mail"
)

// transaction is one attempt, on one session after another.
type transaction struct {
	*session
	attempt  *deliver.Attempt
	from     string
	to       []string // re-encoded; empty where the recipient is answered already
	utf8     bool
	top      []byte
	answers  []deliver.Answer
	accepted []int // recipients that RCPT accepted
	reused   bool  // the session has done others before
	later    bool  // the peer takes the rest in another transaction
	ended    bool  // nothing more may be sent: the lease is gone
}

// errStale says that a kept connection was dead before it was asked anything:
// nothing has happened, and a fresh one may be tried.
var errStale = errors.New("kept connection is closed")

// Deliver implements deliver.Transport.
func (t *Transport) Deliver(ctx context.Context, a *deliver.Attempt) []deliver.Answer {
	ctx, cancel := context.WithTimeout(ctx, messageTime)
	defer cancel()
	x := &transaction{attempt: a, top: a.Top(), answers: make([]deliver.Answer, len(a.Recipients)), utf8: a.UTF8}
	if domain, ok := strings.CutPrefix(a.Destination.Addr, directory.MX+":"); ok {
		t.deliverMX(ctx, x, domain)
		return x.answers
	}
	to, err := t.target(a.Destination.Addr)
	if err != nil {
		x.rest(*mail.Replyf(451, "4.3.5", "%v", err), false)
		return x.answers
	}
	if x.addresses() {
		t.at(ctx, x, to)
	}
	return x.answers
}

// at delivers at one host, by a connection that is kept, or a fresh one.
func (t *Transport) at(ctx context.Context, x *transaction, to target) {
	for s := t.take(to); s != nil; s = t.take(to) {
		if err := t.use(ctx, x, s); !errors.Is(err, errStale) {
			return
		}
	}
	s, err := t.dial(ctx, to)
	if err != nil {
		x.session = nil
		r, busy := unreachable(to, err)
		x.rest(r, true)
		x.crowded(busy)
		return
	}
	t.use(ctx, x, s)
}

// unreachable is what a failed dial says; busy, that a server is there, and
// wants no further connection now.
func unreachable(to target, err error) (r mail.Reply, busy bool) {
	if ours := (*mail.Reply)(nil); errors.As(err, &ours) {
		return *ours, false
	}
	// Whatever a server says in place of a greeting, it is about now.
	word, ok := said(err)
	return *mail.Replyf(451, "4.4.1", "%s cannot be reached: %v", to.addr, err), ok && word.Temporary()
}

// crowded marks the answers by which a server refuses a further connection.
func (x *transaction) crowded(busy bool) {
	for i := range x.answers {
		x.answers[i].Busy = x.answers[i].Down && busy
	}
}

// use runs transactions until everybody has an answer, and keeps the session or
// closes it.
func (t *Transport) use(ctx context.Context, x *transaction, s *session) error {
	stop := context.AfterFunc(ctx, func() { s.conn.Close() })
	defer stop()
	x.session, x.reused = s, s.used > 0
	s.used++
	clean, err := x.run()
	for clean && x.later {
		clean, err = x.run()
	}
	if !clean || !stop() {
		s.conn.Close() // without a word: see session.quit
		return err
	}
	t.put(s)
	return err
}

// addresses re-encodes every address just before it is sent, so that no byte
// of a local part can become syntax. False if nobody is left.
func (x *transaction) addresses() bool {
	a := x.attempt
	if a.ReversePath != "" {
		from, err := mail.ParseAddress(a.ReversePath)
		if err != nil {
			x.rest(*mail.Replyf(553, "5.1.7", "malformed reverse-path"), false)
			return false
		}
		x.from, x.utf8 = from.String(), x.utf8 || from.UTF8()
	}
	left := false
	x.to = make([]string, len(a.Recipients))
	for i, r := range a.Recipients {
		to, err := mail.ParseAddress(r.Address)
		if err != nil {
			x.answers[i].Reply = *mail.Replyf(553, "5.1.3", "malformed address")
			continue
		}
		x.to[i], x.utf8, left = to.String(), x.utf8 || to.UTF8(), true
	}
	return left
}

// run returns whether the session can be used for another message. After a
// first transaction in which the peer took no more recipients it is for the
// rest, and says nothing of them if it cannot begin: they are due at once.
func (x *transaction) run() (clean bool, err error) {
	if r := x.unsupported(); r != nil {
		x.rest(*r, false)
		return true, nil
	}
	further := x.later
	x.later, x.accepted = false, nil
	x.client.CommandTimeout = x.times.Mail
	err = x.client.Mail(x.from, x.mailOptions())
	if err != nil {
		r, ok := said(err)
		switch {
		case further && (!ok || closing(r)):
			return false, nil
		case x.reused && (!ok || closing(r)):
			return false, errStale
		}
		return x.refused(err), nil
	}
	x.client.CommandTimeout = x.times.Rcpt
	if clean, ok := x.recipients(); !ok {
		return clean, nil
	}
	if len(x.accepted) == 0 {
		return x.reset(), nil
	}
	x.client.CommandTimeout = x.times.Data
	data, err := x.client.Data()
	x.client.CommandTimeout = x.times.Mail
	if err != nil {
		x.later = false
		return x.refused(err) && x.reset(), nil
	}
	return x.body(data), nil
}

// reset leaves a transaction that went no further. go-smtp forgets the hello
// with it, so the next one is made here, where its failure shows.
func (x *transaction) reset() bool {
	return x.client.Reset() == nil && x.client.Noop() == nil
}

// unsupported is what the peer cannot take. A message is neither stripped of
// its eighth bit nor of its addresses (RFC 6152 §3, RFC 6531 §3.2).
func (x *transaction) unsupported() *mail.Reply {
	if ok, _ := x.client.Extension("SMTPUTF8"); x.utf8 && !ok {
		return mail.Replyf(550, "5.6.7", "%s does not take internationalized mail (SMTPUTF8)", x.name)
	}
	if ok, _ := x.client.Extension("8BITMIME"); x.attempt.EightBit && !ok {
		return mail.Replyf(554, "5.6.3", "%s does not take 8-bit mail (8BITMIME)", x.name)
	}
	if most, ok := x.client.MaxMessageSize(); ok && most > 0 && x.size() > int64(most) {
		return mail.Replyf(552, "5.3.4", "%s takes no message above %d bytes", x.name, most)
	}
	return nil
}

func (x *transaction) size() int64 {
	return x.attempt.Overlay.Size(x.attempt.Content.Size) + int64(len(x.top))
}

// recipients says RCPT once for each address. ok is false when the
// transaction is over; clean then tells whether the session is of use.
func (x *transaction) recipients() (clean, ok bool) {
	sent := make(map[string]int)
	for i, to := range x.to {
		if to == "" || x.answers[i].Reply.Code != 0 {
			continue
		}
		if _, again := sent[to]; again {
			continue // answered with the first, see share
		}
		sent[to] = i
		err := x.client.Rcpt(to, x.rcptOptions(i))
		if err == nil {
			x.accepted = append(x.accepted, i)
			continue
		}
		r, ok := said(err)
		if !ok || closing(r) || wants(r) {
			return x.refused(err), false
		}
		if r = atRcpt(r); tooMany(r) && len(x.accepted) > 0 {
			x.later = true
			break
		}
		x.answers[i] = deliver.Answer{Reply: r, Remote: x.name}
		x.share(i)
	}
	return true, true
}

// share gives the answer for one recipient to the others with its address.
func (x *transaction) share(i int) {
	for j, to := range x.to {
		if j != i && to == x.to[i] && to != "" {
			x.answers[j] = x.answers[i]
		}
	}
}

// refused answers for everybody who has no answer yet: the command before the
// content failed. It returns whether the session is of further use.
func (x *transaction) refused(err error) bool {
	r, ok := said(err)
	if !ok {
		x.rest(*mail.Replyf(451, "4.4.2", "connection with %s lost: %v", x.name, err), true)
		return false
	}
	if wants(r) {
		x.rest(*mail.Replyf(451, "4.7.0", "%s wants other settings for its address: %s", x.name, r.String()), true)
		return false
	}
	x.rest(r, closing(r))
	return !closing(r)
}

// rest answers for all that have no answer.
func (x *transaction) rest(r mail.Reply, down bool) {
	if r.Code/100 == 2 { // a yes to the wrong question
		r = *mail.Replyf(451, "4.5.0", "unexpected answer: %s", r.String())
	}
	for i := range x.answers {
		if x.answers[i].Reply.Code == 0 {
			x.answers[i] = deliver.Answer{Reply: r, Down: down}
			if x.session != nil {
				x.answers[i].Remote = x.name
			}
		}
	}
}

// body sends the message, and the final dot only if it still may.
func (x *transaction) body(data *smtp.DataCommand) (clean bool) {
	content, err := x.attempt.Open()
	if err != nil {
		x.rest(*mail.Replyf(451, "4.3.0", "stored content cannot be read: %v", err), false)
		return false
	}
	defer content.Close()
	src := &source{r: content}
	deaf := x.conn.hear()
	_, err = data.Write(x.top)
	if err == nil {
		_, err = io.CopyBuffer(writerOnly{data}, src, make([]byte, 64<<10))
	}
	grace := time.Duration(0)
	if err != nil && src.err == nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		grace = lastWords
	}
	spoke := deaf(grace)
	switch {
	case src.err != nil:
		x.rest(*mail.Replyf(451, "4.3.0", "stored content cannot be read: %v", src.err), false)
		return false
	case spoke || err != nil:
		x.interrupted(spoke, err)
		return false
	}
	if x.attempt.Final() != nil {
		x.ended = true
		return false
	}
	if x.target.lmtp {
		return x.lmtpAnswers(data)
	}
	return x.smtpAnswer(data)
}

// lastWords is how long a peer that does not take the body any more is listened
// to: what it said may still be on its way.
const lastWords = time.Second

// interrupted answers for those whose message was not sent to its end. A peer
// that refused it meanwhile is believed: the dot was not sent, so it cannot have
// taken it.
func (x *transaction) interrupted(spoke bool, err error) {
	var r mail.Reply
	ok := false
	if spoke {
		r, ok = x.conn.early()
		err = cmp.Or(err, errSpoke)
	}
	if !ok {
		r = *mail.Replyf(451, "4.4.2", "connection with %s lost while sending: %v", x.name, err)
	}
	x.later = false
	for _, i := range x.accepted {
		x.answers[i] = deliver.Answer{Reply: r, Remote: x.name, Down: ok && closing(r)}
		x.share(i)
	}
}

func (x *transaction) smtpAnswer(data *smtp.DataCommand) (clean bool) {
	resp, err := data.CloseWithResponse()
	ans := deliver.Answer{Remote: x.name}
	clean = true
	if err == nil {
		ans.Reply = taken(resp.StatusText)
	} else {
		ans, clean = x.afterDot(err)
	}
	for _, i := range x.accepted {
		x.answers[i] = ans
		x.answers[i].Passed = err == nil && x.passed(x.attempt.Recipients[i])
		x.share(i)
	}
	return clean
}

// lmtpAnswers keeps every answer that came, also of a peer that died after
// some: only the others are tried again.
func (x *transaction) lmtpAnswers(data *smtp.DataCommand) (clean bool) {
	resp, err := data.CloseWithLMTPResponse()
	var failed smtp.LMTPDataError
	errors.As(err, &failed)
	_, whole := err.(smtp.LMTPDataError)
	clean = err == nil || whole
	for _, i := range x.accepted {
		to := x.to[i]
		if r := resp[to]; r != nil {
			x.answers[i] = deliver.Answer{Reply: taken(r.StatusText), Remote: x.name, Duplicate: strings.HasSuffix(r.StatusText, deliver.HadIt), Passed: x.passed(x.attempt.Recipients[i])}
		} else if e := failed[to]; e != nil {
			var ok bool
			x.answers[i], ok = x.afterDot(e)
			clean = clean && ok
		} else {
			x.answers[i] = x.unknown()
		}
		x.share(i)
	}
	return clean
}

// afterDot is the answer where something other than 250 followed the final dot.
func (x *transaction) afterDot(err error) (a deliver.Answer, clean bool) {
	if r, ok := said(err); ok {
		return deliver.Answer{Reply: r, Remote: x.name, Down: closing(r)}, !closing(r)
	}
	return x.unknown(), false
}

// unknown is the answer where none came: nobody knows whether the message was
// taken. It is sent again, and may arrive twice.
func (x *transaction) unknown() deliver.Answer {
	return deliver.Answer{Reply: *mail.Replyf(451, "4.4.2", "no answer from %s after the end of the message", x.name), Remote: x.name, Uncertain: true}
}

// source remembers that reading failed, to tell it from a failing peer.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	if err != nil && err != io.EOF {
		s.err = fmt.Errorf("read content: %w", err)
	}
	return n, err
}

type writerOnly struct{ io.Writer }
