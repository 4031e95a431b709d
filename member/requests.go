package member

import (
	"context"

	"mailraft/fsm"
	"mailraft/mail"
	"mailraft/resubmit"
)

// Open implements resubmit.Requests.
func (t inTerm) Open() (list []resubmit.Request, rate int) {
	v := t.fsm.View()
	defer v.Close()
	now, _ := t.node.Time()
	pending := map[uint64]int{} // by request, its shadow requests included
	for r := range v.OpenRequests() {
		if r.Parent != 0 {
			pending[r.Parent] += r.Counts.Pending()
			continue
		}
		pending[r.ID] += r.Counts.Pending()
		list = append(list, resubmit.Request{ID: r.ID, Activation: r.Activation != 0, Rate: r.Rate, Suspended: r.State == fsm.RequestSuspended,
			Auto: r.Auto, Ready: v.Advances(&r, now), Waking: r.Wake != nil})
	}
	for i := range list {
		list[i].Pending = pending[list[i].ID]
	}
	return list, v.Params().ResubmitRate
}

// Advance implements resubmit.Requests.
func (t inTerm) Advance(ctx context.Context, id uint64, rows int) (resubmit.Piece, error) {
	a, err := t.propose(ctx, fsm.KindAdvance, fsm.Advance{Request: id, Rows: rows})
	return resubmit.Piece{Made: a.Count, More: a.More}, err
}

// Suspend implements resubmit.Requests.
func (t inTerm) Suspend(ctx context.Context, id uint64, on bool, reason string) error {
	op := "resume"
	if on {
		op = "suspend"
	}
	_, err := t.propose(ctx, fsm.KindRequestChange, fsm.RequestChange{Op: op, Request: id, Auto: true, Reason: reason, By: t.id.Name})
	return err
}

// boundaryPressure is the highest level among the members, and why: this one's
// as it is, the others' as they have told.
func (m *Engine) boundaryPressure() (resubmit.Level, string) {
	level, why := m.manager.Pressure(func(id mail.MemberID) string {
		if mb := m.fsm.Settings().Member(id); mb != nil {
			return mb.Name
		}
		return id.String()
	})
	if p := m.Pressure(); p.Level > level {
		return p.Level, m.id.Name + ": " + p.Reason()
	}
	return level, why
}
