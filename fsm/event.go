package fsm

import (
	"strings"

	"mailraft/mail"
)

// EventKind is what happened to a message, by Exchange's tracking name where
// there is one. On disk: never renumber.
type EventKind uint8

// The events.
const (
	EventReceive    EventKind = 1  // RECEIVE: accepted
	EventRedirect   EventKind = 2  // HAREDIRECT: a shadow was made, said of the primary
	EventShadow     EventKind = 3  // HARECEIVE: the shadow server has it
	EventResolve    EventKind = 4  // RESOLVE: an address became another
	EventExpand     EventKind = 5  // EXPAND: a group was expanded
	EventSend       EventKind = 6  // SEND: relayed to a next hop
	EventDeliver    EventKind = 7  // DELIVER: a mailbox server took it
	EventDuplicate  EventKind = 8  // DUPLICATEDELIVER: the mailbox had it
	EventDefer      EventKind = 9  // DEFER
	EventFail       EventKind = 10 // FAIL
	EventDSN        EventKind = 11 // DSN: a non-delivery report was made
	EventDiscard    EventKind = 12 // HADISCARD: the shadow was acknowledged as discarded
	EventExpire     EventKind = 13 // EXPIRE
	EventTakeover   EventKind = 14 // TAKEOVER: another member owns it now
	EventUnshadowed EventKind = 15 // HAREDIRECTFAIL: no shadow could be made
	EventAdmin      EventKind = 16 // ADMIN: an operator did something
	EventStale      EventKind = 17 // DELIVERSTALE: delivered to a copy that is not active any more
	EventHolder     EventKind = 32 // HOLDER: a Safety Net entry of it has a new holder

	EventRedirected EventKind = 54 // REDIRECT: an operator had it delivered elsewhere
	EventPoison     EventKind = 55 // POISONMESSAGE: its handling broke something twice, and it is set aside

	EventResubmit      EventKind = 48 // RESUBMIT: made from the Safety Net, for a request
	EventResubmitDefer EventKind = 49 // RESUBMITDEFER
	EventResubmitFail  EventKind = 50 // RESUBMITFAIL: given up, and nobody is told

	EventFilter     EventKind = 52 // AGENTINFO: what a filter did with it before it was accepted
	EventQuarantine EventKind = 53 // QUARANTINE: a filter had it set aside
)

var eventNames = map[EventKind]string{
	EventReceive: "RECEIVE", EventRedirect: "HAREDIRECT", EventShadow: "HARECEIVE", EventResolve: "RESOLVE",
	EventExpand: "EXPAND", EventSend: "SEND", EventDeliver: "DELIVER", EventDuplicate: "DUPLICATEDELIVER",
	EventDefer: "DEFER", EventFail: "FAIL", EventDSN: "DSN", EventDiscard: "HADISCARD", EventExpire: "EXPIRE",
	EventTakeover: "TAKEOVER", EventUnshadowed: "HAREDIRECTFAIL", EventAdmin: "ADMIN", EventStale: "DELIVERSTALE", EventHolder: "HOLDER",
	EventRedirected: "REDIRECT", EventPoison: "POISONMESSAGE",
	EventResubmit: "RESUBMIT", EventResubmitDefer: "RESUBMITDEFER", EventResubmitFail: "RESUBMITFAIL",
	EventFilter: "AGENTINFO", EventQuarantine: "QUARANTINE",
}

// String is the tracking name.
func (k EventKind) String() string { return eventNames[k] }

// MarshalText implements encoding.TextMarshaler.
func (k EventKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Event is one line of a message's history.
type Event struct {
	Kind      EventKind     `cbor:"1,keyasint" json:"event"`
	At        mail.Time     `cbor:"2,keyasint" json:"time"`
	Member    mail.MemberID `cbor:"3,keyasint,omitempty" json:"member,omitempty"`
	Recipient string        `cbor:"4,keyasint,omitempty" json:"recipient,omitempty"`
	Text      string        `cbor:"5,keyasint,omitempty" json:"text,omitempty"`
	Times     int           `cbor:"6,keyasint,omitempty" json:"times,omitempty"` // DEFER: how often in a row
}

// A history keeps the first and the latest events; what lies between is
// dropped, so that a row stays small however long a message is deferred.
const (
	eventsFirst  = 16
	eventsMax    = 64
	eventTextMax = 300
)

// note adds an event. A deferral that follows another of the same recipient
// counts it up instead.
func (m *Message) note(e Event) {
	e.Text = short(e.Text)
	if n := len(m.Events); (e.Kind == EventDefer || e.Kind == EventResubmitDefer) && n > 0 {
		if l := &m.Events[n-1]; l.Kind == e.Kind && l.Recipient == e.Recipient && l.Member == e.Member {
			e.Times = max(l.Times, 1) + 1
			*l = e
			return
		}
	}
	if len(m.Events) >= eventsMax {
		m.Events = append(m.Events[:eventsFirst], m.Events[eventsFirst+1:]...)
	}
	m.Events = append(m.Events, e)
}

// short bounds text that is kept with a message.
func short(s string) string {
	if len(s) > eventTextMax {
		return strings.ToValidUTF8(s[:eventTextMax], "") // no rune cut in two
	}
	return s
}
