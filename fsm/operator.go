package fsm

import "mailraft/mail"

// queue applies QueueChange.
func (t *tx) queue(c QueueChange) Answer {
	k := tab(tabQueueStop).text(c.Key)
	if c.Suspend {
		t.put(k, Suspension{Key: c.Key, Reason: c.Reason, By: c.By, At: t.now()})
		return Answer{Count: 1}
	}
	n := 0
	if _, ok := t.Get(k); ok {
		t.batch.Delete(k)
		n = 1
	}
	return Answer{Count: n}
}

// message applies MessageChange. Finished messages are left as they are.
func (t *tx) message(c MessageChange) Answer {
	n := 0
	for _, id := range c.IDs {
		e := t.open(id)
		if e == nil || !e.Active() {
			continue
		}
		switch c.Op {
		case "retry":
			for i := range e.Recipients {
				if r := &e.Recipients[i]; r.State == Pending {
					r.Next = t.now()
				}
			}
		case "suspend":
			e.Suspended = true
		case "resume":
			e.Suspended = false
		case "delete":
			t.deletePending(e.Message, c)
		default:
			return refuse(501, "5.5.4", "messages know no %q", c.Op)
		}
		e.note(Event{Kind: EventAdmin, At: t.now(), Text: c.Op + by(c)})
		t.finish(e.Message)
		t.save(e)
		n++
	}
	return Answer{Count: n}
}

// deletePending retires what is not delivered, without a DSN. Groups that are
// not expanded yet are given up with it.
func (t *tx) deletePending(m *Message, c MessageChange) {
	if m.Expanding && len(m.Rest) > 0 {
		m.Rest = nil
	}
	for i := range m.Recipients {
		if r := &m.Recipients[i]; r.State == Pending {
			r.State, r.Done, r.Next = Deleted, t.now(), 0
			r.Reply = mail.Replyf(550, "5.7.1", "deleted%s", by(c))
		}
	}
}

func by(c MessageChange) string {
	s := ""
	if c.By != "" {
		s += " by " + c.By
	}
	if c.Reason != "" {
		s += ": " + c.Reason
	}
	return s
}
