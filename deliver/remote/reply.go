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

// taken is the positive answer at the end of data.
func taken(text string) mail.Reply {
	r := mail.Reply{Code: 250, Text: text}
	if code, rest, ok := strings.Cut(text, " "); ok && enhanced(code) {
		r.Enhanced, r.Text = code, rest
	}
	return r
}

func enhanced(s string) bool {
	parts := strings.Split(s, ".")
	for _, p := range parts {
		if _, err := strconv.ParseUint(p, 10, 10); err != nil {
			return false
		}
	}
	return len(parts) == 3 && parts[0] == "2"
}

// closing reports the answer of a server that is about to hang up (RFC 5321 §3.8).
func closing(r mail.Reply) bool { return r.Code == 421 }

// atRcpt corrects an answer to RCPT: 552 is also what old servers say to too
// many recipients, and then it is temporary (RFC 5321 §4.5.3.1.10).
func atRcpt(r mail.Reply) mail.Reply {
	if r.Code == 552 && (r.Enhanced == "" || r.Enhanced == "5.5.3") {
		r.Code, r.Enhanced = 452, "4.5.3"
	}
	return r
}
