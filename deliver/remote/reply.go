package remote

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/emersion/go-smtp"

	"mailraft/mail"
)

// said returns what the peer answered, if err is an answer.
func said(err error) (mail.Reply, bool) {
	var e *smtp.SMTPError
	if !errors.As(err, &e) {
		return mail.Reply{}, false
	}
	r := mail.Reply{Code: e.Code, Text: e.Message}
	if e.EnhancedCode[0] == e.Code/100 {
		r.Enhanced = fmt.Sprintf("%d.%d.%d", e.EnhancedCode[0], e.EnhancedCode[1], e.EnhancedCode[2])
	}
	if e.Code < 200 || e.Code >= 600 || e.Code/100 == 3 {
		return *mail.Replyf(451, "4.5.0", "unexpected answer: %d %s", e.Code, e.Message), true
	}
	return r, true
}

// reply is an answer as it stood on the wire.
func reply(code int, text string) mail.Reply {
	r := mail.Reply{Code: code, Text: text}
	if status, rest, ok := strings.Cut(text, " "); ok && enhanced(status) && status[0] == '0'+byte(code/100) {
		r.Enhanced, r.Text = status, rest
	}
	return r
}

// taken is the positive answer at the end of data.
func taken(text string) mail.Reply { return reply(250, text) }

func enhanced(s string) bool {
	parts := strings.Split(s, ".")
	for _, p := range parts {
		if _, err := strconv.ParseUint(p, 10, 10); err != nil {
			return false
		}
	}
	return len(parts) == 3 && len(parts[0]) == 1
}

// closing reports the answer of a server that is about to hang up (RFC 5321 §3.8).
func closing(r mail.Reply) bool { return r.Code == 421 }

// tooMany reports an answer to RCPT by which a server ends the list, and not by
// which it refuses the recipient: the rest goes in another transaction at once
// (RFC 5321 §4.5.3.1.10).
func tooMany(r mail.Reply) bool {
	return r.Code == 452 && (r.Enhanced == "" || r.Enhanced == "4.5.3")
}

// wants reports the answer of a server that first wants what the settings for
// its address deny it: to be logged in to (RFC 4954 §6) or TLS (RFC 3207 §4). It
// may say so to MAIL, RCPT or DATA. Mail is not returned for that.
func wants(r mail.Reply) bool { return r.Code == 530 }

// atRcpt corrects an answer to RCPT: 552 is also what old servers say to too
// many recipients, and then it is temporary (RFC 5321 §4.5.3.1.10).
func atRcpt(r mail.Reply) mail.Reply {
	if r.Code == 552 && (r.Enhanced == "" || r.Enhanced == "5.5.3") {
		r.Code, r.Enhanced = 452, "4.5.3"
	}
	return r
}
