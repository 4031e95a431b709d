package fsm

import "mailraft/mail"

// destinationMax bounds the name of a destination, which becomes a key.
const destinationMax = 1024

// queue applies QueueChange.
func (t *tx) queue(c QueueChange) Answer {
	if len(c.Key) > destinationMax {
		return refuse(501, "5.5.4", "a destination of %d characters", len(c.Key))
	}
	k := tab(tabQueueStop).text(c.Key)
	if c.Suspend {
		t.put(k, Suspension{Key: c.Key, Reason: c.Reason, By: c.By, At: t.now()})
		return Answer{Count: 1}
	}
	if c.Key == "" {
		t.resumed()
	}
	n := 0
	if _, ok := t.Get(k); ok {
		t.delete(k)
		n = 1
	}
	return Answer{Count: n}
}

// operations are what MessageChange can do to an active message; false: there
// was nothing to do.
var operations = map[string]func(*tx, *edit, MessageChange) bool{
	"retry":    (*tx).retry,
	"delete":   (*tx).remove,
	"bounce":   (*tx).bounceAll,
	"redirect": (*tx).redirect,
	"suspend": func(_ *tx, e *edit, _ MessageChange) bool {
		e.Suspended = true
		return true
	},
	"resume": func(_ *tx, e *edit, _ MessageChange) bool {
		e.Suspended, e.Quarantine = false, ""
		e.trust()
		return true
	},
}

// message applies MessageChange. Finished messages are left as they are.
func (t *tx) message(c MessageChange) Answer {
	change, ok := operations[c.Op]
	if !ok {
		return refuse(501, "5.5.4", "messages know no %q", c.Op)
	}
	if c.Op == "redirect" {
		if _, refusal := t.Redirection(c); refusal != nil {
			return Answer{Refused: refusal}
		}
	}
	n := 0
	for _, id := range c.IDs {
		e := t.open(id)
		if e == nil || !e.Active() || !change(t, e, c) {
			continue
		}
		e.note(Event{Kind: EventAdmin, At: t.now(), Text: c.Op + by(c)})
		t.finish(e.Message)
		t.save(e)
		n++
	}
	return Answer{Count: n}
}

func (t *tx) retry(e *edit, c MessageChange) bool {
	for i := range e.Recipients {
		if r := &e.Recipients[i]; r.State == Pending && (c.Queue == "" || r.Destination() == c.Queue) {
			r.Next = t.now()
		}
	}
	return true
}

func (t *tx) remove(e *edit, c MessageChange) bool {
	reply := mail.Replyf(550, "5.7.1", "deleted%s", by(c))
	if e.Expanding {
		e.Rest, e.Deleted = nil, reply // Expand deletes the pieces that are made already
	}
	t.deletePending(e.Message, reply)
	return true
}

// deletePending retires what is not delivered, without a DSN.
func (t *tx) deletePending(m *Message, reply *mail.Reply) {
	for i := range m.Recipients {
		if r := &m.Recipients[i]; r.State == Pending {
			r.State, r.Done, r.Next = Deleted, t.now(), 0
			r.Reply = reply
			r.Owes = 0
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
