package cluster

import (
	"testing"
	"time"

	"mailraft/mail"
)

// handClock is set by hand.
type handClock struct {
	boot time.Duration
	wall mail.Time
}

func (c *handClock) Boot() time.Duration { return c.boot }
func (c *handClock) Wall() mail.Time     { return c.wall }

func TestTimekeeper(t *testing.T) {
	const day = 24 * time.Hour
	noon := mail.At(time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC))
	// A step: so much time goes by, then the members 1 (the leader), 2, … have
	// clocks that are wrong by so much and report. silent members do not.
	const silent = 1000 * day
	type step struct {
		pass    time.Duration
		wrong   []time.Duration
		want    time.Duration // state machine time is ahead of the right time by
		trusted bool
	}
	for _, test := range []struct {
		name   string
		behind time.Duration // of the last applied time at the beginning
		steps  []step
	}{
		{"all agree", time.Minute, []step{
			{0, []time.Duration{0, 0, 0}, 0, true},
			{time.Minute, []time.Duration{0, 0, 0}, 0, true},
		}},
		{"no reports yet", time.Minute, []step{
			{10 * time.Second, []time.Duration{0, silent, silent}, -time.Minute, false},
		}},
		{"drawn to the median, not beyond", time.Minute, []step{
			{0, []time.Duration{0, 2 * time.Second, 4 * time.Second}, 2 * time.Second, true},
		}},
		{"of two the lower", time.Minute, []step{
			{0, []time.Duration{4 * time.Second, 0, silent}, 0, true},
		}},
		{"exactly 5 s apart", time.Minute, []step{
			{0, []time.Duration{0, agreement, silent}, 0, true},
		}},
		{"just over", time.Minute, []step{
			{0, []time.Duration{0, agreement + time.Millisecond, silent}, -time.Minute, false},
		}},
		{"a member three days ahead", 0, []step{
			{time.Second, []time.Duration{0, 3 * day, 0}, 0, true},
			{time.Hour, []time.Duration{0, 3 * day, 0}, 0, true},
		}},
		{"a member three days behind", 0, []step{
			{time.Second, []time.Duration{0, 0, -3 * day}, 0, true},
		}},
		{"one ahead, one behind: nobody agrees with the leader", 0, []step{
			{time.Second, []time.Duration{0, 3 * day, -3 * day}, 0, false},
			{time.Hour, []time.Duration{0, 3 * day, -3 * day}, 0, false},
			{time.Second, []time.Duration{0, 0, -3 * day}, 0, true},
		}},
		{"the leader jumps ahead and comes back", 0, []step{
			{time.Second, []time.Duration{0, 0, 0}, 0, true},
			{time.Second, []time.Duration{3 * day, 0, 0}, 0, false},
			{time.Hour, []time.Duration{3 * day, 0, 0}, 0, false},
			{time.Second, []time.Duration{0, 0, 0}, 0, true},
		}},
		{"the leader jumps back", 0, []step{
			{time.Second, []time.Duration{0, 0, 0}, 0, true},
			{time.Minute, []time.Duration{-3 * day, 0, 0}, 0, false},
		}},
		{"all jump ahead together and come back: time never does", 0, []step{
			{time.Second, []time.Duration{0, 0, 0}, 0, true},
			{time.Second, []time.Duration{3 * day, 3 * day, 3 * day}, 3 * day, true},
			{time.Hour, []time.Duration{0, 0, 0}, 3 * day, true},
			{time.Hour, []time.Duration{0, 0, 0}, 3 * day, true},
		}},
		{"all were switched off for three days", 3 * day, []step{
			{time.Second, []time.Duration{0, silent, silent}, -3 * day, false},
			{time.Second, []time.Duration{0, 0, silent}, 0, true},
		}},
		{"switched off, and the leader woke with its clock at the beginning", 3 * day, []step{
			{time.Second, []time.Duration{-20000 * day, 0, 0}, -3 * day, false},
		}},
		{"a reading that is too old agrees with nobody", 0, []step{
			{time.Second, []time.Duration{0, 0, silent}, 0, true},
			{readingTime, []time.Duration{0, silent, silent}, 0, true},
			{time.Millisecond, []time.Duration{0, silent, silent}, 0, false},
		}},
		{"three of five", time.Hour, []step{
			{0, []time.Duration{0, -time.Second, 2 * time.Second, 3 * day, -3 * day}, 0, true},
		}},
		{"two of five are not enough", time.Hour, []step{
			{0, []time.Duration{0, time.Second, 9 * time.Second, 3 * day, silent}, -time.Hour, false},
		}},
		{"of two sets with the leader the larger", time.Hour, []step{
			{0, []time.Duration{0, -4 * time.Second, 2 * time.Second, 3 * time.Second, 3 * day}, 2 * time.Second, true},
		}},
		{"alone", time.Hour, []step{
			{0, []time.Duration{0}, 0, true},
			{time.Second, []time.Duration{-time.Hour}, 0, true},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			right := noon
			clock := &handClock{boot: time.Hour, wall: right}
			k := newTimekeeper(clock, 1, noon.Add(-test.behind))
			last := k.now()
			for i, s := range test.steps {
				var voters []mail.MemberID
				clock.boot += s.pass
				right = right.Add(s.pass)
				clock.wall = right.Add(s.wrong[0])
				for m := range s.wrong {
					voters = append(voters, mail.MemberID(m+1))
				}
				for m, wrong := range s.wrong {
					if wrong != silent {
						k.report(mail.MemberID(m+1), right.Add(wrong), voters)
					}
				}
				now := k.now()
				if now < last {
					t.Errorf("step %d: time went back by %v", i, last.Sub(now))
				}
				last = now
				if got := now.Sub(right); got != s.want {
					t.Errorf("step %d: time is ahead by %v, want %v", i, got, s.want)
				}
				if _, ok := k.trusted(voters); ok != s.trusted {
					t.Errorf("step %d: trusted %v", i, ok)
				}
			}
		})
	}
}

func TestTimekeeperRaise(t *testing.T) {
	clock := &handClock{}
	k := newTimekeeper(clock, 1, 1000)
	clock.boot = time.Second
	k.raise(1500) // behind: nothing happens
	if got := k.now(); got != 2000 {
		t.Errorf("now %d", got)
	}
	k.raise(9000)
	clock.boot += time.Millisecond
	if got := k.now(); got != 9001 {
		t.Errorf("now %d", got)
	}
}

func TestSystemClock(t *testing.T) {
	var c systemClock
	a, b := c.Boot(), c.Boot()
	if a <= 0 || b < a || c.Wall() == 0 {
		t.Errorf("boot time %v, then %v; wall %v", a, b, c.Wall())
	}
}
