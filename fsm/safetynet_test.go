package fsm

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestSafetyNet follows Microsoft's page "Safety Net" about Exchange Server
// 2013, sentence by sentence and in its order: after the exchange preset each
// that states a behaviour holds as it stands there. What delivery decides, and
// what a mailbox shows, is tested with deliver; here is what the boundary
// agrees on.
func TestSafetyNet(t *testing.T) {
	for i, s := range sentences {
		t.Run(fmt.Sprintf("%02d %s", i+1, s.says), func(t *testing.T) {
			n := newNet(t)
			s.test(n)
			n.check()
			n.again()
		})
	}
}

var sentences = []struct {
	says string
	test func(*net)
}{

	// How it is like the transport dumpster.

	{"stores what was successfully processed", func(n *net) {
		n.delivered("A", "10:00", "m1", "m2", "anna@example.test")
		n.run("accept B holders=m1,m2 to=bob@example.test,carol@example.test", "report m1 B 0=failed 1=delivered")
		n.want("dump safetynet DB1", "10:00:00 A recipient 0\n10:00:00 B recipient 1")
	}},
	{"how long can be specified; then deleted automatically; 2 days", func(n *net) {
		n.delivered("A", "10:00", "m1", "m2", "anna@example.test")
		n.run("advance 2d", "expire")
		n.want("dump safetynet DB1", "10:00:00 A recipient 0")
		n.run("advance 1ms", "expire")
		n.want("dump all", "none")
		n.want("dump contents", "none")
		n.run("configure safety-net-hold-time=5h", "accept B holders=m1,m2", "report m1 B 0=delivered", "discard m2", "advance 5h1ms", "expire")
		n.want("dump all", "none")
	}},

	// How it differs from it.

	{"doesn't require a DAG; other servers of the site", func(n *net) {
		n.delivered("A", "10:00", "m1", "m2", "anna@two.example") // DB2 has one copy
		n.want("dump all", "A: finished=10:00:00 primary=m1 shadow=m2 acked")
		n.run("member-up m2 addr=a site=there", "configure shadow-message-preference=local-only")
		n.delivered("B", "11:00", "m1", "m3", "anna@two.example")
		n.want("dump B", "B: finished=11:00:00 primary=m1 shadow=m3 acked\n  0 anna@two.example db/DB2 delivered at=11:00:00 attempts=1 copy=a/1 (250 )")
	}},
	{"is now redundant, no single point of failure", func(n *net) {
		n.delivered("A", "10:00", "m1", "m2", "anna@example.test")
		n.delivered("B", "10:00", "m2", "m1", "bob@example.test")
		n.wipe("m1", "m4")
		n.at("11:00")
		id := n.activate("b", "10:00")
		n.drive(time.Minute)
		n.wantResent("A to anna@example.test by m2 for m1 at 11:00:00", "B to bob@example.test by m2 at 11:00:00")
		n.wantState(id, RequestCompleted)
	}},
	{"unavailable for 12 hours: shadow resubmit requests", func(n *net) {
		n.delivered("A", "10:00", "m1", "m2", "anna@example.test")
		n.at("11:00")
		n.crash("m1")
		id := n.activate("b", "10:00")
		n.drive(12*time.Hour - time.Minute)
		n.wantResent()
		n.wantState(id, RequestWaiting)
		n.drive(time.Minute)
		n.wantResent("A to anna@example.test by m2 for m1 at 23:00:00")
		n.wantState(id, RequestCompleted)
	}},
	{"no other copy in a shadow queue until it has replicated", func(n *net) {
		n.at("10:00")
		n.run("accept A holders=m1,m2", "report m1 A 0=delivered")
		n.want("dump discards m2", "A")
		n.run("discard m2")
		n.want("dump discards m2", "none") // though copy b has not got it
		v := n.f.View()
		defer v.Close()
		if v.any(tab(tabShadow)) {
			n.t.Error("a shadow message is queued")
		}
	}},
	{"already stored: can be resubmitted if necessary", func(n *net) {
		n.delivered("A", "10:00", "m1", "m2", "anna@example.test")
		n.at("10:01")
		n.activate("b", "10:00")
		n.drive(0)
		n.wantResent("A to anna@example.test by m1 at 10:01:00")
	}},
	{"no maximum size, only how long", func(n *net) {
		for _, p := range Parameters {
			if _, size := p.field(new(Params)).(*int64); size && p.Name != "message-size-max" {
				n.t.Errorf("parameter %s", p.Name)
			}
			if strings.HasPrefix(p.Name, "safety-net") && p.Name != "safety-net-hold-time" {
				n.t.Errorf("parameter %s", p.Name)
			}
		}
		n.at("10:00")
		for i := range 200 {
			s := n.submission(byte(i+1), m1, m1, m2)
			s.Content.Size = 1 << 40
			n.must(KindAccept, Accept{Submission: s})
		}
		n.deliverNow(m1)
		n.run("discard m2", "advance 2d", "until expire")
		if got := len(strings.Fields(n.held("DB1"))); got != 200 {
			n.t.Errorf("%d of 200 are held", got)
		}
	}},

	// How Safety Net works.

	{"begins where shadow redundancy ends", func(n *net) {
		n.at("10:00")
		n.run("accept A holders=m1,m2")
		n.want("dump safetynet DB1", "none")
		n.want("dump all", "A: active primary=m1 shadow=m2")
		n.run("report m1 A 0=delivered", "discard m2")
		n.want("dump safetynet DB1", "10:00:00 A recipient 0")
		n.want("dump all", "A: finished=10:00:00 primary=m1 shadow=m2 acked")
	}},
	{"Primary Safety Net: where the primary message was before it was processed", func(n *net) {
		n.delivered("A", "10:00", "m1", "m2", "anna@example.test")
		n.run("accept B holders=m1,m2 to=bob@example.test")
		n.crash("m1")
		n.deliverNow(m2) // the primary message was moved there
		n.run("discard m3")
		n.at("10:30")
		n.run("member-up m1")
		n.at("11:00")
		n.activate("b", "10:00")
		n.drive(0)
		n.wantResent("A to anna@example.test by m1 at 11:00:00", "B to bob@example.test by m2 at 11:00:00")
	}},
	{"could have been relayed on the way to another site", func(n *net) {
		// It is in the Safety Net of the boundary that delivers it; here it is
		// kept, and never sent again.
		n.run("directory domain * next-hop=smtp://elsewhere.example:25")
		n.delivered("A", "10:00", "m1", "m2", "anna@example.test,x@elsewhere.example")
		n.want("dump safetynet DB1", "10:00:00 A recipient 0")
		n.at("11:00")
		n.run("request add - sender=s@example.org")
		n.activate("b", "10:00")
		n.drive(time.Minute)
		n.wantResent("A to anna@example.test by m1 at 11:00:00")
	}},
	{"moved from the active queue into it, on the same server", func(n *net) {
		n.at("10:00")
		n.run("accept A primary=m3 holders=m3,m2")
		n.want("dump due m3", "db/DB1: A at 10:00:00")
		n.run("report m3 A 0=delivered")
		n.want("dump due m3", "none")
		n.want("dump all", "A: finished=10:00:00 primary=m3 shadow=m2")
	}},
	{"Shadow Safety Net: where the shadow message was, once it is known to be processed", func(n *net) {
		n.at("10:00")
		n.run("accept A holders=m1,m3")
		n.want("dump all", "A: active primary=m1 shadow=m3")
		n.run("report m1 A 0=delivered")
		n.want("dump discards m3", "A") // it is told so when it asks
		n.run("discard m3 A")
		n.want("dump all", "A: finished=10:00:00 primary=m1 shadow=m3 acked")
	}},
	{"requires shadow redundancy, enabled by default", func(n *net) {
		if !Defaults().ShadowRedundancyEnabled || !n.params().ShadowRedundancyEnabled {
			n.t.Error("it is not enabled")
		}
		n.run("configure shadow-redundancy-enabled=false", "accept A holders=m1", "report m1 A 0=delivered")
		n.want("dump all", "A: finished=10:00:00 primary=m1 shadow=-")
		n.want("dump discards m2", "none")
		n.run("configure shadow-redundancy-enabled=true", "accept B holders=m1,m2", "report m1 B 0=delivered", "discard m2")
		n.want("dump B", "B: finished=10:00:00 primary=m1 shadow=m2 acked\n  0 alice@example.test db/DB1 delivered at=10:00:00 attempts=1 copy=a/1 (250 delivered)")
	}},

	// The parameters.

	{"hold time: of primary messages and of acknowledged shadows, 2 days", func(n *net) {
		if n.params().SafetyNetHoldTime != 48*time.Hour {
			n.t.Error(n.params().SafetyNetHoldTime)
		}
		n.delivered("A", "10:00", "m1", "m2", "anna@example.test")
		n.run("advance 2d", "expire")
		n.want("dump all", "A: finished=10:00:00 primary=m1 shadow=m2 acked")
		n.run("advance 1ms", "expire")
		n.want("dump all", "none")
	}},
	{"unacknowledged shadows: the sum of hold time and expiration timeout", func(n *net) {
		n.at("10:00")
		n.run("accept A holders=m1,m2", "report m1 A 0=delivered", "advance 2d1ms", "expire")
		n.want("dump all", "A: finished=10:00:00 primary=m1 shadow=m2 primary-end=2d+10:00:00")
		n.run("advance 2d", "advance -1ms", "expire")
		n.want("dump safetynet DB1", "10:00:00 A recipient 0") // four days later
		n.run("advance 1ms", "expire")
		n.want("dump all", "none")
	}},
	{"hold time must not be below the replay lag", func(n *net) {
		n.run("database copy-add DB1 c=maildir:/c lag=1d")
		n.refuses("configure safety-net-hold-time=23h", "safety-net-hold-time 23h", "replay lag 1d", "copy c of DB1")
		n.run("configure safety-net-hold-time=1d")
	}},
	{"replay lag: not configured by default", func(n *net) {
		n.run("database copy-add DB1 c=maildir:/c")
		if d := n.database1(); d.copy("c").Lag != 0 {
			n.t.Error("a lag")
		}
	}},
	{"above 0 makes a lagged copy; at most 14 days", func(n *net) {
		n.run("configure safety-net-hold-time=20d", "database copy-add DB1 c=maildir:/c lag=14d data-through=0s")
		n.refuses("database copy-add DB1 d=maildir:/d lag=14d1ms", "above 14d")
		n.run("advance 15d")
		n.want("dump since DB1 c through=-1h", "1d+09:00:00: data-through 15d+09:00:00 − lag 14d − slack 0s")
	}},
	{"replay lag must not be above the hold time", func(n *net) {
		n.refuses("database copy-add DB1 c=maildir:/c lag=49h", "replay lag 2d1h", "safety-net-hold-time 2d")
		n.run("database copy-add DB1 c=maildir:/c lag=2d")
		n.refuses("database copy-set DB1 c=maildir:/c lag=49h", "replay lag 2d1h", "safety-net-hold-time 2d")
	}},
	{"expiration timeout: how long in a queue, 2 days", func(n *net) {
		if n.params().MessageExpirationTimeout != 48*time.Hour {
			n.t.Error(n.params().MessageExpirationTimeout)
		}
		n.at("10:00")
		n.run("accept A holders=m1,m2", "report m1 A 0=deferred+1h", "advance 2d", "report m1 A 0=expired")
		n.want("dump A", "A: finished=2d+10:00:00 primary=m1 shadow=m2\n  0 alice@example.test db/DB1 expired at=2d+10:00:00 attempts=2 copy=a/1 (550 expired)")
	}},
	{"shadow redundancy: enabled, disabled; a redundant Safety Net requires it", func(n *net) {
		n.run("configure shadow-redundancy-enabled=false", "accept A holders=m1", "report m1 A 0=delivered")
		n.wipe("m1", "m4")
		n.activate("b", "09:00")
		id := number(n.database1().Request)
		n.drive(13 * time.Hour)
		n.wantResent() // only m1 had it
		n.wantState(id, RequestGaps)
	}},

	// Message resubmission from Safety Net.

	{"initiated by the Active Manager, no manual actions", func(n *net) {
		n.delivered("A", "10:00", "m1", "m2", "anna@example.test")
		n.run("database report DB1 b=-1m", "advance 1m", "health DB1 a=dead b=healthy", "activate DB1 b auto")
		n.drive(0)
		n.wantResent("A to anna@example.test by m1 at 10:01:00")
		n.wantState("1", RequestCompleted)
	}},
	{"after the automatic or manual failover of a database", func(n *net) {
		n.delivered("A", "10:00", "m1", "m2", "anna@example.test")
		n.run("database report DB1 b=-1m", "health DB1 a=dead b=healthy", "activate DB1 b auto")
		n.drive(time.Minute)
		n.delivered("B", "11:00", "m1", "m2", "bob@example.test")
		n.run("database report DB1 a=-30m", "activate DB1 a")
		n.drive(0)
		n.wantResent("A to anna@example.test by m1 at 10:00:00", "B to bob@example.test by m1 at 11:00:00")
	}},
	{"after a lagged copy is activated", func(n *net) {
		n.delivered("A", "10:00", "m1", "m2", "anna@example.test")
		n.run("database copy-add DB1 c=maildir:/c lag=1d", "advance 23h", "database report DB1 c=0s", "activate DB1 c")
		n.drive(0)
		n.wantResent("A to anna@example.test by m1 at 1d+09:00:00")
	}},
	{"the difference is how far back in time: minutes to hours, or days", func(n *net) {
		n.run("database copy-add DB1 c=maildir:/c lag=2d", "advance 3d", "database report DB1 b=-20m c=-20m")
		n.want("dump since DB1 b", "3d+09:40:00: data-through 3d+09:40:00 − lag 0s − slack 0s")
		n.want("dump since DB1 c", "1d+09:40:00: data-through 3d+09:40:00 − lag 2d − slack 0s, but only what was delivered since 1d+10:00:00 is held")
	}},
	{"main requirement: stored for at least the lag", func(n *net) {
		n.run("database copy-add DB1 c=maildir:/c lag=2d", "advance 1d")
		n.delivered("A", "10:00", "m1", "m2", "anna@example.test")
		n.run("advance 2d", "expire", "database report DB1 c=0s")
		id := n.activate("c", "")
		n.drive(0)
		n.wantResent("A to anna@example.test by m1 at 3d+10:00:00")
		n.wantState(id, RequestCompleted)
	}},

	// Message resubmission from Shadow Safety Net.

	{"fully automated too", func(n *net) {
		n.delivered("A", "10:00", "m1", "m2", "anna@example.test")
		n.crash("m1")
		n.run("database report DB1 b=-1m", "health DB1 a=dead b=healthy", "activate DB1 b auto")
		n.drive(12 * time.Hour)
		n.wantResent("A to anna@example.test by m2 for m1 at 22:00:00")
		n.wantState("1", RequestCompleted)
	}},
	{"goes to the servers whose Primary Safety Nets hold the time period", func(n *net) {
		n.delivered("A", "05:00", "m1", "m2", "anna@example.test")
		n.delivered("B", "06:00", "m2", "m3", "bob@example.test")
		n.delivered("C", "07:00", "m3", "m1", "carol@example.test")
		n.at("08:00")
		n.activate("b", "06:00")
		n.drive(0)
		n.wantResent("B to bob@example.test by m2 at 1d+08:00:00", "C to carol@example.test by m3 at 1d+08:00:00")
	}},
	{"duplicates within the organization are detected, outside recipients spared", func(n *net) {
		n.run("directory domain * next-hop=smtp://elsewhere.example:25",
			"directory group all@example.test members=anna@example.test,anna@two.example,x@elsewhere.example")
		n.delivered("A", "10:00", "m1", "m2", "all@example.test")
		n.delivered("B", "11:00", "m1", "m2", "all@example.test")
		n.crash("m1")
		n.at("12:00")
		id := n.activate("b", "10:00")
		n.drive(13 * time.Hour) // from the Shadow Safety Net, where the group is expanded again
		n.wantResent("A to anna@example.test by m2 for m1 at 23:00:00", "B to anna@example.test by m2 for m1 at 23:00:00")
		n.wantState(id, RequestCompleted)
	}},
	{"unresponsive at first, or during resubmission: tried for 12 hours", func(n *net) {
		n.delivered("A", "10:00", "m1", "m2", "anna@example.test")
		n.delivered("B", "10:01", "m1", "m2", "bob@example.test")
		n.at("11:00")
		id := n.activate("b", "10:00")
		n.run("resubmit "+id, "resubmit "+id+" rows=1")
		n.crash("m1")
		n.drive(11 * time.Hour)
		n.wantResent("A to anna@example.test by m2 at 11:00:00") // with the message that m1 had made of it
		n.run("member-up m1")
		n.drive(0)
		n.wantResent("A to anna@example.test by m2 at 11:00:00", "B to bob@example.test by m1 at 22:00:00")
		n.wantState(id, RequestCompleted)
	}},
	{"after 12 hours all servers are asked, for that interval and database", func(n *net) {
		n.delivered("A", "04:59", "m1", "m2", "anna@example.test")
		n.delivered("B", "05:00", "m1", "m2", "bob@example.test")
		n.delivered("C", "05:01", "m1", "m3", "carol@example.test,carol@two.example")
		n.delivered("D", "05:02", "m1", "m3", "dave@two.example")
		n.at("05:10")
		n.crash("m1")
		id := n.activate("b", "05:00")
		n.at("06:00")
		n.delivered("E", "06:00", "m2", "m3", "eve@example.test")
		n.drive(12 * time.Hour)
		n.wantResent("B to bob@example.test by m2 for m1 at 1d+17:10:00", "C to carol@example.test by m3 for m1 at 1d+17:10:00")
		n.wantState(id, RequestCompleted)
	}},
	{"the shadow does not know where it was transmitted", func(n *net) {
		// Its mailbox was moved since: it goes where the address leads now, and
		// only if that is the database that is asked for.
		n.run("directory mailbox anna@two.example database=DB1", "directory mailbox bob@example.test database=DB1")
		n.delivered("A", "10:00", "m1", "m2", "anna@two.example")
		n.delivered("B", "10:00", "m1", "m2", "bob@example.test")
		n.run("directory mailbox bob@example.test database=DB2")
		n.crash("m1")
		n.at("11:00")
		n.activate("b", "10:00")
		n.drive(12 * time.Hour)
		n.wantResent("A to anna@two.example by m2 for m1 at 22:00:00")
	}},
	{"only original envelope recipients, as a group to be expanded", func(n *net) {
		n.run("directory group team@example.test members=anna@example.test,bob@example.test")
		n.delivered("A", "10:00", "m1", "m2", "team@example.test")
		n.crash("m1")
		n.at("11:00")
		n.activate("b", "10:00")
		n.drive(12 * time.Hour)
		n.wantResent("A to anna@example.test by m2 for m1 at 22:00:00", "A to bob@example.test by m2 for m1 at 22:00:00")
		if m := n.row(n.ids["A-again1"]); m.Envelope.Recipients[0] != "team@example.test" || m.Recipients[0].Original != "team@example.test" {
			n.t.Errorf("made of %+v", m.Envelope)
		}
	}},
	{"without updates made after the primary processed it", func(n *net) {
		n.delivered("A", "10:00", "m1", "m2", "anna@example.test")
		n.crash("m1")
		n.at("11:00")
		n.activate("b", "10:00")
		n.drive(12 * time.Hour)
		was, is := n.row(n.ids["A"]), n.row(n.ids["A-again1"])
		if is.Content != was.Content || is.Fields != was.Fields {
			n.t.Errorf("content %+v, and was %+v", is.Content, was.Content)
		}
	}},
	{"requires full categorization and processing", func(n *net) {
		n.run("directory group team@example.test members=anna@example.test")
		n.delivered("A", "10:00", "m1", "m2", "team@example.test")
		n.run("directory group team@example.test members=other@example.test", "tick m3=now") // which can be its shadow server
		n.crash("m1")
		n.at("11:00")
		n.activate("b", "10:00")
		n.drive(12*time.Hour - time.Minute)
		n.drive(time.Minute)
		n.wantResent("A to other@example.test by m2 for m1 at 22:00:00")
		m := n.row(n.ids["A-again1"])
		if m.Shadow == 0 || m.Shadow == m.Primary || m.Active() || !m.Acked {
			n.t.Errorf("not processed like any: %+v", m)
		}
	}},
	{"optimized: only the interval and the database that are asked for", func(n *net) {
		n.delivered("A", "10:00", "m1", "m2", "anna@example.test")
		n.delivered("B", "11:00", "m1", "m2", "bob@example.test,bob@two.example")
		n.delivered("C", "11:30", "m1", "m2", "carol@two.example")
		n.crash("m1")
		n.at("12:00")
		id := n.activate("b", "10:30")
		n.drive(12 * time.Hour)
		n.wantResent("B to bob@example.test by m2 for m1 at 23:30:00")
		r := n.request(id)
		if c := n.request(number(r.Children[0])); c.Counts.Matched != 1 || r.Counts.Matched != 0 {
			n.t.Errorf("looked at more: %+v, %+v", r.Counts, c.Counts)
		}
	}},

	// A request for 5:00 to 9:00, and the Primary Safety Net has crashed.

	{"1 crashed: contacted for 12 hours", func(n *net) {
		id := n.fiveToNine()
		n.drive(12*time.Hour - time.Minute)
		n.wantResent()
		n.wantState(id, RequestWaiting)
	}},
	{"2 after 12 hours the Shadow Safety Net resubmits 5:00 to 9:00", func(n *net) {
		id := n.fiveToNine()
		n.drive(13 * time.Hour)
		n.wantResent("B to bob@example.test by m2 for m1 at 1d+21:00:00", "C to carol@example.test by m3 for m1 at 1d+21:00:00")
		n.wantState(id, RequestCompleted)
		r := n.request(id)
		if c := n.request(number(r.Children[0])); clock(c.Start) != "1d+05:00:00" || c.Behalf != m1 || c.State != RequestCompleted {
			n.t.Errorf("shadow request %+v", c)
		}
	}},

	// A request for 1:00 to 9:00, and a queue database that is new since 7:00.

	{"1 created at 7:00: what was stored from 1:00 is lost, then it stores again", func(n *net) {
		n.newAtSeven()
		n.want("dump gaps", "m1 of m1 until 1d+07:00:00")
		for name, lost := range map[string]bool{"A": true, "B": true, "C": false} {
			if m := n.row(n.ids[name]); (m.LostBy == m1) != lost || !lost && m.Primary != 4 {
				n.t.Errorf("%s: lost with %v, primary server %v", name, m.LostBy, m.Primary)
			}
		}
	}},
	{"2 a request for 1:00 to 9:00", func(n *net) {
		n.newAtSeven()
		r := n.request(n.activate("b", "01:00"))
		if clock(r.Start) != "1d+01:00:00" || clock(r.End-1) != "1d+09:00:00" || r.Database != "DB1" {
			n.t.Errorf("request %+v", r)
		}
	}},
	{"3 the Primary Safety Net resubmits 7:00 to 9:00", func(n *net) {
		n.newAtSeven()
		id := n.activate("b", "01:00")
		n.drive(0)
		if got := n.request(id); got.Counts.Sent != 1 || clock(got.First) != "1d+08:00:00" || got.ServedBy[0].Member != 4 || got.ServedBy[0].Shadow {
			n.t.Errorf("from the Primary Safety Net: %+v", got)
		}
		if !strings.Contains(n.resent(), "C to carol@example.test by m4 at 1d+09:00:00") {
			n.t.Error(n.resent())
		}
	}},
	{"4 a second request on its behalf, for 1:00 to 7:00", func(n *net) {
		n.newAtSeven()
		id := n.activate("b", "01:00")
		r := n.request(id)
		if len(r.Children) != 1 {
			n.t.Fatalf("shadow requests %v", r.Children)
		}
		c := n.request(number(r.Children[0]))
		if clock(c.Start) != "1d+01:00:00" || clock(c.End) != "1d+07:00:00" || c.Behalf != m1 || c.Parent != r.ID {
			n.t.Errorf("shadow request %+v", c)
		}
		n.drive(0) // at once: there is nothing to wait for
		n.wantResent("A to anna@example.test by m2 for m1 at 1d+09:00:00", "B to bob@example.test by m3 for m1 at 1d+09:00:00",
			"C to carol@example.test by m4 at 1d+09:00:00")
		n.wantState(id, RequestCompleted)
	}},

	// Other issues.

	{"1 DSNs and NDRs are suppressed", func(n *net) {
		n.delivered("A", "10:00", "m1", "m2", "anna@example.test")
		n.at("11:00")
		id := n.activate("b", "10:00")
		n.run("resubmit "+id, "resubmit "+id, "report m1 A-again1 0=failed@b/2 dsn=D")
		n.want("dump A-again1", "A-again1: finished=11:00:00 primary=m1 shadow=m2 request=1 of=A\n  0 anna@example.test resubmit/DB1 undelivered at=11:00:00 attempts=1 copy=b/2 (550 failed)")
		n.want("dump all", "A: finished=10:00:00 primary=m1 shadow=m2 acked\nA-again1: finished=11:00:00 primary=m1 shadow=m2 request=1 of=A")
		n.wantState(id, RequestFailures) // told here instead
	}},
	{"2 who was removed from a group does not get it from the shadow", func(n *net) {
		n.run("directory group team@example.test members=usera@example.test,userb@example.test")
		n.delivered("A", "10:00", "m1", "m2", "team@example.test")
		n.run("directory group team@example.test members=usera@example.test")
		n.crash("m1")
		n.at("11:00")
		n.activate("b", "10:00")
		n.drive(12 * time.Hour)
		n.wantResent("A to usera@example.test by m2 for m1 at 22:00:00")
	}},
	{"3 who was added to a group gets an old message from the shadow", func(n *net) {
		n.run("directory group team@example.test members=usera@example.test,userb@example.test")
		n.delivered("A", "10:00", "m1", "m2", "team@example.test")
		n.run("directory group team@example.test members=usera@example.test,userb@example.test,userc@example.test")
		n.crash("m1")
		n.at("11:00")
		n.activate("b", "10:00")
		n.drive(12 * time.Hour)
		n.wantResent("A to usera@example.test by m2 for m1 at 22:00:00", "A to userb@example.test by m2 for m1 at 22:00:00",
			"A to userc@example.test by m2 for m1 at 22:00:00")
	}},
}

// fiveToNine is a request for what was delivered from 5:00 to 9:00, made at
// 9:00 as m1, the primary server, has crashed.
func (n *net) fiveToNine() string {
	n.t.Helper()
	n.delivered("A", "04:59", "m1", "m2", "anna@example.test")
	n.delivered("B", "05:00", "m1", "m2", "bob@example.test")
	n.delivered("C", "08:59", "m1", "m3", "carol@example.test")
	n.delivered("D", "08:59", "m1", "m3", "dave@two.example")
	n.at("09:00")
	n.crash("m1")
	return n.activate("b", "05:00")
}

// newAtSeven is a boundary at 9:00 in which m1, the primary server, has a new
// queue database since 7:00, as m4.
func (n *net) newAtSeven() {
	n.t.Helper()
	n.delivered("A", "01:00", "m1", "m2", "anna@example.test")
	n.delivered("B", "06:59", "m1", "m3", "bob@example.test")
	n.at("07:00")
	n.run("tick m2=now m3=now") // each has all content by now
	n.wipe("m1", "m4")
	n.delivered("C", "08:00", "m4", "m2", "carol@example.test")
	n.at("09:00")
}

func (n *net) params() Params {
	v := n.f.View()
	defer v.Close()
	return v.Params()
}
