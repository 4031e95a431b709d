package mail

// Result says how one attempt to deliver to one recipient ended. The values
// are on disk: never renumber.
type Result uint8

// The results.
const (
	Delivered Result = 1 // a mailbox server took it
	Relayed   Result = 2 // a next hop outside the boundary took it
	Deferred  Result = 3 // temporary: try again at Next
	Failed    Result = 4 // permanent: bounced
	Expired   Result = 5 // permanent: message-expiration-timeout is over
)

var resultNames = map[Result]string{Delivered: "delivered", Relayed: "relayed", Deferred: "deferred", Failed: "failed", Expired: "expired"}

// String is the result in lower case.
func (r Result) String() string { return resultNames[r] }

// MarshalText implements encoding.TextMarshaler.
func (r Result) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// Final reports whether the recipient is finished by this result.
func (r Result) Final() bool { return r != Deferred }

// Outcome is the result of one attempt for one recipient.
type Outcome struct {
	Recipient  int    `cbor:"1,keyasint"` // index in the message row
	Result     Result `cbor:"2,keyasint"`
	Reply      Reply  `cbor:"3,keyasint"`           // the server's last word, or ours
	Remote     string `cbor:"4,keyasint,omitempty"` // who answered: host and address, or the Maildir
	Copy       string `cbor:"5,keyasint,omitempty"` // the database copy it went to
	Activation uint64 `cbor:"6,keyasint,omitempty"` // the activation number of that copy when the attempt began
	Next       Time   `cbor:"7,keyasint,omitempty"` // Deferred: when to try again
	Duplicate  bool   `cbor:"8,keyasint,omitempty"` // Delivered: the mailbox had it already
	Took       int64  `cbor:"9,keyasint,omitempty"` // milliseconds of the attempt

	Passed bool `cbor:"50,keyasint,omitempty"` // Delivered, Relayed: who took it tells the sender of the success
	Fault  bool `cbor:"51,keyasint,omitempty"` // Deferred: by a fault of ours in handling this very message
}

// Report is what a member says of one message after an attempt. DSN, if set,
// is the non-delivery report for the recipients that Failed or Expired in this
// very report: it is accepted in the same entry, or not at all.
type Report struct {
	ID       ID          `cbor:"1,keyasint"`
	Outcomes []Outcome   `cbor:"2,keyasint"`
	DSN      *Submission `cbor:"3,keyasint,omitempty"`

	// Told is what the sender is told of by Notice, or cannot be told of: he was
	// owed exactly that. Both count, or neither.
	Told   []Told      `cbor:"50,keyasint,omitempty"`
	Notice *Submission `cbor:"51,keyasint,omitempty"`
}

// Told is one thing that the sender was owed to be told.
type Told struct {
	Recipient int    `cbor:"1,keyasint,omitempty"` // index in the message row; of an expansion, in the envelope
	Event     Notify `cbor:"2,keyasint,omitempty"` // success or delay; zero: an expansion
}
