package admin

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"mailraft/fsm"
	"mailraft/mail"
)

// advance has a request send what it can.
func (b *boundary) advance(id uint64) {
	b.t.Helper()
	for b.must(fsm.KindAdvance, fsm.Advance{Request: id, Rows: 64}).More {
	}
}

func TestRequests(t *testing.T) {
	b := newBoundary(t)
	delivered, _, _, _ := b.mailbag()
	c := b.client()
	made := post[NewRequest](t, c, "/v1/requests", nil, RequestOrder{Database: "db1", Start: Moment{at: start},
		Order: Order{By: "op", Reason: "T-1"}, CorrelationID: "x", Rate: 7, Unresponsive: "m3"})
	if made.ID != "1" || made.Index != b.index {
		t.Fatalf("made %+v", made)
	}
	r := get[OneRequest](t, c, "/v1/requests/1")
	if r.State != "running" || r.Database != "DB1" || r.Start != start || r.End != b.now+1 || r.By != "op" || r.Reason != "T-1" ||
		r.CorrelationID != "x" || r.Rate != 7 || !slices.Equal(r.Unresponsive, []string{"m3"}) || r.Progress != 0 || r.Index != b.index {
		t.Errorf("added: %+v", r)
	}
	b.advance(1)
	r = get[OneRequest](t, c, "/v1/requests/1")
	if r.Matched != 2 || r.Messages != 1 || r.Sent != 2 || r.Bytes != 1000 || !r.Walked || r.Progress != 0 ||
		!slices.Equal(r.ServedBy, []ServedBy{{"m1", "primary", 2}}) || r.First != r.Last || r.Total.Sent != 2 {
		t.Errorf("sent: %+v", r)
	}
	list := get[List[Message]](t, c, "/v1/messages", "request", "1").Items
	if len(list) != 1 || list[0].Origin != delivered || list[0].Request != "1" || list[0].State != StateReady {
		t.Fatalf("its messages: %+v", list)
	}
	if d := get[OneMessage](t, c, "/v1/messages/"+delivered.String()).Detail; !slices.Equal(d.Resubmitted, []mail.ID{list[0].ID}) {
		t.Errorf("made of the origin: %v", d.Resubmitted)
	}
	ok := mail.Outcome{Result: mail.Delivered, Reply: mail.Reply{Code: 250, Text: "ok"}, Copy: "a", Activation: 1}
	second := ok
	second.Recipient, second.Duplicate = 1, true
	b.report(list[0].ID, ok, second)
	r = get[OneRequest](t, c, "/v1/requests/1")
	if r.State != RequestCompleted || r.Delivered != 2 || r.Duplicates != 1 || r.Progress != 1 || r.Ended != b.now || r.Left != 0 {
		t.Errorf("ended: %+v", r)
	}
	if open := get[List[Request]](t, c, "/v1/requests").Items; len(open) != 0 {
		t.Errorf("open: %+v", open)
	}
	if all := get[List[Request]](t, c, "/v1/requests", "all", "true", "database", "db1").Items; len(all) != 1 {
		t.Errorf("all: %+v", all)
	}
	again := post[NewRequest](t, c, "/v1/requests", nil, RequestOrder{Database: "DB1"})
	b.advance(2)
	r = get[OneRequest](t, c, "/v1/requests/"+again.ID)
	if r.State != RequestCompleted || !slices.Equal(r.LeftOut, []LeftOut{{"already", 4}}) || r.Matched != 4 || r.Sent != 0 {
		t.Errorf("once more: %+v", r)
	}
}

// What a member had whose disk is lost is a part of the request of its own.
func TestShadowRequests(t *testing.T) {
	b := newBoundary(t)
	b.mailbag()
	b.must(fsm.KindMemberDown, fsm.MemberChange{Member: m1, Term: 1})
	b.now = b.now.Add(5 * time.Minute)
	b.must(fsm.KindRequestAdd, fsm.RequestAdd{Database: "DB1", Start: start})
	b.advance(1)
	c := b.client()
	r := get[OneRequest](t, c, "/v1/requests/1")
	if !slices.Equal(r.Children, []string{"2"}) || len(r.Shadows) != 1 || r.Shadows[0].OnBehalfOf != "m1" || r.Shadows[0].Parent != "1" ||
		r.Sent != 0 || r.Total.Sent != 2 || !slices.Equal(r.Shadows[0].ServedBy, []ServedBy{{"m3", "shadow", 2}}) {
		t.Errorf("served by the shadow: %+v", r)
	}
	if list := get[List[Message]](t, c, "/v1/messages", "request", "1").Items; len(list) != 1 || list[0].Request != "2" {
		t.Errorf("messages of both: %+v", list)
	}
}

func TestRequestErrors(t *testing.T) {
	b := newBoundary(t)
	b.must(fsm.KindRequestAdd, fsm.RequestAdd{Database: "DB1", Start: start - 1000})
	c := b.client()
	before := b.index
	for _, tt := range []struct {
		path   string
		q      url.Values
		body   any // nil: GET
		status int
	}{
		{"/v1/requests/2", nil, nil, 404},
		{"/v1/requests/all", nil, nil, 404},
		{"/v1/requests", query("database", "DB9"), nil, 404},
		{"/v1/messages", query("request", "x"), nil, 400},
		{"/v1/requests", nil, RequestOrder{}, 422},
		{"/v1/requests", nil, RequestOrder{Database: "DB9"}, 404},
		{"/v1/requests", nil, RequestOrder{Recipient: "no address"}, 422},
		{"/v1/requests", nil, RequestOrder{Database: "DB1", Unresponsive: "m9"}, 404},
		{"/v1/requests", nil, map[string]string{"data_base": "DB1"}, 400},
		{"/v1/requests", nil, map[string]string{"database": "DB1", "start": "soon"}, 400},
		{"/v1/requests/cancel", nil, RequestsOrder{}, 400},
		{"/v1/requests/cancel", nil, RequestsOrder{IDs: []string{"1", "2"}}, 404},
		{"/v1/requests/cancel", nil, RequestsOrder{IDs: []string{"1", ""}}, 404},
		{"/v1/requests/forget", nil, RequestsOrder{IDs: []string{"1"}}, 404},
	} {
		var err error
		if tt.body == nil {
			err = c.Get(t.Context(), tt.path, tt.q, new(any))
		} else {
			err = c.Post(t.Context(), tt.path, tt.q, tt.body, new(any))
		}
		var p *Problem
		if !errors.As(err, &p) || p.Status != tt.status {
			t.Errorf("%s %v %+v: %v, want %d", tt.path, tt.q, tt.body, err, tt.status)
		}
	}
	if r := get[OneRequest](t, c, "/v1/requests/1"); r.State != "running" {
		t.Errorf("touched: %+v", r)
	}
	if b.index != before+4 { // those that the state machine refused
		t.Errorf("%d entries", b.index-before)
	}
}

func TestActivate(t *testing.T) {
	b := newBoundary(t)
	b.mailbag()
	b.must(fsm.KindDatabase, fsm.DatabaseChange{Op: "copy-add", Name: "DB1", Copies: []fsm.Copy{{Name: "b", Addr: "maildir:/b", DataThrough: b.now - 60_000}}})
	c := b.client()
	polled := make(chan ActiveCopy, 1)
	go func() {
		var a ActiveCopy
		_ = c.Get(t.Context(), "/v1/databases/DB1/active", query("after", "1", "wait", "5m"), &a)
		polled <- a
	}()
	tried := post[Activation](t, c, "/v1/databases/db1/activate", nil, ActivateOrder{Copy: "b", Order: Order{DryRun: true}})
	if tried.Activation != 2 || tried.From != "a" || tried.FromActivation != 1 || tried.Through != b.now-60_000 || tried.Start != tried.Through-3_600_000 || tried.Request != "" {
		t.Errorf("dry run: %+v", tried)
	}
	var p *Problem
	err := c.Post(t.Context(), "/v1/databases/DB1/activate", nil, ActivateOrder{Copy: "b", From: "b", FromActivation: 7}, new(any))
	if !errors.As(err, &p) || p.Status != 409 {
		t.Errorf("looked at another state: %v", err)
	}
	if p := tried.Plan; p.Sent != 2 || p.Matched != 2 || p.Messages != 1 || p.Bytes != 1000 || p.Partial || p.Index != tried.As.Index || p.Rate != 2000 {
		t.Errorf("planned: %+v", p)
	}
	a := post[Activation](t, c, "/v1/databases/DB1/activate", nil, ActivateOrder{Copy: "b", From: "a", FromActivation: 1})
	if a.Request != "1" || a.Start != tried.Start || a.End != b.now+1 || a.StartReason != tried.StartReason || a.Index != b.index || len(a.Warnings) != 1 {
		t.Errorf("activated: %+v", a)
	}
	if got := <-polled; got.Activation != 2 || got.Copy != "b" || got.Address != "maildir:/b" {
		t.Errorf("polled: %+v", got)
	}
	// Once more before anything was sent: all of it, and what the first has left.
	again := post[Activation](t, c, "/v1/databases/DB1/activate", nil, ActivateOrder{Copy: "a", DataThrough: Moment{isAgo: true}, Order: Order{DryRun: true}})
	if again.Start != a.Start || again.Plan.Sent != 2 || !strings.HasSuffix(again.StartReason, "and what an activation before has not sent") {
		t.Errorf("taken over: %+v %+v", again, again.Plan)
	}
	// And when the copy has got it: the other has not.
	b.advance(1)
	m := get[List[Message]](t, c, "/v1/messages", "request", "1").Items[0]
	ok := mail.Outcome{Result: mail.Delivered, Reply: mail.Reply{Code: 250, Text: "ok"}, Copy: "b", Activation: 2}
	second := ok
	second.Recipient = 1
	b.report(m.ID, ok, second)
	again = post[Activation](t, c, "/v1/databases/DB1/activate", nil, ActivateOrder{Copy: "a", DataThrough: Moment{ago: time.Hour, isAgo: true}, Order: Order{DryRun: true}})
	if again.Plan.Sent != 2 || again.Plan.Matched != 4 {
		t.Errorf("restored: %+v", again.Plan)
	}
	if d := get[One[Database]](t, c, "/v1/databases/DB1").Item; d.Active != "b" || d.Request != "1" {
		t.Errorf("shown: %+v", d)
	}
	history := get[List[DatabaseEvent]](t, c, "/v1/databases/DB1/history").Items
	if e := history[len(history)-1]; e.Event != "activate" || e.From != "a" || e.Copy != "b" || e.Request != "1" || e.Text != a.StartReason {
		t.Errorf("history: %+v", e)
	}
}

// What is older than the hold time is a gap, of which a request and its plan
// say so.
func TestPlanOfGaps(t *testing.T) {
	b := newBoundary(t)
	b.mailbag()
	b.pass(72 * time.Hour)
	held := b.now.Add(-48 * time.Hour)
	c := b.client()
	o := RequestOrder{Database: "DB1", Start: Moment{at: start + 60_000}, Order: Order{DryRun: true}}
	want := []RequestGap{{Start: start + 60_000, End: held}}
	p := post[NewRequest](t, c, "/v1/requests", nil, o)
	if !slices.Equal(p.Plan.Gaps, want) || p.ID != "" || p.Plan.Partial {
		t.Errorf("planned: %+v", p.Plan)
	}
	o.DryRun = false
	p = post[NewRequest](t, c, "/v1/requests", nil, o)
	if r := get[OneRequest](t, c, "/v1/requests/1"); !slices.Equal(r.Gaps, want) || len(p.Warnings) != 1 {
		t.Errorf("made: %+v %q", r.Gaps, p.Warnings)
	}
	o.Start = Moment{at: held}
	if p = post[NewRequest](t, c, "/v1/requests", nil, o); len(p.Warnings) != 0 {
		t.Errorf("of what is held: %q", p.Warnings)
	}
}

// How far a request is goes by the deliveries that there are, not by an
// interval that is mostly empty.
func TestProgress(t *testing.T) {
	b := newBoundary(t)
	ok := mail.Outcome{Result: mail.Delivered, Reply: mail.Reply{Code: 250, Text: "ok"}, Copy: "a", Activation: 1}
	for i := range byte(5) { // a minute apart
		b.report(b.accept(i, "ann@client.test", 1000, "bob@example.test"), ok)
	}
	b.now = b.now.Add(9 * time.Minute)
	b.must(fsm.KindRequestAdd, fsm.RequestAdd{Database: "DB1", Start: start - 3_600_000})
	c := b.client()
	for i, want := range []float64{0, 0.25, 0.5, 0.75, 1} {
		b.must(fsm.KindAdvance, fsm.Advance{Request: 1, Rows: 1})
		for _, m := range get[List[Message]](t, c, "/v1/messages", "request", "1", "state", "active").Items {
			b.report(m.ID, ok)
		}
		if r := get[OneRequest](t, c, "/v1/requests/1"); r.Progress < want-0.02 || r.Progress > want+0.02 {
			t.Errorf("after %d: %v, want %v", i+1, r.Progress, want)
		}
	}
}
