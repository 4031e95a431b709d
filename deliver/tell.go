package deliver

import (
	"errors"

	"mailraft/deliver/dsn"
	"mailraft/mail"
)

// NoticeKey is the queue of messages whose senders are owed a report of
// something else than a failure. Nobody is contacted: "down" means there that
// no report can be stored.
const NoticeKey = "notice"

// tell is one job of that queue, from its start to its report. What cannot be
// written at all is a fault of ours that no further attempt mends: it is said
// to be told, and logged. What cannot be stored now is owed further.
func (d *Deliverer) tell(f *flight) {
	j, now := f.job, d.Now()
	n := dsn.Notice{
		Host: d.Host, ID: j.ID, EnvelopeID: j.EnvelopeID, Arrival: j.Accepted, Expires: j.Expires, Now: now,
		Subject: j.Fields.Subject, MessageID: j.Fields.MessageID,
	}
	report := mail.Report{ID: j.ID}
	for _, t := range j.Tell {
		n.Recipients = append(n.Recipients, t.line())
		report.Told = append(report.Told, mail.Told{Recipient: t.Index, Event: t.Event})
	}
	notice, err := d.write(j, &n, false)
	if errors.Is(err, errUnwritten) {
		d.Logger.Error("a report cannot be written, and its sender is not told", "id", j.ID, "error", err)
		err = nil
	}
	report.Notice = notice
	if !d.told(f, now, err) {
		return
	}
	d.Logger.Info("told", "id", j.ID, "message_id", j.Fields.MessageID, "to", j.ReversePath, "about", len(j.Tell))
	d.reporter.add(&pending{flight: f, report: report, final: j.indices()})
	d.Kick()
}

// told tells the circuit how it went; false: there is nothing to report, and
// the job is over.
func (d *Deliverer) told(f *flight, now mail.Time, err error) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	f.answered = true
	f.circuit.running--
	d.running--
	d.places.leave(f)
	if err != nil {
		d.Logger.Warn("a report to a sender cannot be stored yet", "id", f.job.ID, "error", err)
		f.circuit.down(now, f.round, f.job.ID, false, *mail.Replyf(451, "4.3.0", "%v", err))
		d.release(f)
		return false
	}
	f.circuit.up(false, now)
	d.counts.Notices++
	return true
}

func (t *Telling) line() dsn.Recipient {
	r := dsn.Recipient{Action: dsn.Delivered, Final: t.Address, Written: t.Recipient.Original, Original: t.Asked.Original,
		Reply: t.Reply, Remote: t.Remote, LastAttempt: t.LastTime, Tried: t.Reply.Code != 0, Index: t.Index}
	switch {
	case t.Event == mail.NotifyDelay:
		r.Action = dsn.Delayed
	case t.Event == 0:
		r.Action = dsn.Expanded
	case t.Relayed:
		r.Action = dsn.Relayed
	}
	return r
}
