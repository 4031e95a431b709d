package member

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"mailraft/admin"
	"mailraft/fsm"
	"mailraft/mail"
)

// seekEvery is how often content that was given up is looked for.
const seekEvery = 2 * time.Second

// seekLost looks for content that was given up: what is here after all, the
// state is told of; what another member has found is fetched.
func (m *Engine) seekLost() {
	for m.pause(seekEvery) {
		if ids := m.refill.lostRows(); len(ids) > 0 {
			m.reportFound(ids)
		}
	}
}

// lostRows brings the fetching in line with what was given up. It returns the
// messages whose content is here and which the state does not know of.
func (r *refill) lostRows() (found []mail.ID) {
	v := r.m.fsm.View()
	defer v.Close()
	n := 0
	for row := range v.Lost() {
		if n++; n > scanMax || len(found) == lostChunk {
			break
		}
		_, here := r.m.content.Stat(row.Content.ID)
		switch {
		case here && slices.Contains(row.Holders, r.m.id.ID):
		case here:
			// A copy that was found damaged is there again after a restart.
			if err := r.m.content.Verify(row.Content.ID); err == nil {
				found = append(found, row.ID)
			} else {
				r.m.damaged(err)
			}
		default:
			r.giveUp(row)
		}
	}
	return found
}

// giveUp lets nobody wait for a content; where a member has found it, it is
// fetched all the same.
func (r *refill) giveUp(row *fsm.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch a := r.missing[row.Content.ID]; {
	case a != nil:
		a.lost = true
	case len(row.Holders) > 0:
		r.want(&absent{content: row.Content, row: row.ID, active: row.Active(), copies: len(row.Holders), lost: true})
	}
}

func (m *Engine) reportFound(ids []mail.ID) {
	ctx, cancel := context.WithTimeout(m.ctx, 10*time.Second)
	defer cancel()
	a, err := m.Propose(ctx, fsm.KindContentLost, fsm.ContentLost{IDs: ids, Found: m.id.ID})
	if err == nil {
		err = m.waitApplied(ctx, a.Index) // else the same ones are found again
	}
	if err != nil {
		m.log.Debug("found content is not reported yet", "messages", len(ids), "error", err)
		return
	}
	m.log.Info("content that was given up is here after all", "messages", a.Count)
}

// kindLack asks a member which of some contents it has not.
const kindLack byte = 0x25

// lackMax bounds the contents of one request.
const lackMax = 1000

// handleLack answers with the positions of those that are not here.
func (m *Engine) handleLack(body []byte) ([]byte, error) {
	const size = len(mail.ContentID{})
	if len(body)%size != 0 || len(body)/size > lackMax {
		return nil, mail.Replyf(501, "5.5.4", "malformed question about contents")
	}
	var out []byte
	for i := 0; i < len(body)/size; i++ {
		if _, ok := m.content.Stat(mail.ContentID(body[i*size:])); !ok {
			out = binary.BigEndian.AppendUint16(out, uint16(i))
		}
	}
	return out, nil
}

// Unheld are the messages whose content no member has that would be left
// without one of them: what is lost with it. Every other member has to say so.
func (m *Member) Unheld(ctx context.Context, without mail.MemberID) ([]admin.Unheld, error) {
	v := m.fsm.View()
	defer v.Close()
	var rest []fsm.Member
	for o := range v.Members() {
		if o.ID != without && o.Retired == 0 {
			rest = append(rest, o)
		}
	}
	list := m.candidates(v, without)
	for _, o := range rest {
		if o.ID == m.id.ID {
			continue
		}
		var kept []unheldContent
		for some := range slices.Chunk(list, lackMax) {
			lacks, err := m.lacks(ctx, o, some)
			if err != nil {
				return nil, err
			}
			kept = append(kept, lacks...)
		}
		list = kept
	}
	out := make([]admin.Unheld, 0, len(list))
	for _, u := range list {
		out = append(out, u.Unheld)
	}
	return out, nil
}

type unheldContent struct {
	admin.Unheld
	content mail.ContentID
}

// candidates are the messages whose content is not here and was not given up;
// all of them, where this member is the one to be left out.
func (m *Member) candidates(v *fsm.View, without mail.MemberID) (list []unheldContent) {
	for id, c := range v.MessageContents(mail.ID{}) {
		if _, here := m.content.Stat(c.ID); here && m.id.ID != without {
			continue
		}
		if e, ok := v.Message(id); ok && !e.GivenUp {
			list = append(list, unheldContent{unheldOf(e), c.ID})
		}
	}
	return list
}

func (m *Member) lacks(ctx context.Context, o fsm.Member, some []unheldContent) (list []unheldContent, err error) {
	body := make([]byte, 0, len(some)*len(mail.ContentID{}))
	for _, u := range some {
		body = append(body, u.content[:]...)
	}
	b, err := m.link.Call(ctx, o.Addr, kindLack, body)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be asked what it has: start it, or remove it too: %w", o.Name, err)
	}
	for ; len(b) >= 2; b = b[2:] {
		if i := int(binary.BigEndian.Uint16(b)); i < len(some) {
			list = append(list, some[i])
		}
	}
	return list, nil
}
