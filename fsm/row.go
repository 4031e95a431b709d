package fsm

import (
	"fmt"
	"slices"
	"strconv"

	"mailraft/directory"
	"mailraft/mail"
)

// Message is the row of a message: everything that the boundary knows of it
// but its content. One row stands for the primary and the shadow message, and
// later for both Safety Net entries.
type Message struct {
	ID         mail.ID              `cbor:"1,keyasint"`
	Content    mail.Content         `cbor:"2,keyasint"`
	Envelope   mail.Envelope        `cbor:"3,keyasint"`
	Trace      mail.Trace           `cbor:"4,keyasint"`
	Fields     mail.Fields          `cbor:"5,keyasint"`
	Accepted   mail.Time            `cbor:"6,keyasint"`
	Primary    mail.MemberID        `cbor:"7,keyasint"`            // the owner: it delivers, or did
	Shadow     mail.MemberID        `cbor:"8,keyasint,omitempty"`  // zero: none yet, or none any more
	Acked      bool                 `cbor:"9,keyasint,omitempty"`  // the shadow server has acknowledged the discard
	Finished   mail.Time            `cbor:"10,keyasint,omitempty"` // every recipient is finished; zero while active
	Recipients []Recipient          `cbor:"11,keyasint"`
	Holders    []mail.MemberID      `cbor:"12,keyasint,omitempty"` // who had the content when it was accepted
	Events     []Event              `cbor:"13,keyasint,omitempty"`
	Origin     mail.ID              `cbor:"14,keyasint,omitempty"` // DSN: the message that it reports on; resubmission: the message that was accepted
	Parent     mail.ID              `cbor:"15,keyasint,omitempty"` // a piece of a large group: the message as accepted
	Rest       []directory.GroupRef `cbor:"16,keyasint,omitempty"` // groups still to be expanded
	Held       bool                 `cbor:"17,keyasint,omitempty"` // not delivered before the expansion is complete
	Suspended  bool                 `cbor:"18,keyasint,omitempty"`
	Marked     bool                 `cbor:"19,keyasint,omitempty"` // accepted with fewer copies than a majority
	Waiting    bool                 `cbor:"20,keyasint,omitempty"` // its owner is down and nobody who is up has the content
	PrimaryEnd mail.Time            `cbor:"21,keyasint,omitempty"` // its Primary Safety Net entry has expired; the shadow is unacknowledged
	Expanding  bool                 `cbor:"22,keyasint,omitempty"` // Rest was not empty at first, and pieces are not all released
	Groups     []directory.GroupRef `cbor:"23,keyasint,omitempty"` // group versions that the expansion holds
	Deleted    *mail.Reply          `cbor:"24,keyasint,omitempty"` // an operator deleted it while it was expanded

	Request uint64        `cbor:"40,keyasint,omitempty"` // a resubmission: the request that it was made for
	LostBy  mail.MemberID `cbor:"41,keyasint,omitempty"` // the former member that its Primary Safety Net was lost with
	Pinned  uint64        `cbor:"42,keyasint,omitempty"` // its hold time is over; kept for this request

	// A resubmission: its recipients are those to whom its envelope led then,
	// not those who had it.
	Recategorized bool `cbor:"43,keyasint,omitempty"`

	Overlay    *mail.Overlay `cbor:"46,keyasint,omitempty"` // what filters changed in its header; the content has it as received
	Quarantine string        `cbor:"47,keyasint,omitempty"` // a filter's reason to have it suspended as it came in; empty once it is resumed

	Returned *mail.Reply `cbor:"51,keyasint,omitempty"` // an operator bounced it while it was expanded
	Faults   int         `cbor:"52,keyasint,omitempty"` // in a row: what its handling broke, see Crashes
	Poison   *Poison     `cbor:"53,keyasint,omitempty"` // set aside for that
	Crash    CrashMark   `cbor:"54,keyasint,omitempty"` // the last process that died with it in hand

	Expanded []int `cbor:"50,keyasint,omitempty"` // envelope recipients that were expanded, of which the sender is still to be told

	GivenUp bool `cbor:"48,keyasint,omitempty"` // nobody had its content any more: only Holders have it, if any
}

// Active reports whether the message still has to be delivered to somebody.
func (m *Message) Active() bool { return m.Finished == 0 }

// Bounce reports whether no DSN may be made for it (RFC 5321 §6.1).
func (m *Message) Bounce() bool { return m.Envelope.ReversePath == "" }

// silent reports whether nobody is told when it cannot be delivered.
func (m *Message) silent() bool { return m.Bounce() || m.Request != 0 }

// Top is what is laid over the content of a message before all else when it is
// delivered or shown: our trace field, then Marks. A resubmission has the trace
// field of the message as it came in: nothing was received since.
func (m *Message) Top() []byte {
	id, at := m.ID, m.Accepted
	if m.Request != 0 {
		id, at = m.Origin, m.Origin.Time()
	}
	return append(m.Trace.Received(id, at, m.Envelope.Recipients), m.Marks()...)
}

// Marks are the fields that say what is special about the message, whole lines
// with CRLF.
func (m *Message) Marks() []byte {
	if m.Request == 0 {
		return nil
	}
	return fmt.Appendf(nil, "X-Mailraft-Resubmit: %d\r\n", m.Request)
}

// RecipientState says what became of a recipient. On disk: never renumber.
type RecipientState uint8

// The states.
const (
	Pending   RecipientState = 0
	Delivered RecipientState = 1
	Relayed   RecipientState = 2
	Failed    RecipientState = 3
	Expired   RecipientState = 4 // given up after message-expiration-timeout
	Deleted   RecipientState = 5 // by an operator

	// Undelivered: a resubmission was given up. Nobody is told, so it stays in
	// the Safety Net as if delivered then, for later requests to find.
	Undelivered RecipientState = 6

	// Redirected by an operator, to the recipient that To names.
	Redirected RecipientState = 7
)

var recipientStates = []string{"pending", "delivered", "relayed", "failed", "expired", "deleted", "undelivered", "redirected"}

// String is the state in lower case.
func (s RecipientState) String() string { return recipientStates[s] }

// MarshalText implements encoding.TextMarshaler.
func (s RecipientState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Recipient is one delivery of a message, as the categorizer fixed it.
type Recipient struct {
	Address    string         `cbor:"1,keyasint"`
	Original   string         `cbor:"2,keyasint,omitempty"` // envelope recipient, where it differs
	Database   string         `cbor:"3,keyasint,omitempty"` // a mailbox: its database
	NextHop    string         `cbor:"4,keyasint,omitempty"` // an outside recipient: where it goes
	State      RecipientState `cbor:"5,keyasint,omitempty"`
	Attempts   int            `cbor:"6,keyasint,omitempty"`
	Next       mail.Time      `cbor:"7,keyasint,omitempty"` // Pending: not before
	Done       mail.Time      `cbor:"8,keyasint,omitempty"` // when its outcome was applied: the delivery time
	Reply      *mail.Reply    `cbor:"9,keyasint,omitempty"` // last word about it
	Remote     string         `cbor:"10,keyasint,omitempty"`
	Copy       string         `cbor:"11,keyasint,omitempty"`
	Activation uint64         `cbor:"12,keyasint,omitempty"`
	Via        []string       `cbor:"13,keyasint,omitempty"` // groups it came from
	Gone       bool           `cbor:"14,keyasint,omitempty"` // its hold time is over

	Resubmitted bool `cbor:"20,keyasint,omitempty"` // of a resubmission: waits behind fresh mail
	Duplicate   bool `cbor:"21,keyasint,omitempty"` // of a resubmission: the mailbox had it already

	Asked   int         `cbor:"22,keyasint,omitempty"` // counted from 1: which of Envelope.Asked is about it; zero: none
	Owes    mail.Notify `cbor:"23,keyasint,omitempty"` // what its sender is still to be told: success, delay
	Delayed bool        `cbor:"24,keyasint,omitempty"` // its sender was told of the delay, or will be

	Returned bool `cbor:"25,keyasint,omitempty"` // Pending: an operator bounced it; Reply is what its sender will read
	To       int  `cbor:"26,keyasint,omitempty"` // Redirected: counted from 1, the recipient in its place; zero: one who was to have it anyway
}

// Asked is what the sender asked for a recipient (RFC 3461). Of the success of
// a group its sender is told once, and not by its members.
func (m *Message) Asked(r *Recipient) mail.Asked {
	a := m.Envelope.Ask(r.Asked - 1)
	if len(r.Via) > 0 {
		a.Notify = a.Notify.WithoutSuccess()
	}
	return a
}

// held reports whether the recipient is in the Safety Net.
func (r *Recipient) held() bool {
	return (r.State == Delivered || r.State == Undelivered) && !r.Gone
}

// Destination is the queue that the recipient waits in: "db/NAME", for a
// resubmission "resubmit/NAME", "relay/NEXTHOP", or "fail" for one that did
// not resolve, or that is bounced.
func (r *Recipient) Destination() string {
	switch {
	case r.Returned && r.State == Pending:
		return "fail"
	case r.Database != "" && r.Resubmitted:
		return "resubmit/" + r.Database
	case r.Database != "":
		return "db/" + r.Database
	case r.NextHop != "":
		return "relay/" + r.NextHop
	default:
		return "fail"
	}
}

// Member is a member of the boundary.
type Member struct {
	ID       mail.MemberID `cbor:"1,keyasint"`
	Name     string        `cbor:"2,keyasint"`
	Site     string        `cbor:"3,keyasint,omitempty"`
	Addr     string        `cbor:"4,keyasint"`           // cluster port, host:port
	SMTP     string        `cbor:"5,keyasint,omitempty"` // where it takes mail, for people
	Host     string        `cbor:"6,keyasint,omitempty"` // its name in mail
	Serial   string        `cbor:"7,keyasint,omitempty"` // of its certificate
	Up       bool          `cbor:"8,keyasint,omitempty"`
	Draining bool          `cbor:"9,keyasint,omitempty"`
	Since    mail.Time     `cbor:"10,keyasint,omitempty"` // of the last change of Up
	Joined   mail.Time     `cbor:"11,keyasint,omitempty"`
	Complete uint64        `cbor:"12,keyasint,omitempty"`          // see Complete
	Phase    Phase         `cbor:"13,keyasint,omitempty"`          // of the takeover of its messages
	Cursor   []byte        `cbor:"14,keyasint,omitempty"`          // how far the phase is
	Token    *[32]byte     `cbor:"15,keyasint,omitempty" json:"-"` // hash of the one that it joined with; the first member has none
	Retired  mail.Time     `cbor:"30,keyasint,omitempty"`          // since when it is a former member; its row stays until nothing names it
	Leaving  bool          `cbor:"31,keyasint,omitempty"`          // to be removed once it is drained
	Drained  mail.Time     `cbor:"32,keyasint,omitempty"`          // since when nothing is left with it
	Left     int           `cbor:"33,keyasint,omitempty"`          // messages that still named it at the end of the last pass
	Found    int           `cbor:"34,keyasint,omitempty"`          // the same, so far in this pass
	Walk     []byte        `cbor:"35,keyasint,omitempty"`          // how far this pass is
	Handed   uint64        `cbor:"36,keyasint,omitempty"`          // counts what makes earlier HandOvers void
	By       string        `cbor:"37,keyasint,omitempty"`          // who drains or removes it
	Reason   string        `cbor:"38,keyasint,omitempty"`
	Commit   uint64        `cbor:"39,keyasint,omitempty"` // highest commit index that it has reported: its log cannot end before
	Starts   uint64        `cbor:"40,keyasint,omitempty"` // highest start counter that it has reported
	// CompleteActive is Complete for active messages alone.
	CompleteActive uint64 `cbor:"41,keyasint,omitempty"`
	Believes       string `cbor:"50,keyasint,omitempty"` // pin of the newest CA that it has on disk
	Signer         string `cbor:"51,keyasint,omitempty"` // pin of the CA that signed its certificate
}

// Takes reports whether something may be given to the member: it is up, and to
// stay.
func (m *Member) Takes() bool { return m.Up && !m.Draining && m.Retired == 0 }

// Phase is how far the takeover of a member that is down has come.
type Phase uint8

// The phases, in their order.
const (
	PhaseDone      Phase = 0 // nothing to hand over, or all handed over
	PhasePrimaries Phase = 1 // its active messages get a new owner
	PhaseShadows   Phase = 2 // active messages shadowed there get a new shadow
	PhaseHolders   Phase = 3 // retired: its Safety Net entries get a new holder, and whatever else names it
)

// has reports whether the member has the content of the message. What was
// complete for active messages says nothing of one that is finished, though it
// was active then: who held nothing of it may come to hold its Safety Net entry.
func (m *Member) has(msg *Message) bool {
	if slices.Contains(msg.Holders, m.ID) {
		return true
	}
	return !msg.GivenUp && (m.Complete >= msg.ID.Index() || msg.Active() && m.CompleteActive >= msg.ID.Index())
}

// Boundary is the one row about the boundary as a whole.
type Boundary struct {
	Boundary   string          `cbor:"1,keyasint"`
	Name       string          `cbor:"2,keyasint"`
	Generation uint64          `cbor:"3,keyasint"`
	CA         []byte          `cbor:"4,keyasint"`
	CAKey      []byte          `cbor:"5,keyasint"` // sealed
	Created    mail.Time       `cbor:"6,keyasint"`
	Opened     bool            `cbor:"7,keyasint,omitempty"` // min-voters were there once
	Term       uint64          `cbor:"8,keyasint,omitempty"`
	Leader     mail.MemberID   `cbor:"9,keyasint,omitempty"` // who began the term
	Voters     []mail.MemberID `cbor:"10,keyasint,omitempty"`
	Learners   []mail.MemberID `cbor:"11,keyasint,omitempty"`
	Config     []byte          `cbor:"12,keyasint,omitempty"` // raft.Configuration
	ConfigAt   uint64          `cbor:"13,keyasint,omitempty"` // its index
	Groups     uint64          `cbor:"14,keyasint,omitempty"` // last group version given
	Protect    []byte          `cbor:"15,keyasint,omitempty"` // cursor of Protect
	SpanWas    mail.Duration   `cbor:"16,keyasint,omitempty"` // shadow-resubmit-time-span before its last change
	SpanAt     mail.Time       `cbor:"17,keyasint,omitempty"` // when that was
	Next       []mail.MemberID `cbor:"30,keyasint,omitempty"` // voters to be: see VotersChange
	NextAt     uint64          `cbor:"31,keyasint,omitempty"` // index at which they were announced; zero: no change is under way
	NextPrev   uint64          `cbor:"32,keyasint,omitempty"` // index of the configuration that is to be changed
	Requests   uint64          `cbor:"48,keyasint,omitempty"` // last resubmit request's number
	HoldSince  mail.Time       `cbor:"55,keyasint,omitempty"` // the quorum came back after a silence, and nothing of the Safety Net expires: see Held
	SilentFrom mail.Time       `cbor:"56,keyasint,omitempty"` // when that silence began
	HeldFrom   mail.Time       `cbor:"57,keyasint,omitempty"` // what was delivered before may have expired under a shorter hold time
	Recovery   *Recovery       `cbor:"40,keyasint,omitempty"` // how this generation began; nil: the first
	Rotation   *CARotation     `cbor:"41,keyasint,omitempty"` // exchange of the CA under way
	Restored   *Restored       `cbor:"61,keyasint,omitempty"` // the backup that the boundary was made from; nil: none
}

// Database is a mailbox database.
type Database struct {
	Name       string    `cbor:"1,keyasint"`
	Active     string    `cbor:"2,keyasint,omitempty"` // name of the active copy
	Activation uint64    `cbor:"3,keyasint"`           // counts activations from 1
	Copies     []Copy    `cbor:"4,keyasint"`
	Since      mail.Time `cbor:"5,keyasint,omitempty"`  // of the present activation
	Suspended  *Stop     `cbor:"20,keyasint,omitempty"` // the Active Manager activates none of its copies
	Request    uint64    `cbor:"21,keyasint,omitempty"` // the resubmit request of the present activation; zero: the first has none
	Lacks      mail.Time `cbor:"22,keyasint,omitempty"` // that request has ended, and has not sent all that was delivered since
}

// Stop is an order to the Active Manager that stands until it is taken back.
type Stop struct {
	At     mail.Time `cbor:"1,keyasint" json:"at"`
	By     string    `cbor:"2,keyasint,omitempty" json:"by,omitempty"`
	Reason string    `cbor:"3,keyasint,omitempty" json:"reason,omitempty"`
}

// Copy is a place where a database lives.
type Copy struct {
	Name        string        `cbor:"1,keyasint" json:"name"`
	Addr        string        `cbor:"2,keyasint" json:"address"` // lmtp://, smtp://, maildir:
	Site        string        `cbor:"3,keyasint,omitempty" json:"site,omitempty"`
	Lag         mail.Duration `cbor:"4,keyasint,omitempty" json:"lag"`
	Preference  int           `cbor:"5,keyasint,omitempty" json:"preference,omitempty"`
	Slack       mail.Duration `cbor:"6,keyasint,omitempty" json:"replication_slack"`      // 0: the parameter's
	DataThrough mail.Time     `cbor:"7,keyasint,omitempty" json:"data_through,omitempty"` // known to be complete up to; 0: nothing is known
	Live        bool          `cbor:"8,keyasint,omitempty" json:"live,omitempty"`         // complete whenever it is healthy
	Suspended   *Stop         `cbor:"20,keyasint,omitempty" json:"suspended,omitempty"`   // the Active Manager does not activate it
}

// text is the copy on one line, for the history.
func (c Copy) text() string {
	s := c.Addr
	add := func(name, value string, there bool) {
		if there {
			s += " " + name + "=" + value
		}
	}
	add("site", c.Site, c.Site != "")
	add("lag", mail.FormatDuration(c.Lag.Std()), c.Lag != 0)
	add("preference", strconv.Itoa(c.Preference), c.Preference != 0)
	add("replication-slack", mail.FormatDuration(c.Slack.Std()), c.Slack != 0)
	add("data-through", c.DataThrough.String(), c.DataThrough != 0)
	add("replication", "live", c.Live)
	return s
}

// copy returns the named copy, or nil.
func (d *Database) copy(name string) *Copy {
	for i := range d.Copies {
		if d.Copies[i].Name == name {
			return &d.Copies[i]
		}
	}
	return nil
}

// ActiveCopy is the copy that mail goes to, or nil.
func (d *Database) ActiveCopy() *Copy { return d.copy(d.Active) }

// Token is an invitation, by the hash of its secret.
type Token struct {
	Hash    [32]byte      `cbor:"1,keyasint"`
	Role    string        `cbor:"2,keyasint"`
	Until   mail.Time     `cbor:"3,keyasint"`
	Uses    int           `cbor:"4,keyasint"`           // left
	Replace mail.MemberID `cbor:"5,keyasint,omitempty"` // for this member to come back with an empty disk
}

// Suspension is a standing order not to deliver to a destination.
type Suspension struct {
	Key    string    `cbor:"1,keyasint" json:"destination"` // "" is all
	Reason string    `cbor:"2,keyasint,omitempty" json:"reason"`
	By     string    `cbor:"3,keyasint,omitempty" json:"by"`
	At     mail.Time `cbor:"4,keyasint" json:"at"`
}

// Applied is the position of the state: the entry that it includes last.
type Applied struct {
	Index uint64    `cbor:"1,keyasint"`
	Term  uint64    `cbor:"2,keyasint"`
	Time  mail.Time `cbor:"3,keyasint"` // state machine time
}

// submitted is the first answer to a submission, which stands.
type submitted struct {
	At      mail.Time   `cbor:"1,keyasint"`
	ID      mail.ID     `cbor:"2,keyasint,omitempty"`
	Refused *mail.Reply `cbor:"3,keyasint,omitempty"`
}

// contentRow counts who refers to a content.
type contentRow struct {
	Refs    int          `cbor:"1,keyasint"`
	Content mail.Content `cbor:"2,keyasint"`
}
