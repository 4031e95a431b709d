package admin

import (
	"context"
	"time"

	"mailraft/fsm"
	"mailraft/mail"
)

// Plan is what a resubmit request would come to if it were made now and sent at
// once, by the members that are up.
type Plan struct {
	As
	RequestFilter
	RequestCounts
	Waiting []RequestWait `json:"waiting,omitempty"` // for members that are down
	Shadows []Request     `json:"shadow_request_items,omitempty"`
	Total   RequestTotal  `json:"total"`             // with what the shadow requests would send
	Rate    int           `json:"rate"`              // messages a second
	Time    mail.Duration `json:"time"`              // that sending takes at this rate
	Partial bool          `json:"partial,omitempty"` // it took too long: there is more
}

// planTime bounds the search for a plan.
const planTime = 20 * time.Second

// planning is called by whoever makes a plan to know when to give up.
func planning(ctx context.Context) (stop func() bool, done func()) {
	ctx, cancel := context.WithTimeout(ctx, planTime)
	return func() bool { return ctx.Err() != nil }, cancel
}

func viewPlan(v *fsm.View, p fsm.Plan, as As) *Plan {
	n := namesOf(v)
	root := viewRequest(v, p.Request, n, as.Time)
	view := &Plan{As: as, RequestFilter: root.RequestFilter, RequestCounts: root.RequestCounts, Waiting: root.Waiting,
		Rate: p.Rate, Time: mail.Duration(p.Time().Milliseconds()), Partial: !p.Request.Walked}
	view.Total.add(&root)
	for _, s := range p.Shadows {
		shadow := viewRequest(v, s, n, as.Time)
		shadow.ID = "" // it has none
		view.Shadows = append(view.Shadows, shadow)
		view.Total.add(&shadow)
	}
	return view
}
