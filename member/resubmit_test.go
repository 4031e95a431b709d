package member

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailraft/deliver"
	"mailraft/fsm"
	"mailraft/mail"
)

// The mailboxes are lost with their database. What was delivered is sent again:
// through a queue of its own, which the order for the database's stops too, with
// a header field that names the request, and otherwise as it was.
func TestResubmission(t *testing.T) {
	h := newHouse(t, 1)
	h.propose(fsm.KindConfigure, fsm.Configure{Set: map[string]string{"reject-message-on-shadow-failure": "false"}})
	h.send(5)
	h.finished()
	before := h.messages()
	if err := os.RemoveAll(h.mail()); err != nil {
		t.Fatal(err)
	}
	h.propose(fsm.KindQueue, fsm.QueueChange{Key: "db/DB1", Suspend: true})
	h.propose(fsm.KindRequestAdd, fsm.RequestAdd{Database: "DB1"})
	h.propose(fsm.KindAdvance, fsm.Advance{Request: 1, Rows: 64})

	m := h.members[0]
	work := func() (jobs []deliver.Job) {
		jobs, _, err := (&due{Engine: m.Engine}).Due(mail.At(time.Now().Add(time.Hour)), func(deliver.Destination) int { return 99 }, func(mail.ID, deliver.Destination) bool { return false }, 99)
		if err != nil {
			t.Fatal(err)
		}
		return jobs
	}
	if jobs := work(); len(jobs) > 0 {
		t.Errorf("the database is suspended, and %d jobs are due for %+v", len(jobs), jobs[0].Destination)
	}
	h.propose(fsm.KindQueue, fsm.QueueChange{Key: "resubmit/DB1", Suspend: true})
	h.propose(fsm.KindQueue, fsm.QueueChange{Key: "db/DB1"})
	jobs := work()
	if len(jobs) > 0 {
		t.Errorf("its resubmissions are suspended, and %d jobs are due for %+v", len(jobs), jobs[0].Destination)
	}
	h.propose(fsm.KindQueue, fsm.QueueChange{Key: "resubmit/DB1"})
	var after map[string]string
	h.until("all mail is there again", func() bool { after = h.messages(); return len(after) == 5 })
	for id, text := range after {
		if got := strings.Replace(text, "X-Mailraft-Resubmit: 1\r\n", "", 1); got == text || got != before[id] {
			t.Errorf("%s came back as\n%.500s\nand was\n%.500s", id, text, before[id])
		}
	}
	h.until("the request is completed", func() bool {
		v := m.fsm.View()
		defer v.Close()
		r, _ := v.Request(1)
		return r.State == fsm.RequestCompleted && r.Counts.Delivered == 5
	})
}

// messages are what lies in the mailboxes, by their Message-ID.
func (h *house) messages() map[string]string {
	h.t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(h.mail(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Base(filepath.Dir(path)) != "new" {
			return err
		}
		b, err := os.ReadFile(path)
		if _, rest, ok := strings.Cut(string(b), "\nMessage-ID: "); ok {
			id, _, _ := strings.Cut(rest, "\r")
			all[id] = string(b)
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		h.t.Fatal(err)
	}
	return all
}
