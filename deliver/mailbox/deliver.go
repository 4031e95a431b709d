package mailbox

import (
	"fmt"
	"io"

	"github.com/emersion/go-smtp"

	"mailraft/deliver"
	"mailraft/deliver/maildir"
)

// deliver answers for one recipient.
func (s *session) deliver(to rcpt, from string, content io.Reader) error {
	r, err := s.server.store.Deliver(maildir.Message{Mailbox: to.addr, ReversePath: from, Content: content})
	log := s.server.opts.Logger.With("to", to.addr.String(), "from", from)
	if err != nil {
		reply, _ := s.server.store.Reply(err)
		log.Warn("deferred", "reply", reply.String())
		return answer(reply.Code, reply.Enhanced, "%s", reply.Text)
	}
	log.Info("delivered", "dir", r.Dir, "duplicate", r.Duplicate)
	if r.Duplicate {
		return answer(250, "2.0.0", "%s", deliver.HadIt)
	}
	return answer(250, "2.0.0", "saved")
}

// answer is the only kind of error that go-smtp passes on as it is.
func answer(code int, enhanced, format string, a ...any) *smtp.SMTPError {
	e := &smtp.SMTPError{Code: code, Message: fmt.Sprintf(format, a...)}
	fmt.Sscanf(enhanced, "%d.%d.%d", &e.EnhancedCode[0], &e.EnhancedCode[1], &e.EnhancedCode[2])
	return e
}
