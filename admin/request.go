package admin

import (
	"mailraft/fsm"
	"mailraft/mail"
)

// Request is a resubmit request as views show it. What is counted is its own:
// its shadow requests count for themselves.
type Request struct {
	ID         string `json:"id"`
	State      string `json:"state"`
	Parent     string `json:"parent,omitempty"`       // a shadow request: the one that it belongs to
	OnBehalfOf string `json:"on_behalf_of,omitempty"` // a shadow request: the member whose Primary Safety Net it stands for
	RequestFilter
	ResubmitTo    string    `json:"resubmit_to,omitempty"`
	Unresponsive  []string  `json:"unresponsive_primary,omitempty"` // members that are not waited for
	CorrelationID string    `json:"correlation_id,omitempty"`
	Activation    uint64    `json:"activation,omitempty"` // that it was made by; 0: an operator asked for it
	Again         bool      `json:"again,omitempty"`
	Rate          int       `json:"rate,omitempty"` // a second; 0: the parameter's
	Reason        string    `json:"reason,omitempty"`
	By            string    `json:"by,omitempty"`
	Created       mail.Time `json:"created"`
	Ended         mail.Time `json:"ended,omitzero"`
	BackPressure  bool      `json:"back_pressure,omitempty"` // suspended: it goes on by itself
	StateReason   string    `json:"state_reason,omitempty"`  // suspended, cancelled, failed: why
	StateBy       string    `json:"state_by,omitempty"`
	RequestCounts
	Position mail.Time     `json:"position,omitzero"` // delivery time that it has come to
	Walked   bool          `json:"walked,omitempty"`  // all that can be sent now is sent
	Progress float64       `json:"progress"`          // 0 to 1
	Left     mail.Duration `json:"left,omitempty"`    // estimate
	Waiting  []RequestWait `json:"waiting,omitempty"`
	Children []string      `json:"shadow_requests,omitempty"`
}

// RequestFilter is what a request is about: deliveries at or after Start and
// before End, to a database or of messages that have all that is given.
type RequestFilter struct {
	Database  string    `json:"database,omitempty"`
	Recipient string    `json:"recipient,omitempty"`
	Sender    string    `json:"sender,omitempty"` // "<>": the null sender
	MessageID string    `json:"message_id,omitempty"`
	Start     mail.Time `json:"start,omitzero"` // none: whatever is held
	End       mail.Time `json:"end"`
}

// RequestCounts is what has become of a request, or would.
type RequestCounts struct {
	Matched    int          `json:"matched"`    // deliveries
	Messages   int          `json:"messages"`   // made of them
	Sent       int          `json:"sent"`       // recipients of those
	Bytes      int64        `json:"bytes"`      // content of the messages
	Delivered  int          `json:"delivered"`  // recipients
	Duplicates int          `json:"duplicates"` // of those delivered: the mailbox had it
	Failed     int          `json:"failed"`     // recipients
	First      mail.Time    `json:"first_delivery,omitzero"`
	Last       mail.Time    `json:"last_delivery,omitzero"`
	ServedBy   []ServedBy   `json:"served_by,omitempty"`
	LeftOut    []LeftOut    `json:"left_out,omitempty"`
	Gaps       []RequestGap `json:"gaps,omitempty"`
}

// ServedBy counts the recipients that one member serves.
type ServedBy struct {
	Member string `json:"member"`
	Net    string `json:"net"` // primary or shadow: the Safety Net that it serves from
	Count  int    `json:"count"`
}

// LeftOut counts recipients that are left out: already (a resubmission reached
// them under the present activation, or is under way), moved (to another
// database), gone (no such mailbox any more), outside (no mailbox of ours).
type LeftOut struct {
	Reason string `json:"reason"`
	Count  int    `json:"count"`
}

// RequestGap is a part of the interval of which something is not held.
type RequestGap struct {
	Start  mail.Time `json:"start"`
	End    mail.Time `json:"end"`
	Member string    `json:"member,omitempty"` // whose Safety Net had it; none: it is older than the hold time
	Count  int       `json:"count,omitempty"`  // deliveries known to be missing; 0: nobody knows
}

// RequestWait is what was left until a member is up.
type RequestWait struct {
	Member  string    `json:"member"`
	Count   int       `json:"count"`
	Since   mail.Time `json:"since"`
	Content bool      `json:"content,omitempty"` // no other is known to have the content
}

func viewRequest(v *fsm.View, r fsm.Request, n names, now mail.Time) Request {
	x := Request{ID: r.Name(), State: r.State.String(), OnBehalfOf: n.of(r.Behalf), RequestFilter: filterOf(r),
		ResubmitTo: r.ResubmitTo, CorrelationID: r.Correlation, Activation: r.Activation, Again: r.Again, Rate: r.Rate,
		Reason: r.Reason, By: r.By, Created: r.Created, Ended: r.Ended, BackPressure: r.Auto, StateReason: r.StateReason, StateBy: r.StateBy,
		RequestCounts: countsOf(r, n), Position: r.Position(), Walked: r.Walked}
	if r.Parent != 0 {
		x.Parent = requestID(r.Parent)
	}
	for _, id := range r.Children {
		x.Children = append(x.Children, requestID(id))
	}
	for _, m := range r.Unresponsive {
		x.Unresponsive = append(x.Unresponsive, n.of(m))
	}
	for _, w := range r.Waiting {
		x.Waiting = append(x.Waiting, RequestWait{Member: n.of(w.Member), Count: w.Count, Since: w.Since, Content: w.Content})
	}
	x.Progress = progressOf(v, r)
	if r.State == fsm.RequestRunning && x.Progress > 0 && x.Progress < 1 {
		x.Left = mail.Duration(float64(now-r.Created) * (1 - x.Progress) / x.Progress)
	}
	return x
}

func filterOf(r fsm.Request) RequestFilter {
	return RequestFilter{Database: r.Database, Recipient: r.Recipient, Sender: r.Sender, MessageID: r.MessageID, Start: r.Start, End: r.End}
}

func countsOf(r fsm.Request, n names) RequestCounts {
	c := RequestCounts{Matched: r.Counts.Matched, Messages: r.Counts.Messages, Sent: r.Counts.Sent, Bytes: r.Counts.Bytes,
		Delivered: r.Counts.Delivered, Duplicates: r.Counts.Duplicates, Failed: r.Counts.Failed, First: r.First, Last: r.Last}
	for _, s := range r.ServedBy {
		net := "primary"
		if s.Shadow {
			net = "shadow"
		}
		c.ServedBy = append(c.ServedBy, ServedBy{Member: n.of(s.Member), Net: net, Count: s.Count})
	}
	for _, l := range []LeftOut{{"already", r.Counts.Already}, {"moved", r.Counts.Moved}, {"gone", r.Counts.Gone}, {"outside", r.Counts.Outside}} {
		if l.Count > 0 {
			c.LeftOut = append(c.LeftOut, l)
		}
	}
	for _, g := range r.Gaps {
		c.Gaps = append(c.Gaps, RequestGap{Start: g.Start, End: g.End, Member: n.of(g.Member), Count: g.Count})
	}
	return c
}

// progressOf is the share of the interval that was gone through, less what of
// it still waits or is not delivered; of its shadow requests, too.
func progressOf(v *fsm.View, r fsm.Request) float64 {
	if !r.Open() && r.State != fsm.RequestCancelled && r.State != fsm.RequestFailed {
		return 1
	}
	root := r
	if r.Parent != 0 {
		root, _ = v.Request(r.Parent)
	}
	share := walked(v, root)
	done, all := 0, 0
	add := func(r fsm.Request) {
		done += r.Counts.Delivered + r.Counts.Failed
		all += r.Counts.Sent
		for _, w := range r.Waiting {
			all += w.Count
		}
	}
	add(r)
	for _, id := range r.Children {
		c, _ := v.Request(id)
		add(c)
	}
	if all > 0 {
		share *= float64(done) / float64(all)
	}
	return share
}

// walked is how far the walk has come between the first delivery that matched
// and the last one that can.
func walked(v *fsm.View, r fsm.Request) float64 {
	start, end := max(r.Start, r.First), r.End
	if d, ok := v.LastDelivery(r.Database, start, end); ok && r.Database != "" {
		end = d.At
	}
	if r.Walked || end <= start {
		return 1
	}
	return min(float64(max(r.Position(), start)-start)/float64(end-start), 1)
}
