// Package admin is how people and tools see and change a boundary: the HTTP
// API of one member and its client, health for load balancers, metrics, and a
// read-only status page.
//
// It owns the shapes of the JSON that goes over the API (fields are only ever
// added) and the filters that every view and change takes. Reading is answered
// from the state as this member has applied it, and says as of which index; a
// change is a proposal, wherever the leader is. It knows neither Raft nor
// disks nor sockets' owners: what it needs of the member it declares here.
package admin

import (
	"context"
	"errors"
	"io"
	"time"

	"mailraft/fsm"
	"mailraft/mail"
)

// State is the replicated state as this member has applied it.
type State interface {
	View() *fsm.View
	Applied() (index uint64, now mail.Time)
	// Changed returns a channel that is closed when the state has moved on.
	Changed() <-chan struct{}
}

// ErrNoQuorum reports, wrapped, that a proposal was not committed within its
// context. It may be committed later.
var ErrNoQuorum = errors.New("no quorum")

// Proposer puts a command into the log, on any member.
type Proposer interface {
	Propose(ctx context.Context, kind fsm.Kind, body any) (fsm.Answer, error)
}

// Contents opens stored content, from a peer if this member lacks it.
type Contents interface {
	Open(ctx context.Context, id mail.ContentID) (io.ReadSeekCloser, error)
	// Unheld are the messages whose content no member has but, perhaps, one.
	Unheld(ctx context.Context, but mail.MemberID) ([]Unheld, error)
}

// Unheld is a message whose content is not there.
type Unheld struct {
	ID     mail.ID `json:"id"`
	Sender string  `json:"sender"`
	Size   int64   `json:"size"`
	Active bool    `json:"active"` // still to be delivered
}

// Host is the member that the API runs on.
type Host interface {
	Status(ctx context.Context) MemberStatus
	Ready() []Check
}

// Boundary does what more than one entry of the log is needed for.
type Boundary interface {
	// NewToken records an invitation and returns its text, which is nowhere else.
	// replace, if not empty, names the member that may come back with it.
	NewToken(ctx context.Context, role, replace string, uses int, life time.Duration) (string, error)
	// TransferLeader has another member lead, with zero any that can.
	TransferLeader(ctx context.Context, to mail.MemberID) (mail.MemberID, error)
	// StateHash marks the log and asks every member for its hash there.
	StateHash(ctx context.Context) ([]MemberHash, error)
}

// Backup writes what a boundary can be restored from.
type Backup interface {
	Save(ctx context.Context, w io.Writer) error
}

// MemberHash is one member's hash of the replicated state.
type MemberHash struct {
	Member string `json:"member"` // name
	Index  uint64 `json:"index,omitempty"`
	Hash   string `json:"hash,omitempty"`  // SHA-256, hexadecimal
	Error  string `json:"error,omitempty"` // why there is none
}

// Check is one condition of being ready to take mail.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Reason string `json:"reason,omitempty"` // why not, or a detail
}
