package cluster

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"mailraft/mail"
)

// withMargin is how long the leader waits for the end of a lease: two boot-time
// clocks may run a tenth apart.
func withMargin(lease time.Duration) time.Duration { return lease + lease/10 }

// Report is what a member last said of itself, and what the leader made of it.
type Report struct {
	Member   mail.MemberID
	At       time.Duration // when it came, in the leader's boot time
	Applied  uint64
	Complete uint64 // all content is there up to this index
	Active   uint64 // that of active messages; not less
	Commit   uint64
	Starts   uint64
	Wall     mail.Time
	Lag      uint64 // entries that its state was behind the leader's
	Stalled  bool   // its state stands still or is hopelessly behind: it is granted nothing
}

// grants is one term's account of leases. Pure: times come in as arguments.
type grants struct {
	began time.Duration // boot time when the term was won
	// older bounds what is left of an earlier leader's leases, counted from
	// began. Set once, before the term is open.
	older time.Duration

	mu       sync.Mutex
	lately   time.Duration // when a quorum last confirmed this leader
	since    time.Duration // beginning of the unbroken time in which it did
	accounts map[mail.MemberID]*account
}

// account is what the leader keeps for each member that it has heard of, or
// decides about.
type account struct {
	report   Report
	heard    bool
	since    time.Duration // when it was first seen in this term, or last seen to be down
	leased   bool          // a lease was granted in this term
	granted  time.Duration // when the last one was
	until    time.Duration // no lease of this term is good after it
	deciding bool
	decided  int // how often deciding began: a request from before gets no grant

	moved  time.Duration // when Applied last grew, or was as far as it could be
	floor  uint64        // the leader's applied index at the report before
	mark   uint64        // the leader's applied index at markAt
	markAt time.Duration
}

func newGrants(began time.Duration, members []mail.MemberID) *grants {
	g := &grants{began: began, older: leaseMax, lately: began, since: began, accounts: map[mail.MemberID]*account{}}
	for _, id := range members {
		g.account(id, began)
	}
	return g
}

func (g *grants) account(id mail.MemberID, now time.Duration) *account {
	a := g.accounts[id]
	if a == nil {
		a = &account{since: now}
		g.accounts[id] = a
	}
	return a
}

// heard notes a request that came at now, when the leader's own state was at
// index, and returns a ticket for grant.
//
// A member's state stands still if, for the length of a lease, its index has
// not grown though the leader's state was already further one request before.
// It is hopelessly behind if it takes longer than the takeover span to reach
// where the leader's state was: it cannot use leases, so somebody else should
// have its messages.
func (g *grants) heard(r Report, index uint64, now, span time.Duration) (ticket int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.account(r.Member, now)
	if !a.heard || r.Applied > a.report.Applied || r.Applied >= a.floor {
		a.moved = now
	}
	if !a.heard || r.Applied >= a.mark {
		a.mark, a.markAt = index, now
	}
	a.floor = index
	r.At = now
	r.Lag = index - min(index, r.Applied)
	r.Stalled = now-a.moved >= leaseTime(span) || now-a.markAt >= span
	a.report, a.heard = r, true
	return a.decided
}

// refuses says why a member is granted nothing, as far as the account knows.
func (g *grants) refuses(id mail.MemberID, ticket int) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.accounts[id].refuses(ticket)
}

func (a *account) refuses(ticket int) string {
	switch {
	case a.deciding:
		return "it is being decided whether this member is down"
	case a.decided != ticket:
		return "it was decided about this member meanwhile"
	case a.report.Stalled:
		return "the state of this member does not keep up"
	}
	return ""
}

// grant enters a lease in the account, unless there is a reason against it.
func (g *grants) grant(id mail.MemberID, ticket int, now, length time.Duration) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.account(id, now)
	if why := a.refuses(ticket); why != "" {
		return why
	}
	a.granted, a.leased = now, true
	a.until = max(a.until, now+withMargin(length)) // the member counts from earlier
	return ""
}

// able notes that a quorum confirmed the leader. After a pause longer than a
// lease (the process was stopped, the machine slept, the network was gone) no
// member can be blamed for having had no grant: waiting begins anew.
func (g *grants) able(now, span time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now-g.lately > leaseTime(span) {
		g.since = now
	}
	g.lately = now
}

// overdue are those of the members up to whom nothing was granted for span,
// counted from the latest of the last grant, the beginning of the term, the
// time since which this leader has been able to grant, and the time since
// which the member has been there and up.
func (g *grants) overdue(up, down []mail.MemberID, now, span time.Duration) []mail.MemberID {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, id := range down {
		g.account(id, now).since = now
	}
	if now-g.lately > leaseTime(span) {
		return nil
	}
	var ids []mail.MemberID
	for _, id := range up {
		a := g.account(id, now)
		since := max(a.granted, g.began, g.since, a.since)
		if !a.deciding && now-since >= span && g.over(a, now) {
			ids = append(ids, id)
		}
	}
	return ids
}

// over: no lease of the member can be good any more, neither of this term nor
// of an earlier leader: that one's last grants answered requests that were sent
// before this term was won, and were for g.older at most.
func (g *grants) over(a *account, now time.Duration) bool {
	return (!a.leased || now >= a.until) && now >= g.began+withMargin(g.older)
}

// decide marks or unmarks a member, and reports whether its leases are over.
func (g *grants) decide(id mail.MemberID, deciding bool, now time.Duration) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.account(id, now)
	if deciding && !a.deciding {
		a.decided++
	}
	a.deciding = deciding
	return g.over(a, now)
}

// leaseOver is over for a member that is marked: for another one it would be
// untrue the next moment.
func (g *grants) leaseOver(id mail.MemberID, now time.Duration) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.accounts[id]
	return a != nil && a.deciding && g.over(a, now)
}

func (g *grants) reports() []Report {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []Report
	for _, a := range g.accounts {
		if a.heard {
			all = append(all, a.report)
		}
	}
	slices.SortFunc(all, func(a, b Report) int { return cmp.Compare(a.Member, b.Member) })
	return all
}

func (g *grants) lastGrant(id mail.MemberID) (time.Duration, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if a := g.accounts[id]; a != nil {
		return a.granted, a.leased
	}
	return 0, false
}
