package mail

import "strings"

// Notify is the set of events that the sender wants to be told of (RFC 3461
// §4.1). Zero: the sender did not say, see Wants. On disk: never renumber.
type Notify uint8

// The events.
const (
	NotifyNever   Notify = 1 << iota // alone
	NotifySuccess                    // delivered, or passed on to where nobody tells of it
	NotifyFailure
	NotifyDelay
)

var notifyNames = []string{"NEVER", "SUCCESS", "FAILURE", "DELAY"}

// ParseNotify reads the words of a NOTIFY parameter: NEVER alone, or each of
// the others once at most.
func ParseNotify(words []string) (n Notify, ok bool) {
	for _, w := range words {
		bit := Notify(0)
		for i, name := range notifyNames {
			if strings.EqualFold(w, name) {
				bit = 1 << i
			}
		}
		if bit == 0 || n&bit != 0 {
			return 0, false
		}
		n |= bit
	}
	return n, n != 0 && (n&NotifyNever == 0 || n == NotifyNever)
}

// Words are the keywords of the set, in a fixed order.
func (n Notify) Words() []string {
	var words []string
	for i, name := range notifyNames {
		if n&(1<<i) != 0 {
			words = append(words, name)
		}
	}
	return words
}

// String is the value of the parameter; empty if the sender did not say.
func (n Notify) String() string { return strings.Join(n.Words(), ",") }

// MarshalText implements encoding.TextMarshaler.
func (n Notify) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// Wants reports whether the sender is to be told of an event. Who said nothing
// hears of failures, and of delays, which is for us to decide (RFC 3461 §4.1).
func (n Notify) Wants(event Notify) bool {
	if n == 0 {
		n = NotifyFailure | NotifyDelay
	}
	return n&event != 0
}

// WithoutSuccess is what members of a group are asked for: of its success the
// group as a whole is told (RFC 3461 §5.2.7.3 (c)). Who wanted to hear of
// nothing else hears nothing else.
func (n Notify) WithoutSuccess() Notify {
	if n == NotifySuccess {
		return NotifyNever
	}
	return n &^ NotifySuccess
}

// Return says how much of the message comes back with a report of failure
// (RFC 3461 §4.3). On disk: never renumber.
type Return uint8

// The values of RET.
const (
	ReturnUnsaid  Return = 0
	ReturnFull    Return = 1
	ReturnHeaders Return = 2
)

var returnNames = [...]string{ReturnUnsaid: "", ReturnFull: "FULL", ReturnHeaders: "HDRS"}

// String is the value of the parameter; empty if the sender did not say.
func (r Return) String() string {
	if int(r) >= len(returnNames) {
		return ""
	}
	return returnNames[r]
}

// MarshalText implements encoding.TextMarshaler.
func (r Return) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// Limits of RFC 3461 §4.2 and §4.4, in octets as they stand in the command.
const (
	EnvelopeIDMax = 100
	OriginalMax   = 500
)

// Asked is what RCPT asked for one recipient (RFC 3461 §4.1 and §4.2).
type Asked struct {
	Notify   Notify `cbor:"1,keyasint,omitempty"`
	Original string `cbor:"2,keyasint,omitempty"` // ORCPT decoded, with its type: "rfc822;bob@example.org"
}

// IsZero reports that nothing was asked for.
func (a Asked) IsZero() bool { return a == Asked{} }
