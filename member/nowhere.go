package member

import (
	"context"
	"time"

	"mailraft/fsm"
	"mailraft/mail"
)

const (
	tellEvery = 5 * time.Second // between two looks for contents found nowhere
	tellMax   = 1000            // messages in one entry
	// nowhereTries is how often all other members must have said that they lack
	// a content. Should one have it after all, it says so (seekLost).
	nowhereTries = 2
)

// tellNowhere proposes to give up what no member has. Until that is on record
// every member would look for it, and count as complete only up to it. A member
// that is down has said nothing: while one is, nothing is given up by itself.
func (m *Engine) tellNowhere() {
	for m.pause(tellEvery) {
		lost := m.refill.nowhere()
		if len(lost) == 0 {
			continue
		}
		v := m.fsm.View()
		rows := map[mail.ContentID][]mail.ID{}
		for id, c := range v.MessageContents(mail.ID{}) {
			if lost[c.ID] {
				rows[c.ID] = append(rows[c.ID], id)
			}
		}
		v.Close()
		var ids []mail.ID
		for _, of := range rows { // which come first does not matter
			// All of a content go together: with some of them left over a member
			// would count as having those.
			if len(ids)+len(of) <= tellMax {
				ids = append(ids, of...)
			}
		}
		m.proposeLost(ids)
	}
}

func (m *Engine) proposeLost(ids []mail.ID) {
	if len(ids) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(m.ctx, 10*time.Second)
	defer cancel()
	a, err := m.Propose(ctx, fsm.KindContentLost, fsm.ContentLost{IDs: ids, By: m.cfg.Name, Reason: "no member has it"})
	switch {
	case err != nil:
		m.log.Debug("content that no member has is not on record yet", "messages", len(ids), "error", err)
	case a.Count > 0:
		m.log.Error("content of messages is on no member: they wait, and are listed by message list --state content-lost", "messages", a.Count, "first", ids[0].String())
	}
}

// nowhere are the contents of which all other members say that they lack them.
func (r *refill) nowhere() map[mail.ContentID]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	lost := map[mail.ContentID]bool{}
	for id, a := range r.missing {
		if a.nowhere >= nowhereTries && !a.lost {
			lost[id] = true
		}
	}
	return lost
}

// lostMessages counts messages whose content no member has.
func (m *Engine) lostMessages() (n int) {
	v := m.fsm.View()
	defer v.Close()
	looked := 0
	for row := range v.Lost() {
		if row.Lost() {
			n++
		}
		if looked++; looked == 50_000 {
			break
		}
	}
	return n
}
