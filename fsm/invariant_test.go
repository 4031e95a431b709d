package fsm

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"mailraft/mail"
)

// check fails the test if the state breaks a rule that holds after every
// entry, whatever came before.
func (m *machine) check() {
	m.t.Helper()
	if m.fatal != nil {
		m.t.Fatalf("the process would have stopped: %v", m.fatal)
	}
	v := m.f.View()
	defer v.Close()
	if err := invariants(v.Tables); err != nil {
		m.t.Fatalf("at entry %d:\n%v", len(m.log), err)
	}
	if err := checkKnown(v.Tables); err != nil {
		m.t.Fatalf("at entry %d:\n%v", len(m.log), err)
	}
}

// checkKnown: what is remembered of the tables is what they say.
func checkKnown(t Tables) error {
	if t.known == nil {
		return errors.New("the settings are not kept")
	}
	plain := t
	plain.known = nil
	kept, read := t.Settings(), plain.Settings()
	if kept.Params != read.Params || !reflect.DeepEqual(kept.Boundary, read.Boundary) || !reflect.DeepEqual(kept.Members, read.Members) {
		return fmt.Errorf("the settings are kept as %+v\nand are %+v", kept, read)
	}
	n := &kept.names
	n.mu.Lock()
	defer n.mu.Unlock()
	for name, f := range n.domains {
		if row, ok := plain.Domain(name); ok != f.ok || !reflect.DeepEqual(row, f.row) {
			return fmt.Errorf("domain %s is kept as %+v, and is %+v", name, f, row)
		}
	}
	for name, f := range n.mailboxes {
		if row, ok := plain.Mailbox(name); ok != f.ok || !reflect.DeepEqual(row, f.row) {
			return fmt.Errorf("mailbox %s is kept as %+v, and is %+v", name, f, row)
		}
	}
	for name := range n.groups {
		if _, ok := plain.Group(name, 0); ok {
			return fmt.Errorf("%s is kept as no group, and is one", name)
		}
	}
	return nil
}

// invariants are the rules. See DESIGN.md, "What holds after every entry".
func invariants(t Tables) error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	members := map[mail.MemberID]Member{}
	for m := range t.Members() {
		members[m.ID] = m
	}
	want := map[string]bool{} // index keys
	refs := map[mail.ContentID]int{}
	pins := map[string]int{}
	for m := range t.Messages(mail.ID{}) {
		for _, k := range m.indexes() {
			want[string(k)] = true
		}
		refs[m.Content.ID]++
		if err := m.Overlay.Check(); err != nil {
			bad("%s: %v", m.ID, err)
		}
		if m.Quarantine != "" && !m.Suspended {
			bad("%s is in quarantine, and not suspended", m.ID)
		}
		for _, g := range m.Groups {
			pins[string(tab(tabDirectory).byte('g').str(g.Address).u64(g.Version))]++
		}
		checkOwner(m, members, bad)
		checkWork(t, m, bad)
	}
	for _, table := range indexTables {
		for k := range t.Scan(tab(table), tab(table).end()) {
			if !want[string(k)] {
				bad("index key %q without a row that makes it", k)
			}
			delete(want, string(k))
		}
	}
	for k := range want {
		bad("index key %q is missing", k)
	}
	checkMembers(t, members, bad)
	checkDatabases(t, bad)
	checkContents(t, refs, bad)
	checkGroups(t, pins, bad)
	checkSubmissions(t, bad)
	checkRequests(t, bad)
	return errors.Join(errs...)
}

// checkOwner: exactly one member owns a message, and nobody waits for a member
// that is down and will not be looked at again.
func checkOwner(m *Message, members map[mail.MemberID]Member, bad func(string, ...any)) {
	owner, ok := members[m.Primary]
	shadow, shadowed := members[m.Shadow]
	switch {
	case !ok:
		bad("%s: owned by %s, who is no member", m.ID, m.Primary)
	case m.Shadow == m.Primary:
		bad("%s: %s is its own shadow", m.ID, m.Primary)
	case m.Shadow != 0 && !shadowed:
		bad("%s: shadowed by %s, who is no member", m.ID, m.Shadow)
	case m.Active() && !owner.Up && owner.Phase == PhaseDone && !m.Waiting:
		bad("%s: its owner %s is down, the takeover is over, and it does not wait", m.ID, m.Primary)
	case m.Active() && m.Shadow != 0 && !shadow.Up && shadow.Phase == PhaseDone:
		bad("%s: its shadow server %s is down, and the takeover is over", m.ID, m.Shadow)
	case !m.Active() && (m.Waiting || m.Held || m.Suspended || m.Expanding || m.Marked || m.Poison != nil):
		bad("%s: finished, and still waiting for something", m.ID)
	case (owner.Drained != 0 || owner.Retired != 0 && !owner.Up && owner.Phase == PhaseDone),
		shadowed && (shadow.Drained != 0 || shadow.Retired != 0 && !shadow.Up && shadow.Phase == PhaseDone):
		bad("%s: primary server %s or shadow server %s was relieved of everything", m.ID, m.Primary, m.Shadow)
	case m.PrimaryEnd != 0 && (m.Active() || m.Shadow == 0):
		bad("%s: its Primary Safety Net entry is over, and there is no shadow", m.ID)
	}
}

// checkMembers: a retired member is on the list of those who are refused, and
// its row stays while something names it. Voters to be are announced whole.
func checkMembers(t Tables, members map[mail.MemberID]Member, bad func(string, ...any)) {
	b, _ := t.Boundary()
	if (b.NextAt != 0) != (len(b.Next) > 0) || b.NextAt != 0 && b.NextPrev != b.ConfigAt {
		bad("voters to be %v since %d, of configuration %d", b.Next, b.NextAt, b.NextPrev)
	}
	for _, m := range members {
		if _, ok := t.Former(m.ID); ok != (m.Retired != 0) {
			bad("%s: retired %v, and on the list of former members: %v", m.ID, m.Retired, ok)
		}
		configured := slices.Contains(b.Voters, m.ID) || slices.Contains(b.Learners, m.ID) || slices.Contains(b.Next, m.ID)
		if m.Retired != 0 && !m.Up && m.Phase == PhaseDone && !configured {
			bad("%s: nothing names it any more, and its row is there", m.ID)
		}
		if m.Drained != 0 && !m.Draining {
			bad("%s: drained, and not draining", m.ID)
		}
	}
}

// checkDatabases: one of the copies is the active one; the history has the last
// number and is bounded; health is known of copies that are there.
func checkDatabases(t Tables, bad func(string, ...any)) {
	records := 0
	for d := range t.Databases() {
		h, ok := t.History(d.Name)
		switch {
		case (d.ActiveCopy() == nil) != (len(d.Copies) == 0):
			bad("%s: copy %q of %d is the active one", d.Name, d.Active, len(d.Copies))
		case !ok || h.Activation != d.Activation || h.Name != d.Name:
			bad("%s: activation %d, and by its history %q %d", d.Name, d.Activation, h.Name, h.Activation)
		case len(h.Events) > historyMax:
			bad("%s: %d events", d.Name, len(h.Events))
		}
		if r, ok := t.Request(d.Request); ok && (r.Activation != d.Activation || r.Database != d.Name || r.Parent != 0) {
			bad("%s: its activation %d was made with request %+v", d.Name, d.Activation, r)
		}
		unsent := 0
		for r := range t.OpenRequests() {
			if r.Database == d.Name && r.Activation != 0 && r.Parent == 0 && !r.Walked {
				unsent++
			}
		}
		if unsent > 1 {
			bad("%s: %d activations have something left to send", d.Name, unsent)
		}
		last := ""
		for _, r := range t.Health(d.Name) {
			records++
			if c := d.copy(r.Copy); c == nil || c.Addr != r.Addr || r.Copy <= last || r.Healthy && r.Seen < r.Since {
				bad("%s: health is known as %+v, of copy %+v", d.Name, r, c)
			}
			last = r.Copy
		}
	}
	for r := range rows[[]CopyRecord](t, tab(tabHealth)) {
		records -= len(r)
	}
	if records != 0 {
		bad("health is known of %d copies of no database", -records)
	}
	for f := range t.Frontends() {
		if again, ok := t.Frontend(f.Name); !ok || again != f || f.Name == "" || f.Serial == "" || f.Shows("") || !f.Shows(f.Serial) {
			bad("front end %+v", f)
		}
	}
	if b, _ := t.Boundary(); b.HoldSince != 0 && b.HoldSince <= b.SilentFrom.Add(silenceMax) || (b.HoldSince != 0) != (b.SilentFrom != 0) {
		bad("held since %v for a silence from %v", b.HoldSince, b.SilentFrom)
	}
}

// checkWork: an active message has somebody to deliver to now, or a reason why
// not that ends; a finished one has nobody pending.
func checkWork(t Tables, m *Message, bad func(string, ...any)) {
	pending := 0
	for i := range m.Recipients {
		r := &m.Recipients[i]
		if (r.State == Pending) != (r.Done == 0) {
			bad("%s: recipient %d is %s and was done at %v", m.ID, i, r.State, r.Done)
		}
		if r.State == Pending {
			pending++
		}
		if r.Owes != 0 && m.silent() {
			bad("%s: recipient %d: nobody is to be told, and %s is owed", m.ID, i, r.Owes)
		}
		if r.To < 0 || r.To > len(m.Recipients) || r.To == i+1 {
			bad("%s: recipient %d is %s, and %d is in its place", m.ID, i, r.State, r.To-1)
		}
	}
	parent, _ := t.Message(m.Parent)
	switch {
	case !m.Active() && pending > 0:
		bad("%s: finished with %d recipients pending", m.ID, pending)
	case m.Active() && pending == 0 && !m.Expanding:
		bad("%s: active with nobody to deliver to", m.ID)
	case m.Held && !parent.Expanding:
		bad("%s: held, and its parent %s will not release it", m.ID, m.Parent)
	}
	if !m.Expanding {
		k := tab(tabSeen).id(m.ID)
		for range t.Scan(k, k.end()) {
			bad("%s: remembers whom it reached, and is not expanded", m.ID)
			break
		}
	}
}

// checkContents: a content is counted for exactly the rows that refer to it.
func checkContents(t Tables, refs map[mail.ContentID]int, bad func(string, ...any)) {
	for row := range rows[contentRow](t, tab(tabContent)) {
		if refs[row.Content.ID] != row.Refs {
			bad("content %s: %d references counted, %d rows", row.Content.ID, row.Refs, refs[row.Content.ID])
		}
		delete(refs, row.Content.ID)
	}
	for id, n := range refs {
		bad("content %s: %d rows, and not counted at all", id, n)
	}
}

// checkGroups: a version of a group is kept for being current, and for each
// expansion that holds it.
func checkGroups(t Tables, pins map[string]int, bad func(string, ...any)) {
	for g := range t.Groups() {
		pins[string(tab(tabDirectory).byte('g').str(g.Key()).u64(g.Version))]++
	}
	k := tab(tabDirectory).byte('g')
	for gk, b := range t.Scan(k, k.end()) {
		var row groupRow
		t.decode(gk, b, &row)
		if pins[string(gk)] != row.Refs || row.Refs == 0 {
			bad("group version %q: %d holders counted, %d there", gk, row.Refs, pins[string(gk)])
		}
		delete(pins, string(gk))
	}
	for gk := range pins {
		bad("group version %q is held and not there", gk)
	}
}

// checkSubmissions: each remembered answer has its day of being forgotten.
func checkSubmissions(t Tables, bad func(string, ...any)) {
	var ends, ids []string
	for k := range t.Scan(tab(tabSubmitted), tab(tabSubmitted).end()) {
		ends = append(ends, string(k[2+8:]))
	}
	for k := range t.Scan(tab(tabSubmission), tab(tabSubmission).end()) {
		ids = append(ids, string(k[2:]))
	}
	slices.Sort(ends)
	if !slices.Equal(ids, ends) {
		bad("%d answers remembered, %d to be forgotten", len(ids), len(ends))
	}
}

// A rule that is broken is found: else the tests that use them prove nothing.
func TestInvariantsSeeDamage(t *testing.T) {
	for name, damage := range map[string]func(*tx, *edit){
		"index key gone":      func(t *tx, e *edit) { t.delete(e.before[0]) },
		"index key too many":  func(t *tx, e *edit) { t.set(tab(tabNeed).id(e.ID), nil) },
		"content not counted": func(t *tx, e *edit) { t.delete(tab(tabContent).bytes(e.Content.ID[:])) },
		"own shadow":          func(t *tx, e *edit) { e.Shadow = e.Primary; t.save(e) },
		"nobody pending":      func(t *tx, e *edit) { e.Recipients = nil; t.save(e) },
		"held for ever":       func(t *tx, e *edit) { e.Held = true; t.save(e) },
		"owner is nobody":     func(t *tx, e *edit) { e.Primary = 99; t.save(e) },
		"answer kept for ever": func(t *tx, e *edit) {
			t.deleteRange(tab(tabSubmitted), tab(tabSubmitted).end())
		},
	} {
		m := newMachine(t)
		m.boundary()
		id := m.must(KindAccept, Accept{Submission: m.submission(1, m1, m1, m2)}).ID
		m.check()
		x := m.f.begin()
		damage(x, x.open(id))
		m.f.commit(x)
		v := m.f.View()
		if invariants(v.Tables) == nil {
			t.Errorf("%s: not seen", name)
		}
		v.Close()
	}
}
