package deliver

import (
	"slices"
	"time"

	"mailraft/mail"
)

// suspectTime is how long a suspect message has the field to itself. One that
// kills a process does so soon; one that is slow must not hold up the others.
const suspectTime = 10 * time.Second

// busy reports that somebody of the job is being delivered by another queue's
// job of the same message: he was bounced or redirected meanwhile, and the word
// of that delivery comes first. The caller holds mu.
func (d *Deliverer) busy(j *Job) bool {
	for k, f := range d.flight {
		if k.id != j.ID || k.key == j.Destination.Key || len(f.job.Recipients) == 0 {
			continue
		}
		for _, r := range j.Recipients {
			if slices.ContainsFunc(f.job.Recipients, func(o Recipient) bool { return o.Index == r.Index || slices.Contains(r.After, o.Index) }) {
				return true
			}
		}
	}
	return false
}

// suspects reports that the job must wait for another suspect message: should
// the process die, it is to be known which of them was in hand. The caller holds
// mu.
func (d *Deliverer) suspects(j *Job) bool {
	if !j.Suspect {
		return false
	}
	now := d.Now()
	for _, f := range d.flight {
		if f.job.Suspect && f.job.ID != j.ID && !f.answered && now < f.since.Add(suspectTime) {
			return true
		}
	}
	return false
}

// setApart reports that the job must wait for a flight, and remembers it, so
// that those behind it in its queue are asked for in its place: until a flight
// ends, or the suspect one has had the field for long enough. The caller holds
// mu.
func (d *Deliverer) setApart(k jobKey, j *Job, now mail.Time) bool {
	switch {
	case d.busy(j):
		d.apart[k] = now.Add(timerMax)
	case d.suspects(j):
		d.apart[k] = max(d.nextSuspect(now), now.Add(time.Millisecond))
	default:
		return false
	}
	return true
}

func (d *Deliverer) isApart(k jobKey, now mail.Time) bool {
	until, ok := d.apart[k]
	if ok && now >= until {
		delete(d.apart, k)
		return false
	}
	return ok
}

// inHand has the message in hand until the answer is there.
func (d *Deliverer) inHand(j *Job) (done func()) {
	if d.Hand == nil {
		return func() {}
	}
	return d.Hand.Take(j.ID, j.Suspect)
}

// nextSuspect is when a suspect that is in hand gives up the field; zero: there
// is none. The caller holds mu.
func (d *Deliverer) nextSuspect(now mail.Time) (next mail.Time) {
	for _, f := range d.flight {
		if until := f.since.Add(suspectTime); f.job.Suspect && until > now && (next == 0 || until < next) {
			next = until
		}
	}
	return next
}
