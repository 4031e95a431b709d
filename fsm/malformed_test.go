package fsm

import (
	"testing"

	"mailraft/mail"

	"github.com/hashicorp/raft"
)

// Peers say what they like: a reply, a Subject or a HELO in Latin-1 must reach
// the rows and come back.
func TestTextNeedNotBeUTF8(t *testing.T) {
	m := newMachine(t)
	m.boundary()
	s := m.submission(1, m1, m1, m2)
	s.Fields.Subject, s.Trace.Helo = "Gr\xfc\xdfe", "m\xfcller"
	id := m.must(KindAccept, Accept{Submission: s}).ID
	long := make([]byte, 0, 400)
	for range 200 {
		long = append(long, "ü"...)
	}
	for _, text := range []string{"bo\xeete pleine", " " + string(long)} {
		m.must(KindReport, Report{Member: m1, Reports: []mail.Report{{ID: id, Outcomes: []mail.Outcome{
			{Result: mail.Deferred, Reply: mail.Reply{Code: 452, Text: text}, Remote: text, Copy: "a", Activation: 1}}}}})
		if r := m.row(id); r.Fields.Subject != "Gr\xfc\xdfe" || r.Recipients[0].Reply.Text != text {
			t.Errorf("row: %+v", r)
		}
	}
}

// Only an entry that this build does not know may stop the process.
func TestOnlyUnknownEntriesAreFatal(t *testing.T) {
	for _, c := range []struct {
		name  string
		data  []byte
		fatal bool
	}{
		{"no body", []byte{byte(KindAccept), 1, 0, 0, 0, 0, 0, 0, 0, 0}, false},
		{"body of another shape", append([]byte{byte(KindReport), 1, 0, 0, 0, 0, 0, 0, 0, 0}, "\x63abc"...), false},
		{"more than a body", append([]byte{byte(KindTick), 1, 0, 0, 0, 0, 0, 0, 0, 0}, "\xa0\xa0"...), false},
		{"unknown kind that may be skipped", []byte{0xff, 1, 0, 0, 0, 0, 0, 0, 0, 0}, false},
		{"unknown kind", []byte{0x7f, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0xa0}, true},
		{"unknown version", []byte{byte(KindTick), 2, 0, 0, 0, 0, 0, 0, 0, 0, 0xa0}, true},
		{"kind 0", make([]byte, 12), true},
		{"no header", []byte{byte(KindTick)}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			m.boundary()
			m.add(&raft.Log{Type: raft.LogCommand, Data: c.data})
			if (m.fatal != nil) != c.fatal {
				t.Errorf("fatal: %v", m.fatal)
			}
		})
	}
}
