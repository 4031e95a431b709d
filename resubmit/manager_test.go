package resubmit

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"mailraft/mail"
)

// boundary is a replicated state in memory, with members that look at copies.
type boundary struct {
	t        *testing.T
	mu       sync.Mutex
	start    time.Time
	state    State
	voters   []mail.MemberID
	eyes     map[mail.MemberID]map[string]*eye // by "DB1/a"
	silent   map[mail.MemberID]bool            // its words do not reach the leader
	manager  *Manager
	declared []string
	activate []string
	refuse   error             // of Activate
	before   func(d *Database) // of Activate
	log      hclog.Logger
}

// eye is how a member sees a copy.
type eye struct {
	healthy bool
	since   time.Time
}

const text = "connection refused"

// theBoundary has three voters and one database with a copy a, which is
// active, and the others.
func theBoundary(t *testing.T, others ...Copy) *boundary {
	b := &boundary{t: t, log: hclog.NewNullLogger(), start: time.Now(), voters: []mail.MemberID{1, 2, 3}, eyes: map[mail.MemberID]map[string]*eye{}, silent: map[mail.MemberID]bool{}}
	b.state = State{FailoverAfter: after, Databases: []Database{{Name: "DB1", Active: "a", Activation: 1, Copies: append([]Copy{{Name: "a", Addr: "lmtp://a"}}, others...)}}}
	b.state.Quorum = func(has func(mail.MemberID) bool) bool {
		n := 0
		for _, v := range b.voters {
			if has(v) {
				n++
			}
		}
		return n > len(b.voters)/2
	}
	for i := range b.state.Databases[0].Copies {
		c := &b.state.Databases[0].Copies[i]
		if c.Addr == "" {
			c.Addr = "lmtp://" + c.Name
		}
	}
	for _, v := range b.voters {
		b.eyes[v] = map[string]*eye{}
		for _, c := range b.state.Databases[0].Copies {
			b.eyes[v][c.Name] = &eye{true, b.start}
		}
	}
	return b
}

// copies are healthy ones of these names.
func copies(names ...string) (list []Copy) {
	for _, n := range names {
		list = append(list, Copy{Name: n})
	}
	return list
}

// lead runs a Manager for as long as the term lasts.
func (b *boundary) lead(t *testing.T) (end func()) {
	ctx, cancel := context.WithCancel(t.Context())
	m := NewManager(b.log)
	b.mu.Lock()
	b.manager = m
	b.mu.Unlock()
	var work sync.WaitGroup
	work.Go(func() { m.Run(ctx, b) })
	for _, id := range b.voters {
		work.Go(func() {
			time.Sleep(100 * time.Millisecond) // so that rounds, words and what happens never fall together
			for ctx.Err() == nil {
				b.tell(m, id)
				select {
				case <-time.After(Interval(b.State().FailoverAfter)):
				case <-ctx.Done():
				}
			}
		})
	}
	end = func() { cancel(); work.Wait() }
	t.Cleanup(end)
	rest(200 * time.Millisecond)
	return end
}

func (b *boundary) tell(m *Manager, id mail.MemberID) {
	b.mu.Lock()
	var found []Finding
	for _, d := range b.state.Databases {
		for _, c := range d.Copies {
			e := b.eyes[id][c.Name]
			if e == nil {
				continue
			}
			f := Finding{Database: d.Name, Copy: c.Name, Addr: c.Addr, Healthy: e.healthy, For: mail.Duration(time.Since(e.since).Milliseconds())}
			if !e.healthy {
				f.Text = text
			}
			found = append(found, f)
		}
	}
	silent := b.silent[id]
	b.mu.Unlock()
	if !silent {
		m.Hear(id, found, Pressure{})
	}
}

// see changes how members see a copy.
func (b *boundary) see(name string, healthy bool, members ...mail.MemberID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range members {
		if e := b.eyes[id][name]; e == nil || e.healthy != healthy {
			b.eyes[id][name] = &eye{healthy, time.Now()}
		}
	}
}

func (b *boundary) die(name string)  { b.see(name, false, b.voters...) }
func (b *boundary) rise(name string) { b.see(name, true, b.voters...) }

// State implements Boundary.
func (b *boundary) State() State {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.state
	s.Now = b.now()
	s.Databases = slices.Clone(s.Databases)
	for i := range s.Databases {
		s.Databases[i].Copies = slices.Clone(s.Databases[i].Copies)
	}
	return s
}

func (b *boundary) now() mail.Time { return mail.Time(1 + time.Since(b.start).Milliseconds()) }

// Declare implements Boundary.
func (b *boundary) Declare(_ context.Context, verdicts []Verdict) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, v := range verdicts {
		for i := range b.state.Databases {
			d := &b.state.Databases[i]
			c := d.copy(v.Copy)
			if d.Name != v.Database || c == nil || c.Addr != v.Addr {
				continue
			}
			if !c.Judged || c.Healthy != v.Healthy {
				b.declared = append(b.declared, fmt.Sprintf("%s %s %t %s", time.Since(b.start).Truncate(time.Second), v.Copy, v.Healthy, v.Text))
			} else {
				b.declared = append(b.declared, "again "+v.Copy)
			}
			c.Judged, c.Healthy = true, v.Healthy
		}
	}
	return nil
}

// Activate implements Boundary.
func (b *boundary) Activate(_ context.Context, a Activation) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.before != nil {
		b.before(&b.state.Databases[0])
	}
	if b.refuse != nil {
		return b.refuse
	}
	d := &b.state.Databases[0]
	if a.From != d.Active || a.Activation != d.Activation {
		return mail.Replyf(550, "5.5.0", "copy %s is the active one, by activation %d", d.Active, d.Activation)
	}
	b.activate = append(b.activate, fmt.Sprintf("%s %s>%s", time.Since(b.start).Truncate(time.Second), a.From, a.Copy))
	d.Active, d.Activation, d.Since, d.Automatic = a.Copy, d.Activation+1, b.now(), d.Automatic+1
	return nil
}

func (b *boundary) set(f func(d *Database)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(&b.state.Databases[0])
}

// did is what was activated, and when.
func (b *boundary) did() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.activate, ", ")
}

func (b *boundary) want(did string) {
	b.t.Helper()
	if got := b.did(); got != did {
		b.t.Errorf("activated: %q, want %q", got, did)
	}
}

// says is what was declared since it was asked last.
func (b *boundary) says() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	said := b.declared
	b.declared = nil
	return said
}

func (b *boundary) stuck() string {
	list := b.manager.Stuck()
	if len(list) == 0 {
		return ""
	}
	return strings.TrimSpace(list[0].Why + " " + list[0].Text)
}

// TestManager: what happens to a database whose active copy a is in trouble.
func TestManager(t *testing.T) {
	const others = "no other copy can be activated "
	for name, c := range map[string]struct {
		copies []Copy
		story  func(b *boundary)
		did    string
		stuck  string
	}{
		"all is well": {copies("b"), func(*boundary) { rest(time.Hour) }, "", ""},
		"the active copy dies": {copies("b"), func(b *boundary) {
			rest(time.Minute)
			b.die("a")
			rest(time.Minute)
		}, "1m35s a>b", ""},
		"it is away for less than failover-after": {copies("b"), func(b *boundary) {
			for range 20 {
				rest(time.Minute)
				b.die("a")
				rest(after - 2*time.Second)
				b.rise("a")
			}
		}, "", ""},
		"it flaps": {copies("b"), func(b *boundary) {
			for range 100 {
				b.die("a")
				rest(7 * time.Second)
				b.rise("a")
				rest(3 * time.Second)
			}
		}, "", ""},
		"one member alone finds everything dead": {copies("b"), func(b *boundary) {
			b.see("a", false, 2)
			b.see("b", false, 2)
			rest(time.Hour)
		}, "", ""},
		"the leader alone finds everything dead": {copies("b"), func(b *boundary) {
			b.see("a", false, 1)
			b.see("b", false, 1)
			rest(time.Hour)
		}, "", ""},
		"two of three find it dead": {copies("b"), func(b *boundary) {
			rest(time.Minute)
			b.see("a", false, 2, 3)
			rest(time.Minute)
		}, "1m35s a>b", ""},
		"one finds it dead, one is not heard": {copies("b"), func(b *boundary) {
			b.see("a", false, 1)
			b.set(func(*Database) { b.silent[3] = true })
			rest(time.Hour)
		}, "", ""},
		"two find it dead, but not long enough together": {copies("b"), func(b *boundary) {
			for range 20 {
				b.see("a", false, 1, 2)
				b.see("a", true, 3)
				rest(after - 10*time.Second)
				b.see("a", true, 1)
				b.see("a", false, 2, 3)
				rest(after - 10*time.Second)
				b.see("a", true, 2)
				b.see("a", false, 3, 1)
				rest(after - 10*time.Second)
				b.see("a", true, 3)
			}
		}, "", ""},
		"the other copy is dead too": {copies("b"), func(b *boundary) {
			b.die("a")
			b.die("b")
			rest(time.Hour)
		}, "", others + "b: it does not answer: " + text},
		"there is no other copy": {nil, func(b *boundary) {
			b.die("a")
			rest(time.Hour)
		}, "", "it has no other copy"},
		"all are dead, then one comes back": {copies("b", "c"), func(b *boundary) {
			b.die("a")
			b.die("b")
			b.die("c")
			rest(10 * time.Minute)
			b.rise("c")
			rest(after - time.Second)
			b.want("")
			rest(10 * time.Second)
		}, "10m35s a>c", ""},
		"all are dead, then the active one comes back": {copies("b"), func(b *boundary) {
			b.die("a")
			b.die("b")
			rest(10 * time.Minute)
			b.rise("a")
			rest(time.Minute)
			b.rise("b")
			rest(time.Hour)
		}, "", ""},
		"the other copy was never looked at": {copies("b"), func(b *boundary) {
			for _, v := range b.voters {
				delete(b.eyes[v], "b")
			}
			b.die("a")
			rest(time.Hour)
		}, "", others + "b: nobody has looked at it yet"},
		"the other copy comes and goes": {copies("b"), func(b *boundary) {
			b.die("a")
			for range 100 {
				b.die("b")
				rest(10 * time.Second)
				b.rise("b")
				rest(20 * time.Second)
			}
		}, "", others + "b: it has not answered for long enough yet"},
		"the best of many": {[]Copy{{Name: "b", Lag: time.Hour, Preference: 1}, {Name: "c"}, {Name: "d", Preference: 2, Through: 5}, {Name: "e", Preference: 2, Through: 7}, {Name: "f", Preference: 2, Through: 7}},
			func(b *boundary) { b.die("a"); rest(time.Minute) }, "35s a>e", ""},
		"a preference that is not set is last": {[]Copy{{Name: "b", Through: 9}, {Name: "c", Preference: 100}},
			func(b *boundary) { b.die("a"); rest(time.Minute) }, "35s a>c", ""},
		"lagged last, but better than none": {[]Copy{{Name: "b", Lag: 24 * time.Hour}, {Name: "c"}}, func(b *boundary) {
			b.die("a")
			b.die("c")
			rest(time.Minute)
		}, "35s a>b", ""},
		"suspended": {copies("b"), func(b *boundary) {
			b.set(func(d *Database) { d.Suspended = true })
			b.die("a")
			rest(time.Hour)
		}, "", "its activation is suspended"},
		"suspended, then resumed": {copies("b"), func(b *boundary) {
			b.set(func(d *Database) { d.Suspended = true })
			b.die("a")
			rest(time.Hour)
			b.set(func(d *Database) { d.Suspended = false })
			rest(time.Second)
		}, "1h0m0s a>b", ""},
		"one copy is suspended": {copies("b", "c"), func(b *boundary) {
			b.set(func(d *Database) { d.copy("b").Suspended = true })
			b.die("a")
			rest(time.Minute)
			b.die("c")
			rest(time.Hour)
		}, "35s a>c", others + "a: it does not answer: " + text + "; b: its activation is suspended"},
		"a copy gets another address": {copies("b"), func(b *boundary) {
			b.die("a")
			rest(after - 2*time.Second)
			b.set(func(d *Database) { d.copy("a").Addr = "lmtp://elsewhere" })
			b.rise("a")
			rest(time.Hour)
		}, "", ""},
		"an operator is faster": {copies("b", "c"), func(b *boundary) {
			b.set(func(*Database) {
				b.before = func(d *Database) {
					b.before = nil
					d.Active, d.Activation, d.Since = "c", 2, b.now()
				}
			})
			b.die("a")
			rest(time.Hour)
		}, "", ""},
		"the state refuses": {copies("b"), func(b *boundary) {
			tries := 0
			b.set(func(*Database) {
				b.before, b.refuse = func(*Database) { tries++ }, mail.Replyf(550, "5.5.0", "not this one")
			})
			b.die("a")
			rest(after + time.Minute)
			b.set(func(*Database) {
				if tries < 10 || tries > 13 {
					b.t.Errorf("proposed %d times in a minute", tries)
				}
			})
		}, "", "the activation was refused 550 5.5.0 not this one"},
		"an operator activates the dead copy again": {copies("b"), func(b *boundary) {
			b.set(func(d *Database) { d.Suspended = true })
			b.die("a")
			rest(time.Hour)
			b.set(func(d *Database) { d.Suspended, d.Activation, d.Since = false, 2, b.now() })
			rest(time.Hour)
		}, "1h0m30s a>b", ""}, // it had its time to come up
		"one after the other dies": {copies("b", "c"), func(b *boundary) {
			for range 6 {
				b.die(b.State().Databases[0].Active)
				rest(10 * time.Minute)
				for _, c := range []string{"a", "b", "c"} {
					b.rise(c)
				}
				rest(10 * time.Minute)
			}
		}, "35s a>b, 20m35s b>a, 40m35s a>b, 1h0m35s b>a, 1h20m35s a>b, 1h40m35s b>a", ""},
		"damped": {copies("b", "c"), func(b *boundary) {
			b.die("a")
			rest(time.Minute)
			b.die("b")
			rest(29 * time.Second)
			b.want("35s a>b")
			rest(time.Minute) // 30 s by the verdict, 60 s by the wait
			b.rise("a")
			b.die("c")
			rest(time.Minute)
		}, "35s a>b, 1m35s b>c", "it was activated a short time ago waits until 1970-01-01T00:03:35.501Z"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := theBoundary(t, c.copies...)
				b.lead(t)
				c.story(b)
				b.want(c.did)
				if got := b.stuck(); got != c.stuck {
					t.Errorf("stuck: %q, want %q", got, c.stuck)
				}
			})
		})
	}
}

// A leader in the middle begins to count anew: what the old one has heard
// might be long ago.
func TestNewLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := theBoundary(t, copies("b")...)
		end := b.lead(t)
		rest(time.Minute)
		b.die("a")
		rest(after - time.Second)
		end()
		if len(b.manager.votes) != 0 {
			t.Error("who does not lead keeps votes")
		}
		b.manager.Hear(2, []Finding{{Database: "DB1", Copy: "a"}}, Pressure{})
		if len(b.manager.votes) != 0 {
			t.Error("who does not lead listens")
		}
		b.lead(t)
		rest(after - time.Second)
		if got := b.did(); got != "" {
			t.Errorf("activated: %s", got)
		}
		rest(2 * time.Second)
		if got := b.did(); got != "1m59s a>b" {
			t.Errorf("activated: %q", got)
		}
	})
}

// A member's word for how long something has been so is not taken for more
// than this leader can know.
func TestWordsAreChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := theBoundary(t, copies("b")...)
		b.lead(t)
		rest(10 * time.Minute)
		b.mu.Lock()
		for _, id := range b.voters {
			b.eyes[id]["a"] = &eye{false, b.start.Add(-24 * time.Hour)}
		}
		b.mu.Unlock()
		rest(after - 10*time.Second)
		if got := b.did(); got != "" {
			t.Errorf("activated: %s", got)
		}
		rest(20 * time.Second)
		if got := b.did(); !strings.HasSuffix(got, "a>b") {
			t.Errorf("activated: %q", got)
		}
	})
}

// What is declared: changes, and once a minute that a healthy copy is.
func TestVerdicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := theBoundary(t, copies("b")...)
		b.lead(t)
		rest(3*time.Minute + time.Second)
		if got := strings.Join(b.says(), ", "); got != "0s a true , 0s b true , again a, again b, again a, again b, again a, again b" {
			t.Errorf("declared: %s", got)
		}
		b.die("b")
		rest(10 * time.Minute)
		b.rise("b")
		rest(after)
		got := slices.DeleteFunc(b.says(), func(s string) bool { return s == "again a" })
		if len(got) != 1 || got[0] != "3m35s b false "+text {
			t.Errorf("declared: %q", got)
		}
		rest(6 * time.Second)
		if got := b.says(); len(got) != 1 || !strings.HasSuffix(got[0], "b true ") {
			t.Errorf("declared: %q", got)
		}
	})
}

func TestDamping(t *testing.T) {
	for _, c := range []struct {
		automatic int
		after     time.Duration
		wait      time.Duration
	}{
		{0, after, after}, {1, after, time.Minute}, {2, after, 2 * time.Minute}, {6, after, 32 * time.Minute}, {7, after, time.Hour}, {1000, after, time.Hour},
		{0, 3 * time.Hour, 3 * time.Hour}, {5, 24 * time.Hour, 24 * time.Hour}, {5, time.Second, 32 * time.Second},
	} {
		d := Database{Since: 1000, Automatic: c.automatic}
		if got := d.earliest(c.after).Sub(1000); got != c.wait {
			t.Errorf("%d activations, failover-after %v: waits %v, want %v", c.automatic, c.after, got, c.wait)
		}
	}
}

// The same trouble is told once, not at every round.
func TestStuckIsSaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said strings.Builder
		b := theBoundary(t)
		b.log = hclog.New(&hclog.LoggerOptions{Output: &said, Level: hclog.Info})
		b.lead(t)
		b.die("a")
		rest(time.Hour)
		if n := strings.Count(said.String(), "no other is activated"); n != 1 {
			t.Errorf("said %d times: %s", n, said.String())
		}
		if s := b.manager.Stuck(); len(s) != 1 || time.Since(s[0].Since) < 59*time.Minute {
			t.Errorf("stuck: %+v", s)
		}
		b.mu.Lock()
		b.state.Databases = nil
		b.mu.Unlock()
		rest(time.Minute)
		if s := b.manager.Stuck(); len(s) != 0 {
			t.Errorf("of a database that is no more: %+v", s)
		}
	})
}

func TestPressureOfAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := theBoundary(t)
		for _, id := range b.voters {
			b.silent[id] = true
		}
		b.lead(t)
		synctest.Wait()
		queue := Meter{Name: "queue", Medium: 10, High: 20}
		name := func(id mail.MemberID) string { return fmt.Sprintf("m%d", id) }
		b.manager.Hear(8, nil, PressureOf(queue.Read(12)))
		b.manager.Hear(9, nil, PressureOf(queue.Read(30)))
		b.manager.Hear(7, nil, PressureOf(queue.Read(31)))
		if level, why := b.manager.Pressure(name); level != High || why != "m7: queue: 31, high begins at 20" {
			t.Errorf("%s, %s", level, why)
		}
		rest(20 * time.Second)
		b.manager.Hear(8, nil, PressureOf(queue.Read(12)))
		rest(20 * time.Second)
		if level, why := b.manager.Pressure(name); level != Medium || why != "m8: queue: 12, medium begins at 10" {
			t.Errorf("who is not heard of any more: %s, %s", level, why)
		}
		rest(20 * time.Second)
		if level, why := b.manager.Pressure(name); level != Normal || why != "" {
			t.Errorf("nobody is heard of: %s, %s", level, why)
		}
	})
}
