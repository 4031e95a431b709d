package deliver

import (
	"context"
	"errors"
	"io"
	"time"

	"mailraft/mail"
)

// Destination is where a job goes, as resolved when it fell due.
type Destination struct {
	Key        string // queue key: "db/DB1" or "relay/example.org"
	Addr       string // lmtp://h:p, lmtp:///socket, smtp://h:p, mx:domain, maildir:/path; empty if nothing resolved
	Database   string // set for a mailbox database: its recipients are delivered, others relayed
	Copy       string // the copy that Addr belongs to
	Activation uint64 // the activation number of that copy
	Yields     bool   // a queue of resubmissions: it has a small share
}

// Recipient is one recipient that is due.
type Recipient struct {
	Index    int        // in the message row
	Address  string     // where to deliver
	Original string     // as given in the envelope
	Attempts int        // attempts so far
	Asked    mail.Asked // what its sender wants to be told, and wrote (RFC 3461)
	After    []int      // recipients in whose place it is: not while one of them is being delivered
	Refused  mail.Reply // set when the recipient did not resolve: failed without an attempt
}

// Telling is one thing that a sender is to be told, besides failures.
type Telling struct {
	Recipient
	Event    mail.Notify // success, delay; zero: a group was expanded, and Index is that in the envelope
	Relayed  bool        // success of an outside recipient, which nobody else tells of
	Reply    mail.Reply  // the last word; zero: there is none
	Remote   string
	LastTime mail.Time // of the last attempt; zero: not known
}

// Job is one message for one destination, with the recipients that are due.
type Job struct {
	ID          mail.ID
	Content     mail.Content
	ReversePath string // empty is the null reverse-path
	EightBit    bool
	UTF8        bool
	EnvelopeID  string      // ENVID (RFC 3461 §4.4); may be empty
	Return      mail.Return // RET: what comes back with a report of failure
	Trace       mail.Trace
	Fields      mail.Fields
	Overlay     *mail.Overlay // what filters changed in the header; nil: nothing
	Accepted    mail.Time
	Expires     mail.Time
	Retry       []time.Duration // waits between attempts, see Next; nil: the default
	Destination Destination
	Recipients  []Recipient
	Tell        []Telling // nothing is delivered: the sender is owed a report of this
	Bounce      bool      // the message is a report itself: never a report about it
	Quiet       bool      // a resubmission: no report
	Suspect     bool      // a process died with it in hand, or its handling failed by a fault of ours: alone among its like
	Origin      mail.ID   // of a resubmission: the message as it was accepted
	Header      []byte    // extra header fields, whole lines with CRLF, laid over the content
	All         []string  // envelope recipients, for the "for" clause of Received
}

// Top is what is laid over the content at every delivery: our trace field,
// then the extra fields of the entry. A resubmission has the trace field of the
// message as it came in: nothing was received since.
func (j *Job) Top() []byte {
	id, at := j.ID, j.Accepted
	if !j.Origin.IsZero() {
		id, at = j.Origin, j.Origin.Time()
	}
	return append(j.Trace.Received(id, at, j.All), j.Header...)
}

// Queue is the due work of this member.
type Queue interface {
	// Due returns jobs whose next attempt is at or before now, oldest first:
	// at most limit in all, at most room(d) for each destination, and none
	// for which taken is true. It does not return suspended queues, nor jobs
	// of other members. next is the earliest attempt that is not due yet,
	// zero if there is none. room and taken are quick, and may be called for
	// every destination and every due message; Due is called by one
	// goroutine only.
	Due(now mail.Time, room func(Destination) int, taken func(id mail.ID, to Destination) bool, limit int) (jobs []Job, next mail.Time, err error)
	// Changed returns a channel that is closed at the next change.
	Changed() <-chan struct{}
	// Current reports whether a destination is still what its key leads to.
	Current(Destination) bool
}

// ErrDamaged reports stored content that is damaged, and that could not be
// fetched for being damaged there as well.
var ErrDamaged = errors.New("stored content is damaged")

// Source reads stored content; it never returns damaged bytes without an error.
type Source interface {
	Open(id mail.ContentID) (io.ReadSeekCloser, error)
}

// Reporter makes outcomes part of the replicated state. It returns nil only
// when they are applied, and Due on this member shows it. Reporting the same
// outcome again does no harm. One call may carry several reports of one
// message, for different recipients.
type Reporter interface {
	Report(ctx context.Context, reports []mail.Report) error
}

// Uploader stores new content on a majority, for reports to senders.
type Uploader interface {
	Upload(ctx context.Context, r io.Reader) (mail.Content, []mail.MemberID, error)
}

// Hand keeps what is being delivered where a process that dies leaves it to be
// found. It is told before anything is done with a message, and after all.
type Hand interface {
	Take(id mail.ID, suspect bool) (done func())
}

// Lease tells whether this member may deliver at this moment.
type Lease interface {
	Valid() bool
	// Run names the unbroken time in which it has been so; zero: it is not so.
	Run() uint64
}

// Attempt is a job on its way through a Transport.
type Attempt struct {
	Job
	// Open reads the content from its beginning, with the changed header of the
	// job laid over it: Overlay.Size says how long that is.
	Open func() (io.ReadSeekCloser, error)
	// Final is called immediately before the step that hands the message
	// over for good (the final dot, the link into new/). If it fails the
	// step must not be taken, and nothing is said of those recipients.
	Final func() error
	// Last says that the message is given up if this attempt fails for now: it
	// is made, whatever is remembered of the destination.
	Last bool
}

// Answer is what became of one recipient.
type Answer struct {
	Reply     mail.Reply // 2xx taken, 4xx later, 5xx never; zero: not attempted
	Remote    string     // who answered: host and address, or the Maildir
	Duplicate bool       // taken, but the mailbox had it already
	Uncertain bool       // it may have been taken: everything was sent, and no answer came
	Fault     bool       // not the peer's doing nor the network's: handling this message broke something of ours
	Unread    bool       // its content could not be read: it waits for that, however old
	Passed    bool       // taken by a server that tells the sender of the success himself
	Down      bool       // the destination as a whole could not be used, not only for this message
	// Busy, with Down: the server takes no further connection for now. Alone:
	// it was not asked, since it has as many as it may have.
	Busy bool
}

// HadIt is how our own mailbox store words the answer for a duplicate, so that
// it can be counted across LMTP, which has no other way to say it.
const HadIt = "the mailbox had it already"

// Transport hands messages over. It answers for every recipient of the
// attempt, in their order. It ends soon after ctx does.
type Transport interface {
	Deliver(ctx context.Context, a *Attempt) []Answer
}
