package fsm

import (
	"cmp"
	"fmt"
	"slices"

	"mailraft/directory"
	"mailraft/mail"
)

// RequestAdd makes a resubmit request. Of Database, Recipient, Sender and
// MessageID at least one is given; what matches has all that are.
type RequestAdd struct {
	Database     string    `cbor:"1,keyasint,omitempty"`
	Recipient    string    `cbor:"2,keyasint,omitempty"`
	Sender       string    `cbor:"3,keyasint,omitempty"`
	MessageID    string    `cbor:"4,keyasint,omitempty"`
	Start        mail.Time `cbor:"5,keyasint,omitempty"` // zero: whatever is held
	End          mail.Time `cbor:"6,keyasint,omitempty"` // zero: up to now
	ResubmitTo   string    `cbor:"7,keyasint,omitempty"`
	Unresponsive string    `cbor:"8,keyasint,omitempty"` // name of a member that is not to be waited for
	Correlation  string    `cbor:"9,keyasint,omitempty"`
	Rate         int       `cbor:"10,keyasint,omitempty"` // per second; zero: the parameter's
	Again        bool      `cbor:"11,keyasint,omitempty"`
	Reason       string    `cbor:"12,keyasint,omitempty"`
	By           string    `cbor:"13,keyasint,omitempty"`
}

// RequestChange suspends, resumes or cancels a request, its shadow requests
// with it. Auto is said by back pressure: it resumes only what it suspended.
type RequestChange struct {
	Op      string `cbor:"1,keyasint"` // suspend, resume, cancel
	Request uint64 `cbor:"2,keyasint"`
	Auto    bool   `cbor:"3,keyasint,omitempty"`
	Reason  string `cbor:"4,keyasint,omitempty"`
	By      string `cbor:"5,keyasint,omitempty"`
}

const (
	requestsOpenMax = 1000 // not ended at a time: each expiry asks them all
	requestTextMax  = 1024 // of each text that a request carries
)

// requestAdd applies RequestAdd. Answer.Text is the number of the request.
func (t *tx) requestAdd(c RequestAdd) Answer {
	r, refusal := t.requestOf(c, t.now())
	if refusal != nil {
		return Answer{Refused: refusal}
	}
	if n := t.countOpen(); n >= requestsOpenMax {
		return refuse(452, "4.3.1", "%d resubmit requests are open; cancel some, or wait", n)
	}
	if g, ok := t.notHeld(r, t.now()); ok {
		r.Gaps = append(r.Gaps, g)
	}
	r = t.addRequest(r)
	return Answer{Count: 1, Text: r.Name()}
}

func (t *tx) countOpen() (n int) {
	for range t.openIDs() {
		n++
	}
	return n
}

// requestOf is the request that the command asks for.
func (t Tables) requestOf(c RequestAdd, now mail.Time) (r Request, refusal *mail.Reply) {
	r = Request{Database: c.Database, MessageID: c.MessageID, Start: c.Start, Correlation: c.Correlation,
		Rate: c.Rate, Again: c.Again, Reason: c.Reason, By: c.By}
	r.End = now + 1 // deliveries of this very millisecond too
	if c.End != 0 {
		r.End = min(c.End, r.End)
	}
	for _, s := range []string{c.Database, c.Recipient, c.Sender, c.MessageID, c.ResubmitTo, c.Unresponsive, c.Correlation, c.Reason, c.By} {
		if len(s) > requestTextMax {
			return r, mail.Replyf(501, "5.5.4", "a text of %d characters; at most %d", len(s), requestTextMax)
		}
	}
	switch {
	case c.Database == "" && c.Recipient == "" && c.Sender == "" && c.MessageID == "":
		return r, mail.Replyf(501, "5.5.4", "a request names a database, a recipient, a sender or a Message-ID")
	case c.Rate < 0 || c.Start < 0 || c.End < 0:
		return r, mail.Replyf(501, "5.5.4", "a negative time or rate")
	case r.Start >= r.End:
		return r, mail.Replyf(501, "5.5.4", "the interval from %s to %s is empty", r.Start, r.End)
	}
	if c.Database != "" {
		d, ok := t.Database(c.Database)
		if !ok {
			return r, mail.Replyf(550, "5.1.0", "there is no database %q", c.Database)
		}
		r.Database = d.Name
	}
	if refusal = t.addressesOf(c, &r); refusal != nil || c.Unresponsive == "" {
		return r, refusal
	}
	m, ok := t.memberNamed(c.Unresponsive)
	if !ok {
		return r, mail.Replyf(550, "5.1.0", "there is no member %s", c.Unresponsive)
	}
	r.Unresponsive = []mail.MemberID{m.ID}
	return r, nil
}

// nullSender is how a filter names the null reverse-path (RFC 5321 §4.5.5).
const nullSender = "<>"

// addressesOf reads the addresses of the command, in the form in which they
// are compared.
func (t Tables) addressesOf(c RequestAdd, r *Request) *mail.Reply {
	for _, a := range []struct {
		name, text string
		to         *string
	}{{"recipient", c.Recipient, &r.Recipient}, {"sender", c.Sender, &r.Sender}} {
		if a.text == "" {
			continue
		}
		parsed, err := mail.ParseAddress(a.text)
		switch {
		case a.text == nullSender && a.name == "sender":
			*a.to = nullSender
		case err != nil:
			return mail.Replyf(501, "5.1.3", "%s %q is not an address", a.name, a.text)
		default:
			*a.to = directory.Key(parsed)
		}
	}
	if c.ResubmitTo != "" {
		if _, refusal := t.resubmitTo(c.ResubmitTo); refusal != nil {
			return refusal
		}
		r.ResubmitTo = c.ResubmitTo
	}
	return nil
}

// resubmitTo resolves the one mailbox that a request sends everything to.
func (t Tables) resubmitTo(address string) (directory.Resolved, *mail.Reply) {
	now, rest := directory.Resolve(t, []string{address}, true, 1)
	switch {
	case len(now) != 1 || len(rest) > 0 || len(now[0].Via) > 0:
		return directory.Resolved{}, mail.Replyf(550, "5.1.1", "resubmit to %s: it is a group, and one mailbox is wanted", address)
	case now[0].Kind == directory.ToMailbox:
		return now[0], nil
	case now[0].Kind == directory.ToRelay:
		return directory.Resolved{}, mail.Replyf(550, "5.7.1", "resubmit to %s: nothing is resubmitted to outside recipients", address)
	default:
		return directory.Resolved{}, mail.Replyf(550, "5.1.1", "resubmit to %s: %s", address, now[0].Reply)
	}
}

// addRequest gives a request its number and stores it, with the shadow
// requests for those parts of its interval that a lost Primary Safety Net
// covered. What it asks for was checked; an activation's has Database,
// Activation, Start, End and Gaps.
func (t *tx) addRequest(r Request) Request {
	r.Created, r.State = t.now(), RequestRunning
	if r.Activation != 0 {
		r.Wake = tab(tabDue)
	}
	e := t.newRequest(r)
	for _, part := range t.lostParts(r, t.now()) {
		t.shadowRequest(e, part)
	}
	return *e.Request
}

// lostPart is a part of a request's interval that is not answered from a
// member's Primary Safety Net.
type lostPart struct {
	behalf     mail.MemberID
	start, end mail.Time
}

// lostParts are the parts of the interval in which former members had Primary
// Safety Nets that were lost with them, as far as something of it is held.
func (t Tables) lostParts(r Request, now mail.Time) (parts []lostPart) {
	held := t.HeldSince(now)
	for f := range t.Formers() {
		if start, end := max(r.Start, f.Joined), min(r.End, f.At); f.lost() && start < end && end > held {
			parts = append(parts, lostPart{f.ID, start, end})
		}
	}
	return parts
}

// notHeld is the part of the interval that the boundary was there for, and
// whose hold time is over. A request that names no start asks for what is held.
func (t Tables) notHeld(r Request, now mail.Time) (RequestGap, bool) {
	g := RequestGap{Start: max(r.Start, t.Settings().Boundary.Created), End: min(t.HeldSince(now), r.End)}
	return g, r.Start != 0 && g.Start < g.End
}

// shadow is the request that stands for one member's Primary Safety Net in
// another request.
func (r *Request) shadow(of lostPart) Request {
	return Request{Parent: r.ID, Behalf: of.behalf, Database: r.Database, Recipient: r.Recipient, Sender: r.Sender, MessageID: r.MessageID,
		Start: of.start, End: of.end, ResubmitTo: r.ResubmitTo, Activation: r.Activation, Again: r.Again, Correlation: r.Correlation,
		Reason: r.Reason, By: r.By, State: RequestRunning}
}

func (t *tx) shadowRequest(r *requestEdit, of lostPart) *requestEdit {
	s := r.shadow(of)
	s.Created = t.now()
	e := t.newRequest(s)
	r.Children = append(r.Children, e.ID)
	return e
}

// takeOverRequests ends the activations' requests of the database of next that
// have something left to send, in favour of next, which this entry adds: it
// begins no later than what they have left. A request that has sent everything
// goes on to its end: its messages follow the active copy by themselves.
func (t *tx) takeOverRequests(next *Request) {
	heir := t.Settings().Boundary.Requests + 1
	for _, r := range t.unsentOf(next.Database) {
		t.takeOver(next, r.Request, t.unsent(r.Request, t.gapOf(r.Request)), t.now())
		t.endRequest(r, RequestCancelled, fmt.Sprintf("taken over by request %d", heir), "")
	}
}

// takeOver adds the rest of a request to next, and says what of it is not held.
// What the walk had not come to was kept for it, and what it has sent is held
// as delivered since it was made; else the hold time counts.
func (t Tables) takeOver(next, r *Request, rest, now mail.Time) {
	next.Start = min(next.Start, rest)
	put := func(g RequestGap) {
		next.Gaps = append(without(next.Gaps, g.Start, g.End), g)
		slices.SortFunc(next.Gaps, func(a, b RequestGap) int { return cmp.Compare(a.Start, b.Start) })
	}
	if rest < r.Position() && r.Created < t.HeldSince(now) {
		if g, ok := t.notHeld(Request{Start: rest, End: r.End}, now); ok {
			put(g)
		}
		return
	}
	next.Gaps = without(next.Gaps, rest, r.End)
	for _, g := range r.Gaps {
		if g.Start = max(g.Start, rest); g.Count == 0 && g.Start < g.End {
			put(g)
		}
	}
}

// without are the gaps but for what lies in [from, to).
func without(gaps []RequestGap, from, to mail.Time) (left []RequestGap) {
	for _, g := range gaps {
		before, after := g, g
		before.End, after.Start = min(g.End, from), max(g.Start, to)
		for _, part := range []RequestGap{before, after} {
			if part.Start < part.End {
				left = append(left, part)
			}
		}
	}
	return left
}

// unsentFrom is the earliest delivery time that unfinished activations'
// requests of the database have not sent: the active copy is complete up to
// there at most. Not ok: all is sent.
func (t *tx) unsentFrom(database string) (from mail.Time, ok bool) {
	for _, r := range t.unsentOf(database) {
		if u := t.unsent(r.Request, t.gapOf(r.Request)); !ok || u < from {
			from, ok = u, true
		}
	}
	return from, ok
}

// unsentOf are the activations' requests of a database that have something
// left to send.
func (t *tx) unsentOf(database string) (rs []*requestEdit) {
	for _, r := range t.openRequests() {
		if r.activates(database) && r.unfinished(t.gapOf(r.Request)) {
			rs = append(rs, r)
		}
	}
	return rs
}

// activates reports whether the request was made by an activation of the
// database.
func (r *Request) activates(database string) bool {
	return r.Activation != 0 && r.Parent == 0 && sameName(r.Database, database)
}

// unfinished reports whether a request has something left to send, or knows of
// something that it could not: gap is where its first such begins.
func (r *Request) unfinished(gap mail.Time) bool {
	return !r.Walked || len(r.Waiting) > 0 || gap != 0
}

// unsent is the earliest delivery time that a request has not sent, and still
// has to, or could not.
func (t Tables) unsent(r *Request, gap mail.Time) mail.Time {
	from := r.Position()
	for _, w := range r.Waiting {
		k := leftKey(r.ID, w)
		for lk := range t.Scan(k, k.end()) {
			from = min(from, deliveryOf(lk).At)
			break
		}
	}
	if gap != 0 {
		from = min(from, gap)
	}
	return from
}

// gapOf is where the first gap of a request and its shadow requests begins of
// which a delivery is known; zero: there is none.
func (t *tx) gapOf(r *Request) mail.Time {
	gaps := slices.Clone(r.Gaps)
	for _, id := range r.Children {
		if c := t.request(id); c != nil {
			gaps = append(gaps, c.Gaps...)
		}
	}
	return firstKnown(gaps)
}

func firstKnown(gaps []RequestGap) (from mail.Time) {
	for _, g := range gaps {
		if g.Count > 0 && (from == 0 || g.Start < from) {
			from = g.Start
		}
	}
	return from
}

// requestChange applies RequestChange. What was made of a cancelled request
// before stays queued like any mail: no more is made.
func (t *tx) requestChange(c RequestChange) Answer {
	r := t.request(c.Request)
	switch {
	case r == nil:
		return refuse(550, "5.1.0", "there is no resubmit request %d", c.Request)
	case len(c.Reason) > requestTextMax || len(c.By) > requestTextMax:
		return refuse(501, "5.5.4", "a reason or name of more than %d characters", requestTextMax)
	case !slices.Contains([]string{"suspend", "resume", "cancel"}, c.Op):
		return refuse(501, "5.5.4", "resubmit requests know no %q", c.Op)
	case r.Parent != 0:
		return refuse(550, "5.5.0", "request %d is a part of request %d; %s that one", r.ID, r.Parent, c.Op)
	case !r.Open() && c.Op == "cancel":
		return Answer{}
	case !r.Open():
		return refuse(550, "5.5.0", "request %d is %s", r.ID, r.State)
	}
	switch {
	case c.Op == "cancel":
		t.endRequest(r, RequestCancelled, c.Reason, c.By)
	case c.Op == "suspend" && (r.State != RequestSuspended || r.Auto && !c.Auto):
		t.setState(r, RequestSuspended, c.Reason, c.By)
		r.Auto = c.Auto
	case c.Op == "resume" && r.State == RequestSuspended && (r.Auto || !c.Auto):
		r.Auto = false
		t.setState(r, RequestRunning, "", "")
	default:
		return Answer{}
	}
	return Answer{Count: 1}
}

// setState changes the state of a request and of its open shadow requests.
func (t *tx) setState(r *requestEdit, s RequestState, reason, by string) {
	r.State, r.StateReason, r.StateBy = s, reason, by
	if !r.Open() {
		r.Ended, r.Auto, r.Wake, r.Waiting = t.now(), false, nil, nil
	}
	for _, id := range r.Children {
		if c := t.request(id); c != nil && c.Open() {
			t.setState(c, s, reason, by)
		}
	}
}

// endRequest ends a request; what it had left is forgotten.
func (t *tx) endRequest(r *requestEdit, s RequestState, reason, by string) {
	t.lack(r)
	t.setState(r, s, reason, by)
	k := tab(tabLeft).u64(r.ID)
	t.deleteRange(k, k.end())
}

// settleRequest says where a request that goes on is: it has ended when the
// walk is over, nothing waits, every message that it made is finished and its
// shadow requests have ended.
func (t *tx) settleRequest(r *requestEdit) {
	root := r
	if r.Parent != 0 {
		root = t.request(r.Parent)
	}
	switch {
	case !r.Open() || root == nil:
	case t.complete(r, root):
		t.endRequest(r, t.verdict(r), "", "")
	case r.State == RequestSuspended:
	case root.Walked && len(root.Waiting) > 0:
		r.State = RequestWaiting
	default:
		r.State = RequestRunning
	}
}

func (t *tx) complete(r, root *requestEdit) bool {
	if !root.Walked || root.Wake != nil || len(root.Waiting) > 0 || r.Counts.Pending() > 0 || r.Expanding > 0 {
		return false
	}
	return !slices.ContainsFunc(r.Children, func(id uint64) bool {
		c := t.request(id)
		return c != nil && c.Open()
	})
}

// verdict is the state that a complete request ends in: the worst that it, or
// one of its shadow requests, met.
func (t *tx) verdict(r *requestEdit) RequestState {
	worst := RequestCompleted
	if r.Counts.Failed > 0 {
		worst = RequestFailures
	}
	if len(r.Gaps) > 0 {
		worst = RequestGaps
	}
	for _, id := range r.Children {
		switch c := t.request(id); {
		case c == nil:
		case c.State == RequestGaps, c.State == RequestFailures && worst == RequestCompleted:
			worst = c.State
		}
	}
	return worst
}

// retainRequests removes requests that ended long ago, at most limit of them;
// true: there may be more.
func (t *tx) retainRequests(limit int) bool {
	var over []uint64
	for k := range t.Scan(tab(tabRequestEnded), tab(tabRequestEnded).time(t.ago(t.Params().RequestRetention)+1)) {
		if over = append(over, lastU64(k)); len(over) == limit {
			break
		}
	}
	for _, id := range over {
		t.dropRequest(id)
	}
	return len(over) == limit
}
