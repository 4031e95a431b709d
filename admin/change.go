package admin

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"mailraft/fsm"
)

// Order is what every request for a change carries beside the change.
type Order struct {
	DryRun bool   `json:"dry_run,omitempty"` // say what would change, and change nothing
	Reason string `json:"reason,omitempty"`
	By     string `json:"by,omitempty"` // who; a client certificate's name goes before it
}

// sign has the name of the client's certificate stand for who asks.
func (o *Order) sign(r *http.Request) {
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		o.By = r.TLS.PeerCertificates[0].Subject.CommonName
	}
}

// Change is the answer to every change, made or only imagined.
type Change struct {
	As                    // the state that was looked at
	DryRun   bool         `json:"dry_run"`
	Index    uint64       `json:"index,omitempty"` // of the last entry that it took
	Count    int          `json:"count"`           // items that changed, or would
	Items    []ChangeItem `json:"items"`
	Warnings []string     `json:"warnings,omitempty"`
}

// ChangeItem is one thing that changed.
type ChangeItem struct {
	Kind   string `json:"kind"` // message, queue, parameter, domain, mailbox, group, database, copy, member, request
	Name   string `json:"name"`
	Action string `json:"action"` // add, set, remove, retry, delete, suspend, resume, cancel, report, give-up, skip, none
	From   string `json:"from,omitempty"`
	To     string `json:"to,omitempty"`
	Reason string `json:"reason,omitempty"` // skip: why
}

// changed reports whether the item counts.
func (i ChangeItem) changed() bool { return i.Action != "skip" && i.Action != "none" }

// step is one entry of a planned change.
type step struct {
	kind fsm.Kind
	body any
}

// plan is a change that was looked at and not yet made.
type plan struct {
	items    []ChangeItem
	steps    []step
	warnings []string
}

func (p *plan) add(items ...ChangeItem) { p.items = append(p.items, items...) }

// carry makes the planned change, or says what it would be. When a step fails
// after others were committed the error says so: what was done stays done, and
// the same request goes on from there.
func (s *Server) carry(ctx context.Context, what string, as As, o Order, p plan) (Change, error) {
	c := Change{As: as, DryRun: o.DryRun, Items: p.items, Warnings: p.warnings}
	if c.Items == nil {
		c.Items = []ChangeItem{}
	}
	for _, i := range p.items {
		if i.changed() {
			c.Count++
		}
	}
	if o.DryRun || c.Count == 0 {
		return c, nil
	}
	for n, st := range p.steps {
		a, err := s.propose(ctx, st.kind, st.body)
		if err != nil {
			if n > 0 {
				pr := *problemOf(err)
				pr.Text = fmt.Sprintf("%d of %d steps are done; then: %s", n, len(p.steps), pr.Text)
				err = &pr
			}
			return c, err
		}
		c.Index = a.Index
		for line := range strings.Lines(a.Text) {
			if line = strings.TrimSuffix(line, "\n"); !slices.Contains(c.Warnings, line) {
				c.Warnings = append(c.Warnings, line)
			}
		}
	}
	s.Logger.Info("changed by an operator", "what", what, "count", c.Count, "by", o.By, "reason", o.Reason, "index", c.Index)
	return c, nil
}

// changing wraps a handler that plans a change from one view and a body of
// type T. The view is closed before anything is proposed.
func changing[T any](s *Server, what string, order func(*T) *Order, f func(r *http.Request, v *fsm.View, body T) (plan, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var body T
		if err := read(w, r, &body); err != nil {
			writeProblem(w, err)
			return
		}
		o := order(&body)
		o.sign(r)
		v, as, err := s.deciding(r.Context())
		if err != nil {
			writeProblem(w, err)
			return
		}
		p, err := f(r, v, body)
		v.Close()
		if err != nil {
			writeProblem(w, err)
			return
		}
		c, err := s.carry(r.Context(), what, as, *o, p)
		answer(w, c, err)
	}
}
