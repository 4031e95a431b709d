package fsm

import (
	"iter"
	"strconv"

	"mailraft/mail"
)

// Request is a resubmit request: an order to send again, from the Safety Net,
// what was delivered in an interval. An activation makes one for its database,
// an operator makes others. A shadow request belongs to another request, and
// stands for a Primary Safety Net that cannot answer: what is sent in its
// place, from Shadow Safety Nets, is counted here.
type Request struct {
	ID       uint64        `cbor:"1,keyasint"`
	Parent   uint64        `cbor:"2,keyasint,omitempty"` // a shadow request: the one that it belongs to
	Behalf   mail.MemberID `cbor:"3,keyasint,omitempty"` // a shadow request: whose Primary Safety Net it stands for
	Children []uint64      `cbor:"4,keyasint,omitempty"` // its shadow requests

	// What it asks for. Empty matches all; one of the four is set.
	Database  string    `cbor:"5,keyasint,omitempty"`
	Recipient string    `cbor:"6,keyasint,omitempty"` // mailbox, or what the envelope had for it
	Sender    string    `cbor:"7,keyasint,omitempty"` // reverse-path; "<>" is the null one
	MessageID string    `cbor:"8,keyasint,omitempty"`
	Start     mail.Time `cbor:"9,keyasint,omitempty"` // delivery time, from here; zero: whatever is held
	End       mail.Time `cbor:"10,keyasint"`          // and before here

	ResubmitTo   string          `cbor:"11,keyasint,omitempty"` // one mailbox that gets all of it, rather than who had it
	Unresponsive []mail.MemberID `cbor:"12,keyasint,omitempty"` // servers not to be asked, nor waited for
	Activation   uint64          `cbor:"13,keyasint,omitempty"` // that it was made by; zero: made by hand
	Again        bool            `cbor:"14,keyasint,omitempty"` // also to who had it by an earlier request
	Rate         int             `cbor:"15,keyasint,omitempty"` // resubmissions per second; zero: the parameter's
	Correlation  string          `cbor:"16,keyasint,omitempty"` // the operator's own mark
	Reason       string          `cbor:"17,keyasint,omitempty"`
	By           string          `cbor:"18,keyasint,omitempty"`
	Created      mail.Time       `cbor:"19,keyasint"`

	State       RequestState `cbor:"20,keyasint"`
	Ended       mail.Time    `cbor:"21,keyasint,omitempty"`
	Auto        bool         `cbor:"22,keyasint,omitempty"` // suspended by back pressure, not by an operator
	StateReason string       `cbor:"23,keyasint,omitempty"` // why it was suspended, cancelled or failed
	StateBy     string       `cbor:"24,keyasint,omitempty"`

	// How far it is.
	Wake   []byte `cbor:"25,keyasint,omitempty"` // waiting mail of the database is to be tried at once: how far; empty: done
	Cursor []byte `cbor:"26,keyasint,omitempty"` // last index key that the walk has seen
	Walked bool   `cbor:"27,keyasint,omitempty"` // the walk is over; what was left may still wait

	Waiting  []RequestWait   `cbor:"28,keyasint,omitempty"` // by member: what was left until it can serve
	Gaps     []RequestGap    `cbor:"29,keyasint,omitempty"`
	Counts   RequestCounts   `cbor:"30,keyasint"`
	ServedBy []RequestServer `cbor:"31,keyasint,omitempty"`
	First    mail.Time       `cbor:"32,keyasint,omitempty"` // earliest delivery time matched
	Last     mail.Time       `cbor:"33,keyasint,omitempty"` // latest

	Expanding int `cbor:"34,keyasint,omitempty"` // messages whose groups are still being expanded
}

// RequestState says how far a request is. On disk: never renumber.
type RequestState uint8

// The states. From RequestCompleted on a request is ended.
const (
	RequestRunning   RequestState = 1
	RequestWaiting   RequestState = 2 // all is sent but what waits for a server that is down
	RequestSuspended RequestState = 3
	RequestCompleted RequestState = 4
	RequestGaps      RequestState = 5 // completed, and not all was held any more
	RequestFailures  RequestState = 6 // completed, and not all could be delivered
	RequestCancelled RequestState = 7
	RequestFailed    RequestState = 8
)

var requestStates = []string{"", "running", "waiting-for-primary", "suspended", "completed", "completed-with-gaps",
	"completed-with-failures", "cancelled", "failed"}

// String is the state in lower case.
func (s RequestState) String() string {
	if int(s) >= len(requestStates) {
		return ""
	}
	return requestStates[s]
}

// MarshalText implements encoding.TextMarshaler.
func (s RequestState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// RequestCounts are totals of one request, its shadow requests not included.
type RequestCounts struct {
	Matched    int   `cbor:"1,keyasint,omitempty" json:"matched"`    // deliveries that it asked for, those that wait left out
	Messages   int   `cbor:"2,keyasint,omitempty" json:"messages"`   // made
	Sent       int   `cbor:"3,keyasint,omitempty" json:"sent"`       // their recipients
	Bytes      int64 `cbor:"4,keyasint,omitempty" json:"bytes"`      // content of the messages made
	Delivered  int   `cbor:"5,keyasint,omitempty" json:"delivered"`  // recipients, of those sent
	Duplicates int   `cbor:"6,keyasint,omitempty" json:"duplicates"` // of those delivered: the mailbox had it
	Failed     int   `cbor:"7,keyasint,omitempty" json:"failed"`     // recipients, of those sent: given up, or deleted by an operator
	Already    int   `cbor:"8,keyasint,omitempty" json:"already"`    // left out: resubmitted to the present copy, or about to be
	Moved      int   `cbor:"9,keyasint,omitempty" json:"moved"`      // left out: the mailbox is in another database now
	Gone       int   `cbor:"10,keyasint,omitempty" json:"gone"`      // left out: there is no such mailbox any more
	Outside    int   `cbor:"11,keyasint,omitempty" json:"outside"`   // left out: resolves to an outside recipient
}

// Pending is how many of the recipients sent to have no outcome yet.
func (c RequestCounts) Pending() int { return c.Sent - c.Delivered - c.Failed }

// RequestWait counts deliveries that were left until a member can serve them.
type RequestWait struct {
	Member  mail.MemberID `cbor:"1,keyasint" json:"member"`
	Count   int           `cbor:"2,keyasint" json:"count"`
	Since   mail.Time     `cbor:"3,keyasint" json:"since"`
	Content bool          `cbor:"4,keyasint,omitempty" json:"content,omitempty"` // it alone may have the content
}

// RequestGap is a part of the interval of which something is not held.
type RequestGap struct {
	Start  mail.Time     `cbor:"1,keyasint" json:"start"`
	End    mail.Time     `cbor:"2,keyasint" json:"end"`
	Member mail.MemberID `cbor:"3,keyasint,omitempty" json:"member,omitzero"` // whose Safety Net it was; zero: older than the hold time
	Count  int           `cbor:"4,keyasint,omitempty" json:"count"`           // deliveries known to be missing; zero: nobody knows
}

// RequestServer counts what a member has served.
type RequestServer struct {
	Member mail.MemberID `cbor:"1,keyasint" json:"member"`
	Shadow bool          `cbor:"2,keyasint,omitempty" json:"shadow"` // for another, not from its Primary Safety Net
	Count  int           `cbor:"3,keyasint" json:"count"`            // recipients
}

// Open reports whether the request is not ended.
func (r *Request) Open() bool { return r.State < RequestCompleted }

// Name is the id as people and header fields have it.
func (r *Request) Name() string { return strconv.FormatUint(r.ID, 10) }

// Position is the delivery time that the walk has come to. One that is not of
// one database goes through several, and through each from the start.
func (r *Request) Position() mail.Time {
	switch {
	case r.Walked:
		return r.End
	case r.Cursor == nil || r.Database == "" || r.MessageID != "":
		return r.Start
	default:
		return deliveryOf(r.Cursor).At
	}
}

// Request returns a resubmit request.
func (t Tables) Request(id uint64) (r Request, ok bool) {
	ok = t.get(tab(tabRequest).u64(id), &r)
	return r, ok
}

// Requests walks the requests with from <= id, the open and the ended.
func (t Tables) Requests(from uint64) iter.Seq[Request] {
	return func(yield func(Request) bool) {
		for k, b := range t.Scan(tab(tabRequest).u64(from), tab(tabRequest).end()) {
			var r Request
			t.decode(k, b, &r)
			if !yield(r) {
				return
			}
		}
	}
}

// OpenRequests walks the requests that are not ended, by id.
func (t Tables) OpenRequests() iter.Seq[Request] {
	return func(yield func(Request) bool) {
		for id := range t.openIDs() {
			if r, ok := t.Request(id); ok && !yield(r) {
				return
			}
		}
	}
}

func (t Tables) openIDs() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for k := range t.Scan(tab(tabRequestOpen), tab(tabRequestOpen).end()) {
			if !yield(lastU64(k)) {
				return
			}
		}
	}
}

// indexes are the index keys of a request: a pure function of it.
func (r *Request) indexes() []key {
	if r.Open() {
		return []key{tab(tabRequestOpen).u64(r.ID)}
	}
	return []key{tab(tabRequestEnded).time(r.Ended).u64(r.ID)}
}
