package member

import (
	"context"
	"time"

	"mailraft/deliver"
	"mailraft/fsm"
	"mailraft/mail"
)

// tellings are what the sender of a message is owed to be told.
func tellings(m *fsm.Message) (list []deliver.Telling) {
	for i := range m.Recipients {
		r := &m.Recipients[i]
		for _, event := range []mail.Notify{mail.NotifySuccess, mail.NotifyDelay} {
			if r.Owes&event == 0 {
				continue
			}
			t := deliver.Telling{Recipient: deliver.Recipient{Index: i, Address: r.Address, Original: r.Original, Asked: m.Asked(r)},
				Event: event, Relayed: r.State == fsm.Relayed, Remote: r.Remote, LastTime: r.Done}
			if r.Reply != nil {
				t.Reply = *r.Reply
			}
			list = append(list, t)
		}
	}
	for _, i := range m.Expanded {
		list = append(list, deliver.Telling{Recipient: deliver.Recipient{Index: i, Address: m.Envelope.Recipients[i], Asked: m.Envelope.Ask(i)}})
	}
	return list
}

const (
	delaysEvery = 10 * time.Second
	delaysAgain = 30 * time.Minute // messages come from other members, with ids that were passed
	delaysMax   = 500              // messages in one entry
)

// noteDelays proposes that the senders of messages that have waited for too
// long are told. Ids are in order of time: what was looked at is left behind,
// and only now and then looked at again.
func (m *Engine) noteDelays() {
	var from mail.ID
	began := m.now()
	for m.pause(delaysEvery) {
		if now := m.now(); now.Sub(began) > delaysAgain {
			from, began = mail.ID{}, now
		}
		if !m.node.Lease().Valid() {
			continue
		}
		ids, next := m.delayed(from)
		if len(ids) > 0 && !m.proposeDelays(ids) {
			continue
		}
		from = next
	}
}

// delayed are messages of this member, from an id on, whose senders are to be
// told, and where to go on from.
func (m *Engine) delayed(from mail.ID) (ids []mail.ID, next mail.ID) {
	v := m.fsm.View()
	defer v.Close()
	p, now := v.Params(), v.Tables.Applied().Time
	next = from
	for x := range v.ActiveFrom(m.id.ID, from) {
		if x.ID.Time() > now.Add(-p.DelayNotificationTimeout) || len(ids) == delaysMax {
			return ids, x.ID
		}
		if next = x.ID; x.LateFor(&p, now) {
			ids = append(ids, x.ID)
		}
	}
	return ids, next
}

func (m *Engine) proposeDelays(ids []mail.ID) bool {
	ctx, cancel := context.WithTimeout(m.ctx, 10*time.Second)
	defer cancel()
	if _, err := m.Propose(ctx, fsm.KindDelays, fsm.Delays{IDs: ids}); err != nil {
		m.log.Debug("delays are not on record yet", "messages", len(ids), "error", err)
		return false
	}
	return true
}
