package fsm

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"mailraft/directory"
	"mailraft/mail"

	"pgregory.net/rapid"
)

// TestResubmission compares the state machine with a simple model of the world
// around it: mailbox servers that keep what they were given, copies made of
// them, backups, members that deliver, stop and lose their disks. Whatever
// happens, in whatever order,
//
//   - every message is delivered, or said to have failed;
//   - a resubmission goes only to who was a recipient (or to whom the request
//     names), for whom a delivery was recorded to the request's database and in
//     its interval, and whose mailbox is there now;
//   - no request sends an origin to a recipient twice, and none sends what a
//     resubmission under the present activation has brought, or will;
//   - when an activation's request has completed, the active copy has all that
//     was ever delivered to its database.
//
// It runs a fixed seed. For others: go test ./fsm -run TestResubmission
// -rapid.seed=0 -rapid.checks=2000.
func TestResubmission(t *testing.T) {
	given := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for name, value := range map[string]string{"rapid.seed": "1", "rapid.checks": "60", "rapid.steps": "100", "rapid.nofailfile": "true"} {
		if f := flag.Lookup(name); !given[name] {
			was := f.Value.String()
			if err := f.Value.Set(value); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Value.Set(was) }()
		}
	}
	var resubmissions, activations int
	rapid.Check(t, func(rt *rapid.T) {
		w := newPlan(t, rt)
		defer w.close()
		defer func() { resubmissions, activations = resubmissions+len(w.made), activations+w.complete }()
		actions := map[string]func(*rapid.T){"": func(*rapid.T) { w.look() }}
		for name, a := range w.actions() {
			for i := range a.weight {
				actions[fmt.Sprint(name, i)] = func(*rapid.T) { a.do(); w.steps++ }
			}
		}
		rt.Repeat(actions)
		w.settle()
	})
	if t.Logf("%d recipients of resubmissions, %d completed activations", resubmissions, activations); resubmissions < 100 || activations < 20 {
		t.Error("the sequences try too little")
	}
}

// plan is the model, and the machine that it is compared with.
type plan struct {
	*machine
	rt    *rapid.T
	steps int
	count byte // contents
	last  mail.MemberID
	wipes int

	sent     map[mail.ID]letters  // accepted: to whom
	order    []mail.ID            // of sent
	over     letters              // given up for good, or relayed
	log      []recorded           // outcomes that the log has
	stores   map[string]mailboxes // by database and copy
	backups  []backup
	flights  []attempt
	made     map[string]*again // resubmissions by row and recipient
	ended    map[uint64]bool   // requests
	excused  letters           // what a request could not send, or was stopped from sending
	diverted letters           // what went to whom a request named
	strayed  map[string]bool   // mailboxes that were moved once
	complete int               // completed activations checked
}

// letter is one message for one recipient.
type letter struct {
	origin  mail.ID
	address string
}

type letters map[letter]bool

// mailboxes is what a copy holds: since when.
type mailboxes map[letter]mail.Time

// recorded is a delivery that the log knows of.
type recorded struct {
	letter
	database   string
	at         mail.Time
	activation uint64
	failed     bool // a resubmission that was given up
}

// backup is what the active copy held at a time.
type backup struct {
	database, copy string
	at             mail.Time
	store          mailboxes
}

// attempt is a delivery under way: where it went was decided when it began.
type attempt struct {
	by         mail.MemberID
	since      mail.Time // of the member's being up: it delivers only as long
	id         mail.ID
	recipient  int
	letter     letter
	store      string
	copy       string
	activation uint64
	there      bool // the mailbox server has it
}

// again is one recipient of a resubmission.
type again struct {
	letter
	database string
	root     uint64
	again    bool
	state    RecipientState
	number   uint64 // activation that it was delivered under
}

// rapidTB lets a machine fail the check of a sequence rather than the test.
type rapidTB struct {
	testing.TB
	rt *rapid.T
}

func (t rapidTB) Helper()                   {}
func (t rapidTB) Fatal(a ...any)            { t.rt.Fatal(a...) }
func (t rapidTB) Fatalf(f string, a ...any) { t.rt.Fatalf(f, a...) }
func (t rapidTB) Error(a ...any)            { t.rt.Error(a...) }
func (t rapidTB) Errorf(f string, a ...any) { t.rt.Errorf(f, a...) }
func (t rapidTB) Cleanup(func())            {} // the check closes its machine

func newPlan(t *testing.T, rt *rapid.T) *plan {
	w := &plan{machine: newMachine(rapidTB{t, rt}), rt: rt, last: 3, sent: map[mail.ID]letters{}, over: letters{}, stores: map[string]mailboxes{},
		made: map[string]*again{}, ended: map[uint64]bool{}, excused: letters{}, diverted: letters{}, strayed: map[string]bool{}}
	w.boundary()
	w.must(KindConfigure, Configure{Set: map[string]string{"safety-net-hold-time": "90m", "message-expiration-timeout": "1h", "replication-slack": "0s", "unresponsive-primary-timeout": "15m"}})
	w.must(KindDatabase, DatabaseChange{Op: "copy-add", Name: "DB1", Copies: []Copy{{Name: "b", Addr: "maildir:/b"}, {Name: "c", Addr: "maildir:/c", Lag: mail.Duration(20 * 60_000)},
		{Name: "d", Addr: "maildir:/d", Live: true, Slack: 60_000}}})
	w.must(KindDatabase, DatabaseChange{Op: "add", Name: "DB2", Copies: []Copy{{Name: "a", Addr: "maildir:/y"}}})
	w.must(KindDirectory, Directory{
		Domains:   []directory.Domain{{Name: "*", Kind: directory.Relay, NextHop: "smtp://x"}},
		Mailboxes: []directory.Mailbox{{Address: "ann@example.test", Database: "DB1"}, {Address: "bob@example.test", Database: "DB1"}, {Address: "eve@example.test", Database: "DB2"}},
		Groups:    []directory.Group{{Address: "team@example.test", Members: []string{"ann@example.test", "eve@example.test", "x@outside.example"}}},
	})
	for _, c := range []string{"DB1/a", "DB1/b", "DB1/c", "DB1/d", "DB2/a"} {
		w.stores[c] = mailboxes{}
	}
	return w
}

func (w *plan) chance(n int, label string) bool {
	return rapid.IntRange(1, n).Draw(w.rt, label) == n
}

func pick[T any](w *plan, label string, from []T) (x T, ok bool) {
	if len(from) == 0 {
		return x, false
	}
	return from[rapid.IntRange(0, len(from)-1).Draw(w.rt, label)], true
}

// read opens a view for f.
func read[T any](w *plan, f func(*View) T) T {
	v := w.f.View()
	defer v.Close()
	return f(v)
}

func (w *plan) members(which func(Member) bool) (ms []Member) {
	return read(w, func(v *View) []Member {
		for m := range v.Members() {
			if which(m) {
				ms = append(ms, m)
			}
		}
		return ms
	})
}

func isUp(m Member) bool { return m.Up && m.Retired == 0 }

func (w *plan) database(name string) Database {
	return read(w, func(v *View) Database { d, _ := v.Database(name); return d })
}

type action struct {
	weight int
	do     func()
}

func (w *plan) actions() map[string]action {
	return map[string]action{
		"accept": {4, w.accept}, "deliver": {6, w.deliver}, "land": {2, w.land}, "discard": {2, w.discard}, "expire": {3, w.expire},
		"time": {5, w.time}, "down": {1, w.down}, "takeover": {3, w.takeover}, "up": {2, w.up}, "wipe": {1, w.wipe}, "fill": {2, w.fill},
		"protect": {1, func() { w.do(KindProtect, Limit{Rows: 10}) }}, "replicate": {4, w.replicate}, "backup": {1, w.backup},
		"failover": {3, w.failover}, "restore": {1, w.restore}, "advance": {6, w.advance}, "calm": {3, w.calm}, "request": {1, w.request},
		"change": {1, w.change}, "move": {1, w.move}, "crash": {1, w.powerLoss},
	}
}

// accept takes a message in.
func (w *plan) accept() {
	up := w.members(func(m Member) bool { return m.Takes() })
	primary, ok := pick(w, "primary", up)
	if !ok || w.count > 200 {
		return
	}
	w.count++
	s := w.submission(w.count, primary.ID)
	for _, m := range up {
		if m.ID == primary.ID || !w.chance(3, "lacks it") {
			s.Holders = append(s.Holders, m.ID)
		}
	}
	s.Envelope.Recipients = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"ann@example.test", "bob@example.test", "eve@example.test", "team@example.test", "x@outside.example"}),
		1, 3, rapid.ID[string]).Draw(w.rt, "to")
	a := w.do(KindAccept, Accept{Submission: s})
	if a.ID.IsZero() {
		return
	}
	to := letters{}
	for _, r := range s.Envelope.Recipients {
		members := []string{r}
		if r == "team@example.test" {
			members = read(w, func(v *View) []string { g, _ := v.Group(r, 0); return g.Members })
		}
		for _, m := range members {
			to[letter{a.ID, m}] = true
		}
	}
	w.sent[a.ID] = to
	w.order = append(w.order, a.ID)
}

// deliver begins attempts for a message, and mostly ends them at once.
func (w *plan) deliver() {
	type due struct {
		m  *Message
		by Member
	}
	var all []due
	for _, mb := range w.members(isUp) {
		read(w, func(v *View) bool {
			for m := range v.Active(mb.ID) {
				if len(all) < 20 {
					all = append(all, due{m, mb})
				}
			}
			return true
		})
	}
	x, ok := pick(w, "message", all)
	if !ok {
		return
	}
	w.begin(x.m, x.by)
	for i := range w.flights {
		if a := &w.flights[i]; a.id == x.m.ID && !a.there {
			a.there = w.chance(2, "taken at once") && w.arrive(*a)
		}
	}
	for !w.chance(4, "later") && len(w.flights) > 0 {
		w.end(len(w.flights) - 1)
	}
}

// begin is an attempt for each recipient that is pending and not under way.
func (w *plan) begin(m *Message, by Member) {
	for i := range m.Recipients {
		rc := &m.Recipients[i]
		under := slices.ContainsFunc(w.flights, func(a attempt) bool { return a.id == m.ID && a.recipient == i && a.by == by.ID })
		if rc.State != Pending || under {
			continue
		}
		a := attempt{by: by.ID, since: by.Since, id: m.ID, recipient: i, letter: letter{origin(m), rc.Address}}
		if d := w.database(rc.Database); rc.Database != "" {
			a.store, a.copy, a.activation = d.Name+"/"+d.Active, d.Active, d.Activation
		}
		if m.Request == 0 && !w.sent[origin(m)][a.letter] {
			w.rt.Fatalf("%s is delivered to %s, who is no recipient", m.ID, rc.Address)
		}
		w.flights = append(w.flights, a)
	}
}

// arrive: the mailbox server takes it, whichever copy is active by now, if the
// member still has its lease.
func (w *plan) arrive(a attempt) bool {
	m := w.members(func(m Member) bool { return m.ID == a.by })
	if len(m) == 0 || !m[0].Up || m[0].Since != a.since {
		return false
	}
	if a.store != "" {
		if _, ok := w.stores[a.store][a.letter]; !ok {
			w.stores[a.store][a.letter] = w.now
		}
	}
	return true
}

// land ends some attempt that is under way.
func (w *plan) land() {
	if n := len(w.flights); n > 0 {
		w.end(rapid.IntRange(0, n-1).Draw(w.rt, "flight"))
	}
}

// end: the mailbox server has it or never will, and the log is told or not.
func (w *plan) end(i int) {
	a := w.flights[i]
	w.flights = slices.Delete(w.flights, i, i+1)
	o := mail.Outcome{Recipient: a.recipient, Copy: a.copy, Activation: a.activation, Result: mail.Delivered, Reply: mail.Reply{Code: 250}}
	switch {
	case !a.there && w.chance(6, "not taken"):
		o.Result, o.Reply, o.Next = mail.Deferred, mail.Reply{Code: 451}, w.now.Add(time.Minute)
		if w.chance(3, "for good") {
			o.Result, o.Reply = mail.Failed, mail.Reply{Code: 550}
		}
	case !a.there && !w.arrive(a):
		return
	case w.chance(6, "nobody is told"):
		return
	}
	w.tell(a, o)
}

// tell reports an outcome, and keeps what the log made of it.
func (w *plan) tell(a attempt, o mail.Outcome) {
	before := w.row(a.id)
	if before == nil {
		w.rt.Fatalf("%s is gone while it is delivered", a.id)
	}
	w.must(KindReport, Report{Member: a.by, Reports: []mail.Report{{ID: a.id, Outcomes: []mail.Outcome{o}}}})
	rc := &w.row(a.id).Recipients[a.recipient]
	was := before.Recipients[a.recipient].State
	switch {
	case rc.State == was:
	case rc.State == Delivered:
		delete(w.over, a.letter)
		w.log = append(w.log, recorded{a.letter, strings.Split(a.store, "/")[0], w.now, a.activation, false})
	case rc.State == Undelivered:
		w.log = append(w.log, recorded{a.letter, strings.Split(a.store, "/")[0], w.now, a.activation, true})
	case rc.State == Failed, rc.State == Relayed:
		w.over[a.letter] = true
	}
}
