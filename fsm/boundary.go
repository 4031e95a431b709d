package fsm

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"mailraft/mail"

	"github.com/hashicorp/raft"
)

// found makes the boundary. It is the first command of its log; a second one
// is refused.
func (t *tx) found(c Found) Answer {
	if b, ok := t.Boundary(); ok && b.Boundary != "" {
		return refuse(550, "5.5.0", "the boundary %s is there already", b.Boundary)
	}
	if c.Boundary == "" || c.First.ID == 0 {
		return refuse(501, "5.5.4", "a boundary needs an identity and a first member")
	}
	if a := t.configure(Configure{Set: c.Set}); a.Refused != nil {
		return a
	}
	b, _ := t.Boundary()
	b.SpanWas, b.SpanAt, b.HeldFrom = 0, 0, 0 // no lease was granted before there were members, and nothing delivered
	b.Boundary, b.Name, b.Generation, b.CA, b.CAKey, b.Created = c.Boundary, c.Name, 1, c.CA, c.CAKey, t.now()
	t.put(tab(tabBoundary), b)
	c.First.Joined, c.First.Up, c.First.Draining, c.First.Complete = t.now(), false, false, 0
	c.First.Phase, c.First.Cursor, c.First.Token, c.First.CompleteActive = PhaseDone, nil, nil, 0
	t.put(tab(tabMember).mem(c.First.ID), c.First)
	t.openBoundary()
	return Answer{}
}

func (t *tx) termStart(c TermStart) Answer {
	b, _ := t.Boundary()
	b.Term, b.Leader = c.Term, c.Leader
	t.put(tab(tabBoundary), b)
	return Answer{}
}

func (t *tx) tick(c Tick) Answer {
	for _, r := range c.Complete {
		m, ok := t.Member(r.Member)
		if !ok || r.Index > t.at.Index || r.Commit > t.at.Index || r.Active > t.at.Index {
			continue
		}
		was := m.Complete + m.CompleteActive + m.Commit + m.Starts
		m.Complete, m.Commit, m.Starts = max(m.Complete, r.Index), max(m.Commit, r.Commit), max(m.Starts, r.Starts)
		m.CompleteActive = max(m.CompleteActive, r.Active)
		if m.Complete+m.CompleteActive+m.Commit+m.Starts != was {
			t.put(tab(tabMember).mem(m.ID), m)
		}
	}
	return Answer{}
}

// memberCert applies MemberCert.
func (t *tx) memberCert(c MemberCert) Answer {
	m, ok := t.Member(c.Member)
	if !ok || m.Retired != 0 {
		return refuse(550, "5.1.0", "there is no member %s", c.Member)
	}
	was := [...]string{m.Serial, m.Signer, m.Believes}
	m.Serial, m.Signer, m.Believes = c.Serial, cmp.Or(c.Signer, m.Signer), cmp.Or(c.Believes, m.Believes)
	if was == [...]string{m.Serial, m.Signer, m.Believes} {
		return Answer{}
	}
	t.put(tab(tabMember).mem(m.ID), m)
	return Answer{Count: 1}
}

// configuration records who votes, as of the entry that says so.
func (t *tx) configuration(c raft.Configuration, index uint64, raw []byte) {
	b, _ := t.Boundary()
	b.Config, b.ConfigAt, b.Voters, b.Learners = slices.Clone(raw), index, nil, nil
	// An announced change ends with any configuration: if it is not the one
	// announced, that one was never entered and cannot be any more.
	b.Next, b.NextAt, b.NextPrev = nil, 0, 0
	for _, s := range c.Servers {
		id, err := mail.ParseMemberID(string(s.ID))
		if err != nil {
			t.fatal(err)
			return
		}
		if s.Suffrage == raft.Voter {
			b.Voters = append(b.Voters, id)
		} else {
			b.Learners = append(b.Learners, id)
		}
	}
	slices.Sort(b.Voters)
	slices.Sort(b.Learners)
	t.put(tab(tabBoundary), b)
	t.openBoundary()
	var retired []Member
	for m := range t.Members() {
		if m.Retired != 0 {
			retired = append(retired, m)
		}
	}
	for _, m := range retired {
		t.forget(m)
	}
}

// openBoundary lets mail in once min-voters are there; from then on a quorum
// of the voters is enough.
func (t *tx) openBoundary() {
	b, _ := t.Boundary()
	if !b.Opened && b.Boundary != "" && len(b.Voters) >= t.Params().MinVoters {
		b.Opened = true
		t.put(tab(tabBoundary), b)
	}
}

// token records an invitation, and drops those that are over.
func (t *tx) token(c TokenAdd) Answer {
	row := Token{Hash: c.Hash, Role: c.Role, Until: c.Until, Uses: max(c.Uses, 1)}
	if c.Replace != "" {
		old, ok := t.memberNamed(c.Replace)
		if !ok && !t.lostNamed(c.Replace) || c.Role != "member" {
			return refuse(550, "5.1.0", "there is no member %s to replace", c.Replace)
		}
		row.Replace, row.Uses = old.ID, 1 // one that was lost with its generation has left its name
	}
	var over []key
	for k := range rows[Token](t.Tables, tab(tabToken)) {
		if k.Until <= t.now() {
			over = append(over, tab(tabToken).bytes(k.Hash[:]))
		}
	}
	for _, k := range over {
		t.delete(k)
	}
	t.put(tab(tabToken).bytes(c.Hash[:]), row)
	return Answer{}
}

// memberAdd lets a member in that shows a token. A repetition by the same
// member, whose first answer was lost, uses nothing up; it must show the same
// token, since id and name are no secret, and the answer is a certificate.
func (t *tx) memberAdd(c MemberAdd) Answer {
	if c.Member.ID == 0 || c.Member.Name == "" {
		return refuse(501, "5.5.4", "a member needs an id and a name")
	}
	if old, ok := t.Member(c.Member.ID); ok && old.Name == c.Member.Name && old.Token != nil && *old.Token == c.Token {
		old.Addr, old.Serial, old.SMTP, old.Host, old.Site = c.Member.Addr, c.Member.Serial, c.Member.SMTP, c.Member.Host, c.Member.Site
		t.put(tab(tabMember).mem(old.ID), old)
		return Answer{}
	}
	k, ok := t.Token(c.Token)
	switch {
	case !ok || k.Uses < 1:
		return refuse(535, "5.7.8", "the token is not known or used up; make another with: mailraft boundary token")
	case k.Until <= t.now():
		return refuse(535, "5.7.8", "the token is over; make another with: mailraft boundary token")
	case k.Role != "member":
		return refuse(535, "5.7.8", "the token is for a %s, not for a member", k.Role)
	}
	if a := t.checkName(c.Member, k); a.Refused != nil {
		return a
	}
	if k.Replace != 0 {
		if a := t.replace(c.Member, k); a.Refused != nil {
			return a
		}
	}
	k.Uses--
	t.put(tab(tabToken).bytes(k.Hash[:]), k)
	m := c.Member
	m.Up, m.Draining, m.Since, m.Joined, m.Complete, m.Phase, m.Cursor = false, false, t.now(), t.now(), 0, PhaseDone, nil
	m.Retired, m.Leaving, m.Drained, m.Left, m.Found, m.Walk = 0, false, 0, 0, 0, nil
	m.Handed, m.By, m.Reason, m.Commit, m.Starts, m.CompleteActive = 0, "", "", 0, 0, 0
	m.Believes, m.Signer = "", ""
	m.Token = &c.Token
	t.put(tab(tabMember).mem(m.ID), m)
	t.inheritName(m)
	return Answer{}
}

// checkName refuses a joiner whose id was ever used, or whose name is in use
// by another member than the one it replaces.
func (t *tx) checkName(m Member, k Token) Answer {
	if _, was := t.Former(m.ID); was {
		return refuse(550, "5.5.0", "%s was a member, and is none any more: join with an empty data directory", m.ID)
	}
	if old, ok := t.Member(m.ID); ok {
		return refuse(550, "5.5.0", "a member %s is there already; choose another name", old.Name)
	}
	if old, ok := t.memberNamed(m.Name); ok && old.ID != k.Replace {
		return refuse(550, "5.5.0", "a member %s is there already; choose another name, or, if it has lost its disk, make a token with --replace %s", old.Name, old.Name)
	}
	return Answer{}
}

// lostNamed reports whether a member of that name was lost with an earlier
// generation, and nobody has the name since.
func (t Tables) lostNamed(name string) bool {
	for f := range t.Formers() {
		if f.How == HowLost && f.Heir == 0 && sameName(f.Name, name) {
			return true
		}
	}
	return false
}

// inheritName makes a new member the heir of those of its name that were lost:
// the gap of their Primary Safety Net is shown as its own.
func (t *tx) inheritName(m Member) {
	var lost []Former
	for f := range t.Formers() {
		if f.How == HowLost && f.Heir == 0 && sameName(f.Name, m.Name) {
			lost = append(lost, f)
		}
	}
	for _, f := range lost {
		f.Heir = m.ID
		t.put(tab(tabFormer).mem(f.ID), f)
	}
}

// memberNamed finds a member, not a retired one, by name without case.
func (t Tables) memberNamed(name string) (Member, bool) {
	for m := range t.Members() {
		if m.Retired == 0 && sameName(m.Name, name) {
			return m, true
		}
	}
	return Member{}, false
}

func sameName(a, b string) bool { return strings.EqualFold(a, b) }

// configure sets parameters, all or none.
func (t *tx) configure(c Configure) Answer {
	p := t.Params()
	names := slices.Sorted(maps.Keys(c.Set))
	for _, name := range names {
		d, ok := FindParameter(name)
		if !ok {
			return refuse(501, "5.5.4", "there is no parameter %q", name)
		}
		if err := d.Set(&p, cmp.Or(c.Set[name], d.Default)); err != nil {
			return refuse(501, "5.5.4", "%v", err)
		}
	}
	r := t.checkParams(p)
	if r == nil && slices.Contains(names, "shadow-message-preference") {
		r = t.checkPreference(p.ShadowMessagePreference)
	}
	if r != nil {
		return Answer{Refused: r}
	}
	was := t.Params()
	t.noteChange(was, p)
	for _, name := range names {
		k := tab(tabParam).text(name)
		if c.Set[name] == "" {
			t.delete(k)
			continue
		}
		d, _ := FindParameter(name)
		t.set(k, []byte(d.Text(p)))
	}
	t.openBoundary()
	return Answer{Count: len(names), Text: strings.Join(t.holdWarnings(was, p), "\n")}
}

// noteChange keeps what stays true of the parameters before their change: how
// long leases were good, and what may have expired already.
func (t *tx) noteChange(was, p Params) {
	b, _ := t.Boundary()
	if was.ShadowResubmitTimeSpan != p.ShadowResubmitTimeSpan {
		b.SpanWas, b.SpanAt = mail.Duration(was.ShadowResubmitTimeSpan.Milliseconds()), t.now()
	}
	if was.SafetyNetHoldTime < p.SafetyNetHoldTime {
		b.HeldFrom = t.HeldSince(t.now())
	}
	t.put(tab(tabBoundary), b)
}

// checkParams refuses settings that contradict each other or the databases.
func (t *tx) checkParams(p Params) *mail.Reply {
	for d := range t.Databases() {
		for _, c := range d.Copies {
			if c.Lag.Std() > p.SafetyNetHoldTime {
				return mail.Replyf(501, "5.5.4", "safety-net-hold-time %s is below the replay lag %s of copy %s of %s",
					mail.FormatDuration(p.SafetyNetHoldTime), mail.FormatDuration(c.Lag.Std()), c.Name, d.Name)
			}
		}
	}
	return nil
}

// holdWarnings are what a change of parameters calls for.
func (t *tx) holdWarnings(was, p Params) (w []string) {
	if was.SafetyNetHoldTime == p.SafetyNetHoldTime && was.ReplicationSlack == p.ReplicationSlack &&
		was.FailoverAfter == p.FailoverAfter && was.UnresponsivePrimaryTimeout == p.UnresponsivePrimaryTimeout {
		return nil
	}
	for d := range t.Databases() {
		w = append(w, p.HoldWarnings(d)...)
	}
	return w
}

// checkPreference refuses a preference by which no member could have a shadow
// server. Of a boundary with one member nothing is known yet.
func (t *tx) checkPreference(preference string) *mail.Reply {
	sites := map[string]int{}
	members := 0
	for m := range t.Members() {
		if m.Retired == 0 {
			sites[m.Site]++
			members++
		}
	}
	switch {
	case members < 2:
	case preference == "remote-only" && len(sites) == 1:
		return mail.Replyf(501, "5.5.4", "shadow-message-preference remote-only: all %d members are of one site", members)
	case preference == "local-only" && len(sites) == members:
		return mail.Replyf(501, "5.5.4", "shadow-message-preference local-only: no two members are of one site")
	}
	return nil
}

// spanMemory is how long leases of an older takeover span may still be good,
// in state machine time, with room to spare.
const spanMemory = 30 * time.Second

// LongestSpan is the longest shadow-resubmit-time-span by which leases that
// may still be good were granted.
func (t Tables) LongestSpan() time.Duration {
	span := t.Params().ShadowResubmitTimeSpan
	b, _ := t.Boundary()
	if t.Applied().Time < b.SpanAt.Add(spanMemory) {
		span = max(span, b.SpanWas.Std())
	}
	return span
}
