package member

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"mailraft/cluster/pki"
	"mailraft/fsm"
	"mailraft/mail"
	"mailraft/resubmit"
)

// kindFindings brings the leader what a member finds of the copies.
const kindFindings byte = 0x28

// findings are a member's word about the copies, and about itself.
type findings struct {
	Copies   []resubmit.Finding `json:"copies"`
	Pressure resubmit.Pressure  `json:"pressure"`
}

// sendFindings hands what this member finds to whoever leads.
func (m *Engine) sendFindings(ctx context.Context, found []resubmit.Finding) error {
	leader, addr := m.node.Leader()
	switch leader {
	case 0:
		return errors.New("nobody leads")
	case m.id.ID:
		m.manager.Hear(m.id.ID, found, m.Pressure())
		return nil
	}
	body, err := json.Marshal(findings{found, m.Pressure()})
	if err != nil {
		return err
	}
	_, err = m.caller.Call(ctx, addr, kindFindings, body)
	return err
}

// handleFindings takes what another member finds. Who does not lead keeps
// nothing of it.
func (m *Engine) handleFindings(peer pki.Identity, body []byte) ([]byte, error) {
	if peer.Role != pki.RoleMember {
		return nil, mail.Replyf(550, "5.7.1", "%q is not a member", peer.Name)
	}
	var f findings
	if err := json.Unmarshal(body, &f); err != nil {
		return nil, mail.Replyf(501, "5.5.4", "malformed findings")
	}
	m.manager.Hear(peer.Member, f.Copies, f.Pressure)
	return nil, nil
}

// lead is what this member does about databases and requests while it leads.
func (m *Engine) lead(ctx context.Context, term uint64) {
	t := inTerm{m, term}
	done := make(chan struct{})
	go func() { m.driver.Run(ctx, t); close(done) }()
	m.manager.Run(ctx, t)
	<-done
}

// inTerm proposes as the leader of one term, and implements resubmit.Boundary
// and resubmit.Requests.
type inTerm struct {
	*Engine
	term uint64
}

// propose makes a refusal the error that package resubmit knows.
func (t inTerm) propose(ctx context.Context, k fsm.Kind, body any) (fsm.Answer, error) {
	entry, err := fsm.Encode(k, body)
	if err != nil {
		return fsm.Answer{}, err
	}
	b, err := t.node.ProposeTerm(ctx, t.term, entry)
	if err != nil {
		return fsm.Answer{}, err
	}
	a, err := fsm.DecodeAnswer(b)
	if err == nil && a.Refused != nil {
		err = a.Refused
	}
	return a, err
}

// State implements resubmit.Boundary.
func (t inTerm) State() resubmit.State {
	v := t.fsm.View()
	defer v.Close()
	s := v.Settings()
	now, _ := t.node.Time()
	state := resubmit.State{Now: now, FailoverAfter: s.Params.FailoverAfter, Quorum: s.Boundary.Quorum}
	for d := range v.Databases() {
		state.Databases = append(state.Databases, databaseOf(v, d, now))
	}
	return state
}

// automaticTime is how far back activations damp the next one.
const automaticTime = time.Hour

func databaseOf(v *fsm.View, d fsm.Database, now mail.Time) resubmit.Database {
	out := resubmit.Database{Name: d.Name, Active: d.Active, Activation: d.Activation, Since: d.Since, Suspended: d.Suspended != nil || v.Settings().Boundary.Restored.Suspended()}
	known := map[string]fsm.CopyRecord{}
	for _, r := range v.Health(d.Name) {
		known[r.Copy] = r
	}
	dead := !known[d.Active].Healthy
	if dead { // only then it is asked for, and reading it costs something
		h, _ := v.History(d.Name)
		out.Automatic = h.Failovers(now.Add(-automaticTime))
	}
	for _, c := range d.Copies {
		r, judged := known[c.Name]
		rc := resubmit.Copy{Name: c.Name, Addr: c.Addr, Lag: c.Lag.Std(), Preference: c.Preference,
			Suspended: c.Suspended != nil, Judged: judged, Healthy: r.Healthy}
		if dead {
			rc.Through = v.Since(d, c.Name, 0, now).Through
		}
		out.Copies = append(out.Copies, rc)
	}
	return out
}

// Declare implements resubmit.Boundary.
func (t inTerm) Declare(ctx context.Context, verdicts []resubmit.Verdict) error {
	h := fsm.Health{Term: t.term}
	for _, v := range verdicts {
		h.Copies = append(h.Copies, fsm.CopyHealth{Database: v.Database, Copy: v.Copy, Addr: v.Addr, Healthy: v.Healthy, Text: v.Text})
	}
	_, err := t.propose(ctx, fsm.KindHealth, h)
	return err
}

// Activate implements resubmit.Boundary.
func (t inTerm) Activate(ctx context.Context, a resubmit.Activation) error {
	_, err := t.propose(ctx, fsm.KindActivate, fsm.Activate{Database: a.Database, Copy: a.Copy, From: a.From, Activation: a.Activation,
		Auto: true, Term: t.term, Reason: a.Reason, By: t.id.Name})
	return err
}

// Stuck are the databases whose active copy is dead and that are not activated
// elsewhere, as the leader knows it; a member that does not lead knows of none.
func (m *Engine) Stuck() []resubmit.Stuck { return m.manager.Stuck() }
