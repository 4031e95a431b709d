package admin

import (
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"mailraft/fsm"
	"mailraft/mail"
)

func (s *Server) routeRequests(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/requests", listing(s, listRequests))
	mux.HandleFunc("POST /v1/requests", s.addRequest)
	mux.HandleFunc("GET /v1/requests/{id}", s.reading(showRequest))
	mux.HandleFunc("POST /v1/requests/{op}", changing(s, "requests",
		func(o *RequestsOrder) *Order { return &o.Order }, s.changeRequests))
}

// listRequests lists the requests that have not ended; with all=true, all that
// are still kept.
func listRequests(r *http.Request, v *fsm.View, as As) (iter.Seq[Request], error) {
	q := r.URL.Query()
	database := q.Get("database")
	if _, ok := v.Database(database); database != "" && !ok {
		return nil, missing("there is no database %q", database)
	}
	requests := v.OpenRequests()
	if flag(q, "all") {
		requests = v.Requests(0)
	}
	n := namesOf(v)
	return func(yield func(Request) bool) {
		for x := range requests {
			if database != "" && !strings.EqualFold(x.Database, database) {
				continue
			}
			if !yield(viewRequest(v, x, n, as.Time)) {
				return
			}
		}
	}, nil
}

// RequestCompleted is the state of a request that has sent all, and all of it
// arrived.
const RequestCompleted = "completed"

// OneRequest is the answer for one request.
type OneRequest struct {
	As
	Request
	Total   RequestTotal `json:"total"` // of it and its shadow requests
	Shadows []Request    `json:"shadow_request_items,omitempty"`
}

// RequestTotal sums up a request and its shadow requests.
type RequestTotal struct {
	Matched    int   `json:"matched"`
	Messages   int   `json:"messages"`
	Sent       int   `json:"sent"`
	Bytes      int64 `json:"bytes"`
	Delivered  int   `json:"delivered"`
	Duplicates int   `json:"duplicates"`
	Failed     int   `json:"failed"`
}

func (t *RequestTotal) add(r *Request) {
	t.Matched += r.Matched
	t.Messages += r.Messages
	t.Sent += r.Sent
	t.Bytes += r.Bytes
	t.Delivered += r.Delivered
	t.Duplicates += r.Duplicates
	t.Failed += r.Failed
}

func showRequest(r *http.Request, v *fsm.View, as As) (any, error) {
	x, err := findRequest(v, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	n := namesOf(v)
	one := OneRequest{As: as, Request: viewRequest(v, x, n, as.Time)}
	one.Total.add(&one.Request)
	for _, id := range x.Children {
		if c, ok := v.Request(id); ok {
			shadow := viewRequest(v, c, n, as.Time)
			one.Shadows = append(one.Shadows, shadow)
			one.Total.add(&shadow)
		}
	}
	return one, nil
}

// findRequest looks a request up by what people call its id. Whatever is no
// number is the id of none: no word stands for all.
func findRequest(v *fsm.View, id string) (fsm.Request, error) {
	n, err := strconv.ParseUint(id, 10, 64)
	r, ok := v.Request(n)
	if err != nil || !ok {
		return r, missing("there is no resubmit request %q: it was never made, or it ended longer than request-retention ago", id)
	}
	return r, nil
}

// requestStates are the words for where a request can be.
func requestStates() (list []string) {
	for s := fsm.RequestRunning; s <= fsm.RequestFailed; s++ {
		list = append(list, s.String())
	}
	return list
}

func requestID(n uint64) string { return strconv.FormatUint(n, 10) }

// RequestsOrder is the body of POST /v1/requests/{suspend,resume,cancel}.
type RequestsOrder struct {
	Order
	IDs []string `json:"ids"`
}

// changeRequests plans a change of all the requests that are named, or of none.
func (s *Server) changeRequests(r *http.Request, v *fsm.View, body RequestsOrder) (p plan, err error) {
	op := r.PathValue("op")
	if !slices.Contains([]string{"suspend", "resume", "cancel"}, op) {
		return p, missing("requests know no %q", op)
	}
	if len(body.IDs) == 0 {
		return p, malformed("ids: say which requests")
	}
	for _, id := range body.IDs {
		x, err := findRequest(v, id)
		if err != nil {
			return plan{}, err
		}
		item := ChangeItem{Kind: "request", Name: x.Name(), Action: op, From: x.State.String()}
		if item.Reason = idleRequest(x, op); item.Reason != "" {
			item.Action, item.From = "skip", ""
		} else {
			p.steps = append(p.steps, step{fsm.KindRequestChange, fsm.RequestChange{Op: op, Request: x.ID, Reason: body.Reason, By: body.By}})
		}
		p.add(item)
	}
	return p, nil
}

// idleRequest says why op would do nothing to the request.
func idleRequest(x fsm.Request, op string) string {
	switch {
	case !x.Open():
		return "it is " + x.State.String()
	case x.Parent != 0:
		return "it is a part of request " + requestID(x.Parent)
	case op == "suspend" && x.State == fsm.RequestSuspended && !x.Auto:
		return "suspended already"
	case op == "resume" && x.State != fsm.RequestSuspended:
		return "not suspended"
	}
	return ""
}

// RequestOrder is the body of POST /v1/requests: a database, or what the
// messages have in common.
type RequestOrder struct {
	Order
	Database      string `json:"database,omitempty"`
	Recipient     string `json:"recipient,omitempty"`
	Sender        string `json:"sender,omitempty"` // "<>" for the null sender
	MessageID     string `json:"message_id,omitempty"`
	Start         Moment `json:"start,omitzero"` // whatever is held
	End           Moment `json:"end,omitzero"`   // now
	ResubmitTo    string `json:"resubmit_to,omitempty"`
	Unresponsive  string `json:"unresponsive_primary,omitempty"` // member
	CorrelationID string `json:"correlation_id,omitempty"`
	Rate          int    `json:"rate,omitempty"` // a second
	Again         bool   `json:"again,omitempty"`
}

// NewRequest is the answer: the id, or with a dry run what it would come to.
type NewRequest struct {
	As
	DryRun   bool     `json:"dry_run"`
	Index    uint64   `json:"index,omitempty"` // of the entry
	ID       string   `json:"id,omitempty"`
	Plan     *Plan    `json:"plan,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

// command is the order as an entry of the log.
func (o *RequestOrder) command(now mail.Time) fsm.RequestAdd {
	id := o.MessageID
	if id != "" {
		id = "<" + strings.Trim(id, "<>") + ">"
	}
	return fsm.RequestAdd{Database: o.Database, Recipient: o.Recipient, Sender: o.Sender, MessageID: id, Start: o.Start.Of(now), End: o.End.Of(now),
		ResubmitTo: o.ResubmitTo, Unresponsive: o.Unresponsive, Correlation: o.CorrelationID, Rate: o.Rate, Again: o.Again, Reason: o.Reason, By: o.By}
}

// addRequest makes a request, or says what it would come to.
func (s *Server) addRequest(w http.ResponseWriter, r *http.Request) {
	var o RequestOrder
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
	n := NewRequest{As: as, DryRun: o.DryRun}
	c := o.command(as.Time)
	if o.DryRun {
		stop, done := planning(r.Context())
		defer done()
		p, refused := v.Plan(c, as.Time, stop)
		if refused != nil {
			err = refusal(refused)
		} else {
			n.Plan = viewPlan(v, p, as)
		}
		v.Close()
		answer(w, n, err)
		return
	}
	n.Warnings = notHeld(v, c, as.Time)
	v.Close()
	a, err := s.propose(r.Context(), fsm.KindRequestAdd, c)
	n.Index, n.ID = a.Index, a.Text
	if err == nil {
		s.Logger.Info("resubmit request added by an operator", "request", n.ID, "database", c.Database, "start", c.Start, "by", o.By, "reason", o.Reason, "index", n.Index)
	}
	answer(w, n, err)
}

// notHeld warns of an interval that begins before what is held.
func notHeld(v *fsm.View, c fsm.RequestAdd, now mail.Time) []string {
	b, _ := v.Boundary()
	held := v.HeldSince(now)
	if start := max(c.Start, b.Created); c.Start == 0 || start >= held {
		return nil
	}
	return []string{fmt.Sprintf("only what was delivered since %s is held: the request will end with gaps", held)}
}
