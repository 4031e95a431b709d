package dsn

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/emersion/go-message"

	"mailraft/mail"
)

// headerMax bounds what is returned of the original.
const headerMax = 64 << 10

// Recipient is one that was given up.
type Recipient struct {
	Final       string     // where delivery was tried
	Original    string     // as the sender wrote it
	Reply       mail.Reply // the last word on it
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
	Now        mail.Time
	Recipients []Recipient
	Subject    string
	MessageID  string
	Header     []byte // of the original, see HeaderOf
}

// Write writes the report, and returns the fields that the queue keeps of it
// and whether it needs SMTPUTF8 (RFC 6533).
func (n *Notice) Write(w io.Writer) (mail.Fields, bool, error) {
	utf8 := n.utf8()
	fields := mail.Fields{
		MessageID: "<" + n.ID.String() + "." + n.mark() + "@" + n.Host + ">",
		Date:      n.Now.Std().Format(time.RFC1123Z),
		Subject:   "Undelivered mail returned to sender",
	}
	var h message.Header
	// Fields are put above each other: the last is the first.
	h.SetContentType("multipart/report", map[string]string{"report-type": "delivery-status", "boundary": "=_" + n.mark() + "_" + n.ID.String()})
	h.Set("MIME-Version", "1.0")
	h.Set("Auto-Submitted", "auto-replied") // RFC 3834 §5
	if validReference(n.MessageID) {
		h.Set("References", n.MessageID)
		h.Set("In-Reply-To", n.MessageID)
	}
	h.Set("Message-ID", fields.MessageID)
	h.Set("Subject", fields.Subject)
	h.Set("To", "<"+n.To+">")
	h.Set("From", "Mail Delivery System <MAILER-DAEMON@"+n.Host+">")
	h.Set("Date", fields.Date)
	out, err := message.CreateWriter(w, h)
	if err != nil {
		return fields, utf8, err
	}
	err = errors.Join(n.part(out, "text/plain", "utf-8", n.text()), n.part(out, n.kind("message/delivery-status", "message/global-delivery-status"), "", n.status(utf8)))
	if len(n.Header) > 0 && err == nil {
		err = n.part(out, n.kind("text/rfc822-headers", "message/global-headers"), "", n.Header)
	}
	return fields, utf8, errors.Join(err, out.Close())
}

func (n *Notice) part(out *message.Writer, kind, charset string, body []byte) error {
	var h message.Header
	var params map[string]string
	if charset != "" {
		params = map[string]string{"charset": charset}
	}
	// message/delivery-status must not be encoded (RFC 3464 §2.1.1): it is
	// ASCII, or the report goes by SMTPUTF8. The others are where need be.
	if !plain(body) && kind != "message/global-delivery-status" {
		h.Set("Content-Transfer-Encoding", "quoted-printable")
	} else if !plain(body) {
		h.Set("Content-Transfer-Encoding", "8bit")
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

func (n *Notice) utf8() bool {
	wide := func(s string) bool { return strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 }) }
	for _, r := range n.Recipients {
		if wide(r.Final) || wide(r.Original) {
			return true
		}
	}
	return wide(n.To)
}

// text is for people.
func (n *Notice) text() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "This is the mail system at %s.\r\n\r\n", n.Host)
	b.WriteString("Your message could not be delivered to the recipients below, and is not tried\r\nany more. The answer that led to this follows each of them.\r\n")
	if n.Subject != "" {
		fmt.Fprintf(&b, "\r\nSubject: %s\r\n", line(n.Subject))
	}
	for _, r := range n.Recipients {
		fmt.Fprintf(&b, "\r\n<%s>", line(r.Final))
		if r.Original != "" && r.Original != r.Final {
			fmt.Fprintf(&b, " (written as <%s>)", line(r.Original))
		}
		if r.Remote != "" {
			fmt.Fprintf(&b, "\r\n    %s said", line(r.Remote))
		}
		fmt.Fprintf(&b, "\r\n    %s\r\n", line(r.Reply.String()))
	}
	fmt.Fprintf(&b, "\r\nQueue id: %s\r\n", n.ID)
	return []byte(b.String())
}

// status is for programs: RFC 3464 §2.2 and §2.3.
func (n *Notice) status(utf8 bool) []byte {
	var b strings.Builder
	if n.EnvelopeID != "" {
		fmt.Fprintf(&b, "Original-Envelope-Id: %s\r\n", ascii(n.EnvelopeID))
	}
	fmt.Fprintf(&b, "Reporting-MTA: dns; %s\r\n", n.Host)
	fmt.Fprintf(&b, "X-Mailraft-Queue-ID: %s\r\n", n.ID)
	fmt.Fprintf(&b, "Arrival-Date: %s\r\n", n.Arrival.Std().Format(time.RFC1123Z))
	kind, clean := "rfc822", ascii
	if utf8 {
		kind, clean = "utf-8", line
	}
	for _, r := range n.Recipients {
		b.WriteString("\r\n")
		if r.Original != "" && r.Original != r.Final {
			fmt.Fprintf(&b, "Original-Recipient: %s; %s\r\n", kind, clean(r.Original))
		}
		fmt.Fprintf(&b, "Final-Recipient: %s; %s\r\nAction: failed\r\nStatus: %s\r\n", kind, clean(r.Final), statusOf(r.Reply))
		if r.Remote != "" {
			fmt.Fprintf(&b, "Remote-MTA: dns; %s\r\n", ascii(r.Remote))
		}
		if r.Tried {
			fmt.Fprintf(&b, "Diagnostic-Code: smtp; %s\r\nLast-Attempt-Date: %s\r\n", fold(ascii(r.Reply.String())), r.LastAttempt.Std().Format(time.RFC1123Z))
		} else {
			fmt.Fprintf(&b, "Diagnostic-Code: x-mailraft; %s\r\n", fold(ascii(r.Reply.String())))
		}
	}
	return []byte(b.String())
}

// statusOf is the enhanced code (RFC 3463), made from the basic one where the
// server gave none.
func statusOf(r mail.Reply) string {
	var class, subject, detail int
	if n, _ := fmt.Sscanf(r.Enhanced, "%d.%d.%d", &class, &subject, &detail); n == 3 && (class == 4 || class == 5) {
		return fmt.Sprintf("%d.%d.%d", class, subject, detail)
	}
	if r.Temporary() {
		return "4.0.0"
	}
	return "5.0.0"
}

// mark tells apart the reports of one message: it is a hash of the recipients
// that this one is about.
func (n *Notice) mark() string {
	h := sha256.New()
	for _, r := range n.Recipients {
		fmt.Fprintf(h, "%d,", r.Index)
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
