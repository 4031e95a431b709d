package deliver

import (
	"cmp"
	"slices"

	"mailraft/mail"
)

// Counts are totals since the start.
type Counts struct {
	Delivered, Relayed, Deferred, Failed, Expired uint64 // recipients
	Duplicates                                    uint64 // delivered, but the mailbox had them
	Uncertain                                     uint64 // all was sent, and no answer came: they may arrive twice
	Aborted                                       uint64 // deliveries given up before the final step, for want of a lease
	Notices                                       uint64 // reports to senders
}

// Status is what the Deliverer is doing at a moment.
type Status struct {
	Counts       Counts
	Running      int // deliveries
	Open         int // recipients that are being delivered, or whose outcome is not applied
	Destinations []DestinationStatus
}

// DestinationStatus is one destination that was tried lately.
type DestinationStatus struct {
	Key, Addr string
	Running   int
	Width     int        // deliveries at once that it may have
	Failures  int        // in a row; above zero it is only probed
	Until     mail.Time  // next probe
	Reply     mail.Reply // why it could not be used
}

// Status returns what is going on; destinations are sorted by key.
func (d *Deliverer) Status() Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := Status{Counts: d.counts, Running: d.running, Open: d.open}
	for k, c := range d.circuits {
		s.Destinations = append(s.Destinations, DestinationStatus{
			Key: k.key, Addr: k.addr, Running: c.running, Width: c.width, Failures: c.failures, Until: c.until, Reply: c.reply,
		})
	}
	slices.SortFunc(s.Destinations, func(a, b DestinationStatus) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Addr, b.Addr))
	})
	return s
}

// InFlight reports whether a message is being delivered, or an outcome of it
// is not applied yet.
func (d *Deliverer) InFlight(id mail.ID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for k := range d.flight {
		if k.id == id {
			return true
		}
	}
	return false
}

// count adds a report's outcomes. The caller holds mu.
func (d *Deliverer) count(r mail.Report) {
	for _, o := range r.Outcomes {
		switch o.Result {
		case mail.Delivered:
			d.counts.Delivered++
		case mail.Relayed:
			d.counts.Relayed++
		case mail.Deferred:
			d.counts.Deferred++
		case mail.Failed:
			d.counts.Failed++
		case mail.Expired:
			d.counts.Expired++
		}
		if o.Duplicate {
			d.counts.Duplicates++
		}
	}
	if r.DSN != nil {
		d.counts.Notices++
	}
}

func (d *Deliverer) addUncertain() {
	d.mu.Lock()
	d.counts.Uncertain++
	d.mu.Unlock()
}

// log writes one line for each recipient.
func (d *Deliverer) log(j *Job, outcomes []mail.Outcome) {
	to := make(map[int]string, len(j.Recipients))
	for _, r := range j.Recipients {
		to[r.Index] = r.Address
	}
	for _, o := range outcomes {
		d.Logger.Info(o.Result.String(), "id", j.ID, "message_id", j.Fields.MessageID, "from", j.ReversePath,
			"to", to[o.Recipient], "destination", j.Destination.Key, "remote", o.Remote, "reply", o.Reply.String(), "took_ms", o.Took)
	}
}
