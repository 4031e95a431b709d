package fsm

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailraft/directory"
	"mailraft/mail"
)

// world makes commands by chance, some of them absurd, and knows what was
// promised: it plays the members, operators and clocks of a boundary of three.
type world struct {
	*machine
	rng     *rand.Rand
	subs    []mail.Submission
	ids     []mail.ID
	joined  int                   // ids given so far
	big     int                   // messages to the large group: they make the checks slow
	kept    map[mail.ID]mail.Time // when it was seen finished; zero while active, negative when rightly gone
	settled map[string]string     // message and recipient: what it was finished by
	active  map[string]uint64     // activation numbers by database
}

func newWorld(t testing.TB, seed uint64) *world {
	w := &world{machine: newMachine(t), rng: rand.New(rand.NewPCG(seed, 7)), joined: 3, kept: map[mail.ID]mail.Time{}, settled: map[string]string{}, active: map[string]uint64{}}
	w.boundary()
	w.must(KindConfigure, Configure{Set: map[string]string{"safety-net-hold-time": "1m", "message-expiration-timeout": "1m"}})
	group := func(name string, n int, also ...string) directory.Group {
		g := directory.Group{Address: name + "@example.test", Members: also}
		for i := range n {
			g.Members = append(g.Members, fmt.Sprintf("%s%d@example.test", name, i))
		}
		return g
	}
	w.must(KindDirectory, Directory{Groups: []directory.Group{group("small", 3, "small@example.test"), group("big", 1100, "small@example.test", "x@elsewhere.example")}})
	return w
}

// member is mostly one that takes mail, else any that ever was.
func (w *world) member() mail.MemberID {
	id := mail.MemberID(1 + w.rng.IntN(w.joined))
	if w.chance(4) {
		return id
	}
	v := w.f.View()
	defer v.Close()
	n := 0
	for m := range v.Members() {
		if m.Takes() {
			if n++; w.rng.IntN(n) == 0 {
				id = m.ID
			}
		}
	}
	return id
}

func (w *world) members() (ids []mail.MemberID) {
	for range 2 + w.rng.IntN(5) {
		ids = append(ids, w.member())
	}
	return ids
}

func (w *world) chance(n int) bool { return w.rng.IntN(n) == 0 }

func (w *world) id() mail.ID {
	if len(w.ids) == 0 || w.chance(50) {
		return mail.NewID(w.now, w.rng.Uint64N(50), 0)
	}
	return w.ids[len(w.ids)-1-w.rng.IntN(min(len(w.ids), 20))]
}

func (w *world) submission() mail.Submission {
	if len(w.subs) > 0 && w.chance(8) {
		return w.subs[w.rng.IntN(len(w.subs))]
	}
	s := w.machine.submission(0, w.member(), w.members()...)
	s.Holders = append(s.Holders, s.Primary)
	s.Content.ID = mail.ContentID{}
	copy(s.Content.ID[:], fmt.Sprintf("content %d", len(w.subs)))
	s.Content.ID[15] = byte(len(w.subs))
	s.Content.NotAfter = w.now.Add(time.Duration(w.rng.IntN(900)-30) * time.Second)
	s.Envelope.Recipients = nil
	for range min(w.rng.IntN(30), 3) {
		s.Envelope.Recipients = append(s.Envelope.Recipients, [...]string{"a@example.test", "b@example.test", "small@example.test", "x@elsewhere.example", "no address"}[w.rng.IntN(5)])
	}
	if w.big < 2 && w.chance(25) {
		w.big++
		s.Envelope.Recipients = append(s.Envelope.Recipients, "big@example.test")
	}
	if w.chance(8) {
		s.Envelope.ReversePath = ""
	}
	for range w.rng.IntN(len(s.Envelope.Recipients) + 2) {
		s.Envelope.Asked = append(s.Envelope.Asked, mail.Asked{Notify: mail.Notify(w.rng.IntN(16)), Original: "rfc822;x"})
	}
	s.Fields.MessageID = []string{"", "<1@x>", "<2@x>"}[w.rng.IntN(3)]
	w.subs = append(w.subs, s)
	return s
}

func (w *world) report() Report {
	r := Report{Member: w.member()}
	for range 1 + w.rng.IntN(3) {
		one := mail.Report{ID: w.id()}
		n := 3
		if m := w.row(one.ID); m != nil {
			n = len(m.Recipients) + 1
			if !w.chance(5) {
				r.Member = m.Primary
			}
		}
		result := mail.Result(w.rng.IntN(7))
		if !w.chance(3) {
			result = mail.Delivered
		}
		for i := range n {
			if i >= 4 || !w.chance(4) {
				one.Outcomes = append(one.Outcomes, mail.Outcome{Recipient: i - w.rng.IntN(2)*w.rng.IntN(2), Result: result,
					Activation: uint64(w.rng.IntN(8)), Next: w.now.Add(time.Duration(w.rng.IntN(100)-10) * time.Second), Passed: w.chance(4), Fault: w.chance(3)})
			}
		}
		if w.chance(2) {
			s := w.submission()
			s.Primary = r.Member
			if !w.chance(4) {
				s.Envelope.ReversePath = ""
			}
			one.DSN = &s
		}
		if w.chance(3) {
			one.Told = w.told(one.ID)
		}
		if w.chance(3) {
			s := w.submission()
			s.Primary, s.Envelope.ReversePath = r.Member, ""
			one.Notice = &s
		}
		r.Reports = append(r.Reports, one)
	}
	return r
}

// told is mostly what is owed.
func (w *world) told(id mail.ID) (told []mail.Told) {
	m := w.row(id)
	if m == nil {
		return nil
	}
	for i := range m.Recipients {
		if owes := m.Recipients[i].Owes; owes != 0 || w.chance(9) {
			told = append(told, mail.Told{Recipient: i, Event: owes})
		}
	}
	for _, i := range m.Expanded {
		told = append(told, mail.Told{Recipient: i})
	}
	return told
}

// step is one entry, or time that passes.
func (w *world) step() {
	w.now = w.now.Add(time.Duration(w.rng.IntN(1500)) * time.Millisecond)
	if w.chance(6) {
		w.requests()
		return
	}
	rows := w.rng.IntN(5) - 1
	change := MemberChange{Member: w.member(), Rows: rows}
	switch n := w.rng.IntN(100); {
	case n < 25:
		a := w.do(KindAccept, Accept{Submission: w.submission()})
		if !a.ID.IsZero() {
			w.promise(a.ID)
		}
	case n < 27:
		w.do(KindWithdraw, Withdraw{Content: w.submission().Content.ID})
	case n < 48:
		w.do(KindReport, w.report())
	case n < 54:
		w.do(KindDiscard, Discard{Member: w.member(), IDs: []mail.ID{w.id(), w.id(), w.id()}})
	case n < 60:
		w.do(KindExpire, Limit{Rows: rows * 20})
	case n < 61:
		w.do(KindMemberDown, change)
	case n < 72:
		w.do(KindMemberUp, change)
	case n < 79:
		w.do(KindTakeover, change)
	case n < 84:
		w.do(KindProtect, Limit{Rows: rows})
	case n < 88:
		w.expandSome()
	case n < 93:
		c := MessageChange{Op: []string{"retry", "suspend", "resume", "resume", "delete", "bounce", "redirect", "redirect"}[w.rng.IntN(8)], IDs: []mail.ID{w.id()}}
		if w.chance(2) {
			c.Database = []string{"DB1", "DB2"}[w.rng.IntN(2)]
		} else {
			c.To = []string{"a@example.test", "small@example.test", "x@elsewhere.example", "heir@example.test"}[w.rng.IntN(4)]
		}
		w.do(KindMessage, c)
	case n < 96:
		w.do(KindTick, Tick{Complete: []Complete{{Member: w.member(), Index: uint64(len(w.log)) - w.rng.Uint64N(4)}}})
	default:
		w.rare()
	}
}

// requests makes resubmit requests, changes them, and most often goes on with one.
func (w *world) requests() {
	pick := func(texts ...string) string { return texts[w.rng.IntN(len(texts))] }
	number := uint64(1 + w.rng.IntN(8))
	v := w.f.View()
	open := 0
	for r := range v.OpenRequests() {
		if open++; w.rng.IntN(open) == 0 && !w.chance(9) {
			number = r.ID
		}
	}
	v.Close()
	switch n := w.rng.IntN(24); {
	case n < 4 && open < 12:
		c := RequestAdd{Database: pick("DB1", "DB1", "db2", ""), Recipient: pick("", "", "", "a@example.test", "small1@example.test"), Sender: pick("", "", "<>", "s@example.org"),
			MessageID: pick("", "", "", "<1@x>"), ResubmitTo: pick("", "", "", "", "heir@example.test", "x@elsewhere.example"), Again: w.chance(3)}
		if w.chance(2) {
			c.Start = w.now.Add(-time.Duration(w.rng.IntN(120)) * time.Second)
		}
		if w.chance(4) {
			c.End = w.now.Add(-time.Duration(w.rng.IntN(60)-5) * time.Second)
		}
		if m, ok := w.memberRow(w.member()); ok && w.chance(5) {
			c.Unresponsive = m.Name
		}
		w.request(c)
	case n < 6:
		w.do(KindRequestChange, RequestChange{Op: pick("suspend", "resume", "resume", "cancel", "burn"), Request: number, Auto: w.chance(2)})
	case n < 7:
		w.do(KindConfigure, Configure{Set: map[string]string{"shadow-resubmit-recipients": pick("original", "resolved"), "unresponsive-primary-timeout": pick("1s", "20s")}})
	case n < 8:
		w.databases()
	case n < 9:
		w.do(KindDirectory, Directory{Mailboxes: []directory.Mailbox{{Address: pick("a@example.test", "small1@example.test"), Database: pick("DB1", "DB2")}}})
	case n < 11: // what a member that is lost has held goes to others
		v := w.f.View()
		members := slices.Collect(v.Members())
		v.Close()
		for _, m := range members {
			for range 3 {
				if m.Retired != 0 {
					w.do(KindMemberDown, MemberChange{Member: m.ID})
					w.do(KindTakeover, MemberChange{Member: m.ID, Rows: 200})
				}
			}
		}
	default:
		w.do(KindAdvance, Advance{Request: number, Rows: w.rng.IntN(40) - 1})
	}
}

// request makes a request, and perhaps sends all of it at once: then it comes
// to what was planned.
func (w *world) request(c RequestAdd) {
	v := w.f.View()
	p, refusal := v.Plan(c, w.now, func() bool { return false })
	v.Close()
	a := w.do(KindRequestAdd, c)
	if (a.Refused == nil) != (refusal == nil) {
		w.t.Fatalf("entry %d: planned: %v, made: %v", len(w.log), refusal, a.Refused)
	}
	if a.Refused != nil || w.chance(2) {
		return
	}
	id, _ := strconv.ParseUint(a.Text, 10, 64)
	for n := 0; w.do(KindAdvance, Advance{Request: id, Rows: 1 + w.rng.IntN(100)}).More; n++ {
		if n > 1000 {
			w.t.Fatalf("entry %d: no end of request %d", len(w.log), id)
		}
	}
	v = w.f.View()
	defer v.Close()
	got := v.planOf(id)
	if got.Request.Expanding > 0 || slices.ContainsFunc(got.Shadows, func(s Request) bool { return s.Expanding > 0 }) {
		return
	}
	if g, want := summary(got), summary(p); g != want {
		w.t.Fatalf("entry %d: request %d: planned\n%s and sent\n%s", len(w.log), id, want, g)
	}
}

// planOf is a request that is made, as its plan.
func (t Tables) planOf(id uint64) (p Plan) {
	p.Request, _ = t.Request(id)
	for _, c := range p.Request.Children {
		s, _ := t.Request(c)
		p.Shadows = append(p.Shadows, s)
	}
	return p
}

// summary is what must be the same of a plan and of what was done. Where a piece
// ends in the middle of a message two are made of it.
func summary(p Plan) (out string) {
	for _, r := range append([]Request{p.Request}, p.Shadows...) {
		r.Counts.Messages, r.Counts.Bytes, r.Counts.Delivered, r.Counts.Failed, r.Counts.Duplicates = 0, 0, 0, 0, 0
		slices.SortFunc(r.ServedBy, func(a, b RequestServer) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		out += fmt.Sprintf("%s of %d: %+v %v %v by %v, %v to %v\n", r.Database, r.Behalf, r.Counts, r.Waiting, r.Gaps, r.ServedBy, r.First, r.Last)
	}
	return out
}

// expandSome goes on with what is being expanded, or with anything.
func (w *world) expandSome() {
	v := w.f.View()
	id := w.id()
	for x := range v.Expanding() {
		id = x
	}
	v.Close()
	w.do(KindExpand, Expand{ID: id})
}

func (w *world) rare() {
	onOff := []string{"true", "false", ""}
	switch w.rng.IntN(12) {
	case 7, 8, 9, 10, 11:
		w.membership()
	case 0:
		w.do(KindConfigure, Configure{Set: map[string]string{"shadow-redundancy-enabled": onOff[w.rng.IntN(3)],
			"reject-message-on-shadow-failure": onOff[w.rng.IntN(3)], "min-voters": "1", "commit-timeout": "9s"}})
	case 1:
		w.settleVoters()
	case 2:
		w.do(KindDirectory, Directory{Groups: []directory.Group{{Address: "big@example.test", Members: []string{strings.Repeat("a", w.rng.IntN(9)+1) + "@example.test"}}}})
	case 3:
		w.databases()
	case 4:
		w.do(KindQueue, QueueChange{Key: "db/DB1", Suspend: w.chance(2)})
	case 5:
		if d := time.Duration(w.rng.IntN(3)) * 20 * time.Minute; w.chance(3) {
			w.silent(d)
		} else {
			w.now = w.now.Add(d)
		}
		w.do(KindTick, Tick{})
	case 6:
		w.do(KindMark, Mark{})
		w.do(KindConfigure, Configure{Set: map[string]string{"delay-notification-timeout": []string{"1m", ""}[w.rng.IntN(2)]}})
		w.do(KindCrashes, Crashes{Member: w.member(), Starts: uint64(w.rng.IntN(9)), IDs: []mail.ID{w.id(), w.id()}, Last: w.id()})
		w.do(KindDelays, Delays{IDs: []mail.ID{w.id(), w.id(), w.id(), w.id()}})
	}
}

// databases changes databases, and what is known of their copies.
func (w *world) databases() {
	c := Copy{Name: []string{"a", "b", "c"}[w.rng.IntN(3)], Addr: []string{"maildir:/x", "maildir:/c"}[w.rng.IntN(2)]}
	if w.chance(2) {
		c.DataThrough = w.now.Add(-time.Duration(w.rng.IntN(300)) * time.Second)
	}
	name := []string{"DB1", "DB2"}[w.rng.IntN(2)]
	for range 3 {
		ops := []string{"add", "remove", "copy-add", "copy-add", "copy-set", "copy-remove", "report", "suspend-activation", "resume-activation"}
		w.do(KindDatabase, DatabaseChange{Op: ops[w.rng.IntN(len(ops))], Name: name, Copies: []Copy{c}})
		w.do(KindHealth, Health{Term: w.term - w.rng.Uint64N(5)/4, Copies: []CopyHealth{{Database: name, Copy: c.Name, Addr: c.Addr, Healthy: w.chance(2)},
			{Database: "db1", Copy: "a", Addr: "maildir:/x", Healthy: w.chance(2)}}})
	}
	v := w.f.View()
	d, _ := v.Database(name)
	v.Close()
	for _, auto := range []bool{true, false} {
		w.do(KindActivate, Activate{Database: name, Copy: c.Name, From: d.Active, Activation: d.Activation - w.rng.Uint64N(5)/4, Auto: auto, Term: w.term,
			Through: mail.Time(w.rng.Int64N(3) / 2 * int64(w.now.Add(-time.Minute)))})
	}
}

// membership changes who is there: members are replaced, drained and removed,
// and voters announced.
func (w *world) membership() {
	n := w.rng.IntN(10)
	if n == 2 && w.settleVoters() <= 3 {
		n = 0 // else soon nobody is left
	}
	switch n {
	case 0, 1:
		name := ""
		if m, ok := w.memberRow(w.member()); ok {
			name = m.Name
		}
		if w.chance(3) {
			name = ""
		}
		w.do(KindToken, TokenAdd{Hash: [32]byte{9}, Role: "member", Until: w.now.Add(time.Hour), Uses: 1, Replace: name})
		if name == "" {
			name = fmt.Sprint("n", w.joined)
		}
		if a := w.do(KindMemberAdd, MemberAdd{Member: Member{ID: mail.MemberID(w.joined + 1), Name: name}, Token: [32]byte{9}}); a.Refused == nil {
			w.joined++
			w.do(KindMemberUp, MemberChange{Member: mail.MemberID(w.joined), Addr: "a"})
			w.do(KindTick, Tick{Complete: []Complete{{Member: mail.MemberID(w.joined), Index: uint64(len(w.log))}}})
		}
		w.settleVoters()
	case 2:
		w.do(KindMemberRemove, MemberRemove{Member: w.member(), Now: w.chance(2)})
	case 3:
		w.do(KindDrain, Drain{Member: mail.MemberID(1 + w.rng.IntN(w.joined)), Stop: !w.chance(4)})
	case 4:
		m, _ := w.memberRow(w.member())
		w.do(KindHandOver, HandOver{Member: m.ID, IDs: []mail.ID{w.id(), w.id()}, After: m.Handed - w.rng.Uint64N(5)/4})
	case 5:
		w.do(KindVotersChange, VotersChange{Voters: w.members(), Prev: uint64(w.rng.IntN(50))})
	case 6:
		v := w.f.View()
		b, _ := v.Boundary()
		v.Close()
		w.do(KindVotersAbort, VotersAbort{At: b.NextAt, Term: w.term})
	case 7:
		w.settleVoters()
	case 8:
		c := ContentLost{IDs: []mail.ID{w.id(), w.id()}}
		if w.chance(2) {
			c.Found = w.member()
		}
		w.do(KindContentLost, c)
	case 9:
		w.generation()
	}
}

// generation recovers the boundary, mostly in vain, and exchanges its CA.
func (w *world) generation() {
	if w.chance(3) {
		self := w.member()
		if m, ok := w.memberRow(self); ok && m.Retired == 0 {
			w.voters([]mail.MemberID{self}, nil)
		}
		w.do(KindRecover, Recover{Survivor: self, Generation: uint64(1 + w.rng.IntN(4))})
		w.do(KindMemberUp, MemberChange{Member: self, Addr: "a"})
	}
	if w.chance(8) { // only who is new can be the first of a restored boundary
		w.joined++
		self := mail.MemberID(w.joined)
		w.voters([]mail.MemberID{self}, nil)
		w.do(KindRefound, Refound{Boundary: fmt.Sprint("b", w.joined), First: Member{ID: self, Name: fmt.Sprint("m", w.joined)}})
		w.do(KindMemberUp, MemberChange{Member: self, Addr: "a"})
		if w.chance(2) {
			w.do(KindQueue, QueueChange{})
		}
	}
	w.do(KindMemberCert, MemberCert{Member: w.member(), Signer: []string{"", "old", "new"}[w.rng.IntN(3)], Believes: []string{"", "old", "new"}[w.rng.IntN(3)]})
	serials := []string{"", "1", "2", "3"}
	w.do(KindToken, TokenAdd{Hash: [32]byte{7}, Role: "frontend", Until: begin.Add(24 * time.Hour * 365), Uses: 2})
	w.do(KindFrontend, FrontendChange{Op: []string{FrontendJoin, FrontendRenew, FrontendRemove}[w.rng.IntN(3)], Name: []string{"fe1", "FE1", "fe2", ""}[w.rng.IntN(4)],
		Serial: serials[w.rng.IntN(4)], Was: serials[w.rng.IntN(4)], Token: [32]byte{byte(6 + w.rng.IntN(2))}})
	w.do(KindCA, CAChange{Op: []string{CARotate, CAUse, CAFinish}[w.rng.IntN(3)], Pin: []string{"old", "new"}[w.rng.IntN(2)], CA: []byte{1}, CAKey: []byte{2}, Now: w.chance(2)})
}

func (w *world) memberRow(id mail.MemberID) (Member, bool) {
	v := w.f.View()
	defer v.Close()
	return v.Member(id)
}

// settleVoters makes a configuration of who is a member, announced or not, and
// returns how many vote.
func (w *world) settleVoters() int {
	v := w.f.View()
	b, _ := v.Boundary()
	var voters, learners []mail.MemberID
	for m := range v.Members() {
		switch {
		case m.Retired != 0:
		case w.chance(10):
			learners = append(learners, m.ID)
		default:
			voters = append(voters, m.ID)
		}
	}
	v.Close()
	if w.chance(2) {
		w.do(KindVotersChange, VotersChange{Voters: voters, Prev: b.ConfigAt})
	}
	if len(voters) > 0 {
		w.voters(voters, learners)
	}
	return len(voters)
}

func (w *world) promise(id mail.ID) {
	if _, ok := w.kept[id]; !ok {
		w.kept[id] = 0
		w.ids = append(w.ids, id)
	}
}

// promises fails the test if a message is gone before its hold time, active
// again, or if somebody who had it is said not to have it.
func (w *world) promises() {
	w.t.Helper()
	v := w.f.View()
	defer v.Close()
	for m := range v.Messages(mail.ID{}) {
		w.promise(m.ID)
		for i := range m.Recipients {
			k, now := fmt.Sprint(m.ID, i), m.Recipients[i].State.String()
			switch was := w.settled[k]; was {
			case "", "pending", "failed", "expired", "deleted", "undelivered", "redirected", now: // delivered is the last word
			default:
				w.t.Fatalf("entry %d: %s recipient %d was %s, and is %s", len(w.log), m.ID, i, was, now)
			}
			if was := w.settled[k]; was != "" && was != "pending" && now == "pending" {
				w.t.Fatalf("entry %d: %s recipient %d is pending again", len(w.log), m.ID, i)
			}
			w.settled[k] = now
		}
	}
	for _, name := range []string{"DB1", "DB2"} {
		h, _ := v.History(name)
		if h.Activation < w.active[name] {
			w.t.Fatalf("entry %d: activation %d of %s was given again", len(w.log), h.Activation, name)
		}
		w.active[name] = h.Activation
	}
	for id, finished := range w.kept {
		m, ok := v.Message(id)
		switch {
		case ok && !m.Active():
			w.kept[id] = m.Finished
		case ok && finished > 0:
			w.t.Fatalf("entry %d: %s is active again", len(w.log), id)
		case finished < 0:
		case !ok && (finished == 0 || v.Tables.Applied().Time < finished.Add(time.Minute)):
			w.t.Fatalf("entry %d: %s is gone, finished %v", len(w.log), id, finished)
		case !ok: // an answer may still name it
			w.kept[id] = -1
		}
	}
}

func TestRandomCommands(t *testing.T) {
	for _, seed := range []uint64{1, 2, 4} {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, seed)
			for range 1000 {
				w.step()
				w.check()
				w.promises()
				if w.chance(200) {
					want := w.hash()
					if w.replay(w.log[w.crash(w.rng):], 9, w.rng); w.hash() != want {
						t.Fatal("after a crash: another state")
					}
				}
			}
			if len(w.ids) < 25 {
				t.Errorf("only %d messages: the commands try too little", len(w.ids))
			}
			(&script{machine: w.machine}).again()
		})
	}
}
