package deliver

import (
	"bytes"
	"fmt"

	"mailraft/deliver/dsn"
	"mailraft/mail"
)

// notify adds to a report the message that tells the sender of the recipients
// that it gives up. Its content is stored on a majority before the report
// names it; the entry accepts both or neither. No report is sent about a
// report, nor about a resubmission.
func (d *Deliverer) notify(j *Job, report *mail.Report, now mail.Time) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("report for %s: %v", j.ID, r)
		}
	}()
	if j.Bounce || j.Quiet || j.ReversePath == "" {
		return nil
	}
	n := dsn.Notice{
		Host: d.Host, ID: j.ID, EnvelopeID: j.EnvelopeID, Arrival: j.Accepted, Now: now,
		Recipients: givenUp(j, report.Outcomes, now), Subject: j.Fields.Subject, MessageID: j.Fields.MessageID,
	}
	if len(n.Recipients) == 0 {
		return nil
	}
	sender, err := mail.ParseAddress(j.ReversePath)
	if err != nil {
		d.Logger.Warn("sender cannot be told: malformed reverse-path", "id", j.ID)
		return nil
	}
	n.To = sender.String()
	if r, err := d.message(j); err != nil {
		// Better a report without the header than none at all.
		d.Logger.Warn("header of a failed message cannot be read", "id", j.ID, "error", err)
	} else {
		n.Header, err = dsn.HeaderOf(r)
		r.Close()
		if err != nil {
			d.Logger.Warn("header of a failed message cannot be read", "id", j.ID, "error", err)
		}
	}
	var text bytes.Buffer
	fields, utf8, err := n.Write(&text)
	if err != nil {
		return fmt.Errorf("write report for %s: %w", j.ID, err)
	}
	content, holders, err := d.upload(&text)
	if err != nil {
		return fmt.Errorf("store report for %s: %w", j.ID, err)
	}
	report.DSN = &mail.Submission{
		Content:  content,
		Envelope: mail.Envelope{Recipients: []string{n.To}, UTF8: utf8, EightBit: utf8},
		Trace:    mail.Trace{Helo: d.Host, Address: "127.0.0.1", By: d.Host, Protocol: "local"},
		Fields:   fields,
		Primary:  d.Self,
		Holders:  holders,
	}
	return nil
}

func givenUp(j *Job, outcomes []mail.Outcome, now mail.Time) []dsn.Recipient {
	byIndex := make(map[int]Recipient, len(j.Recipients))
	for _, r := range j.Recipients {
		byIndex[r.Index] = r
	}
	var out []dsn.Recipient
	for _, o := range outcomes {
		r := byIndex[o.Recipient]
		if o.Result != mail.Failed && o.Result != mail.Expired || r.Silent {
			continue
		}
		out = append(out, dsn.Recipient{
			Final: r.Address, Original: r.Original, Reply: o.Reply, Remote: o.Remote, LastAttempt: now,
			Tried: j.Destination.Addr != "", Index: o.Recipient,
		})
	}
	return out
}
