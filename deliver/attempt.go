package deliver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"time"

	"mailraft/mail"
)

// textMax cuts the words of a peer: they go into an entry.
const textMax = 500

var errLease = errors.New("no lease")

// run is one delivery, from its start to its report. The circuit's place is
// given back as soon as the transport has answered.
func (d *Deliverer) run(f *flight) {
	j := f.job
	defer d.inHand(j)()
	if len(j.Tell) > 0 {
		d.tell(f)
		return
	}
	begin := time.Now()
	answers := d.try(f)
	took := time.Since(begin)
	now := d.Now()
	if !d.landed(f, answers) {
		return
	}
	until := d.settle(f, answers, now, took)
	outcomes := d.outcomes(j, answers, now, until, took)
	if len(outcomes) == 0 {
		d.drop(f)
		return
	}
	report := mail.Report{ID: j.ID, Outcomes: outcomes}
	if err := d.notify(j, &report, now); err != nil {
		d.Logger.Warn("report to the sender cannot be stored: the recipient stays queued", "id", j.ID, "error", err)
		postpone(j, &report, now, err)
	}
	d.log(j, report.Outcomes)
	d.mu.Lock()
	d.running--
	d.places.leave(f)
	d.count(report)
	d.mu.Unlock()
	p := &pending{flight: f, report: report}
	for _, o := range report.Outcomes {
		if o.Result.Final() {
			p.final = append(p.final, o.Recipient)
		}
	}
	d.reporter.add(p)
	d.Kick()
}

// landed takes from the answers what is our own doing: we closed the
// connection, not they. Of a destination that was replaced only what was taken
// is said at all. False: nobody waits for this delivery any more.
func (d *Deliverer) landed(f *flight, answers []Answer) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	f.answered = true
	stopped := d.ctx.Err() != nil
	for i, a := range answers {
		if stopped && !a.Uncertain && a.Reply.Temporary() || f.recalled && a.Reply.Code/100 != 2 {
			answers[i] = Answer{}
		}
	}
	return !f.left
}

// drop ends a job of which nothing can be said: the lease was lost before the
// final step, its destination was replaced, or we are stopping.
func (d *Deliverer) drop(f *flight) {
	d.mu.Lock()
	d.running--
	d.places.leave(f)
	d.counts.Aborted++
	d.release(f)
	d.mu.Unlock()
	d.Kick()
}

// try returns an answer for every recipient. A panic below is an odd message
// or a fault of ours: it is deferred like any other, so that it comes back
// ever more rarely, and does not stop the others.
func (d *Deliverer) try(f *flight) (answers []Answer) {
	j := f.job
	defer func() {
		if r := recover(); r != nil {
			d.Logger.Error("delivery failed in an unexpected way", "id", j.ID, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			answers = fault(same(j, *mail.Replyf(451, "4.3.0", "internal error: %s", cut(mail.Reply{Text: fmt.Sprint(r)}).Text)))
		}
	}()
	if j.Destination.Addr == "" {
		return refused(j)
	}
	scheme, _, _ := strings.Cut(j.Destination.Addr, ":")
	t := d.Transports[scheme]
	if t == nil {
		return same(j, *mail.Replyf(451, "4.3.5", "no way to deliver to %s", j.Destination.Addr))
	}
	var w watch
	a := &Attempt{
		Job:   *j,
		Open:  func() (io.ReadSeekCloser, error) { return d.watched(j, &w) },
		Final: func() error { return d.final(f) },
		Last:  d.Now() >= j.Expires,
	}
	answers = t.Deliver(f.ctx, a)
	if len(answers) != len(j.Recipients) {
		return fault(same(j, *mail.Replyf(451, "4.3.0", "internal error: %d answers for %d recipients", len(answers), len(j.Recipients))))
	}
	for i := range answers {
		answers[i].Fault = answers[i].Fault || w.damaged
		answers[i].Unread = w.unread
	}
	return answers
}

// watch notes what came of reading the content for an attempt.
type watch struct {
	unread  bool // it could not be read, or not to its end
	damaged bool // and no other member could mend it
}

func (w *watch) failed(err error) {
	if err != nil && err != io.EOF {
		w.unread = true
		w.damaged = w.damaged || errors.Is(err, ErrDamaged)
	}
}

// watched is the message, with somebody who watches how it is read.
func (d *Deliverer) watched(j *Job, w *watch) (io.ReadSeekCloser, error) {
	r, err := d.message(j)
	if err != nil {
		w.failed(err)
		return nil, err
	}
	return &watched{r, w}, nil
}

type watched struct {
	io.ReadSeekCloser
	watch *watch
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadSeekCloser.Read(p)
	w.watch.failed(err)
	return n, err
}

// fault marks answers that are a fault of ours.
func fault(answers []Answer) []Answer {
	for i := range answers {
		answers[i].Fault = true
	}
	return answers
}

// message reads the message of a job: its content, and over that what filters
// changed in the header.
func (d *Deliverer) message(j *Job) (io.ReadSeekCloser, error) {
	r, err := d.Source.Open(j.Content.ID)
	if err != nil {
		return nil, err
	}
	return struct {
		io.ReadSeeker
		io.Closer
	}{j.Overlay.Over(r), r}, nil
}

func refused(j *Job) []Answer {
	answers := make([]Answer, len(j.Recipients))
	for i, r := range j.Recipients {
		answers[i].Reply = r.Refused
		if !r.Refused.Permanent() {
			answers[i].Reply = *mail.Replyf(451, "4.4.3", "no destination for %s", r.Address)
		}
	}
	return answers
}

func same(j *Job, r mail.Reply) []Answer {
	answers := make([]Answer, len(j.Recipients))
	for i := range answers {
		answers[i].Reply = r
	}
	return answers
}

// settle tells the circuit how it went, and returns when the destination may
// be tried next, where that is what the message waits for.
func (d *Deliverer) settle(f *flight, answers []Answer, now mail.Time, took time.Duration) mail.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := f.circuit
	c.running--
	c.known, c.quick = true, took < quickTime
	var down *Answer
	answered, uncertain, busy := false, false, false
	for i, a := range answers {
		busy = busy || a.Busy
		switch {
		case a.Down:
			down = &answers[i]
		case a.Reply.Code != 0:
			answered = true
			uncertain = uncertain || a.Uncertain
		}
	}
	switch {
	case busy && (down == nil || c.running > 0):
		c.crowded(now)
		for i, a := range answers {
			if a.Down || a.Busy {
				answers[i] = Answer{} // no attempt: it was not let in
			}
		}
	case down != nil:
		c.down(now, f.round, f.job.ID, now >= f.job.Expires, down.Reply)
	case answered:
		c.up(uncertain, now)
	}
	return c.until
}

// outcomes judges the answers. A message past its time is given up only here,
// after an attempt made now that failed for now.
func (d *Deliverer) outcomes(j *Job, answers []Answer, now, until mail.Time, took time.Duration) []mail.Outcome {
	var out []mail.Outcome
	for i, a := range answers {
		if a.Reply.Code == 0 {
			continue
		}
		r := j.Recipients[i]
		o := mail.Outcome{
			Recipient: r.Index, Reply: cut(a.Reply), Remote: a.Remote, Duplicate: a.Duplicate,
			Copy: j.Destination.Copy, Activation: j.Destination.Activation, Took: took.Milliseconds(), Passed: a.Passed,
		}
		switch {
		case a.Reply.Code/100 == 2 && j.Destination.Database != "":
			o.Result = mail.Delivered
		case a.Reply.Code/100 == 2:
			o.Result = mail.Relayed
		case a.Reply.Permanent():
			o.Result = mail.Failed
		case now >= j.Expires && !a.Fault && !a.Unread: // what we broke, or lack, is no reason to give up
			o.Result = mail.Expired
			o.Reply = cut(mail.Reply{Code: a.Reply.Code, Enhanced: "4.4.7", Text: "delivery time expired, last answer: " + a.Reply.String()})
		default:
			o.Result, o.Fault = mail.Deferred, a.Fault
			o.Next = now.Add(Next(j.Retry, r.Attempts+1, now.Sub(j.Accepted), j.ID))
			if a.Down && until > now {
				o.Next = until
			}
			if now < j.Expires { // the last attempt is when the time is over
				o.Next = min(o.Next, max(j.Expires, now.Add(schedule[0])))
			}
		}
		if a.Uncertain {
			d.addUncertain()
		}
		out = append(out, o)
	}
	return out
}

// postpone turns failures into another attempt, because the sender cannot be
// told now: a recipient is never given up in silence.
func postpone(j *Job, report *mail.Report, now mail.Time, err error) {
	attempts := make(map[int]int, len(j.Recipients))
	for _, r := range j.Recipients {
		attempts[r.Index] = r.Attempts
	}
	for i := range report.Outcomes {
		o := &report.Outcomes[i]
		if o.Result != mail.Failed && o.Result != mail.Expired {
			continue
		}
		o.Result, o.Fault = mail.Deferred, errors.Is(err, errUnwritten)
		o.Reply = cut(*mail.Replyf(451, "4.3.0", "the sender cannot be told yet (%v) that: %s", err, o.Reply.String()))
		o.Next = now.Add(Next(j.Retry, attempts[o.Recipient]+1, now.Sub(j.Accepted), j.ID))
	}
}

// cut bounds a reply, and keeps it on one line.
func cut(r mail.Reply) mail.Reply {
	r.Text = strings.Join(strings.Fields(r.Text), " ")
	if len(r.Text) > textMax {
		r.Text = strings.ToValidUTF8(r.Text[:textMax], "")
	}
	return r
}

// uploadTime bounds the storing of one report to a sender.
const uploadTime = 30 * time.Second

func (d *Deliverer) upload(r io.Reader) (mail.Content, []mail.MemberID, error) {
	ctx, cancel := context.WithTimeout(d.ctx, uploadTime)
	defer cancel()
	return d.Uploader.Upload(ctx, r)
}
