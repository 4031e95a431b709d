package dsn

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/emersion/go-message"

	"mailraft/mail"
)

// Bounds of what is returned of the original: a report must get through where
// the message did not.
const (
	headerMax = 64 << 10
	fullMax   = 1 << 20
)

// Action is what became of a recipient (RFC 3464 §2.3.3).
type Action string

// The actions.
const (
	Failed    Action = "failed"
	Delayed   Action = "delayed"
	Delivered Action = "delivered"
	Relayed   Action = "relayed"  // to where nobody will tell of its success
	Expanded  Action = "expanded" // a group: its members have the message, or will
)

// Recipient is one that the report tells of.
type Recipient struct {
	Action      Action
	Final       string     // where delivery was tried
	Written     string     // as the sender wrote it, if otherwise
	Original    string     // ORCPT, decoded, with its type: "rfc822;bob@example.org"; may be empty
	Reply       mail.Reply // the last word on it; zero: there is none
	Remote      string     // who said so; empty if we did
	LastAttempt mail.Time
	Tried       bool // the reply came of an attempt, not of resolving the address
	Index       int  // in the message row
}

// Notice is all that a report is made of.
type Notice struct {
	Host       string // of the member that reports
	To         string // the reverse-path of the original
	ID         mail.ID
	EnvelopeID string // ENVID; may be empty
	Arrival    mail.Time
	Expires    mail.Time // Delayed: when it is given up
	Now        mail.Time
	Recipients []Recipient
	Subject    string
	MessageID  string
	Original   []byte // what is returned of the message, see HeaderOf and WholeOf
	Whole      bool   // Original is all of it
}

// Written is what the queue must know of a report.
type Written struct {
	Fields   mail.Fields
	UTF8     bool // it needs SMTPUTF8
	EightBit bool // it needs 8BITMIME
}

// Write writes the report.
func (n *Notice) Write(w io.Writer) (Written, error) {
	out := Written{UTF8: n.utf8()}
	out.Fields = mail.Fields{
		MessageID: "<" + n.ID.String() + "." + n.mark() + "@" + n.Host + ">",
		Date:      n.Now.Std().Format(time.RFC1123Z),
		Subject:   n.subject(),
	}
	var h message.Header
	// Fields are put above each other: the last is the first.
	h.SetContentType("multipart/report", map[string]string{"report-type": "delivery-status", "boundary": n.boundary()})
	h.Set("MIME-Version", "1.0")
	h.Set("Auto-Submitted", "auto-replied") // RFC 3834 §5
	if validReference(n.MessageID) {
		h.Set("References", n.MessageID)
		h.Set("In-Reply-To", n.MessageID)
	}
	h.Set("Message-ID", out.Fields.MessageID)
	h.Set("Subject", out.Fields.Subject)
	h.Set("To", "<"+n.To+">")
	h.Set("From", "Mail Delivery System <MAILER-DAEMON@"+n.Host+">")
	h.Set("Date", out.Fields.Date)
	report, err := message.CreateWriter(w, h)
	if err != nil {
		return out, err
	}
	err = errors.Join(n.part(report, "text/plain", n.text()), n.part(report, n.kind("message/delivery-status", "message/global-delivery-status"), n.status()))
	if kind := n.returned(); kind != "" && err == nil {
		err = n.part(report, kind, n.Original)
		out.EightBit = n.Whole && !plain(n.Original)
	}
	out.EightBit = out.EightBit || out.UTF8
	return out, errors.Join(err, report.Close())
}

// returned is the kind of the part with what is returned; empty: nothing is.
// A whole message may not be encoded (RFC 2046 §5.2.1).
func (n *Notice) returned() string {
	switch {
	case len(n.Original) == 0:
		return ""
	case n.Whole:
		return n.kind("message/rfc822", "message/global")
	}
	return n.kind("text/rfc822-headers", "message/global-headers")
}

func (n *Notice) part(out *message.Writer, kind string, body []byte) error {
	var h message.Header
	var params map[string]string
	if kind == "text/plain" {
		params = map[string]string{"charset": "utf-8"}
	}
	// message/delivery-status must not be encoded (RFC 3464 §2.1.1), nor a
	// message: they are ASCII, or the report goes by 8BITMIME or SMTPUTF8. The
	// others are encoded where need be.
	switch kind {
	case "message/global-delivery-status", "message/rfc822", "message/global":
		if !plain(body) {
			h.Set("Content-Transfer-Encoding", "8bit")
		}
	default:
		if !plain(body) {
			h.Set("Content-Transfer-Encoding", "quoted-printable")
		}
	}
	h.SetContentType(kind, params)
	p, err := out.CreatePart(h)
	if err != nil {
		return err
	}
	_, err = p.Write(body)
	return errors.Join(err, p.Close())
}

func (n *Notice) kind(ascii, global string) string {
	if n.utf8() {
		return global
	}
	return ascii
}

// utf8 reports that the sender's own address takes SMTPUTF8, so that all may be
// said in UTF-8. To any other sender addresses are written in ASCII (RFC 6533
// §3): a report that needs more than the message did might not arrive.
func (n *Notice) utf8() bool { return wide(n.To) }

// boundary is between the parts, and in none of them.
func (n *Notice) boundary() string {
	b := "=_" + n.mark() + "_" + n.ID.String()
	for bytes.Contains(n.Original, []byte(b)) {
		b += "_"
	}
	return b
}

// mark tells apart the reports of one message: it is a hash of what this one
// says of which recipients.
func (n *Notice) mark() string {
	h := sha256.New()
	for _, r := range n.Recipients {
		fmt.Fprintf(h, "%d %s,", r.Index, r.Action)
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}

// HeaderOf reads the header of a message, at most 64 KiB of whole lines.
func HeaderOf(r io.Reader) ([]byte, error) {
	br := bufio.NewReaderSize(io.LimitReader(r, headerMax), 4096)
	var head []byte
	for {
		l, err := br.ReadBytes('\n')
		if err == io.EOF {
			return head, nil // what is left is a cut line
		}
		if err != nil {
			return head, fmt.Errorf("read header: %w", err)
		}
		if len(bytes.TrimRight(l, "\r\n")) == 0 {
			return head, nil
		}
		head = append(head, l...)
	}
}

// WholeOf reads a message of the given size if it can be returned whole: not
// above 1 MiB, without lines or bytes that no report can carry. Else it reads
// the header, which is what HeaderOf reads.
func WholeOf(r io.ReadSeeker, size int64) (original []byte, whole bool, err error) {
	if size <= fullMax {
		if original, err = io.ReadAll(io.LimitReader(r, fullMax+1)); err != nil {
			return nil, false, fmt.Errorf("read message: %w", err)
		}
		if int64(len(original)) <= fullMax && portable(original) {
			return original, true, nil
		}
		if _, err = r.Seek(0, io.SeekStart); err != nil {
			return nil, false, fmt.Errorf("read message again: %w", err)
		}
	}
	original, err = HeaderOf(r)
	return original, false, err
}
