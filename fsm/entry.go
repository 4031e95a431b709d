package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"mailraft/mail"

	"github.com/fxamacker/cbor/v2"
)

// Kind is the first byte of a log entry. The numbers are on every disk and in
// every log: add at the end, never renumber, never reuse.
type Kind uint8

// The commands. CONTRIBUTING.md says what a new one needs.
const (
	KindTermStart     Kind = 1  // TermStart: a leader's term begins
	KindTick          Kind = 2  // Tick: time passes, members report
	KindAccept        Kind = 3  // Accept: a message is ours
	KindWithdraw      Kind = 4  // Withdraw: this submission must not be accepted any more
	KindReport        Kind = 5  // Report: outcomes of deliveries
	KindDiscard       Kind = 6  // Discard: a shadow server acknowledges discard statuses
	KindExpire        Kind = 7  // Expire: hold times are over
	KindMemberAdd     Kind = 8  // MemberAdd: a member joins
	KindMemberDown    Kind = 9  // MemberDown: its lease is over, its messages are handed over
	KindMemberUp      Kind = 10 // MemberUp
	KindTakeover      Kind = 11 // Takeover: one piece of the handing over
	KindProtect       Kind = 12 // Protect: one piece of giving messages what they lack
	KindExpand        Kind = 13 // Expand: one piece of a large group
	KindConfigure     Kind = 14 // Configure: parameters of the boundary
	KindDirectory     Kind = 15 // Directory: domains, mailboxes, groups
	KindDatabase      Kind = 16 // Database: mailbox databases and copies
	KindToken         Kind = 17 // Token: an invitation to join
	KindQueue         Kind = 18 // Queue: suspend or resume a destination
	KindMessage       Kind = 19 // Message: retry, delete, suspend, resume
	KindMark          Kind = 20 // Mark: hash the state at this entry
	KindFound         Kind = 21 // Found: the boundary comes into being
	KindVotersChange  Kind = 32 // VotersChange: a change of the voters is announced
	KindVotersAbort   Kind = 33 // VotersAbort: and called off
	KindMemberRemove  Kind = 34 // MemberRemove: a member leaves for good
	KindDrain         Kind = 35 // Drain: a member is drained, or not any more
	KindHandOver      Kind = 36 // HandOver: a draining member gives its messages away
	KindMemberSet     Kind = 37 // MemberSet: a member has another address
	KindMemberCert    Kind = 38 // MemberCert: a member has renewed its certificate
	KindRecover       Kind = 39 // Recover: another generation, of one member
	KindContentLost   Kind = 40 // ContentLost: content that no member has any more, or again
	KindCA            Kind = 41 // CAChange: a step of the exchange of the CA
	KindActivate      Kind = 48 // Activate: another copy of a database is the active one
	KindHealth        Kind = 49 // Health: what the majority finds of copies
	KindRequestAdd    Kind = 50 // RequestAdd: a resubmit request is made
	KindAdvance       Kind = 51 // Advance: one piece of a resubmit request
	KindRequestChange Kind = 52 // RequestChange: suspend, resume, cancel
	KindDelays        Kind = 55 // Delays: senders are owed a word about messages that wait
	KindCrashes       Kind = 56 // Crashes: a process died with these messages in hand
	KindNextHop       Kind = 60 // NextHops: how mail is handed over at addresses
	KindRefound       Kind = 61 // Refound: another boundary is made of a backup
	KindFrontend      Kind = 64 // FrontendChange: a front end joins, renews its certificate, or is shut out
	kindSkippable     Kind = 0x80
	headerSize             = 10
	version           byte = 1
	entrySizeMax           = 1 << 20
	recipientsPerRow       = 1000
)

// ErrEntry reports bytes that are no entry of a kind and version known here.
// Applying one stops the process: going on without it would be another state
// than that of members who know it.
var ErrEntry = errors.New("unknown or malformed log entry")

var enc = func() cbor.EncMode {
	m, err := cbor.EncOptions{Sort: cbor.SortCoreDeterministic}.EncMode()
	if err != nil {
		panic(err)
	}
	return m
}()

var dec = func() cbor.DecMode {
	// A peer's reply, a Subject or a HELO may hold any bytes: text that is not
	// UTF-8 must not make an entry or a row unreadable.
	m, err := cbor.DecOptions{MaxArrayElements: 1 << 20, MaxNestedLevels: 16, UTF8: cbor.UTF8DecodeInvalid}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}()

// Encode makes a log entry of a command: kind, version, room for the state
// machine time that the leader stamps, body.
func Encode(kind Kind, body any) ([]byte, error) {
	b, err := enc.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode %d entry: %w", kind, err)
	}
	if len(b)+headerSize > entrySizeMax {
		return nil, fmt.Errorf("encode %d entry: %d bytes: %w", kind, len(b), ErrEntry)
	}
	e := make([]byte, headerSize, headerSize+len(b))
	e[0], e[1] = byte(kind), version
	return append(e, b...), nil
}

// header splits an entry. The body is not decoded.
func header(e []byte) (kind Kind, at mail.Time, body []byte, err error) {
	if len(e) < headerSize || e[0] == 0 || e[1] != version {
		return 0, 0, nil, ErrEntry
	}
	return Kind(e[0]), mail.Time(binary.BigEndian.Uint64(e[2:headerSize])), e[headerSize:], nil
}

// Answer is the result of applying an entry, as the proposer gets it.
type Answer struct {
	Refused *mail.Reply   `cbor:"1,keyasint,omitempty"` // why nothing was done
	ID      mail.ID       `cbor:"2,keyasint,omitempty"` // Accept: the queue id
	Index   uint64        `cbor:"3,keyasint,omitempty"` // of the entry
	Items   []*mail.Reply `cbor:"4,keyasint,omitempty"` // Report: one per message, nil where it was taken
	Count   int           `cbor:"5,keyasint,omitempty"` // rows changed
	More    bool          `cbor:"6,keyasint,omitempty"` // Takeover, Expire, Expand, Protect, Advance: there is another piece
	Text    string        `cbor:"7,keyasint,omitempty"` // RequestAdd: the number of the request
}

// DecodeAnswer reads what Apply returned.
func DecodeAnswer(b []byte) (Answer, error) {
	var a Answer
	if err := dec.Unmarshal(b, &a); err != nil {
		return a, fmt.Errorf("decode answer: %w", err)
	}
	return a, nil
}

func refuse(code int, enhanced, format string, a ...any) Answer {
	return Answer{Refused: mail.Replyf(code, enhanced, format, a...)}
}

// Stamp writes the state machine time into an entry: the leader's doing, just
// before it goes into the log.
func Stamp(e []byte, t mail.Time) { binary.BigEndian.PutUint64(e[2:headerSize], uint64(t)) }
