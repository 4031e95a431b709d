package member

import (
	"context"
	"time"

	"mailraft/deliver"
	"mailraft/fsm"
	"mailraft/mail"
)

const (
	handOverMax  = 250 // messages in one entry
	handOverTime = 10 * time.Second
	drainBeat    = 500 * time.Millisecond
	// finishTime is how long a draining member delivers what nobody could take
	// over, before it tries again to give it away.
	finishTime = 10 * time.Second
)

// drainSelf gives away this member's messages while it is drained. Deliveries
// are held meanwhile: what is not in flight then will not be, so that it may go
// to another owner. A member starts held, and delivers when its lease says that
// its state is fresh and the state says that it is not drained.
func (m *Engine) drainSelf(lease deliver.Lease) {
	held := true
	for {
		switch self, fresh := m.self(lease); {
		case !fresh && held:
			m.pause(drainBeat / 5)
			if m.ctx.Err() != nil {
				return
			}
			continue
		case !self.Draining:
			if held {
				m.deliverer.Hold(false)
				held = false
			}
			if m.awaitChange(); m.ctx.Err() != nil {
				return
			}
			continue
		default:
			m.deliverer.Hold(true)
			held = true
			m.acknowledgeAll()
			if left, err := m.handOver(); err != nil {
				m.log.Debug("messages are not handed over yet", "error", err)
			} else if left > 0 && m.release(lease) {
				held = false
				m.deliverer.Hold(false) // nobody else has these: they are finished here
				if !m.pause(finishTime) {
					return
				}
				continue
			}
		}
		if !m.pause(drainBeat) {
			return
		}
	}
}

// self is this member's row, and whether it can be believed.
func (m *Engine) self(lease deliver.Lease) (fsm.Member, bool) {
	fresh := lease.Valid() // before the view, which is then at least as new
	v := m.fsm.View()
	defer v.Close()
	mb, ok := v.Member(m.id.ID)
	return mb, ok && fresh
}

// awaitChange waits for the next entry, and a little longer.
func (m *Engine) awaitChange() {
	select {
	case <-m.fsm.Changed():
	case <-m.ctx.Done():
	}
	m.pause(drainBeat / 5)
}

// handOver offers every message that is not in flight, and returns how many
// nobody could take.
func (m *Engine) handOver() (left int, err error) {
	v := m.fsm.View()
	self, _ := v.Member(m.id.ID)
	var ids []mail.ID
	for msg := range v.Active(m.id.ID) {
		if !m.deliverer.InFlight(msg.ID) {
			ids = append(ids, msg.ID)
		}
	}
	v.Close()
	after := self.Handed
	for len(ids) > 0 && m.ctx.Err() == nil {
		some := ids[:min(len(ids), handOverMax)]
		ids = ids[len(some):]
		n, err := m.proposeHandOver(fsm.HandOver{Member: m.id.ID, IDs: some, After: after})
		if err != nil {
			return 0, err
		}
		after++
		left += len(some) - n
	}
	return left, nil
}

// release makes void every HandOver whose outcome is not known: only then may
// be delivered what one of them named.
func (m *Engine) release(lease deliver.Lease) bool {
	self, _ := m.self(lease)
	_, err := m.proposeHandOver(fsm.HandOver{Member: m.id.ID, After: self.Handed})
	return err == nil
}

// proposeHandOver returns when the outcome is part of this member's state.
func (m *Engine) proposeHandOver(h fsm.HandOver) (int, error) {
	ctx, cancel := context.WithTimeout(m.ctx, handOverTime)
	defer cancel()
	a, err := m.Propose(ctx, fsm.KindHandOver, h)
	if err != nil {
		return 0, err
	}
	if err := m.waitApplied(ctx, a.Index); err != nil {
		return 0, err
	}
	if a.Refused != nil {
		return 0, a.Refused
	}
	return a.Count, nil
}
