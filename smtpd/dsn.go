package smtpd

import (
	"strings"

	"github.com/emersion/go-smtp"

	"mailraft/mail"
	"mailraft/mail/reply"
)

// The parameters of RFC 3461 as go-smtp has read them: decoded from xtext,
// NEVER alone, no event twice. What is left to check is how long they are.

// reports takes RET and ENVID of MAIL (RFC 3461 §4.3 and §4.4).
func reports(env *mail.Envelope, opts *smtp.MailOptions) error {
	if len(opts.EnvelopeID) > mail.EnvelopeIDMax {
		return reply.EnvelopeIDLong.Reply(mail.EnvelopeIDMax)
	}
	env.EnvelopeID = opts.EnvelopeID
	switch opts.Return {
	case smtp.DSNReturnFull:
		env.Return = mail.ReturnFull
	case smtp.DSNReturnHeaders:
		env.Return = mail.ReturnHeaders
	}
	return nil
}

// asked reads NOTIFY and ORCPT of RCPT (RFC 3461 §4.1 and §4.2).
func asked(opts *smtp.RcptOptions) (a mail.Asked, err error) {
	if opts == nil {
		return a, nil
	}
	words := make([]string, len(opts.Notify))
	for i, w := range opts.Notify {
		words[i] = string(w)
	}
	if len(words) > 0 {
		var ok bool
		if a.Notify, ok = mail.ParseNotify(words); !ok {
			return a, reply.NotifySyntax.Reply()
		}
	}
	if opts.OriginalRecipient != "" {
		a.Original = strings.ToLower(string(opts.OriginalRecipientType)) + ";" + opts.OriginalRecipient
	}
	if len(a.Original) > mail.OriginalMax {
		return a, reply.OriginalLong.Reply(mail.OriginalMax)
	}
	return a, nil
}

// add takes a recipient with what was asked for it.
func (tx *transaction) add(text string, a mail.Asked) {
	tx.env.Recipients = append(tx.env.Recipients, text)
	if a.IsZero() && len(tx.env.Asked) == 0 {
		return
	}
	for len(tx.env.Asked) < len(tx.env.Recipients)-1 {
		tx.env.Asked = append(tx.env.Asked, mail.Asked{})
	}
	tx.env.Asked = append(tx.env.Asked, a)
}
