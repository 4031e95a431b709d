package fsm

import (
	"slices"
	"strings"

	"mailraft/mail"
)

// History is what happened to a mailbox database. Its row outlives the
// database: activation numbers, which old outcomes may still name, go on from
// it when a database of that name is added again.
type History struct {
	Name       string         `cbor:"1,keyasint"`
	Activation uint64         `cbor:"2,keyasint"` // the last number given
	Events     []HistoryEvent `cbor:"3,keyasint,omitempty"`
}

// HistoryEvent is one line of a database's history.
type HistoryEvent struct {
	Kind       HistoryKind `cbor:"1,keyasint" json:"event"`
	At         mail.Time   `cbor:"2,keyasint" json:"time"`
	Copy       string      `cbor:"3,keyasint,omitempty" json:"copy,omitempty"`       // empty: the whole database
	From       string      `cbor:"4,keyasint,omitempty" json:"from,omitempty"`       // activations: the copy that was the active one before
	Activation uint64      `cbor:"5,keyasint,omitempty" json:"activation,omitempty"` // the number that the event gave
	Request    uint64      `cbor:"6,keyasint,omitempty" json:"request,omitempty"`    // activations: the resubmit request made with it
	By         string      `cbor:"7,keyasint,omitempty" json:"by,omitempty"`
	Reason     string      `cbor:"8,keyasint,omitempty" json:"reason,omitempty"`
	Text       string      `cbor:"9,keyasint,omitempty" json:"text,omitempty"`
	Times      int         `cbor:"10,keyasint,omitempty" json:"times,omitempty"` // report: how often in a row
}

// HistoryKind is what happened. On disk: never renumber.
type HistoryKind uint8

// The kinds.
const (
	HistoryAdd        HistoryKind = 1
	HistoryRemove     HistoryKind = 2
	HistoryCopyAdd    HistoryKind = 3
	HistoryCopySet    HistoryKind = 4
	HistoryCopyRemove HistoryKind = 5
	HistoryReport     HistoryKind = 6  // said to be complete up to a time
	HistorySuspend    HistoryKind = 7  // not to be activated automatically
	HistoryResume     HistoryKind = 8  // may be again
	HistoryActivate   HistoryKind = 9  // by an operator
	HistoryFailover   HistoryKind = 10 // by the Active Manager
	HistoryUnhealthy  HistoryKind = 11 // a majority of the members finds it dead
	HistoryHealthy    HistoryKind = 12
)

var historyNames = map[HistoryKind]string{HistoryAdd: "add", HistoryRemove: "remove", HistoryCopyAdd: "copy-add", HistoryCopySet: "copy-set",
	HistoryCopyRemove: "copy-remove", HistoryReport: "report", HistorySuspend: "suspend-activation", HistoryResume: "resume-activation",
	HistoryActivate: "activate", HistoryFailover: "failover", HistoryUnhealthy: "unhealthy", HistoryHealthy: "healthy"}

// String is the kind in lower case.
func (k HistoryKind) String() string { return historyNames[k] }

// MarshalText implements encoding.TextMarshaler.
func (k HistoryKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// ofHealth: such events come by themselves, as often as a network flaps.
func (k HistoryKind) ofHealth() bool { return k == HistoryUnhealthy || k == HistoryHealthy }

const (
	historyFirst = 16  // events that are never dropped: how it began
	historyMax   = 200 // events
)

// History returns what happened to a database, one that was removed included.
func (t Tables) History(name string) (h History, ok bool) {
	ok = t.get(tab(tabHistory).text(strings.ToLower(name)), &h)
	return h, ok
}

// Failovers counts the activations since a time that nobody asked for.
func (h History) Failovers(since mail.Time) (n int) {
	for _, e := range h.Events {
		if e.Kind == HistoryFailover && e.At >= since {
			n++
		}
	}
	return n
}

// note adds events to a database's history, and keeps its last activation
// number.
func (t *tx) note(d Database, events ...HistoryEvent) {
	h, _ := t.History(d.Name)
	h.Name, h.Activation = d.Name, max(h.Activation, d.Activation)
	for _, e := range events {
		e.At = t.now()
		h.add(e)
	}
	t.put(tab(tabHistory).text(strings.ToLower(d.Name)), h)
}

// add adds an event. A report that follows another of the same copy takes its
// place: tools report every few seconds.
func (h *History) add(e HistoryEvent) {
	e.By, e.Reason, e.Text = cut(e.By), cut(e.Reason), cut(e.Text)
	if n := len(h.Events); e.Kind == HistoryReport && n > 0 {
		if l := &h.Events[n-1]; l.Kind == HistoryReport && l.Copy == e.Copy {
			e.Times = max(l.Times, 1) + 1
			*l = e
			return
		}
	}
	if len(h.Events) >= historyMax {
		h.shorten()
	}
	h.Events = append(h.Events, e)
}

// shorten drops one event: the oldest of health in the older half, so that a
// copy that flaps does not push out what was decided; else the oldest behind
// the first few.
func (h *History) shorten() {
	i := slices.IndexFunc(h.Events[:historyMax/2], func(e HistoryEvent) bool { return e.Kind.ofHealth() })
	if i < 0 {
		i = historyFirst
	}
	h.Events = slices.Delete(h.Events, i, i+1)
}

// cut bounds text of strangers that a row keeps; no rune is cut in two.
func cut(s string) string {
	if len(s) > eventTextMax {
		return strings.ToValidUTF8(s[:eventTextMax], "")
	}
	return s
}
