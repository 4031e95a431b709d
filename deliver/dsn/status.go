package dsn

import (
	"fmt"
	"strings"
	"time"

	"mailraft/mail"
)

// status is for programs: RFC 3464 §2.2 and §2.3.
func (n *Notice) status() []byte {
	var b strings.Builder
	if n.EnvelopeID != "" {
		fmt.Fprintf(&b, "Original-Envelope-Id: %s\r\n", ascii(n.EnvelopeID))
	}
	fmt.Fprintf(&b, "Reporting-MTA: dns; %s\r\n", n.Host)
	fmt.Fprintf(&b, "X-Mailraft-Queue-ID: %s\r\n", n.ID)
	fmt.Fprintf(&b, "Arrival-Date: %s\r\n", n.Arrival.Std().Format(time.RFC1123Z))
	for _, r := range n.Recipients {
		b.WriteString("\r\n")
		if kind, address, ok := strings.Cut(r.Original, ";"); ok { // without ORCPT there is no such field (RFC 3461 §6.3)
			fmt.Fprintf(&b, "Original-Recipient: %s; %s\r\n", ascii(kind), n.address(address))
		}
		kind := "rfc822"
		if wide(r.Final) {
			kind = "utf-8"
		}
		fmt.Fprintf(&b, "Final-Recipient: %s; %s\r\nAction: %s\r\nStatus: %s\r\n", kind, n.address(r.Final), r.Action, r.status())
		n.circumstances(&b, r)
	}
	return []byte(b.String())
}

// circumstances are the fields of a recipient that need not be there.
func (n *Notice) circumstances(b *strings.Builder, r Recipient) {
	if r.Remote != "" {
		fmt.Fprintf(b, "Remote-MTA: dns; %s\r\n", ascii(r.Remote))
	}
	if r.Reply.Code != 0 && (r.Action == Failed || r.Action == Delayed) {
		kind := "x-mailraft"
		if r.Tried {
			kind = "smtp"
		}
		fmt.Fprintf(b, "Diagnostic-Code: %s; %s\r\n", kind, fold(ascii(r.Reply.String())))
	}
	if r.Tried && r.LastAttempt != 0 {
		fmt.Fprintf(b, "Last-Attempt-Date: %s\r\n", r.LastAttempt.Std().Format(time.RFC1123Z))
	}
	if r.Action == Delayed && n.Expires != 0 {
		fmt.Fprintf(b, "Will-Retry-Until: %s\r\n", n.Expires.Std().Format(time.RFC1123Z))
	}
}

// status is the enhanced code (RFC 3463), made from the action and the basic
// one where the server gave none that fits.
func (r *Recipient) status() string {
	var class, subject, detail int
	n, _ := fmt.Sscanf(r.Reply.Enhanced, "%d.%d.%d", &class, &subject, &detail)
	fits := map[Action]func() bool{
		Failed:  func() bool { return class == 4 || class == 5 },
		Delayed: func() bool { return class == 4 },
	}[r.Action]
	if fits == nil {
		fits = func() bool { return class == 2 }
	}
	switch {
	case n == 3 && fits() && subject >= 0 && detail >= 0:
		return fmt.Sprintf("%d.%d.%d", class, subject, detail)
	case r.Action == Failed && !r.Reply.Temporary():
		return "5.0.0"
	case r.Action == Failed || r.Action == Delayed:
		return "4.0.0"
	}
	return "2.0.0"
}

// address is an address as it may stand in the fields of the report.
func (n *Notice) address(s string) string {
	switch {
	case n.utf8():
		return line(s)
	case wide(s):
		return addrXtext(s)
	}
	return ascii(s)
}

// DelayedSubject is that of a report which tells of nothing worse than a delay.
const DelayedSubject = "Delayed mail, still being tried"

// subject is the heaviest of what is told.
func (n *Notice) subject() string {
	switch {
	case n.tells(Failed):
		return "Undelivered mail returned to sender"
	case n.tells(Delayed):
		return DelayedSubject
	}
	return "Successful mail delivery report"
}

func (n *Notice) tells(a Action) bool {
	for _, r := range n.Recipients {
		if r.Action == a {
			return true
		}
	}
	return false
}

// sections are what the text says before the recipients of each action.
var sections = []struct {
	action Action
	text   string
}{
	{Failed, "Your message could not be delivered to the recipients below, and is not tried\r\nany more. The answer that led to this follows each of them.\r\n"},
	{Delayed, "Your message could not be delivered to the recipients below yet. It is still\r\nbeing tried, and you need do nothing.\r\n"},
	{Delivered, "Your message was delivered to the mailboxes of the recipients below.\r\n"},
	{Relayed, "Your message was passed on for the recipients below, to a system that may not\r\ntell of what becomes of it.\r\n"},
	{Expanded, "Your message is being sent to the members of the groups below.\r\n"},
}

// text is for people.
func (n *Notice) text() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "This is the mail system at %s.\r\n", n.Host)
	if n.Subject != "" {
		fmt.Fprintf(&b, "\r\nSubject: %s\r\n", line(n.Subject))
	}
	for _, s := range sections {
		if !n.tells(s.action) {
			continue
		}
		b.WriteString("\r\n" + s.text)
		for _, r := range n.Recipients {
			if r.Action == s.action {
				r.text(&b)
			}
		}
	}
	fmt.Fprintf(&b, "\r\nQueue id: %s\r\n", n.ID)
	return []byte(b.String())
}

func (r *Recipient) text(b *strings.Builder) {
	fmt.Fprintf(b, "\r\n<%s>", line(r.Final))
	if r.Written != "" && r.Written != r.Final {
		fmt.Fprintf(b, " (written as <%s>)", line(r.Written))
	}
	if r.Reply == (mail.Reply{}) {
		b.WriteString("\r\n")
		return
	}
	if r.Remote != "" {
		fmt.Fprintf(b, "\r\n    %s said", line(r.Remote))
	}
	fmt.Fprintf(b, "\r\n    %s\r\n", line(r.Reply.String()))
}
