package fsm

import (
	"testing"

	"mailraft/mail"
	"mailraft/mail/reply"
)

// The shape of a submission is checked before anything else.
func TestShapeOfSubmission(t *testing.T) {
	s := mail.Submission{}
	if r := checkShape(s); r == nil || *r != *reply.Empty.Reply() {
		t.Errorf("without recipients: %v", r)
	}
	s.Envelope.Recipients = make([]string, recipientsPerRow)
	if r := checkShape(s); r != nil {
		t.Errorf("%d recipients: %v", recipientsPerRow, r)
	}
	s.Envelope.Recipients = make([]string, recipientsPerRow+1)
	if r := checkShape(s); r == nil || *r != *reply.RowTooLarge.Reply(recipientsPerRow+1, recipientsPerRow) {
		t.Errorf("%d recipients: %v", recipientsPerRow+1, r)
	}
}
