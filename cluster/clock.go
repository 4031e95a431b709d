package cluster

import (
	"slices"
	"sync"
	"time"

	"mailraft/mail"
)

// agreement is how far apart clocks may be that are said to agree.
const agreement = 5 * time.Second

// readingTime is how long a member's clock reading counts. It is carried
// forward by the leader's boot-time clock, so age does no harm as such; but a
// member that is silent agrees with nobody.
const readingTime = leaseMax

// timekeeper is the state machine time of one term: the time of the last
// applied entry, going on by the leader's boot-time clock, and drawn forward
// to the clocks of a majority where there is one. It never goes back, whatever
// any wall clock does.
type timekeeper struct {
	clock Clock
	self  mail.MemberID

	mu       sync.Mutex
	base     mail.Time     // state machine time
	at       time.Duration // when it was base, in boot time
	readings map[mail.MemberID]reading
}

// reading is a member's wall clock as it came with a lease request.
type reading struct {
	wall mail.Time
	at   time.Duration // boot time of its arrival
}

func newTimekeeper(clock Clock, self mail.MemberID, base mail.Time) *timekeeper {
	return &timekeeper{clock: clock, self: self, base: base, at: clock.Boot(), readings: map[mail.MemberID]reading{}}
}

// now is the state machine time of this moment.
func (k *timekeeper) now() mail.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.read(k.clock.Boot())
}

func (k *timekeeper) read(boot time.Duration) mail.Time { return k.base.Add(boot - k.at) }

// raise makes sure that time is not before t.
func (k *timekeeper) raise(t mail.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.raiseAt(t, k.clock.Boot())
}

func (k *timekeeper) raiseAt(t mail.Time, boot time.Duration) {
	if t > k.read(boot) {
		k.base, k.at = t, boot
	}
}

// report takes a member's reading and draws time forward if a majority of the
// voters now agrees.
func (k *timekeeper) report(id mail.MemberID, wall mail.Time, voters []mail.MemberID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	boot := k.clock.Boot()
	k.readings[id] = reading{wall, boot}
	if median, ok := k.agreed(boot, voters); ok {
		k.raiseAt(median, boot)
	}
}

// trusted reports whether a majority of the voters agrees now, and how far
// state machine time is ahead of them; behind it never is for long.
func (k *timekeeper) trusted(voters []mail.MemberID) (ahead time.Duration, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	boot := k.clock.Boot()
	median, ok := k.agreed(boot, voters)
	if !ok {
		return 0, false
	}
	return k.read(boot).Sub(median), true
}

// agreed finds the largest set of voters, this leader in it, whose clocks are
// at most agreement apart. If it is a majority, its median is the time: the
// lower one of two, because time drawn too far cannot be taken back.
func (k *timekeeper) agreed(boot time.Duration, voters []mail.MemberID) (mail.Time, bool) {
	if !slices.Contains(voters, k.self) {
		return 0, false
	}
	own := k.clock.Wall() // read now, not as of the last report: it may have jumped
	clocks := []mail.Time{own}
	for _, id := range voters {
		if r, ok := k.readings[id]; ok && id != k.self && boot-r.at <= readingTime {
			clocks = append(clocks, r.wall.Add(boot-r.at))
		}
	}
	slices.Sort(clocks)
	var best []mail.Time
	for i, first := range clocks {
		last := i
		for last+1 < len(clocks) && clocks[last+1].Sub(first) <= agreement {
			last++
		}
		if first <= own && own <= clocks[last] && last-i+1 > len(best) {
			best = clocks[i : last+1]
		}
	}
	if len(best) <= len(voters)/2 {
		return 0, false
	}
	return best[(len(best)-1)/2], true
}

// Time is the state machine time that this leader would stamp now; false if
// this member does not lead.
func (n *Node) Time() (mail.Time, bool) {
	l := n.leading()
	if l == nil {
		return 0, false
	}
	return l.time.now(), true
}

// Trusted reports whether state machine time rests on the clocks of a majority
// of the voters, this leader's among them, and how far it is ahead of them.
// While it is false time goes on, drawn to nothing, and status is critical.
func (n *Node) Trusted() (ahead time.Duration, ok bool) {
	l := n.leading()
	if l == nil {
		return 0, false
	}
	return l.time.trusted(n.Voters())
}
