package deliver

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailraft/mail"
)

// owed queues a message whose sender is owed a word of two kinds.
func owed(w *world, change ...func(*Job)) {
	w.add(NoticeKey, 0, append(change, func(j *Job) {
		j.Destination = Destination{Key: NoticeKey}
		j.EnvelopeID = "QQ1"
		j.Tell = []Telling{
			{Recipient: Recipient{Index: 0, Address: "a@example.test", Asked: mail.Asked{Notify: mail.NotifySuccess, Original: "rfc822;A@example.org"}}, Event: mail.NotifySuccess,
				Reply: mail.Reply{Code: 250, Enhanced: "2.1.5", Text: "saved"}, Remote: "mbox", LastTime: now()},
			{Recipient: Recipient{Index: 3, Address: "b@elsewhere.test"}, Event: mail.NotifySuccess, Relayed: true},
			{Recipient: Recipient{Index: 1, Address: "c@example.test"}, Event: mail.NotifyDelay},
			{Recipient: Recipient{Index: 0, Address: "g@example.test"}},
		}
	})...)
}

func TestTellsSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		d := w.start(t)
		owed(w)
		rest(time.Second)
		if len(w.texts) != 1 || len(w.reports) != 1 || w.waiting(NoticeKey) != 0 || d.Status().Open != 0 {
			t.Fatalf("%d texts, reports %+v", len(w.texts), w.reports)
		}
		r := w.reports[0]
		if len(r.Told) != 4 || r.Notice == nil || r.DSN != nil || len(r.Outcomes) != 0 || r.Notice.Envelope.ReversePath != "" || r.Notice.Envelope.Recipients[0] != "sender@example.org" {
			t.Errorf("report %+v", r)
		}
		for _, want := range []string{"Original-Envelope-Id: QQ1", "Original-Recipient: rfc822; A@example.org\r\nFinal-Recipient: rfc822; a@example.test\r\nAction: delivered\r\nStatus: 2.1.5",
			"Final-Recipient: rfc822; b@elsewhere.test\r\nAction: relayed", "Final-Recipient: rfc822; c@example.test\r\nAction: delayed", "Final-Recipient: rfc822; g@example.test\r\nAction: expanded"} {
			if !strings.Contains(w.texts[0], want) {
				t.Errorf("no %q in %s", want, w.texts[0])
			}
		}
	})
}

// A report that cannot be stored is tried again, and not in a hurry; no
// delivery waits for it.
func TestReportThatCannotBeStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.upload = errors.New("no majority")
		d := w.start(t)
		for range 5 {
			owed(w)
		}
		w.add("DB1", 1)
		rest(10 * time.Second)
		if w.waiting("DB1") != 0 || w.waiting(NoticeKey) != 5 {
			t.Fatalf("%d deliveries and %d reports wait", w.waiting("DB1"), w.waiting(NoticeKey))
		}
		if s := d.Status(); s.Open != 0 || s.Running != 0 {
			t.Errorf("%+v", s)
		}
		w.set(func() { w.upload = nil })
		rest(2 * time.Minute)
		if w.waiting(NoticeKey) != 0 || len(w.texts) != 5 {
			t.Errorf("%d reports wait, %d were stored", w.waiting(NoticeKey), len(w.texts))
		}
	})
}

// A report that is refused for ever makes no loop.
func TestReportThatIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.deaf = true
		w.start(t)
		owed(w)
		rest(10 * time.Minute)
		if n := len(w.texts); n < 2 || n > 20 {
			t.Errorf("written %d times in ten minutes", n)
		}
	})
}

// Who cannot be answered is not told, and the debt is gone.
func TestNobodyToTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.start(t)
		owed(w, func(j *Job) { j.ReversePath = "a b@x" })
		rest(time.Second)
		if len(w.texts) != 0 || len(w.reports) != 1 || w.reports[0].Notice != nil || len(w.reports[0].Told) != 4 {
			t.Errorf("%d texts, reports %+v", len(w.texts), w.reports)
		}
	})
}
