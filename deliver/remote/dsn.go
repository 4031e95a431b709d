package remote

import (
	"strings"

	"github.com/emersion/go-smtp"

	"mailraft/deliver"
	"mailraft/mail"
)

// What the sender asked for is passed on to a server that offers DSN, as it was
// said (RFC 3461 §5.2.1); go-smtp leaves it out for others. From there it is
// that server that tells of the success.

func (x *transaction) mailOptions() *smtp.MailOptions {
	o := &smtp.MailOptions{UTF8: x.utf8, Size: x.size()}
	if x.attempt.Quiet {
		return o // nobody is told of what he was told of before
	}
	if sendable(x.attempt.EnvelopeID) {
		o.EnvelopeID = x.attempt.EnvelopeID
	}
	o.Return = smtp.DSNReturn(x.attempt.Return.String())
	return o
}

func (x *transaction) rcptOptions(i int) *smtp.RcptOptions {
	if x.attempt.Quiet {
		return &smtp.RcptOptions{Notify: []smtp.DSNNotify{smtp.DSNNotifyNever}}
	}
	a, o := x.attempt.Recipients[i].Asked, &smtp.RcptOptions{}
	for _, w := range a.Notify.Words() {
		o.Notify = append(o.Notify, smtp.DSNNotify(w))
	}
	kind, address, _ := strings.Cut(a.Original, ";")
	switch kind = strings.ToUpper(kind); {
	case kind == string(smtp.DSNAddressTypeRFC822) && sendable(address),
		kind == string(smtp.DSNAddressTypeUTF8) && address != "" && !strings.ContainsFunc(address, func(r rune) bool { return r < ' ' || r == 0x7f }):
		o.OriginalRecipientType, o.OriginalRecipient = smtp.DSNAddressType(kind), address
	}
	return o
}

// sendable reports text that xtext can carry to another server.
func sendable(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f })
}

// passed reports whether the server has taken over to tell of a success that
// the sender wants to hear of.
func (x *transaction) passed(r deliver.Recipient) bool {
	offered, _ := x.client.Extension("DSN")
	return offered && r.Asked.Notify.Wants(mail.NotifySuccess) && !x.attempt.Quiet
}
