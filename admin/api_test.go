package admin

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"mailraft/fsm"
	"mailraft/mail"
)

func query(kv ...string) url.Values {
	q := url.Values{}
	for i := 0; i < len(kv); i += 2 {
		q.Add(kv[i], kv[i+1])
	}
	return q
}

func get[T any](t *testing.T, c *Client, path string, kv ...string) T {
	t.Helper()
	var v T
	if err := c.Get(t.Context(), path, query(kv...), &v); err != nil {
		t.Fatalf("%s %v: %v", path, kv, err)
	}
	return v
}

func post[T any](t *testing.T, c *Client, path string, q url.Values, body any) T {
	t.Helper()
	var v T
	if err := c.Post(t.Context(), path, q, body, &v); err != nil {
		t.Fatalf("%s %+v: %v", path, body, err)
	}
	return v
}

func TestFilters(t *testing.T) {
	b := newBoundary(t)
	delivered, deferred, ready, suspended := b.mailbag()
	c := b.client()
	for _, tt := range []struct {
		q    []string
		want []mail.ID
	}{
		{nil, []mail.ID{deferred, ready, suspended}},
		{[]string{"state", "all"}, []mail.ID{delivered, deferred, ready, suspended}},
		{[]string{"state", "all", "limit", "2"}, []mail.ID{delivered, deferred}},
		{[]string{"state", "safety-net"}, []mail.ID{delivered}},
		{[]string{"state", "deferred,ready"}, []mail.ID{deferred, ready}},
		{[]string{"state", "deferred", "state", "suspended"}, []mail.ID{deferred, suspended}},
		{[]string{"state", "delivered"}, []mail.ID{delivered}},
		{[]string{"id", delivered.String()}, []mail.ID{delivered}},
		{[]string{"message_id", "1@client.test"}, []mail.ID{delivered}},
		{[]string{"message_id", "<1@client.test>", "state", "active"}, nil},
		{[]string{"sender", "<>"}, []mail.ID{ready}},
		{[]string{"sender", "ANN@client.test"}, []mail.ID{deferred}},
		{[]string{"sender", "@other.test"}, []mail.ID{suspended}},
		{[]string{"sender", "a*@client.*"}, []mail.ID{deferred}},
		{[]string{"recipient", "bob@example.test"}, []mail.ID{suspended}},
		{[]string{"recipient", "bob@example.test", "state", "all"}, []mail.ID{delivered, suspended}},
		{[]string{"database", "db1", "size", "1MB.."}, []mail.ID{deferred}},
		{[]string{"database", "DB2"}, nil},
		{[]string{"size", "..2000"}, []mail.ID{ready}},
		{[]string{"size", "2000..3000"}, []mail.ID{ready, suspended}},
		{[]string{"older", "1m30s"}, []mail.ID{deferred}},
		{[]string{"newer", "30s"}, []mail.ID{suspended}},
		{[]string{"start", "2026-03-01T12:03:00Z"}, []mail.ID{ready, suspended}},
		{[]string{"start", "2026-03-01T12:03:00Z", "end", "2026-03-01T12:04:00Z"}, []mail.ID{ready}},
		{[]string{"member", "m1"}, []mail.ID{deferred, ready, suspended}},
		{[]string{"member", "m9"}, nil},
		{[]string{"reason_match", "Busy$"}, []mail.ID{deferred}},
	} {
		var got []mail.ID
		list := get[List[Message]](t, c, "/v1/messages", tt.q...)
		for _, m := range list.Items {
			got = append(got, m.ID)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%v: got %v, want %v", tt.q, got, tt.want)
		}
		if list.Index != b.index || list.Time != b.now {
			t.Errorf("%v: as of %d %v", tt.q, list.Index, list.Time)
		}
		var lines []mail.ID
		err := Each(t.Context(), c, "/v1/messages", query(tt.q...), func(m Message) error { lines = append(lines, m.ID); return nil })
		if err != nil || !slices.Equal(lines, tt.want) {
			t.Errorf("%v: lines %v %v", tt.q, lines, err)
		}
	}
	if !get[List[Message]](t, c, "/v1/messages", "limit", "1").More {
		t.Error("a list that was cut does not say so")
	}
}

// What was accepted with fewer copies is counted and listed until it is made
// good.
func TestFewerCopies(t *testing.T) {
	b := newBoundary(t)
	c := b.client()
	b.accept(1, "ann@client.test", 1000, "bob@example.test")
	b.must(fsm.KindConfigure, fsm.Configure{Set: map[string]string{"reject-message-on-shadow-failure": "false"}})
	few := b.accept(2, "ann@client.test", 1000, "bob@example.test", onlyM1)
	for _, state := range []string{"without-shadow", "fewer-copies"} {
		list := get[List[Message]](t, c, "/v1/messages", "state", state).Items
		if len(list) != 1 || list[0].ID != few || !list[0].FewerCopies {
			t.Errorf("%s: %+v", state, list)
		}
	}
	st := get[Status](t, c, "/v1/status")
	if st.Queue.NoShadow != 1 || st.Queue.Fewer != 1 || st.Health != "degraded" || len(st.Reasons) != 2 {
		t.Errorf("status: %s %q %+v", st.Health, st.Reasons, st.Queue)
	}
	b.must(fsm.KindTick, fsm.Tick{Complete: []fsm.Complete{{Member: m2, Index: b.index}}})
	b.must(fsm.KindProtect, fsm.Limit{Rows: 10})
	st = get[Status](t, c, "/v1/status")
	if n := len(get[List[Message]](t, c, "/v1/messages", "state", "without-shadow,fewer-copies").Items); n != 0 || st.Health != "healthy" {
		t.Errorf("made good: %d, %s %q", n, st.Health, st.Reasons)
	}
}

func TestErrors(t *testing.T) {
	b := newBoundary(t)
	_, _, ready, _ := b.mailbag()
	c := b.client()
	all := MessageOrder{All: true}
	for _, tt := range []struct {
		path   string
		q      url.Values
		body   any // nil: GET
		status int
		text   string // part of it
	}{
		{"/v1/nothing", nil, nil, 404, "there is no GET /v1/nothing"},
		{"/v1/messages", query("state", "lost"), nil, 400, "state"},
		{"/v1/messages", query("older", "soon"), nil, 400, "older"},
		{"/v1/messages", query("size", "5MB..1MB"), nil, 400, "size"},
		{"/v1/messages", query("limit", "0"), nil, 400, "limit"},
		{"/v1/messages", query("reason_match", "("), nil, 400, "reason-match"},
		{"/v1/messages", query("start", "yesterday"), nil, 400, "start"},
		{"/v1/messages", query("id", "x"), nil, 400, "id"},
		{"/v1/messages", query("id", mail.NewID(1, 1, 0).String()), nil, 404, "there is no message"},
		{"/v1/messages/x", nil, nil, 400, "queue id"},
		{"/v1/messages/" + mail.NewID(1, 1, 0).String(), nil, nil, 404, "there is no message"},
		{"/v1/messages/" + ready.String() + "/content", nil, nil, 503, "no peer has"},
		{"/v1/messages/retry", nil, MessageOrder{}, 400, "--all"},
		{"/v1/messages/retry", query("limit", "3"), MessageOrder{}, 400, "--all"},
		{"/v1/messages/retry", query("sender", "x@y"), all, 400, "contradict"},
		{"/v1/messages/burn", nil, all, 404, "burn"},
		{"/v1/messages/retry", nil, map[string]any{"al": true}, 400, "al"},
		{"/v1/track", nil, nil, 400, "needed"},
		{"/v1/track", query("message_id", "x"), nil, 404, "Message-ID"},
		{"/v1/queues/summary", query("by", "mood"), nil, 400, "mood"},
		{"/v1/queues/suspend", nil, QueueOrder{Keys: []string{"DB9"}}, 404, "DB9"},
		{"/v1/queues/suspend", nil, QueueOrder{Keys: []string{"x/y"}}, 400, "x/y"},
		{"/v1/queues/suspend", nil, QueueOrder{}, 400, "--all"},
		{"/v1/parameters", nil, ParameterOrder{}, 400, "NAME=VALUE"},
		{"/v1/parameters", nil, ParameterOrder{Set: map[string]string{"x": "1"}}, 404, "x"},
		{"/v1/parameters", nil, ParameterOrder{Set: map[string]string{"min-voters": "9"}}, 422, "between"},
		{"/v1/parameters", nil, ParameterOrder{Preset: "sendmail"}, 404, "sendmail"},
		{"/v1/domains/no.test", nil, nil, 404, "no.test"},
		{"/v1/resolve", nil, nil, 400, "address"},
		{"/v1/resolve", query("address", "@"), nil, 400, "address"},
		{"/v1/directory", nil, DirectoryOrder{Mode: "add", Domains: []Domain{{Name: "example.test", Kind: 1, Database: "DB1"}}}, 409, "already"},
		{"/v1/directory", nil, DirectoryOrder{Mode: "set", Domains: []Domain{{Name: "new.test", Kind: 1, Database: "DB1"}}}, 404, "new.test"},
		{"/v1/directory", nil, DirectoryOrder{Domains: []Domain{{Name: "new.test", Kind: 1, Database: "DB9"}}}, 422, "DB9"},
		{"/v1/directory", nil, DirectoryOrder{Mailboxes: []Mailbox{{Address: "x"}}}, 422, "address"},
		{"/v1/directory", nil, DirectoryOrder{Remove: []ObjectName{{"group", "g@example.test"}}}, 404, "g@example.test"},
		{"/v1/databases", nil, DatabaseOrder{Op: "add", Name: "DB1"}, 409, "already"},
		{"/v1/databases", nil, DatabaseOrder{Op: "add", Name: "DB 2"}, 422, "DB 2"},
		{"/v1/databases", nil, DatabaseOrder{Op: "remove", Name: "DB1"}, 409, "used by"},
		{"/v1/databases", nil, DatabaseOrder{Op: "remove", Name: "DB9"}, 404, "DB9"},
		{"/v1/databases", nil, DatabaseOrder{Op: "copy-set", Name: "DB1", Copies: []Copy{{Name: "z"}}}, 404, "z"},
		{"/v1/databases", nil, DatabaseOrder{Op: "copy-add", Name: "DB1", Copies: []Copy{{Name: "b", Addr: "pop3://x"}}}, 422, "pop3"},
		{"/v1/tokens", nil, TokenOrder{Role: "king"}, 400, "king"},
		{"/v1/tokens", nil, TokenOrder{Uses: 1000}, 400, "1000"},
	} {
		var err error
		if tt.body == nil {
			err = c.Get(t.Context(), tt.path, tt.q, new(any))
		} else {
			err = c.Post(t.Context(), tt.path, tt.q, tt.body, new(any))
		}
		var p *Problem
		if !errors.As(err, &p) || p.Status != tt.status || !strings.Contains(p.Text, tt.text) {
			t.Errorf("%s %v %+v: got %+v, want %d %q", tt.path, tt.q, tt.body, err, tt.status, tt.text)
		}
	}
	b.lost = true
	var p *Problem
	err := c.Post(t.Context(), "/v1/messages/retry", nil, all, new(any))
	if !errors.As(err, &p) || p.Status != http.StatusServiceUnavailable || p.Code != 421 {
		t.Errorf("without a quorum: %v", err)
	}
}

func TestShowAndTrack(t *testing.T) {
	b := newBoundary(t)
	delivered, _, _, _ := b.mailbag()
	b.bytes[mail.ContentID{15: 1}] = strings.Repeat("x", 1000)
	c := b.client()
	m := get[OneMessage](t, c, "/v1/messages/"+delivered.String())
	if m.ID != delivered || m.State != StateSafetyNet || m.Primary != "m1" || m.Shadow == "" || m.RecipientsDone != 2 ||
		len(m.Detail.Recipients) != 2 || m.Detail.Recipients[0].State != "delivered" || m.Detail.Recipients[0].Copy != "a" {
		t.Errorf("got %+v %+v", m.Message, m.Detail)
	}
	var seen []string
	for _, e := range get[List[Event]](t, c, "/v1/track", "message_id", "<1@client.test>").Items {
		seen = append(seen, e.Event)
	}
	if want := []string{"RECEIVE", "HAREDIRECT", "HARECEIVE", "DELIVER", "DELIVER"}; !slices.Equal(seen, want) {
		t.Errorf("tracked %v", seen)
	}
	for raw, want := range map[string]string{"true": "xxx", "": "Received: from client.test ([192.0.2.1])\r\n\tby m1.test with ESMTP id " + delivered.String()} {
		body, err := c.Open(t.Context(), "/v1/messages/"+delivered.String()+"/content", query("raw", raw), "*/*")
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(body)
		body.Close()
		if err != nil || !strings.HasPrefix(string(got), want) || !strings.HasSuffix(string(got), "xxx") {
			t.Errorf("raw=%q: %q %v", raw, got, err)
		}
	}
	b.showFiltered(c)
	net := get[List[Delivery]](t, c, "/v1/safetynet", "recipient", "bob@*").Items
	if len(net) != 1 || net[0].ID != delivered || net[0].Expires != net[0].Delivered.Add(48*time.Hour) {
		t.Errorf("safety net: %+v", net)
	}
	sums := get[List[SafetyNetSum]](t, c, "/v1/safetynet/summary").Items
	if len(sums) != 1 || sums[0].Deliveries != 2 || sums[0].Bytes != 2000 || sums[0].HoldTime != "2d" {
		t.Errorf("safety net summary: %+v", sums)
	}
	// A filter that leaves out nothing takes the other way.
	for _, by := range SafetyNetGroupings() {
		all := get[List[SafetyNetSum]](t, c, "/v1/safetynet/summary", "by", by).Items
		filtered := get[List[SafetyNetSum]](t, c, "/v1/safetynet/summary", "by", by, "recipient", "*").Items
		if len(all) == 0 || !reflect.DeepEqual(all, filtered) {
			t.Errorf("by %s: %+v, with a filter that takes all %+v", by, all, filtered)
		}
	}
}

// showFiltered looks at a message that filters changed and set aside.
func (b *boundary) showFiltered(c *Client) {
	b.t.Helper()
	b.bytes[mail.ContentID{15: 9}] = "Subject: x\r\n\r\nbody\r\n"
	id := b.must(fsm.KindAccept, fsm.Accept{Submission: mail.Submission{
		Content:  mail.Content{ID: mail.ContentID{15: 9}, Size: 20, NotAfter: b.now.Add(10 * time.Minute)},
		Envelope: mail.Envelope{Recipients: []string{"eve@example.test"}}, Primary: m1, Holders: []mail.MemberID{m1, m2},
		Overlay:    &mail.Overlay{Edits: []mail.Edit{{At: 1, Text: "X-Spam: yes\r\nX-Score: 9\r\n"}}, Grown: 25},
		Quarantine: "looks odd", Filtered: []string{"rspamd: 2 header changes"},
	}}).ID
	m := get[OneMessage](b.t, c, "/v1/messages/"+id.String())
	if m.State != StateSuspended || m.Reason != "quarantine: looks odd" || m.Detail.Quarantine != "looks odd" || m.Detail.Changes != 2 {
		b.t.Errorf("got %+v %+v", m.Message, m.Detail)
	}
	if list := get[List[Message]](b.t, c, "/v1/messages", "reason_match", "odd").Items; len(list) != 1 || list[0].ID != id {
		b.t.Errorf("by its reason: %+v", list)
	}
	body, err := c.Open(b.t.Context(), "/v1/messages/"+id.String()+"/content", nil, "*/*")
	if err != nil {
		b.t.Fatal(err)
	}
	defer body.Close()
	if got, err := io.ReadAll(body); err != nil || !strings.HasSuffix(string(got), "\r\nSubject: x\r\nX-Spam: yes\r\nX-Score: 9\r\n\r\nbody\r\n") {
		b.t.Errorf("content %q, %v", got, err)
	}
}

func TestChangeMessages(t *testing.T) {
	b := newBoundary(t)
	delivered, deferred, ready, suspended := b.mailbag()
	c := b.client()
	order := func(op string, q url.Values, o MessageOrder) Change {
		t.Helper()
		return post[Change](t, c, "/v1/messages/"+op, q, o)
	}
	state := func(id mail.ID) string { return get[OneMessage](t, c, "/v1/messages/"+id.String()).State }

	if got := order("delete", query("state", "deferred"), MessageOrder{Order: Order{DryRun: true}}); got.Count != 1 || got.Index != 0 || state(deferred) != StateDeferred {
		t.Errorf("dry run: %+v", got)
	}
	if got := order("retry", query("state", "deferred"), MessageOrder{}); got.Count != 1 || got.Index != b.index || state(deferred) != StateReady {
		t.Errorf("retry: %+v", got)
	}
	if got := order("suspend", nil, MessageOrder{All: true}); got.Count != 2 || state(ready) != StateSuspended {
		t.Errorf("suspend: %+v", got)
	}
	got := order("resume", nil, MessageOrder{IDs: []mail.ID{suspended, delivered}})
	if got.Count != 1 || got.Items[1].Action != "skip" || !strings.HasPrefix(got.Items[1].Reason, "finished") {
		t.Errorf("resume: %+v", got)
	}
	order("delete", nil, MessageOrder{IDs: []mail.ID{suspended}, Order: Order{By: "op", Reason: "spam"}})
	m := get[OneMessage](t, c, "/v1/messages/"+suspended.String())
	if r := m.Detail.Recipients[0]; r.State != "deleted" || r.Reply.Text != "deleted by op: spam" {
		t.Errorf("deleted: %+v", r)
	}
}

func TestQueues(t *testing.T) {
	b := newBoundary(t)
	b.mailbag()
	c := b.client()
	list := get[List[Queue]](t, c, "/v1/queues").Items
	if len(list) != 1 || list[0].Name != "db/DB1" || list[0].Messages != 3 || list[0].Deferred != 1 || list[0].LastError != "451 4.3.0 mailbox busy" {
		t.Errorf("queues: %+v", list)
	}
	for by, want := range map[string]string{"destination": "db/DB1", "database": "DB1", "domain": "example.test", "sender": "<>",
		"member": "m1", "state": "deferred", "error": "(none)"} {
		list := get[List[Group]](t, c, "/v1/queues/summary", "by", by).Items
		if !slices.ContainsFunc(list, func(g Group) bool { return g.Name == want }) {
			t.Errorf("by %s: %+v", by, list)
		}
	}
	post[Change](t, c, "/v1/queues/suspend", nil, QueueOrder{Keys: []string{"db1"}, Order: Order{Reason: "upgrade", By: "op"}})
	post[Change](t, c, "/v1/queues/suspend", nil, QueueOrder{All: true})
	list = get[List[Queue]](t, c, "/v1/queues").Items
	if len(list) != 2 || list[0].Name != AllQueues || !list[1].Suspended || list[1].Reason != "upgrade" || list[1].SuspendedBy != "op" {
		t.Errorf("suspended: %+v", list)
	}
	if got := post[Change](t, c, "/v1/queues/resume", nil, QueueOrder{All: true}); got.Count != 2 {
		t.Errorf("resumed: %+v", got)
	}
	if got := post[Change](t, c, "/v1/queues/resume", nil, QueueOrder{Keys: []string{"DB1"}}); got.Count != 0 || got.Items[0].Action != "skip" {
		t.Errorf("resumed twice: %+v", got)
	}
}

func TestParameters(t *testing.T) {
	b := newBoundary(t)
	c := b.client()
	value := func(name string) string {
		for _, p := range get[List[Parameter]](t, c, "/v1/parameters").Items {
			if p.Name == name {
				return p.Value
			}
		}
		return ""
	}
	got := post[Change](t, c, "/v1/parameters", nil, ParameterOrder{Preset: "exchange"})
	if value("shadow-resubmit-time-span") != "3h" || value("message-size-max") != "10MB" || value("reject-message-on-shadow-failure") != "true" || got.Count == 0 {
		t.Errorf("preset: %+v", got)
	}
	got = post[Change](t, c, "/v1/parameters", nil, ParameterOrder{Set: map[string]string{"failover-after": "1m"}, Order: Order{DryRun: true}})
	if got.Items[0].From != "30s" || got.Items[0].To != "1m" || value("failover-after") != "30s" {
		t.Errorf("dry run: %+v", got)
	}
	post[Change](t, c, "/v1/parameters", nil, ParameterOrder{Set: map[string]string{"message-size-max": ""}})
	if value("message-size-max") != "150MiB" {
		t.Error("an empty value is not the default")
	}
	got = post[Change](t, c, "/v1/parameters", nil, ParameterOrder{Set: map[string]string{"safety-net-hold-time": "2h", "replication-slack": "3h"}})
	if len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "copy a") {
		t.Errorf("warnings: %q", got.Warnings)
	}
}

func TestDatabases(t *testing.T) {
	b := newBoundary(t)
	c := b.client()
	add := func(o DatabaseOrder) Change { t.Helper(); return post[Change](t, c, "/v1/databases", nil, o) }
	add(DatabaseOrder{Op: "add", Name: "DB2", Copies: []Copy{{Name: "x", Addr: "maildir:/x"}}})
	add(DatabaseOrder{Op: "copy-add", Name: "db2", Copies: []Copy{{Name: "y", Addr: "maildir:/y", Lag: mail.Duration(time.Hour.Milliseconds()), Live: true}}})
	got := add(DatabaseOrder{Op: "copy-set", Name: "DB2", Copies: []Copy{{Name: "y", Addr: "maildir:/z"}}})
	if got.Items[0].From != "maildir:/y lag=1h replication=live" || got.Items[0].To != "maildir:/z" || got.Items[0].Name != "DB2/y" {
		t.Errorf("set: %+v", got.Items)
	}
	if d := get[One[Database]](t, c, "/v1/databases/db2").Item; d.Name != "DB2" || d.Active != "x" || d.Copies[1].Addr != "maildir:/z" {
		t.Errorf("show: %+v", d)
	}
	add(DatabaseOrder{Op: "copy-remove", Name: "DB2", Copies: []Copy{{Name: "y"}}})
	add(DatabaseOrder{Op: "remove", Name: "DB2"})
	if list := get[List[Database]](t, c, "/v1/databases").Items; len(list) != 1 {
		t.Errorf("list: %+v", list)
	}
}

func TestDirectoryAndImport(t *testing.T) {
	b := newBoundary(t)
	c := b.client()
	doc := Document{
		Databases: []DocumentDatabase{{"DB1", []Copy{{Name: "a", Addr: "lmtp://127.0.0.1:25"}, {Name: "b", Addr: "maildir:/b"}}},
			{"DB2", []Copy{{Name: "a", Addr: "maildir:/2"}}}},
		Domains:   []Domain{{Name: "example.test", Kind: 1, Database: "DB1"}, {Name: "*", Kind: 2, NextHop: "smtp://out.test:25"}},
		Mailboxes: []Mailbox{{Address: "ann@example.test", Database: "db2", Aliases: []string{"a@example.test", "z@example.test"}}},
		Groups:    []DocumentGroup{{"all@example.test", []string{"ann@example.test", "far@away.test"}}},
	}
	order := ImportOrder{Document: doc, Order: Order{DryRun: true}}
	if got := post[Change](t, c, "/v1/import", nil, order); got.Count != 8 || got.Index != 0 {
		t.Errorf("dry run: %+v", got)
	}
	order.DryRun = false
	post[Change](t, c, "/v1/import", nil, order)
	if got := post[Change](t, c, "/v1/import", nil, order); got.Count != 0 || got.Index != 0 {
		t.Errorf("imported twice: %+v", got)
	}
	out := get[ExportedDocument](t, c, "/v1/directory").Document
	if len(out.Mailboxes) != 1 || out.Mailboxes[0].Database != "DB2" || len(out.Domains) != 2 || len(out.Databases) != 2 || len(out.Groups) != 1 {
		t.Errorf("export: %+v", out)
	}
	if got := post[Change](t, c, "/v1/import", nil, ImportOrder{Document: out}); got.Count != 0 {
		t.Errorf("an export is not what is there: %+v", got)
	}
	if list := get[List[Mailbox]](t, c, "/v1/mailboxes").Items; len(list) != 1 {
		t.Errorf("mailboxes: %+v", list)
	}
	var to []string
	for _, x := range get[List[Resolution]](t, c, "/v1/resolve", "address", "all@example.test", "address", "no@example.test").Items {
		to = append(to, x.Kind+" "+x.Address)
	}
	slices.Sort(to)
	if want := []string{"failed no@example.test", "mailbox ann@example.test", "relay far@away.test"}; !slices.Equal(to, want) {
		t.Errorf("resolved %q", to)
	}
	g := get[One[AddressGroup]](t, c, "/v1/groups/all@example.test").Item
	post[Change](t, c, "/v1/directory", nil, DirectoryOrder{Mode: "set", Groups: []AddressGroup{g}})
	if again := get[One[AddressGroup]](t, c, "/v1/groups/all@example.test").Item; again.Version != g.Version {
		t.Error("a group that was put unchanged has a new version")
	}
	post[Change](t, c, "/v1/directory", nil, DirectoryOrder{Remove: []ObjectName{{"group", "ALL@example.test"}, {"mailbox", "ann@example.test"}}})
	if get[One[Domain]](t, c, "/v1/domains/EXAMPLE.test").Item.AnyMailbox {
		t.Error("the domain was not changed")
	}
	var p *Problem
	if err := c.Get(t.Context(), "/v1/mailboxes/a@example.test", nil, new(any)); !errors.As(err, &p) || p.Status != 404 {
		t.Errorf("removed mailbox: %v", err)
	}
}

func TestLargeChangesAreSplit(t *testing.T) {
	b := newBoundary(t)
	c := b.client()
	var doc Document
	for i := range objectsPerEntry + 50 {
		doc.Mailboxes = append(doc.Mailboxes, Mailbox{Address: "u" + itoa(i) + "@example.test", Database: "DB1"})
	}
	before := b.index
	if got := post[Change](t, c, "/v1/import", nil, ImportOrder{Document: doc}); got.Count != len(doc.Mailboxes) || b.index != before+2 {
		t.Errorf("%d changed in %d entries", got.Count, b.index-before)
	}
}

func TestBoundaryEndpoints(t *testing.T) {
	b := newBoundary(t)
	c := b.client()
	if got := post[Token](t, c, "/v1/tokens", nil, TokenOrder{Uses: 2}); got.Token != "token-member-2-1h0m0s" {
		t.Errorf("token: %+v", got)
	}
	members := get[List[MemberInfo]](t, c, "/v1/members").Items
	if len(members) != 3 || members[0].Role != "leader" || members[1].Seen.AppliedIndex != 97 || members[2].State != "up" {
		t.Errorf("members: %+v", members)
	}
	for _, tt := range []struct {
		hashes []MemberHash
		equal  bool
	}{
		{nil, false},
		{[]MemberHash{{"m1", 5, "aa", ""}, {"m2", 5, "aa", ""}}, true},
		{[]MemberHash{{"m1", 5, "aa", ""}, {"m2", 5, "bb", ""}}, false},
		{[]MemberHash{{"m1", 5, "aa", ""}, {"m2", 0, "", "down"}}, false},
	} {
		b.hashes = tt.hashes
		if got := post[Hashes](t, c, "/v1/state/hash", nil, Order{}); got.Equal != tt.equal {
			t.Errorf("%+v: equal %v", tt.hashes, got.Equal)
		}
	}
}

func TestHealthJudgement(t *testing.T) {
	b := newBoundary(t)
	c := b.client()
	for _, tt := range []struct {
		name string
		do   func()
		want string
	}{
		{"at first", func() {}, "healthy"},
		{"a check fails", func() { b.checks[1] = Check{Name: "disk", Reason: "1 GiB free, below the floor"} }, "degraded"},
		{"it passes again", func() { b.checks[1] = Check{Name: "disk", OK: true} }, "healthy"},
		{"certificate near its end", func() { b.status.CertNotAfter = b.now.Add(time.Hour) }, "degraded"},
		{"renewed", func() { b.status.CertNotAfter = b.now.Add(1000 * time.Hour) }, "healthy"},
		{"SMTP certificate near its end", func() {
			b.status.SMTPCerts = []Certificate{{File: "mx.pem", NotBefore: b.now.Add(-89 * 24 * time.Hour), NotAfter: b.now.Add(24 * time.Hour)}}
		}, "degraded"},
		{"a short one", func() {
			b.status.SMTPCerts = []Certificate{{File: "mx.pem", NotBefore: b.now.Add(-24 * time.Hour), NotAfter: b.now.Add(5 * 24 * time.Hour)}}
		}, "healthy"},
		{"redundancy off", func() {
			b.must(fsm.KindConfigure, fsm.Configure{Set: map[string]string{"shadow-redundancy-enabled": "false"}})
		}, "degraded"},
		{"and on", func() {
			b.must(fsm.KindConfigure, fsm.Configure{Set: map[string]string{"shadow-redundancy-enabled": ""}})
		}, "healthy"},
		{"clocks apart", func() { b.status.TimeTrusted = false }, "critical"},
		{"agreeing", func() { b.status.TimeTrusted = true }, "healthy"},
		{"one clock is off", func() { b.status.Peers[1].ClockOffset = 72 * 3600 * 1000 }, "degraded"},
		{"and put right", func() { b.status.Peers[1].ClockOffset = 10 }, "healthy"},
		{"all clocks were ahead", func() { b.status.TimeAhead = 3600 * 1000 }, "degraded"},
		{"and time has caught up", func() { b.status.TimeAhead = 0 }, "healthy"},
		{"the leader is silent", func() { b.status.Peers, b.status.TimeTrusted = nil, false }, "degraded"},
		{"one member down", func() { b.must(fsm.KindMemberDown, fsm.MemberChange{Member: m3, Term: 1}) }, "degraded"},
		{"two members down", func() { b.must(fsm.KindMemberDown, fsm.MemberChange{Member: m2, Term: 1}) }, "critical"},
		{"no leader", func() { b.status.Leader = 0 }, "critical"},
	} {
		tt.do()
		if st := get[Status](t, c, "/v1/status"); st.Health != tt.want || (len(st.Reasons) == 0) != (tt.want == "healthy") {
			t.Errorf("%s: %s %q", tt.name, st.Health, st.Reasons)
		}
	}
}

func TestSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if err := NewClient(path).Get(t.Context(), "/v1/status", nil, new(any)); !errors.Is(err, ErrUnreachable) {
		t.Errorf("nobody there: %v", err)
	}
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if i, err := os.Stat(path); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("mode %v %v", i.Mode(), err)
	}
	if _, err := Listen(path); err == nil {
		t.Error("two members on one socket")
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // as a process that was killed
	l.Close()
	if l, err = Listen(path); err != nil {
		t.Fatalf("socket of a dead process: %v", err)
	}
	l.Close()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil {
		t.Error("a file was replaced by a socket")
	}
}

func TestCutListIsAnError(t *testing.T) {
	b := newBoundary(t)
	b.mailbag()
	c := b.client()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Get(ctx, "/v1/messages", nil, new(List[Message])); err == nil {
		t.Error("a cancelled request succeeded")
	}
}
