package cluster

import (
	"slices"
	"testing"
	"time"

	"mailraft/mail"
)

const second = time.Second

func TestLeaseTime(t *testing.T) {
	for _, test := range []struct{ span, want time.Duration }{
		{30 * second, 10 * second},
		{3 * time.Hour, 10 * second},
		{6 * second, 2 * second},
		{0, 0},
	} {
		if got := leaseTime(test.span); got != test.want {
			t.Errorf("span %v: %v, want %v", test.span, got, test.want)
		}
	}
}

func TestLease(t *testing.T) {
	type get struct {
		index        uint64
		sent, length time.Duration
	}
	type step struct {
		at      time.Duration
		applied uint64
		get     *get
		until   time.Duration
		valid   bool
	}
	for name, steps := range map[string][]step{
		"never granted":            {{5 * second, 9, nil, 0, false}},
		"counted from the sending": {{8 * second, 9, &get{9, 1 * second, 10 * second}, 11 * second, true}, {11 * second, 9, nil, 11 * second, false}},
		"came too late":            {{12 * second, 9, &get{9, 1 * second, 10 * second}, 11 * second, false}},
		"not before the index is applied": {
			{1 * second, 8, &get{9, 1 * second, 10 * second}, 0, false},
			{2 * second, 8, nil, 0, false},
			{3 * second, 9, nil, 11 * second, true},
		},
		"reached when it is over": {
			{1 * second, 8, &get{9, 1 * second, 10 * second}, 0, false},
			{11 * second, 9, nil, 11 * second, false},
		},
		"an earlier lease stays good": {
			{1 * second, 5, &get{5, 1 * second, 10 * second}, 11 * second, true},
			{4 * second, 5, &get{9, 4 * second, 10 * second}, 11 * second, true},
			{11 * second, 5, nil, 11 * second, false},
			{12 * second, 9, nil, 14 * second, true},
		},
		"a shorter one takes nothing away": {
			{1 * second, 5, &get{5, 1 * second, 10 * second}, 11 * second, true},
			{2 * second, 5, &get{5, 2 * second, 2 * second}, 11 * second, true},
		},
		"always behind, but less than a lease": {
			{1 * second, 1, &get{3, 1 * second, 10 * second}, 0, false},
			{3 * second, 2, &get{5, 3 * second, 10 * second}, 0, false},
			{5 * second, 3, &get{7, 5 * second, 10 * second}, 11 * second, true},
			{7 * second, 5, &get{9, 7 * second, 10 * second}, 13 * second, true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			clock := &handClock{}
			var applied uint64
			l := newLease(clock, func() uint64 { return applied })
			for i, s := range steps {
				clock.boot, applied = s.at, s.applied
				if s.get != nil {
					l.add(s.get.index, s.get.sent, s.get.length)
				}
				if got := l.Until(); got != s.until || l.Valid() != s.valid {
					t.Errorf("step %d: until %v, valid %v; want %v, %v", i, got, l.Valid(), s.until, s.valid)
				}
			}
		})
	}
}

func TestLeaseKeepsFewGrants(t *testing.T) {
	l := newLease(&handClock{}, func() uint64 { return 0 })
	for i := range 100 {
		l.add(uint64(i+1), 0, 10*second)
	}
	if len(l.waiting) != waitingMax {
		t.Errorf("%d grants are kept", len(l.waiting))
	}
}

// Accounts of a term that began at 100 s; the span is 30 s. The leader is
// confirmed every second unless the case says otherwise.
func TestOverdue(t *testing.T) {
	const began, span = 100 * second, 30 * second
	members := []mail.MemberID{1, 2}
	for _, test := range []struct {
		name string
		do   func(g *grants)
		gap  [2]time.Duration // not confirmed between
		span time.Duration
		at   time.Duration
		want []mail.MemberID
	}{
		{name: "counted from the beginning of the term", span: span, at: began + span - 1},
		{name: "and then overdue", span: span, at: began + span, want: members},
		{name: "counted from the last grant", span: span, at: began + span, want: members[:1],
			do: func(g *grants) { g.grant(2, 0, began+second, 10*second) }},
		{name: "until that is over", span: span, at: began + span + second, want: members,
			do: func(g *grants) { g.grant(2, 0, began+second, 10*second) }},
		{name: "being decided already", span: span, at: began + span, want: members[1:],
			do: func(g *grants) { g.decide(1, true, began) }},
		{name: "the leader was asleep until now", span: span, at: began + time.Hour,
			gap: [2]time.Duration{began + second, began + time.Hour}},
		{name: "the leader woke a span ago", span: span, at: began + time.Hour + span, want: members,
			gap: [2]time.Duration{began + second, began + time.Hour}},
		{name: "a short span does not outrun an old leader's leases", span: 3 * second, at: began + 10*second},
		{name: "a short span, all leases over", span: 3 * second, at: began + 11*second, want: members},
		{name: "the span was cut after the grant", span: 3 * second, at: began + 24*second, want: members[:1],
			do: func(g *grants) { g.grant(2, 0, began+15*second, 10*second) }},
		{name: "that grant is over", span: 3 * second, at: began + 26*second, want: members,
			do: func(g *grants) { g.grant(2, 0, began+15*second, 10*second) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := newGrants(began, members)
			if test.do != nil {
				test.do(g)
			}
			for at := began; at <= test.at; at += second / 2 {
				if test.gap[1] == 0 || at <= test.gap[0] || at >= test.gap[1] {
					g.able(at, test.span)
				}
			}
			if got := g.overdue(members, nil, test.at, test.span); !slices.Equal(got, test.want) {
				t.Errorf("overdue %v, want %v", got, test.want)
			}
		})
	}
}

func TestOverdueCountsFromComingUp(t *testing.T) {
	const span = 30 * second
	g := newGrants(0, []mail.MemberID{1})
	both := []mail.MemberID{1, 2}
	for at := time.Duration(0); at < 3*time.Minute; at += second {
		g.able(at, span)
		var got, want []mail.MemberID
		if at < time.Minute {
			got = g.overdue(nil, both[:1], at, span)
		} else { // the first comes up, the second joins
			got = g.overdue(both, nil, at, span)
		}
		switch {
		case at >= time.Minute+span:
			want = both
		case at >= time.Minute+span-second:
			want = both[:1] // was last seen down a second earlier
		}
		if !slices.Equal(got, want) {
			t.Errorf("at %v: overdue %v, want %v", at, got, want)
		}
	}
}

func TestDeciding(t *testing.T) {
	g := newGrants(0, nil)
	ticket := g.heard(Report{Member: 1, Applied: 1}, 1, 20*second, 30*second)
	if why := g.grant(1, ticket, 20*second, 10*second); why != "" {
		t.Fatal(why)
	}
	if g.decide(1, true, 21*second) {
		t.Error("over while a lease is good")
	}
	if why := g.grant(1, ticket, 22*second, 10*second); why == "" {
		t.Error("granted while it is being decided")
	}
	if g.leaseOver(1, 30*second) || !g.leaseOver(1, 31*second) {
		t.Error("the lease of 20 s is over at 30 s, with the margin at 31 s")
	}
	g.decide(1, false, 32*second)
	if g.leaseOver(1, 40*second) {
		t.Error("over for a member that may be granted a lease the next moment")
	}
	if why := g.grant(1, ticket, 33*second, 10*second); why == "" {
		t.Error("granted for an index that was read before it was decided")
	}
	ticket = g.heard(Report{Member: 1, Applied: 1}, 1, 34*second, 30*second)
	if why := g.grant(1, ticket, 34*second, 10*second); why != "" {
		t.Errorf("after the decision: %s", why)
	}
}

// A member reports every 2 s; its index and the leader's are functions of the
// number of the report.
func TestStalled(t *testing.T) {
	for _, test := range []struct {
		name           string
		leader, member func(i int) int
		want           int // the first report that is refused; -1 for none
	}{
		{"nothing happens", func(int) int { return 7 }, func(int) int { return 7 }, -1},
		{"keeps up, one report behind", func(i int) int { return 10 * (i + 1) }, func(i int) int { return 10 * i }, -1},
		{"stands still while the leader moves", func(i int) int { return 10 * i }, func(i int) int { return min(10*i, 50) }, 11},
		{"stands still from the beginning", func(i int) int { return 100 + i }, func(i int) int { return 5 }, 5},
		{"both stand still, the member behind", func(i int) int { return 100 }, func(i int) int { return 5 }, 5},
		{"comes nearer, slowly", func(i int) int { return 1000 + i }, func(i int) int { return 10 * i }, 15},
		{"catches up", func(i int) int { return 1000 + i }, func(i int) int { return min(100*i, 1000+i) }, -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := newGrants(0, nil)
			first := -1
			for i := range 40 {
				now := time.Duration(i) * 2 * second
				g.heard(Report{Member: 1, Applied: uint64(test.member(i))}, uint64(test.leader(i)), now, 30*second)
				if g.reports()[0].Stalled && first < 0 {
					first = i
				}
			}
			if first != test.want {
				t.Errorf("refused from report %d, want %d", first, test.want)
			}
		})
	}
}
