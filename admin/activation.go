package admin

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"mailraft/fsm"
	"mailraft/mail"
)

// ActivateOrder is the body of POST /v1/databases/{name}/activate. Who has
// looked before may say what is to be replaced; else it is what is active when
// the order arrives.
type ActivateOrder struct {
	Order
	Copy           string `json:"copy"`
	DataThrough    Moment `json:"data_through,omitzero"` // it holds all that was delivered before; none: what is known of it
	From           string `json:"from,omitempty"`
	FromActivation uint64 `json:"from_activation,omitempty"`
}

// Activation is the answer: what was done, or would be.
type Activation struct {
	As
	DryRun         bool      `json:"dry_run"`
	Index          uint64    `json:"index,omitempty"` // of the entry
	Database       string    `json:"database"`
	From           string    `json:"from"`
	FromActivation uint64    `json:"from_activation"`
	Copy           string    `json:"copy"`
	Activation     uint64    `json:"activation"`
	Through        mail.Time `json:"data_through,omitzero"` // up to which the copy is known to be complete
	Start          mail.Time `json:"start"`                 // of what is sent again, by time of delivery
	StartReason    string    `json:"start_reason"`
	End            mail.Time `json:"end"`
	Request        string    `json:"request,omitempty"`
	Plan           *Plan     `json:"plan,omitempty"` // dry run
	Warnings       []string  `json:"warnings,omitempty"`
}

func (s *Server) activate(w http.ResponseWriter, r *http.Request) {
	var o ActivateOrder
	if err := read(w, r, &o); err != nil {
		writeProblem(w, err)
		return
	}
	o.sign(r)
	v, as, err := s.deciding(r.Context())
	if err != nil {
		writeProblem(w, err)
		return
	}
	a, c, err := o.plan(r.Context(), v, as, r.PathValue("name"))
	v.Close()
	if err == nil && !o.DryRun {
		err = s.makeActive(r, &a, c)
	}
	answer(w, a, err)
}

// plan is what the order comes to, and the command for it.
func (o *ActivateOrder) plan(ctx context.Context, v *fsm.View, as As, name string) (a Activation, c fsm.Activate, err error) {
	d, ok := v.Database(name)
	if !ok {
		return a, c, missing("there is no database %q", name)
	}
	c = fsm.Activate{Database: d.Name, Copy: o.Copy, Through: o.DataThrough.Of(as.Time), Reason: o.Reason, By: o.By,
		From: cmp.Or(o.From, d.Active), Activation: cmp.Or(o.FromActivation, d.Activation)}
	if err := checkActivation(d, c, as.Time); err != nil {
		return a, c, err
	}
	start := v.Since(d, o.Copy, c.Through, as.Time)
	a = Activation{As: as, DryRun: o.DryRun, Database: d.Name, From: d.Active, FromActivation: d.Activation, Copy: o.Copy,
		Activation: d.Activation + 1, Through: start.Through, Start: start.At, StartReason: start.Text, End: as.Time + 1}
	if h := healthOf(v, d, o.Copy); h == nil || !h.Healthy {
		a.Warnings = append(a.Warnings, "copy "+o.Copy+" is not known to be healthy: mail for "+d.Name+" waits until it is")
	}
	if o.DryRun {
		stop, done := planning(ctx)
		defer done()
		p, refused := v.PlanActivation(d, start.At, as.Time, stop)
		if refused != nil {
			return a, c, refusal(refused)
		}
		a.Plan = viewPlan(v, p, as)
		if a.Plan.Start < a.Start {
			a.Start, a.StartReason = a.Plan.Start, a.StartReason+", and what an activation before has not sent"
		}
	}
	return a, c, nil
}

// checkActivation refuses what the state machine would, so that a dry run says
// so too.
func checkActivation(d fsm.Database, c fsm.Activate, now mail.Time) error {
	switch {
	case !slices.ContainsFunc(d.Copies, func(x Copy) bool { return x.Name == c.Copy }):
		return missing("database %s has no copy %q", d.Name, c.Copy)
	case c.From != d.Active || c.Activation != d.Activation:
		return problem(http.StatusConflict, "copy %s of %s is the active one, by activation %d since %s, not copy %s by activation %d",
			d.Active, d.Name, d.Activation, d.Since, c.From, c.Activation)
	case c.Copy == d.Active && c.Through == 0:
		return problem(http.StatusConflict, "copy %s of %s is the active one; if it was restored, say up to when it is complete: --data-through TIME", c.Copy, d.Name)
	case c.Through > now.Add(time.Minute):
		return problem(http.StatusUnprocessableEntity, "data-through %s is ahead of the boundary's time %s", c.Through, now)
	}
	return nil
}

// makeActive proposes the activation and fills in what became of it.
func (s *Server) makeActive(r *http.Request, a *Activation, c fsm.Activate) error {
	done, err := s.propose(r.Context(), fsm.KindActivate, c)
	if err != nil {
		return err
	}
	a.Index = done.Index
	v, _ := s.view()
	defer v.Close()
	h, _ := v.History(c.Database)
	for _, e := range h.Events {
		if x, ok := v.Request(e.Request); ok && e.Activation == a.Activation {
			a.Request, a.Start, a.End, a.StartReason = x.Name(), x.Start, x.End, e.Text
		}
	}
	s.Logger.Info("copy activated by an operator", "database", a.Database, "copy", a.Copy, "activation", a.Activation, "from", a.From,
		"request", a.Request, "by", c.By, "reason", c.Reason, "index", a.Index)
	return nil
}

func healthOf(v *fsm.View, d fsm.Database, copy string) *CopyHealth {
	for _, c := range viewDatabase(v, d).Copies {
		if c.Name == copy {
			return c.Health
		}
	}
	return nil
}
