package torture

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mailraft/internal/fixedport"
	"mailraft/internal/ledger"
	"mailraft/internal/loopback"
)

const (
	members  = 3
	diskSize = 512 << 20 // of a member, where it has one of its own
	spaceMin = "32MiB"   // that must stay free
	sessions = 3
	every    = 250 * time.Millisecond // between two messages of a session
)

// Options say what to do to whom.
type Options struct {
	Exe  string // the mailraft binary
	Dir  string // absolute; for what the run makes
	Seed uint64
	Time time.Duration // of faults; healing and checking come on top
	Out  io.Writer     // what happens, as it happens
}

// Report is what came of a run.
type Report struct {
	Steps      int
	Faults     map[Fault]int
	LeftOut    []Fault // that this machine or this binary cannot do
	Accepted   int
	Windows    map[string]int // duplicates, by what explains them
	Resent     int            // by resubmit requests, on purpose
	Violations []string
	Kept       string // where the directories are, if something was found
}

// run is one run under way. Its methods are for one goroutine.
type run struct {
	Options
	ctx    context.Context
	b      *loopback.Boundary
	net    *network // nil: links cannot be cut
	disks  bool     // each member has a small disk of its own
	sinks  []*sink
	ledger *ledger.Ledger
	events []event
	levels []level // of each member, before
	report Report
	began  time.Time
	harmed map[int]time.Time // member, since when its disk is damaged or was replaced, until all is well
	ends   map[int]bool      // members that may end by themselves now
}

// event is a fault while it lasts.
type event struct {
	at, until time.Time
	fault     Fault
	member    int
}

// Run tortures a boundary. An error says that it could not be done; what is
// wrong with the boundary is in the report.
func Run(ctx context.Context, o Options) (Report, error) {
	r := &run{Options: o, ctx: ctx, ledger: ledger.New(), began: time.Now(), harmed: map[int]time.Time{}, ends: map[int]bool{}}
	r.report = Report{Faults: map[Fault]int{}, Windows: map[string]int{}}
	if err := r.build(); err != nil {
		return r.report, err
	}
	defer r.b.Stop()
	s := &ledger.Sender{Ledger: r.ledger, From: "sender@example.org", Sessions: sessions, Every: every, Pause: 100 * time.Millisecond, Timeout: 45 * time.Second,
		Recipient: func(n int) string { return fmt.Sprintf("user%d@example.test", n%7) }, Size: func(n int) int { return 300 + n*7919%24_000 }}
	for _, m := range r.b.Members {
		s.Targets = append(s.Targets, m.SMTP)
	}
	load, stop := context.WithCancel(ctx)
	sent := make(chan struct{})
	go func() { s.Run(load); close(sent) }()
	r.torment()
	stop()
	<-sent
	r.heal()
	r.check()
	return r.report, r.keep()
}

func (r *run) say(format string, a ...any) {
	fmt.Fprintf(r.Out, "%7.1fs  %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, a...))
}

func (r *run) violation(format string, a ...any) {
	text := fmt.Sprintf(format, a...)
	r.report.Violations = append(r.report.Violations, text)
	r.say("VIOLATION: %s", text)
}

// build makes the network, the disks, the mailbox servers and the boundary.
func (r *run) build() (err error) {
	if r.net, err = newNetwork(); err != nil {
		return err
	}
	if r.disks, err = mountDisks(r.Dir); err != nil {
		return err
	}
	o := loopback.Options{Exe: r.Exe, Dir: r.Dir, Members: members, Domain: "example.test", Wait: time.Minute, Edit: r.edit, Wrap: r.wrap,
		Params: map[string]string{"shadow-resubmit-time-span": "5s", "shadow-heartbeat-frequency": "1s", "failover-after": "3s",
			"unresponsive-primary-timeout": "5s", "resubmit-rate": "200/s"}}
	if r.net != nil {
		o.Host = hostAddr
	}
	for i := range members {
		for _, file := range []string{r.clockFile(i), r.diskFile(i)} {
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				return fmt.Errorf("make %s: %w", file, err)
			}
		}
		if err := os.WriteFile(r.clockFile(i), []byte("0s"), 0o600); err != nil {
			return fmt.Errorf("set a clock: %w", err)
		}
	}
	if r.b, err = loopback.Start(r.ctx, o); err != nil {
		return err
	}
	if err := r.mailboxes(); err != nil {
		return err
	}
	r.levels = r.measure()
	r.say("seed %d: three members, %s", r.Seed, r.levels)
	return nil
}

func (r *run) clockFile(i int) string { return filepath.Join(r.Dir, fmt.Sprintf("clock%d", i+1)) }
func (r *run) diskFile(i int) string  { return filepath.Join(r.Dir, fmt.Sprintf("disk%d", i+1)) }

// wrap is what stands before the command of a member.
func (r *run) wrap(i int) []string {
	words := []string{"env", "MAILRAFT_TEST_CLOCK=" + r.clockFile(i), "MAILRAFT_TEST_DISK=" + r.diskFile(i)}
	if r.net != nil {
		words = append([]string{"ip", "netns", "exec", fmt.Sprintf("h%d", i)}, words...)
	}
	return words
}

// edit lets a member read what it has stored all the time, so that damage is
// found while the run lasts.
func (r *run) edit(_ int, text string) string {
	text = strings.Replace(text, `space-min = "256MiB"`, `space-min = "`+spaceMin+`"`, 1)
	return text + "\n[content]\nscrub-rate = \"64MiB\"\nscrub-every = \"5s\"\n"
}

// mailboxes makes two mailbox servers as copies of a database, and sends all
// mail there.
func (r *run) mailboxes() error {
	args := []string{"database", "add", "DB2"}
	for i, name := range []string{"a", "b"} {
		addr := fmt.Sprintf("%s:%d", mailboxHost, 2400+i)
		if r.net == nil {
			var err error
			if addr, err = fixedport.Addr(); err != nil {
				return err
			}
		}
		s, err := newSink(name, addr)
		if err != nil {
			return err
		}
		r.sinks = append(r.sinks, s)
		args = append(args, "--copy", name+"=lmtp://"+addr)
	}
	for _, words := range [][]string{args, {"directory", "domain", "remove", "example.test"}, {"directory", "domain", "add", "example.test", "--any-mailbox", "--database", "DB2"}} {
		if _, err := r.b.CLI(r.ctx, words...); err != nil {
			return err
		}
	}
	return nil
}

// torment runs the steps of the seed until the time is over.
func (r *run) torment() {
	p, end := newPlan(r.Seed), time.Now().Add(r.Time)
	for time.Now().Before(end) && r.ctx.Err() == nil {
		s := p.next()
		if why := r.cannot(s.Fault); why != "" {
			if !slices.Contains(r.report.LeftOut, s.Fault) {
				r.report.LeftOut = append(r.report.LeftOut, s.Fault)
				r.say("%s is left out: %s", s.Fault, why)
			}
			continue
		}
		r.report.Steps++
		r.step(s, end)
	}
}

func (r *run) step(s Step, end time.Time) {
	if s.Fault.damages() {
		if err := r.whole(); err != nil {
			r.violation("before %s: the members do not come to have everything: %v", s.Fault, err)
			return
		}
		if time.Now().After(end) {
			return
		}
	}
	r.report.Faults[s.Fault]++
	r.say("%s of %s for %s%s", s.Fault, memberName(s.Member), s.For, besideText(s.Beside))
	at := time.Now()
	after := r.begin(s)
	undo := r.alongside(s)
	r.pause(s.For)
	after()
	undo()
	r.events = append(r.events, event{at, time.Now(), s.Fault, s.Member})
	r.revive()
	r.pause(s.Pause)
}

func besideText(f Fault) string {
	if f == "" {
		return ""
	}
	return ", and " + string(f)
}

func (r *run) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.ctx.Done():
	}
}

// cli runs a command by whatever member answers; nobody may.
func (r *run) cli(words ...string) (string, error) {
	ctx, cancel := context.WithTimeout(r.ctx, 20*time.Second)
	defer cancel()
	var err error
	for _, m := range r.b.Members {
		var out string
		if !m.Running() {
			continue
		}
		if out, err = r.b.Ask(ctx, m, words...); err == nil {
			return out, nil
		}
	}
	return "", err
}

func (r *run) read(into any, words ...string) error {
	out, err := r.cli(append(words, "-o", "json")...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(out), into)
}
