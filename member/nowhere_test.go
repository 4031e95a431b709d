package member

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"mailraft/fsm"
	"mailraft/mail"
)

// submit hands a message in that waits for a suspended queue.
func (h *house) submit(i int, body []byte) *fsm.Message {
	h.t.Helper()
	u, err := h.members[i].Begin(h.ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := u.Write(body); err != nil {
		h.t.Fatal(err)
	}
	id, err := u.Commit(h.ctx, mail.Submission{Envelope: mail.Envelope{Recipients: []string{"u1@example.test"}}})
	if err != nil {
		h.t.Fatal(err)
	}
	m, ok := h.row(i, id)
	if !ok {
		h.t.Fatalf("no row %s", id)
	}
	return m
}

func (h *house) row(i int, id mail.ID) (*fsm.Message, bool) {
	v := h.members[i].fsm.View()
	defer v.Close()
	return v.Message(id)
}

// flipIn changes a byte of what a member has stored, or changes it back.
func (h *house) flipIn(i int, body []byte) {
	h.t.Helper()
	for _, path := range h.files(i, "content", "*.seg") {
		b, err := os.ReadFile(path)
		if err != nil {
			h.t.Fatal(err)
		}
		at := bytes.Index(b, body[:len(body)-1])
		if at < 0 {
			continue
		}
		at += len(body) - 1
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			h.t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{b[at] ^ 1}, int64(at)); err != nil {
			h.t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			h.t.Fatal(err)
		}
		return
	}
	h.t.Fatalf("member %d has it nowhere", i)
}

// Content that is damaged on all members goes on record: its message waits,
// is not given up, and holds nothing else up, completeness included. When one
// member has the content again, all get it, and the message is delivered.
func TestContentThatNobodyHas(t *testing.T) {
	h := newHouse(t, 3)
	h.send(5)
	h.propose(fsm.KindQueue, fsm.QueueChange{Key: "db/DB1", Suspend: true})
	body := fmt.Appendf(nil, "Subject: lost\r\n\r\n%0500d", 1)
	row := h.submit(0, body)
	h.until("all have it", func() bool {
		for _, m := range h.members {
			if _, ok := m.content.Stat(row.Content.ID); !ok {
				return false
			}
		}
		return true
	})
	for i, m := range h.members {
		h.flipIn(i, body)
		m.damaged(m.content.Verify(row.Content.ID))
	}
	h.until("it is on record as lost", func() bool { m, _ := h.row(0, row.ID); return m.Lost() })
	h.propose(fsm.KindQueue, fsm.QueueChange{Key: "db/DB1"})
	h.send(5)
	for i, m := range h.members {
		h.until("what is complete goes on", func() bool {
			all, active := m.refill.complete()
			return min(all, active) > row.ID.Index() && m.refill.status().Missing == 0
		})
		if m, ok := h.row(i, row.ID); !ok || !m.Active() || !m.Lost() || !m.WaitsForContent() {
			t.Errorf("%+v", m)
		}
	}
	h.stop(2)
	h.flipIn(2, body)
	h.start(2)
	h.until("it is delivered", func() bool { m, ok := h.row(0, row.ID); return ok && !m.Active() })
	h.until("all have it", func() bool { m, _ := h.row(0, row.ID); return len(m.Holders) == 3 })
	for _, m := range h.members {
		if err := m.content.Verify(row.Content.ID); err != nil {
			t.Error(err)
		}
	}
	h.ready()
	h.sameState()
}
