package fsm

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"mailraft/mail"
)

// net is a boundary of three members with Exchange's parameters, told what to
// do by the commands of the scripts. DB1 has two copies, and mail for
// example.test; DB2 has one, and mail for two.example.
type net struct{ *script }

func newNet(t *testing.T) *net {
	n := &net{&script{machine: newMachine(t), used: map[string]bool{}, ids: map[string]mail.ID{}, names: map[mail.ID]string{}, subs: map[string]mail.Submission{}}}
	n.run("boundary", "database copy-add DB1 b=maildir:/b", "database add DB2 a=maildir:/c", "directory domain two.example database=DB2 any=true")
	n.must(KindConfigure, Configure{Set: ExchangePreset()})
	// Exchange has no such slack; intervals are easier to read without it.
	n.run("configure replication-slack=0s")
	return n
}

// run does what script lines say; none may be refused. It returns what the last
// one put out.
func (n *net) run(lines ...string) (out string) {
	n.t.Helper()
	for _, line := range lines {
		n.where = line
		if out = n.command(line); refusal.MatchString(out) {
			n.t.Fatalf("%s: %s", line, out)
		}
	}
	return out
}

var refusal = regexp.MustCompile(`^[45]\d\d `)

// refuses fails the test unless a line is refused, with a text that has all of
// the words.
func (n *net) refuses(line string, words ...string) {
	n.t.Helper()
	n.where = line
	out := n.command(line)
	for _, w := range append(words, "") {
		if !refusal.MatchString(out) || !strings.Contains(out, w) {
			n.t.Errorf("%s: %s; want a refusal with %q", line, out, w)
		}
	}
}

// want compares what a line puts out, but for the spaces at its ends.
func (n *net) want(line, want string) {
	n.t.Helper()
	if got := strings.TrimSpace(n.run(line)); got != want {
		n.t.Errorf("%s: got\n%s\nwant\n%s", line, got, want)
	}
}

// at lets time pass up to a time of day.
func (n *net) at(clock string) {
	n.t.Helper()
	c, err := time.Parse("15:04", clock)
	if err != nil {
		n.t.Fatal(err)
	}
	now := n.now.Std()
	next := time.Date(now.Year(), now.Month(), now.Day(), c.Hour(), c.Minute(), 0, 0, time.UTC)
	if next.Before(now) {
		next = next.AddDate(0, 0, 1)
	}
	n.now = mail.At(next)
	n.must(KindTick, Tick{})
}

// delivered is a message that a primary server takes and delivers, and whose
// shadow server acknowledges that, all at one time of day.
func (n *net) delivered(name, clock, primary, shadow, to string) {
	n.t.Helper()
	n.at(clock)
	n.run(fmt.Sprintf("accept %s primary=%s holders=%s,%s to=%s", name, primary, primary, shadow, to))
	n.deliverNow(n.member(primary))
	n.run("discard " + shadow)
}

// deliverNow reports everything that is due at a member as delivered to the
// active copies.
func (n *net) deliverNow(primary mail.MemberID) {
	n.t.Helper()
	v := n.f.View()
	var reports []mail.Report
	for m := range v.Active(primary) {
		r := mail.Report{ID: m.ID}
		for i := range m.Recipients {
			if rc := &m.Recipients[i]; rc.State == Pending && rc.Next <= n.now && !m.Held {
				o := mail.Outcome{Recipient: i, Result: mail.Delivered, Reply: mail.Reply{Code: 250}}
				if d, ok := v.Database(rc.Database); ok {
					o.Copy, o.Activation = d.Active, d.Activation
				} else {
					o.Result = mail.Relayed
				}
				r.Outcomes = append(r.Outcomes, o)
			}
		}
		if len(r.Outcomes) > 0 {
			reports = append(reports, r)
		}
	}
	v.Close()
	if len(reports) > 0 {
		n.must(KindReport, Report{Member: primary, Reports: reports})
	}
}

// crash takes a member away: its lease is over, and its messages are handed on.
func (n *net) crash(member string) {
	n.t.Helper()
	n.run("member-down "+member, "until takeover "+member)
}

// wipe lets a member come back with an empty disk, as another queue database
// id; what it held gets other holders.
func (n *net) wipe(member, as string) {
	n.t.Helper()
	n.run("token x replace="+member, "member-add "+as+" name="+member+" token=x", "member-down "+member,
		"until takeover "+member, "until takeover "+member) // its messages; then a pass over the Safety Net
	v := n.f.View()
	b, _ := v.Boundary()
	v.Close()
	voters := namesOf(slices.DeleteFunc(slices.Clone(b.Voters), func(id mail.MemberID) bool { return id == n.member(member) }))
	n.run("configuration voters="+voters+","+as, "member-up "+as)
}

// activate activates a copy that is complete up to a time of day; empty: what
// is known of it counts. It returns the request's number.
func (n *net) activate(copy, through string) string {
	n.t.Helper()
	line := "activate DB1 " + copy
	if through != "" {
		c, err := time.Parse("15:04", through)
		if err != nil {
			n.t.Fatal(err)
		}
		now := n.now.Std()
		then := time.Date(now.Year(), now.Month(), now.Day(), c.Hour(), c.Minute(), 0, 0, time.UTC)
		line += " through=-" + now.Sub(then).String()
	}
	n.run(line)
	return number(n.database1().Request)
}

func number(request uint64) string { return (&Request{ID: request}).Name() }

func (n *net) database1() Database {
	v := n.f.View()
	defer v.Close()
	d, _ := v.Database("DB1")
	return d
}

// drive is the leader's driver and the members' delivery, for some time: every
// ten minutes requests are moved on, and what is due is delivered.
func (n *net) drive(d time.Duration) {
	n.t.Helper()
	for end := n.now.Add(d); ; {
		n.must(KindTick, Tick{})
		for _, id := range n.advancing() {
			for n.must(KindAdvance, Advance{Request: id, Rows: 64}).More {
			}
		}
		v := n.f.View()
		members := slices.Collect(v.Members())
		v.Close()
		for _, m := range members {
			if m.Up {
				n.deliverNow(m.ID)
				n.discard(args{words: []string{name(m.ID)}})
			}
		}
		if n.now >= end {
			break
		}
		n.now = min(n.now.Add(10*time.Minute), end)
	}
	n.nameNew()
	n.check()
}

func (n *net) advancing() (ids []uint64) {
	v := n.f.View()
	defer v.Close()
	for r := range v.OpenRequests() {
		if v.Advances(&r, n.now) {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// resent are the resubmissions so far: of what, to whom, by which member, on
// behalf of which other, and when it was made.
func (n *net) resent() string {
	v := n.f.View()
	defer v.Close()
	var out []string
	for m := range v.Messages(mail.ID{}) {
		if m.Request == 0 {
			continue
		}
		r, _ := v.Request(m.Request)
		by := name(m.Primary)
		if r.Behalf != 0 {
			by += " for " + name(r.Behalf)
		}
		for i := range m.Recipients {
			out = append(out, fmt.Sprintf("%s to %s by %s at %s", n.names[m.Origin], m.Recipients[i].Address, by, clock(m.ID.Time())))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// wantResent compares resent, lines in any order, with what is wanted.
func (n *net) wantResent(want ...string) {
	n.t.Helper()
	slices.Sort(want)
	if got := n.resent(); got != strings.Join(want, "\n") {
		n.t.Errorf("sent again:\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

// request returns a request, or a shadow request, by its number.
func (n *net) request(id string) Request {
	n.t.Helper()
	v := n.f.View()
	defer v.Close()
	r, ok := v.Request(uint64(n.int(id)))
	if !ok {
		n.t.Fatalf("there is no request %s", id)
	}
	return r
}

func (n *net) wantState(id string, want RequestState) {
	n.t.Helper()
	if got := n.request(id).State; got != want {
		n.t.Errorf("request %s is %s, not %s\n%s", id, got, want, n.run("dump requests"))
	}
}

// held are the messages that have deliveries to a database in the Safety Net.
func (n *net) held(database string) string {
	var out []string
	for _, line := range strings.Split(n.run("dump safetynet "+database), "\n") {
		if f := strings.Fields(line); len(f) > 1 {
			out = append(out, f[1])
		}
	}
	return strings.Join(out, " ")
}
