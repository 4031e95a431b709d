package deliver

import (
	"bytes"
	"errors"
	"fmt"

	"mailraft/deliver/dsn"
	"mailraft/mail"
)

// notify adds to a report the message that tells the sender of the recipients
// that it gives up. Its content is stored on a majority before the report
// names it; the entry accepts both or neither. No report is sent about a
// report, nor about a resubmission.
func (d *Deliverer) notify(j *Job, report *mail.Report, now mail.Time) (err error) {
	if j.Bounce || j.Quiet || j.ReversePath == "" {
		return nil
	}
	n := dsn.Notice{
		Host: d.Host, ID: j.ID, EnvelopeID: j.EnvelopeID, Arrival: j.Accepted, Expires: j.Expires, Now: now,
		Recipients: givenUp(j, report.Outcomes, now), Subject: j.Fields.Subject, MessageID: j.Fields.MessageID,
	}
	if len(n.Recipients) == 0 {
		return nil
	}
	report.DSN, err = d.write(j, &n, j.Return == mail.ReturnFull)
	return err
}

// errUnwritten reports that a report could not even be written.
var errUnwritten = errors.New("no report can be written")

// write makes a message to the sender of what a notice says, and stores it.
// Nil without an error: nobody can be told.
func (d *Deliverer) write(j *Job, n *dsn.Notice, full bool) (s *mail.Submission, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("report for %s: %w: %v", j.ID, errUnwritten, r)
		}
	}()
	sender, err := mail.ParseAddress(j.ReversePath)
	if err != nil {
		d.Logger.Warn("sender cannot be told: malformed reverse-path", "id", j.ID)
		return nil, nil
	}
	n.To = sender.String()
	if r, err := d.message(j); err != nil {
		// Better a report without the original than none at all.
		d.Logger.Warn("a message that is reported on cannot be read", "id", j.ID, "error", err)
	} else {
		if full {
			n.Original, n.Whole, err = dsn.WholeOf(r, j.Overlay.Size(j.Content.Size))
		} else {
			n.Original, err = dsn.HeaderOf(r)
		}
		r.Close()
		if err != nil {
			d.Logger.Warn("a message that is reported on cannot be read", "id", j.ID, "error", err)
		}
	}
	var text bytes.Buffer
	written, err := n.Write(&text)
	if err != nil {
		return nil, fmt.Errorf("write report for %s: %w: %w", j.ID, errUnwritten, err)
	}
	content, holders, err := d.upload(&text)
	if err != nil {
		return nil, fmt.Errorf("store report for %s: %w", j.ID, err)
	}
	return &mail.Submission{
		Content:  content,
		Envelope: mail.Envelope{Recipients: []string{n.To}, UTF8: written.UTF8, EightBit: written.EightBit},
		Trace:    mail.Trace{Helo: d.Host, Address: "127.0.0.1", By: d.Host, Protocol: "local"},
		Fields:   written.Fields,
		Primary:  d.Self,
		Holders:  holders,
	}, nil
}

func givenUp(j *Job, outcomes []mail.Outcome, now mail.Time) []dsn.Recipient {
	byIndex := make(map[int]Recipient, len(j.Recipients))
	for _, r := range j.Recipients {
		byIndex[r.Index] = r
	}
	var out []dsn.Recipient
	for _, o := range outcomes {
		r := byIndex[o.Recipient]
		if o.Result != mail.Failed && o.Result != mail.Expired || !r.Asked.Notify.Wants(mail.NotifyFailure) {
			continue
		}
		out = append(out, dsn.Recipient{
			Action: dsn.Failed, Final: r.Address, Written: r.Original, Original: r.Asked.Original, Reply: o.Reply, Remote: o.Remote, LastAttempt: now,
			Tried: j.Destination.Addr != "", Index: o.Recipient,
		})
	}
	return out
}
