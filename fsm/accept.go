package fsm

import (
	"slices"
	"time"

	"mailraft/directory"
	"mailraft/mail"
	"mailraft/mail/reply"
)

// submissionLife is how long the first answer to a submission is remembered,
// in state machine time. No not-after reaches further ahead than notAfterMax,
// so an answer is forgotten only when its Accept would be refused anyway.
const (
	submissionLife = time.Hour
	notAfterMax    = submissionLife / 2
)

// accept applies Accept. The first answer to a submission stands, acceptance
// or refusal, so it is looked up before anything else.
func (t *tx) accept(c Accept) Answer {
	s := c.Submission
	if a, ok := t.answered(s.Content.ID); ok {
		return a
	}
	var a Answer
	if adm, refusal := t.admit(s); refusal != nil {
		a.Refused = refusal
	} else {
		a.ID = t.enqueue(s, adm, mail.ID{})
	}
	t.remember(s.Content.ID, a)
	return a
}

// admission says how a submission may come in.
type admission struct {
	shadow mail.MemberID
	marked bool // fewer copies than a majority, and a parameter allows that
}

// admit checks at this index what must be so before a submission becomes a
// message; nothing is written. DESIGN.md, argument 1.
func (t *tx) admit(s mail.Submission) (a admission, refusal *mail.Reply) {
	if refusal = checkShape(s); refusal == nil {
		refusal = t.checkPrimary(s)
	}
	if refusal == nil {
		a.marked, refusal = t.checkHolders(s)
	}
	if refusal != nil {
		return a, refusal
	}
	a.shadow = t.chooseShadow(s.Primary, s.Content.ID, func(m Member) bool { return slices.Contains(s.Holders, m.ID) })
	p := t.Params()
	if a.shadow == 0 && p.ShadowRedundancyEnabled && p.RejectMessageOnShadowFailure {
		return a, reply.NoShadow.Reply()
	}
	return a, nil
}

func checkShape(s mail.Submission) *mail.Reply {
	switch n := len(s.Envelope.Recipients); {
	case n == 0:
		return reply.Empty.Reply()
	case n > recipientsPerRow:
		return reply.RowTooLarge.Reply(n, recipientsPerRow)
	}
	if err := s.Overlay.Check(); err != nil {
		return reply.FilterTooMuch.Reply(err)
	}
	return nil
}

func (t *tx) checkPrimary(s mail.Submission) *mail.Reply {
	now := t.Settings()
	primary := now.Member(s.Primary)
	switch {
	case !now.Boundary.Opened:
		return reply.NoVoters.Reply()
	case tooLate(t.now(), s.Content.NotAfter):
		return reply.ClosedLongAgo.Reply()
	case s.Content.NotAfter > t.now().Add(notAfterMax):
		return reply.TooFarAhead.Reply()
	case primary == nil || !primary.Takes() || !now.Voter(s.Primary):
		return reply.NotPrimary.Reply()
	case !slices.Contains(s.Holders, s.Primary):
		return reply.PrimaryLacks.Reply()
	}
	return nil
}

// checkHolders counts only voters: a majority of anything else need not share
// a member with the majority that commits the entry.
func (t *tx) checkHolders(s mail.Submission) (marked bool, refusal *mail.Reply) {
	b := &t.Settings().Boundary
	holds := func(id mail.MemberID) bool { return slices.Contains(s.Holders, id) }
	if b.Quorum(holds) {
		return false, nil
	}
	p := t.Params()
	if !p.ShadowRedundancyEnabled || !p.RejectMessageOnShadowFailure {
		return true, nil
	}
	if held := count(b.Voters, holds); held <= len(b.Voters)/2 {
		return false, reply.TooFewHold.Reply(held, len(b.Voters))
	}
	return false, reply.TooFewToBe.Reply(count(b.Next, holds), len(b.Next))
}

// enqueue makes the row of an admitted submission.
func (t *tx) enqueue(s mail.Submission, a admission, origin mail.ID) mail.ID {
	e := t.create(s.Content)
	e.Envelope, e.Trace, e.Fields = s.Envelope, s.Trace, s.Fields
	e.Primary, e.Shadow, e.Holders, e.Marked, e.Origin = s.Primary, a.shadow, s.Holders, a.marked, origin
	e.note(Event{Kind: EventReceive, At: t.now(), Member: s.Primary, Text: receivedFrom(s.Trace)})
	t.noteShadow(e.Message)
	t.filtered(e.Message, s)
	// What is ours to send, a report to a sender, may go anywhere.
	relay := s.Envelope.Relay || !origin.IsZero()
	now, rest := directory.Resolve(t.Tables, s.Envelope.Recipients, relay, recipientsPerRow)
	t.addRecipients(e.Message, now)
	e.oweExpansions(rest)
	if len(rest) > 0 {
		t.beginExpansion(e.Message, rest)
	}
	t.save(e)
	return e.ID
}

// filteredMax is how many lines a history takes of what filters did.
const filteredMax = 8

// filtered takes over what filters made of a submission.
func (t *tx) filtered(m *Message, s mail.Submission) {
	m.Overlay = s.Overlay
	for _, text := range s.Filtered[:min(len(s.Filtered), filteredMax)] {
		m.note(Event{Kind: EventFilter, At: t.now(), Member: m.Primary, Text: text})
	}
	if s.Quarantine == "" {
		return
	}
	m.Suspended, m.Quarantine = true, short(s.Quarantine)
	m.note(Event{Kind: EventQuarantine, At: t.now(), Member: m.Primary, Text: m.Quarantine})
}

// receivedFrom is whom a message came from, as its history says it.
func receivedFrom(t mail.Trace) string {
	if t.User == "" {
		return t.Address
	}
	return t.Address + ", authenticated as " + t.User
}

func (t *tx) noteShadow(m *Message) {
	if m.Shadow == 0 {
		m.note(Event{Kind: EventUnshadowed, At: t.now(), Member: m.Primary})
		return
	}
	m.note(Event{Kind: EventRedirect, At: t.now(), Member: m.Primary})
	m.note(Event{Kind: EventShadow, At: t.now(), Member: m.Shadow})
}

func (t *tx) addRecipients(m *Message, resolved []directory.Resolved) {
	asked := m.askedOf()
	for _, r := range resolved {
		rc := Recipient{Address: r.Address, Database: r.Database, NextHop: r.NextHop, Next: t.now(), Via: r.Via, Resubmitted: m.Request != 0}
		if r.Original != r.Address {
			rc.Original = r.Original
			kind := EventResolve
			if len(r.Via) > 0 {
				kind = EventExpand
			}
			if len(resolved) <= 20 { // a large group does not fill its history with its members
				m.note(Event{Kind: kind, At: t.now(), Recipient: r.Address, Text: r.Original})
			}
		}
		if r.Kind == directory.Failed {
			rc.Reply = r.Reply
		}
		rc.Asked = asked[r.Original]
		m.Recipients = append(m.Recipients, rc)
	}
}

// chooseShadow picks the shadow server among the members that are up, are not
// the primary, and qualify: by site as shadow-message-preference says, and
// among equals by content id, so that load spreads. Zero: there is none.
func (t *tx) chooseShadow(primary mail.MemberID, spread mail.ContentID, qualifies func(Member) bool) mail.MemberID {
	if !t.Params().ShadowRedundancyEnabled {
		return 0
	}
	return t.pick(primary, spread, true, qualifies)
}

// pick is chooseShadow whatever shadow-redundancy-enabled says. Unless strict,
// a member of any site does where the preferred kind has none.
func (t *tx) pick(primary mail.MemberID, spread mail.ContentID, strict bool, qualifies func(Member) bool) mail.MemberID {
	now := t.Settings()
	var site string
	if own := now.Member(primary); own != nil {
		site = own.Site
	}
	var remote, local []mail.MemberID
	for _, m := range now.Members {
		if m.ID == primary || !m.Takes() || !qualifies(m) {
			continue
		}
		if m.Site != site {
			remote = append(remote, m.ID)
		} else {
			local = append(local, m.ID)
		}
	}
	best := remote
	switch preference := t.Params().ShadowMessagePreference; {
	case preference == "local-only", preference == "prefer-remote" && len(remote) == 0:
		best = local
	}
	if len(best) == 0 && !strict {
		best = append(remote, local...)
	}
	if len(best) == 0 {
		return 0
	}
	return best[int(spread[len(spread)-1])%len(best)]
}

// withdraw applies Withdraw: if the submission has no answer yet, it is
// refused for good. The answer says what stands.
func (t *tx) withdraw(c Withdraw) Answer {
	if a, ok := t.answered(c.Content); ok {
		return a
	}
	a := refuse(451, "4.3.0", "withdrawn")
	t.remember(c.Content, a)
	return a
}

func (t *tx) answered(id mail.ContentID) (Answer, bool) {
	var s submitted
	if t.recent.absent(t.Tables, id) || !t.get(tab(tabSubmission).bytes(id[:]), &s) {
		return Answer{}, false
	}
	return Answer{ID: s.ID, Refused: s.Refused}, true
}

func (t *tx) remember(id mail.ContentID, a Answer) {
	t.recent.note(id)
	t.put(tab(tabSubmission).bytes(id[:]), submitted{At: t.now(), ID: a.ID, Refused: a.Refused})
	t.set(tab(tabSubmitted).time(t.now()).bytes(id[:]), nil)
}

// forgetSubmissions drops answers that are old enough, at most limit of them;
// true: there may be more.
func (t *tx) forgetSubmissions(limit int) bool {
	var old []key
	low := tab(tabSubmitted)
	for k := range t.Scan(low, tab(tabSubmitted).time(t.ago(submissionLife))) {
		if old = append(old, slices.Clone(k)); len(old) == limit {
			break
		}
	}
	for _, k := range old {
		t.delete(k)
		t.delete(tab(tabSubmission).bytes(k[len(low)+8:]))
	}
	return len(old) == limit
}
