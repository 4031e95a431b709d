// Package backup is the file that a boundary is saved to: its state at one
// entry of the log, the content that this state names, and what is needed to
// see that all of it is there.
//
// It owns the format, and the refusal of what is damaged or cut. It does not
// know what is in the state, where content lies, or how a boundary is made of
// either: that is package member's.
package backup

import (
	"errors"

	"mailraft/mail"
)

// A file is a magic, then records: a byte of kind, four bytes of length, the
// payload, and a CRC-32C of all three. Numbers are big endian. The records are
//
//	head                             JSON, Head
//	state …                          pieces of the rows, as a snapshot has them
//	(content, data …, [drop])…       CBOR, mail.Content; pieces of its bytes
//	tail                             JSON, Tail
//
// The tail has a SHA-256 of everything before it: records cannot be exchanged,
// left out or doubled unseen.
const magic = "mailraft backup 1\n"

// pieceMax bounds a payload, so that memory is bounded whatever a file says.
const pieceMax = 256 << 10

type kind byte

const (
	kindHead    kind = 'H'
	kindState   kind = 'S'
	kindContent kind = 'C'
	kindData    kind = 'D'
	kindDrop    kind = 'X' // the content before it could not be read to its end, and comes again or not at all
	kindTail    kind = 'T'
)

// ErrDamaged reports a file that is no whole backup: cut, changed, or not one.
var ErrDamaged = errors.New("this is not a whole backup")

// Head says what a backup is of.
type Head struct {
	Boundary   string    `json:"boundary"` // identity
	Name       string    `json:"name"`
	Generation uint64    `json:"generation"`
	Member     string    `json:"member"`  // that it was made by
	Version    string    `json:"version"` // of its binary
	Index      uint64    `json:"index"`   // the state has all entries up to this one, and no other
	Term       uint64    `json:"term"`
	Time       mail.Time `json:"time"` // the boundary's, at that entry
	Contents   int64     `json:"contents"`
	Bytes      int64     `json:"content_bytes"`
}

// Tail says what is in a backup, and what could not be put there.
type Tail struct {
	Contents int64 `json:"contents"`
	Bytes    int64 `json:"content_bytes"`
	State    int64 `json:"state_bytes"`
	Expired  int64 `json:"expired,omitempty"` // contents whose messages expired meanwhile, and which were gone before they were saved
	// Absent are contents that are still wanted, and that no member could give.
	Absent      int64            `json:"absent"`
	AbsentFirst []mail.ContentID `json:"absent_first,omitempty"` // some of them
	Counts      Counts           `json:"counts"`
	SHA256      string           `json:"sha256"` // of all before the tail
}

// Counts are the messages of the state.
type Counts struct {
	Messages  int64      `json:"messages"`
	Active    int64      `json:"active"`    // still to be delivered
	Finished  int64      `json:"safetynet"` // in the Safety Net
	Lost      int64      `json:"content_lost,omitempty"`
	Oldest    mail.Time  `json:"oldest,omitzero"` // accepted
	Newest    mail.Time  `json:"newest,omitzero"`
	Databases []Database `json:"databases"`
}

// Database is what a backup has for one mailbox database.
type Database struct {
	Name      string    `json:"name"`
	Pending   int64     `json:"pending"`   // recipients to deliver to
	Delivered int64     `json:"delivered"` // deliveries in the Safety Net
	Bytes     int64     `json:"bytes"`     // of both, each delivery with the size of its content
	Oldest    mail.Time `json:"oldest,omitzero"`
	Newest    mail.Time `json:"newest,omitzero"` // of these deliveries
}
