package fsm

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"mailraft/directory"
	"mailraft/mail"

	"pgregory.net/rapid"
)

func (w *plan) discard() {
	for _, m := range w.members(isUp) {
		if !w.chance(3, "slow") {
			w.discardAll(m)
		}
	}
}

func (w *plan) discardAll(m Member) {
	ids := read(w, func(v *View) []mail.ID { return slices.Collect(v.Discards(m.ID)) })
	if len(ids) > 0 {
		w.must(KindDiscard, Discard{Member: m.ID, IDs: ids})
	}
}

func (w *plan) expire() { w.do(KindExpire, Limit{Rows: rapid.IntRange(1, 20).Draw(w.rt, "rows")}) }

// time passes, mostly with a quorum.
func (w *plan) time() {
	d := rapid.SampledFrom([]time.Duration{time.Second, time.Minute, 5 * time.Minute, 5 * time.Minute, 16 * time.Minute, 40 * time.Minute}).Draw(w.rt, "time")
	if w.chance(12, "no quorum") {
		w.silent(d)
	} else {
		w.now = w.now.Add(d)
	}
	w.do(KindTick, Tick{})
}

// down takes a member away as long as two others are there.
func (w *plan) down() {
	up := w.members(isUp)
	if len(up) < 3 {
		return
	}
	m, _ := pick(w, "member", up)
	w.must(KindMemberDown, MemberChange{Member: m.ID})
}

func (w *plan) takeover() {
	ms := w.members(func(m Member) bool { return m.Phase != PhaseDone })
	if m, ok := pick(w, "member", ms); ok {
		w.do(KindTakeover, MemberChange{Member: m.ID, Rows: rapid.IntRange(1, 5).Draw(w.rt, "rows")})
	}
}

func (w *plan) up() {
	ms := w.members(func(m Member) bool { return !m.Up && m.Retired == 0 && m.Phase == PhaseDone })
	if m, ok := pick(w, "member", ms); ok {
		w.must(KindMemberUp, MemberChange{Member: m.ID, Addr: "a" + m.ID.String()})
	}
}

// wipe lets a member come back with an empty disk. No more disks are lost at a
// time than the boundary stands: what is active is on another. Of the Safety
// Net something may be lost.
func (w *plan) wipe() {
	present := w.members(func(m Member) bool { return m.Retired == 0 })
	m, ok := pick(w, "member", present)
	others := w.members(func(x Member) bool { return isUp(x) && x.ID != m.ID })
	if !ok || w.wipes == 2 || len(others) < 2 {
		return
	}
	if !read(w, func(v *View) bool {
		for msg := range v.Messages(mail.ID{}) {
			if msg.Active() && !slices.ContainsFunc(others, func(x Member) bool { return x.has(msg) }) {
				return false
			}
		}
		return true
	}) {
		return
	}
	w.wipes++
	w.last++
	w.must(KindToken, TokenAdd{Hash: [32]byte{1: byte(w.last)}, Role: "member", Until: w.now.Add(time.Hour), Uses: 1, Replace: m.Name})
	w.must(KindMemberAdd, MemberAdd{Member: Member{ID: w.last, Name: m.Name}, Token: [32]byte{1: byte(w.last)}})
	w.do(KindMemberDown, MemberChange{Member: m.ID})
	var voters []mail.MemberID
	for _, x := range present {
		if x.ID != m.ID {
			voters = append(voters, x.ID)
		}
	}
	w.machine.voters(append(voters, w.last), nil)
	w.must(KindMemberUp, MemberChange{Member: w.last, Addr: "a" + w.last.String()})
}

// fill lets a member fetch all content, if somebody who is up has all of it.
func (w *plan) fill() {
	if m, ok := pick(w, "member", w.members(isUp)); ok {
		w.fillOne(m)
	}
}

func (w *plan) fillOne(m Member) {
	up := w.members(isUp)
	all := read(w, func(v *View) bool {
		for msg := range v.Messages(mail.ID{}) {
			if !slices.ContainsFunc(up, func(x Member) bool { return x.has(msg) }) {
				return false
			}
		}
		return true
	})
	if all {
		w.do(KindTick, Tick{Complete: []Complete{{Member: m.ID, Index: uint64(len(w.machine.log))}}})
	}
}

// passive are the copies of DB1 that are not active.
func (w *plan) passive() (d Database, names []string) {
	d = w.database("DB1")
	for _, c := range d.Copies {
		if c.Name != d.Active {
			names = append(names, c.Name)
		}
	}
	return d, names
}

// replicate brings a passive copy to where the active one is, or was a lag ago.
func (w *plan) replicate() {
	d, names := w.passive()
	name, _ := pick(w, "copy", names)
	c := d.copy(name)
	then := mailboxes{}
	for l, at := range w.stores["DB1/"+d.Active] {
		if at <= w.now.Add(-c.Lag.Std()) {
			then[l] = at
		}
	}
	w.stores["DB1/"+name] = then
	if c.Live {
		w.must(KindHealth, Health{Term: w.term, Copies: []CopyHealth{{Database: "DB1", Copy: name, Addr: c.Addr, Healthy: true}}})
		return
	}
	w.must(KindDatabase, DatabaseChange{Op: "report", Name: "DB1", Copies: []Copy{{Name: name, DataThrough: w.now}}})
}

func (w *plan) backup() {
	d := w.database(rapid.SampledFrom([]string{"DB1", "DB2"}).Draw(w.rt, "database"))
	w.backups = append(w.backups, backup{d.Name, d.Active, w.now, maps.Clone(w.stores[d.Name+"/"+d.Active])})
}

// failover activates another copy, by itself or by hand.
func (w *plan) failover() {
	d, names := w.passive()
	name, _ := pick(w, "copy", names)
	auto := w.chance(2, "auto")
	if auto {
		c := d.copy(name)
		if c.Live { // seen healthy now: it is where the active copy is
			w.stores["DB1/"+name] = maps.Clone(w.stores["DB1/"+d.Active])
		}
		w.must(KindHealth, Health{Term: w.term, Copies: []CopyHealth{{Database: "DB1", Copy: d.Active, Addr: d.ActiveCopy().Addr},
			{Database: "DB1", Copy: name, Addr: c.Addr, Healthy: true}}})
	}
	w.must(KindActivate, Activate{Database: "DB1", Copy: name, From: d.Active, Activation: d.Activation, Auto: auto, Term: w.term})
	if d = w.database("DB1"); d.Since == w.now && strings.Contains(w.start(d), "nothing is known") {
		// It gets what is held; of what is older nobody claims anything.
		r, _ := w.requestOf(d)
		for _, x := range w.log {
			if x.database == d.Name && x.at < r.Start {
				w.excused[x.letter] = true
			}
		}
	}
}

// start is why the request of the present activation begins where it does.
func (w *plan) start(d Database) string {
	h := read(w, func(v *View) History { h, _ := v.History(d.Name); return h })
	return h.Events[len(h.Events)-1].Text
}

func (w *plan) requestOf(d Database) (r Request, ok bool) {
	read(w, func(v *View) bool { r, ok = v.Request(d.Request); return ok })
	return r, ok
}

// restore puts an active copy back to one of its backups.
func (w *plan) restore() {
	var mine []backup
	for _, b := range w.backups {
		if w.database(b.database).Active == b.copy {
			mine = append(mine, b)
		}
	}
	if b, ok := pick(w, "backup", mine); ok {
		d := w.database(b.database)
		w.stores[b.database+"/"+b.copy] = maps.Clone(b.store)
		w.must(KindActivate, Activate{Database: b.database, Copy: b.copy, From: b.copy, Activation: d.Activation, Through: b.at})
	}
}

func (w *plan) openRequests() []Request {
	return read(w, func(v *View) (rs []Request) {
		for r := range v.OpenRequests() {
			if r.Parent == 0 {
				rs = append(rs, r)
			}
		}
		return rs
	})
}

func (w *plan) advance() {
	if r, ok := pick(w, "request", w.openRequests()); ok {
		w.must(KindAdvance, Advance{Request: r.ID, Rows: rapid.IntRange(1, 5).Draw(w.rt, "rows")})
	}
}

// request is one that somebody asks for.
func (w *plan) request() {
	c := RequestAdd{Again: w.chance(5, "again")}
	switch rapid.IntRange(0, 3).Draw(w.rt, "filter") {
	case 0:
		c.Sender = "s@example.org"
	case 1:
		c.Recipient = rapid.SampledFrom([]string{"ann@example.test", "team@example.test"}).Draw(w.rt, "recipient")
	default:
		c.Database = rapid.SampledFrom([]string{"DB1", "DB2"}).Draw(w.rt, "database")
	}
	if w.chance(2, "interval") {
		c.End = w.now.Add(-time.Duration(rapid.IntRange(0, 30).Draw(w.rt, "end")) * time.Minute)
		c.Start = c.End.Add(-time.Duration(rapid.IntRange(1, 60).Draw(w.rt, "length")) * time.Minute)
	}
	if w.chance(6, "to another") {
		c.ResubmitTo = "bob@example.test"
	}
	if w.chance(6, "unresponsive") {
		c.Unresponsive = "m1"
	}
	w.do(KindRequestAdd, c)
}

func (w *plan) change() {
	if r, ok := pick(w, "request", w.openRequests()); ok {
		op := rapid.SampledFrom([]string{"suspend", "resume", "resume", "cancel"}).Draw(w.rt, "op")
		w.must(KindRequestChange, RequestChange{Op: op, Request: r.ID, Auto: op != "cancel" && w.chance(2, "auto")})
	}
}

// move changes the directory: a mailbox moves, a group has other members.
func (w *plan) move() {
	if w.chance(2, "group") {
		all := []string{"ann@example.test", "bob@example.test", "eve@example.test", "x@outside.example"}
		w.must(KindDirectory, Directory{Groups: []directory.Group{{Address: "team@example.test",
			Members: rapid.SliceOfNDistinct(rapid.SampledFrom(all), 1, 3, rapid.ID[string]).Draw(w.rt, "members")}}})
		return
	}
	w.strayed["eve@example.test"] = true
	w.must(KindDirectory, Directory{Mailboxes: []directory.Mailbox{{Address: "eve@example.test",
		Database: rapid.SampledFrom([]string{"DB1", "DB2"}).Draw(w.rt, "database")}}})
}

// powerLoss is a crash of the member that is looked at.
func (w *plan) powerLoss() {
	rng := rand.New(rand.NewPCG(3, uint64(len(w.machine.log))))
	want := w.hash()
	if w.replay(w.machine.log[w.crash(rng):], 9, rng); w.hash() != want {
		w.rt.Fatal("after a crash: another state")
	}
}

// calm is a while in which nothing happens but that requests are driven and mail
// is delivered.
func (w *plan) calm() {
	for range 2 {
		for _, r := range w.openRequests() {
			for w.must(KindAdvance, Advance{Request: r.ID, Rows: 20}).More {
			}
		}
		w.deliverAll()
	}
}

// settle lets everything come to its end: members come back and fetch what they
// lack, requests are resumed and driven, and what is due is delivered.
func (w *plan) settle() {
	for range 60 {
		w.now = w.now.Add(time.Minute)
		for _, m := range w.members(func(m Member) bool { return m.Phase != PhaseDone || m.Draining }) {
			for w.do(KindTakeover, MemberChange{Member: m.ID, Rows: 100}).More {
			}
		}
		for _, m := range w.members(func(m Member) bool { return !m.Up && m.Retired == 0 && m.Phase == PhaseDone }) {
			w.must(KindMemberUp, MemberChange{Member: m.ID, Addr: "a" + m.ID.String()})
		}
		for _, m := range w.members(isUp) {
			w.fillOne(m)
		}
		for w.do(KindProtect, Limit{Rows: 100}).More {
		}
		open := w.openRequests()
		for _, r := range open {
			if r.State == RequestSuspended {
				w.must(KindRequestChange, RequestChange{Op: "resume", Request: r.ID})
			}
			for w.must(KindAdvance, Advance{Request: r.ID, Rows: 20}).More {
			}
		}
		busy := w.deliverAll()
		w.look()
		if !busy && len(open) == 0 {
			w.settled()
			return
		}
	}
	w.rt.Fatalf("it does not come to an end: %+v", w.openRequests())
}

// deliverAll delivers what is pending, and reports that there was something.
func (w *plan) deliverAll() (busy bool) {
	w.flights = nil
	for _, mb := range w.members(isUp) {
		w.discardAll(mb)
		for _, m := range read(w, func(v *View) []*Message { return slices.Collect(v.Active(mb.ID)) }) {
			busy = true
			w.begin(m, mb)
		}
		for len(w.flights) > 0 {
			a := w.flights[0]
			w.flights = w.flights[1:]
			if a.there || w.arrive(a) {
				w.tell(a, mail.Outcome{Recipient: a.recipient, Copy: a.copy, Activation: a.activation, Result: mail.Delivered, Reply: mail.Reply{Code: 250}})
			}
		}
	}
	return busy
}

// settled: every message reached everybody, or is said to have failed.
func (w *plan) settled() {
	got := letters{}
	for _, r := range w.log {
		if !r.failed {
			got[r.letter] = true
		}
	}
	for _, id := range w.order {
		for l := range w.sent[id] {
			if !got[l] && !w.over[l] {
				w.rt.Fatalf("message %s for %s was lost", l.origin, l.address)
			}
		}
	}
}

// look compares the state with the model.
func (w *plan) look() {
	w.lookAtResubmissions()
	w.lookAtRequests()
	if w.steps%7 == 0 {
		w.check()
	}
}

// lookAtResubmissions: each goes to somebody whom its request may send it to,
// who did not have it already.
func (w *plan) lookAtResubmissions() {
	v := w.f.View()
	defer v.Close()
	for _, m := range slices.Collect(v.Messages(mail.ID{})) {
		if m.Request == 0 {
			continue
		}
		for i := range m.Recipients {
			k, rc := fmt.Sprint(m.ID, "/", i), &m.Recipients[i]
			if w.made[k] == nil {
				w.made[k] = w.lookAtNew(v, m, rc)
			}
			w.made[k].state, w.made[k].number = rc.State, rc.Activation
		}
	}
}

func (w *plan) lookAtNew(v *View, m *Message, rc *Recipient) *again {
	r, _ := v.Request(m.Request)
	root := r
	if r.Parent != 0 {
		root, _ = v.Request(r.Parent)
	}
	n := &again{letter: letter{m.Origin, rc.Address}, database: rc.Database, root: root.ID, again: root.Again}
	what := fmt.Sprintf("resubmission %s of %s to %s by request %d", m.ID, m.Origin, rc.Address, root.ID)
	switch home, ok := directory.Home(v, rc.Address); {
	case rc.Database == "" || !ok || home != rc.Database:
		w.rt.Fatalf("%s goes to %q, and the mailbox is in %q", what, rc.Database, home)
	case root.ResubmitTo != "" && rc.Address != root.ResubmitTo:
		w.rt.Fatalf("%s, which is for %s", what, root.ResubmitTo)
	case root.ResubmitTo == "" && !w.sent[m.Origin][n.letter] && !w.diverted[n.letter]:
		w.rt.Fatalf("%s: it never had it", what)
	case !w.asked(root, n):
		w.rt.Fatalf("%s: no such delivery is in its database and interval %s to %s\n%s", what, root.Start, root.End, w.story(n.letter, rc.Database))
	}
	w.diverted[n.letter] = w.diverted[n.letter] || root.ResubmitTo != ""
	d, _ := v.Database(rc.Database)
	for k, o := range w.made {
		if o.letter != n.letter {
			continue
		}
		switch {
		case o.root == n.root:
			w.rt.Fatalf("%s: twice, as %s", what, k)
		case n.again:
		case o.state == Pending, o.state == Delivered && o.number == d.Activation && o.database == n.database:
			w.rt.Fatalf("%s: %s is %s, under activation %d, which is still that", what, k, o.state, o.number)
		}
	}
	return n
}

// asked: a delivery is recorded that the request may ask for.
func (w *plan) asked(r Request, n *again) bool {
	return slices.ContainsFunc(w.log, func(x recorded) bool {
		return x.origin == n.origin && (r.ResubmitTo != "" || x.letter == n.letter && x.database == n.database) &&
			(r.Database == "" || r.Database == x.database) && r.Start <= x.at && x.at < r.End &&
			(r.Activation == 0 || x.activation < r.Activation)
	})
}

// lookAtRequests: what completes an activation is complete.
func (w *plan) lookAtRequests() {
	for _, name := range []string{"DB1", "DB2"} {
		d := w.database(name)
		missing := w.missing(d)
		r, ok := w.requestOf(d)
		switch {
		case !ok || r.State == RequestCompleted:
			if ok && !w.ended[r.ID] {
				w.ended[r.ID] = true
				w.complete++
			}
			for l := range missing {
				if !w.excused[l] {
					w.rt.Fatalf("%s: request %d has completed activation %d of copy %s, which lacks %s for %s\n%s",
						d.Name, r.ID, d.Activation, d.Active, l.origin, l.address, w.story(l, d.Name))
				}
			}
		case !r.Open() && !w.ended[r.ID]:
			w.ended[r.ID] = true
			for l := range missing { // it said so, or was told to stop
				w.excused[l] = true
			}
		}
	}
}

// story is what there is to know of a letter, and of the requests for it.
func (w *plan) story(l letter, database string) string {
	var b strings.Builder
	for _, x := range w.log {
		if x.letter == l {
			fmt.Fprintf(&b, "delivered to %s at %s under activation %d, failed %v\n", x.database, clock(x.at), x.activation, x.failed)
		}
	}
	for k, o := range w.made {
		if o.letter == l {
			fmt.Fprintf(&b, "sent again by request %d: %s is %s, activation %d\n", o.root, k, o.state, o.number)
		}
	}
	v := w.f.View()
	defer v.Close()
	for _, r := range slices.Collect(v.Requests(0)) {
		fmt.Fprintf(&b, "request %d of %d %s activation %d [%s, %s) %s %s: walked %v to %s waiting %v gaps %v %+v\n", r.ID, r.Parent, r.Database, r.Activation,
			clock(r.Start), clock(r.End), r.State, r.StateReason, r.Walked, clock(r.Position()), r.Waiting, r.Gaps, r.Counts)
	}
	h, _ := v.History(database)
	for _, e := range h.Events {
		fmt.Fprintf(&b, "%s %s %s %s\n", clock(e.At), e.Kind, e.Copy, e.Text)
	}
	return b.String()
}

// missing is what was delivered to a database, and its active copy has not; nor
// will it get it from a resubmission that another request made and that is
// still to be delivered. What becomes of that the other request says.
func (w *plan) missing(d Database) letters {
	m, coming := letters{}, letters{}
	for _, o := range w.made {
		if o.database == d.Name && o.root != d.Request && (o.state == Pending || o.state == Undelivered) {
			coming[o.letter] = true
		}
	}
	for _, x := range w.log {
		_, there := w.stores[d.Name+"/"+d.Active][x.letter]
		if x.database == d.Name && !x.failed && !there && !coming[x.letter] && !w.strayed[x.address] {
			m[x.letter] = true
		}
	}
	return m
}
