package fsm

import (
	"mailraft/directory"
	"mailraft/mail"
)

// Found makes the boundary, once. CAKey is sealed: see package pki.
type Found struct {
	Boundary string `cbor:"1,keyasint"` // random identity
	Name     string `cbor:"2,keyasint"`
	CA       []byte `cbor:"3,keyasint"` // certificate, DER
	CAKey    []byte `cbor:"4,keyasint"`
	First    Member `cbor:"5,keyasint"`
	// Set are parameters that the boundary begins with.
	Set map[string]string `cbor:"6,keyasint,omitempty"`
}

// TermStart is the first entry of a leader. Nothing is granted or decided in a
// term before it is applied.
type TermStart struct {
	Term   uint64        `cbor:"1,keyasint"`
	Leader mail.MemberID `cbor:"2,keyasint"`
}

// Tick moves the state machine time on, and records how far the content of
// each member is complete.
type Tick struct {
	Complete []Complete `cbor:"1,keyasint,omitempty"`
}

// MemberCert records the certificate that a member has renewed, and whom it
// believes.
type MemberCert struct {
	Member mail.MemberID `cbor:"1,keyasint"`
	Serial string        `cbor:"2,keyasint"`
	// Signer is the pin of the CA that signed it, Believes that of the newest CA
	// whose certificates the member takes: it has it on its disk. Empty: not said.
	Signer   string `cbor:"3,keyasint,omitempty"`
	Believes string `cbor:"4,keyasint,omitempty"`
}

// Complete says: this member has synced all content that rows made at or
// before Index name.
type Complete struct {
	Member mail.MemberID `cbor:"1,keyasint"`
	Index  uint64        `cbor:"2,keyasint"`
	Commit uint64        `cbor:"3,keyasint,omitempty"` // it has said that it knows the log to be committed up to there
	Starts uint64        `cbor:"4,keyasint,omitempty"` // how often its data directory was opened
	// Active is Index for active messages alone: of each message that is active
	// and was accepted at or before it the content is there.
	Active uint64 `cbor:"5,keyasint,omitempty"`
}

// Accept puts a message into the active queue of its primary server and the
// shadow queue of another.
type Accept struct {
	Submission mail.Submission `cbor:"1,keyasint"`
}

// Withdraw forbids a submission whose client was told 4xx, if it was not
// accepted yet. Only the process that said so proposes it.
type Withdraw struct {
	Content mail.ContentID `cbor:"1,keyasint"`
}

// Report carries the outcomes of a member's deliveries.
type Report struct {
	Member  mail.MemberID `cbor:"1,keyasint"`
	Reports []mail.Report `cbor:"2,keyasint"`
}

// Discard is a shadow server's acknowledgement of discard statuses.
type Discard struct {
	Member mail.MemberID `cbor:"1,keyasint"`
	IDs    []mail.ID     `cbor:"2,keyasint"`
}

// Limit bounds a command that is applied in pieces.
type Limit struct {
	Rows int `cbor:"1,keyasint"`
}

// MemberAdd records a member that used a token; it is down until MemberUp.
type MemberAdd struct {
	Member Member   `cbor:"1,keyasint"`
	Token  [32]byte `cbor:"2,keyasint"` // hash
}

// MemberChange names the member that MemberDown, MemberUp or Takeover is about.
type MemberChange struct {
	Member mail.MemberID `cbor:"1,keyasint"`
	Rows   int           `cbor:"2,keyasint,omitempty"` // Takeover: bound of this piece
	Addr   string        `cbor:"3,keyasint,omitempty"` // MemberUp: cluster address it is reached at; empty leaves all four as they are
	SMTP   string        `cbor:"4,keyasint,omitempty"` // MemberUp: where it takes mail
	Host   string        `cbor:"5,keyasint,omitempty"` // MemberUp: its host name in mail
	Site   string        `cbor:"6,keyasint,omitempty"` // MemberUp
	Term   uint64        `cbor:"7,keyasint,omitempty"` // MemberDown: the term whose leader decided it
}

// Expand makes the rows of the next piece of a message to large groups.
type Expand struct {
	ID mail.ID `cbor:"1,keyasint"`
}

// Configure sets parameters by name; empty text resets one to its default. All
// or none are set.
type Configure struct {
	Set    map[string]string `cbor:"1,keyasint"`
	Reason string            `cbor:"2,keyasint,omitempty"`
}

// Directory puts and removes objects, all or none of them.
type Directory struct {
	Domains   []directory.Domain  `cbor:"1,keyasint,omitempty"`
	Mailboxes []directory.Mailbox `cbor:"2,keyasint,omitempty"`
	Groups    []directory.Group   `cbor:"3,keyasint,omitempty"` // the version is given by applying it
	Remove    []ObjectName        `cbor:"4,keyasint,omitempty"`
}

// ObjectName names a directory object to remove.
type ObjectName struct {
	Kind string `cbor:"1,keyasint"` // domain, mailbox, group
	Name string `cbor:"2,keyasint"`
}

// NextHops puts and removes next hops, all or none of them.
type NextHops struct {
	Put    []directory.NextHop `cbor:"1,keyasint,omitempty"`
	Remove []string            `cbor:"2,keyasint,omitempty"` // by address
}

// DatabaseChange changes a mailbox database or one of its copies.
type DatabaseChange struct {
	Op     string `cbor:"1,keyasint"` // add, remove, copy-add, copy-set, copy-remove, report, suspend-activation, resume-activation
	Name   string `cbor:"2,keyasint"`
	Copies []Copy `cbor:"3,keyasint,omitempty"` // copy-remove, report and activation: by name; none suspends and resumes the whole database
	By     string `cbor:"4,keyasint,omitempty"`
	Reason string `cbor:"5,keyasint,omitempty"`
}

// TokenAdd records an invitation; the secret itself is never in the state.
type TokenAdd struct {
	Hash  [32]byte  `cbor:"1,keyasint"`
	Role  string    `cbor:"2,keyasint"`
	Until mail.Time `cbor:"3,keyasint"`
	Uses  int       `cbor:"4,keyasint"`
	// Replace lets the member of this name, which has lost its disk, back in.
	Replace string `cbor:"5,keyasint,omitempty"`
}

// QueueChange suspends or resumes a destination, by its key, or all.
type QueueChange struct {
	Key     string `cbor:"1,keyasint"` // "db/DB1", "relay/…", or "" for all
	Suspend bool   `cbor:"2,keyasint,omitempty"`
	Reason  string `cbor:"3,keyasint,omitempty"`
	By      string `cbor:"4,keyasint,omitempty"`
}

// MessageChange is what an operator does to messages.
type MessageChange struct {
	Op     string    `cbor:"1,keyasint"` // retry, delete, suspend, resume, bounce, redirect
	IDs    []mail.ID `cbor:"2,keyasint"`
	Reason string    `cbor:"3,keyasint,omitempty"`
	By     string    `cbor:"4,keyasint,omitempty"`
	// Redirect: whose mailbox is in this database now, or to this address.
	Database string `cbor:"5,keyasint,omitempty"`
	To       string `cbor:"6,keyasint,omitempty"`
	// Retry: only who waits for this destination; empty is any.
	Queue string `cbor:"7,keyasint,omitempty"`
}

// Mark asks every member for the hash of its state at this entry.
type Mark struct{}
