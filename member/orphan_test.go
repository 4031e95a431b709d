package member

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"mailraft/fsm"
	"mailraft/mail"
)

// sweep sweeps as if it were later by ahead.
func (h *house) sweep(ahead time.Duration) {
	h.t.Helper()
	for range 2 { // the first ends the open segment
		for _, m := range h.members {
			v := m.fsm.View()
			_, err := m.sweepAt(v, v.Tables.Applied().Time.Add(ahead))
			v.Close()
			if err != nil {
				h.t.Fatal(err)
			}
		}
	}
}

func (h *house) stored() (n int) {
	for _, m := range h.members {
		n += m.content.Stats().Contents
	}
	return n
}

// Content whose entry was never proposed, or was refused, stays until no entry
// for it can be applied any more, and then goes on all members. When the
// Safety Net has let go of everything, the disks are as good as empty.
func TestNothingIsLeftBehind(t *testing.T) {
	h := newHouse(t, 3)
	orphan := func(life time.Duration) mail.Content {
		m := h.members[0]
		u, err := m.begin()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.Write(make([]byte, 300_000)); err != nil {
			t.Fatal(err)
		}
		c, _, err := u.u.Close(h.ctx, m.now().Add(life))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	long, short := orphan(time.Hour), orphan(2*time.Second)
	refused := orphan(2 * time.Second)
	a, err := h.members[0].Propose(h.ctx, fsm.KindAccept, fsm.Accept{Submission: mail.Submission{Content: refused,
		Envelope: mail.Envelope{Recipients: []string{"u@example.test"}}, Primary: h.members[0].id.ID}}) // by no holder
	if err != nil || a.Refused == nil {
		t.Fatalf("%+v, %v", a, err)
	}
	h.until("all members have them", func() bool { return h.stored() == 9 })
	h.sweep(0)
	if n := h.stored(); h.members[0].now() < short.NotAfter && n != 9 {
		t.Errorf("%d contents before the not-after", n)
	}
	h.until("their time is over", func() bool { return h.members[2].now() > refused.NotAfter && h.members[1].now() > refused.NotAfter })
	h.until("orphans go, but for the one that may still be accepted", func() bool { h.sweep(0); return h.stored() <= 3*3 && h.members[0].now() > refused.NotAfter })
	if _, ok := h.members[1].content.Stat(long.ID); !ok {
		t.Error("an orphan went whose entry may still be applied")
	}

	h.send(100)
	h.until("the shadows are acknowledged", func() bool {
		v := h.members[1].fsm.View()
		defer v.Close()
		for m := range v.Messages(mail.ID{}) {
			if !m.Acked {
				return false
			}
		}
		return true
	})
	h.propose(fsm.KindConfigure, fsm.Configure{Set: map[string]string{"safety-net-hold-time": "1s"}})
	h.until("the Safety Net lets go of everything", func() bool {
		v := h.members[1].fsm.View()
		defer v.Close()
		for range v.Contents(mail.ContentID{}) {
			return false
		}
		return true
	})
	h.until("the disks are empty", func() bool { h.sweep(2 * time.Hour); return h.stored() == 0 })
	for _, m := range h.members {
		size := int64(0)
		err := filepath.Walk(m.cfg.Dir, func(_ string, info os.FileInfo, err error) error {
			if err == nil && !info.IsDir() {
				size += info.Size()
			}
			return nil // swept meanwhile
		})
		t.Logf("%s: %.1f MB in all, content %.1f MB", m.cfg.Name, float64(size)/1e6, float64(m.content.Stats().Bytes)/1e6)
		if err != nil || size > 64<<20 {
			t.Errorf("%s has %d bytes left, %v", m.cfg.Dir, size, err)
		}
	}
}
