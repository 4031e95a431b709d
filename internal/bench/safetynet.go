package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"mailraft/admin"
	"mailraft/internal/held"
	"mailraft/internal/loopback"
)

// SafetyNet measures a boundary whose Safety Net holds very much.
type SafetyNet struct {
	Plan          // Exes[0], Dir, Rounds, Warm, Time and Out count
	Messages int  // held
	Size     int  // bytes of each
	Sink     bool // also what needs deliveries: resubmission and fresh mail
	Expiry   bool // also how all of it expires: a quarter of an hour

	mail  *sink
	lines []string
}

// databases of the Safety Net. DB1 is that of fresh mail, and holds none of it.
const databases = 10

// freshEvery is the pace of fresh mail: it shows latency, and is no load.
const freshEvery = 20 * time.Millisecond

// heartbeat is how often shadow servers acknowledge discards: more often than by
// default, so that nothing waits for it before it expires.
const heartbeat = 10 * time.Second

func databaseName(i int) string { return fmt.Sprintf("DB%d", i+2) }

// Run measures, and prints the table of figures.
func (p *SafetyNet) Run(ctx context.Context) (err error) {
	if p.mail, err = newSink(); err != nil {
		return err
	}
	defer p.mail.close()
	full, err := p.boundary(ctx, "full")
	if err != nil {
		return err
	}
	defer full.stop()
	if err := p.fillUp(ctx, full); err != nil {
		return err
	}
	steps := []func(context.Context, *system) error{p.restarts, p.tables, p.questions, p.rates}
	if p.Sink {
		steps = append(steps, p.resubmissions)
	}
	steps = append(steps, p.memory)
	if p.Expiry {
		steps = append(steps, p.expiry)
	}
	for _, step := range steps {
		if err := step(ctx, full); err != nil {
			return err
		}
	}
	fmt.Fprintf(p.Out, "\n%s\n%d messages of %d bytes in the Safety Nets of three members, of %d databases; queues as said.\n\n| what | figure |\n|---|---|\n", machine(p.Dir), p.Messages, p.Size, databases)
	for _, l := range p.lines {
		fmt.Fprintln(p.Out, l)
	}
	return nil
}

func (p *SafetyNet) note(what, figure string, args ...any) {
	l := fmt.Sprintf("| %s | %s |", what, fmt.Sprintf(figure, args...))
	p.lines = append(p.lines, l)
	fmt.Fprintln(p.Out, l)
}

// boundary starts one whose databases are all at the sink.
func (p *SafetyNet) boundary(ctx context.Context, name string) (*system, error) {
	s, err := startBoundary(ctx, loopback.Options{Exe: p.Exes[0], Dir: filepath.Join(p.Dir, name), Wait: 2 * time.Minute,
		Params: map[string]string{"shadow-heartbeat-frequency": heartbeat.String()}})
	if err != nil {
		return nil, err
	}
	s.name = name
	commands := [][]string{{"database", "copy", "add", "DB1", "s=" + p.mail.addr()}, {"database", "activate", "DB1", "--copy", "s", "--reason", "measuring"}}
	for i := range databases {
		name := databaseName(i)
		commands = append(commands, []string{"database", "add", name, "--copy", "a=" + p.mail.addr()},
			[]string{"directory", "domain", "add", strings.ToLower(name) + ".test", "--any-mailbox", "--database", name})
	}
	for _, c := range commands {
		if _, err := s.boundary.CLI(ctx, c...); err != nil {
			s.stop()
			return nil, err
		}
	}
	return s, nil
}

// fillUp stops the members, fills their stores, and starts them again.
func (p *SafetyNet) fillUp(ctx context.Context, s *system) error {
	s.boundary.Stop()
	o := held.Options{Messages: p.Messages, Size: p.Size, Progress: func(n int) {
		if n%100_000 == 0 {
			fmt.Fprintf(p.Out, "%d messages held\n", n)
		}
	}}
	for i := range 5000 {
		o.Recipients = append(o.Recipients, fmt.Sprintf("user%d@%s.test", i, strings.ToLower(databaseName(i%databases))))
	}
	o.Text = func() []byte { return stretch(p.Size) }
	var others []string
	for _, m := range s.boundary.Members[1:] {
		others = append(others, m.Dir)
	}
	return held.Fill(ctx, s.boundary.Members[0].Dir, others, o)
}

// restarts starts all members from their full stores, and then one of them
// alone after each kind of end.
func (p *SafetyNet) restarts(ctx context.Context, s *system) error {
	ready := func(members ...*loopback.Member) (time.Duration, error) {
		began := time.Now()
		for _, m := range members {
			if err := m.Start(); err != nil {
				return 0, err
			}
		}
		err := s.boundary.Ready(ctx)
		return time.Since(began), err
	}
	took, err := ready(s.boundary.Members...)
	if err != nil {
		return err
	}
	p.note("all members start, until each takes mail", "%.1f s", took.Seconds())
	m := s.boundary.Members[2]
	m.Stop()
	if took, err = ready(m); err != nil {
		return err
	}
	p.note("a member starts after an orderly end", "%.1f s", took.Seconds())
	if err := m.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	if took, err = ready(m); err != nil {
		return err
	}
	p.note("a member starts after kill -9", "%.1f s", took.Seconds())
	p.note("memory of a member then (RSS)", "%d MB", resident(m.PID())>>20)
	return nil
}

// tables looks at what the members' directories take.
func (p *SafetyNet) tables(_ context.Context, s *system) error {
	dir := s.boundary.Members[0].Dir
	p.note("tables of a member, for a message held", "%.0f bytes", float64(size(filepath.Join(dir, "state")))/float64(p.Messages))
	p.note("log of a member", "%d MB", size(filepath.Join(dir, "raft"))>>20)
	return nil
}

// size is what the files below dir take.
func size(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // removed meanwhile
		}
		if fi, err := d.Info(); err == nil && fi.Mode().IsRegular() {
			n += fi.Size()
		}
		return nil
	})
	return n
}

// questions asks what operators ask.
func (p *SafetyNet) questions(ctx context.Context, s *system) error {
	out, err := s.boundary.CLI(ctx, "resubmit", "add", "--dry-run", "--database", databaseName(0), "--start", "24h", "-o", "json")
	if err != nil {
		return err
	}
	var made admin.NewRequest
	if err := json.Unmarshal([]byte(out), &made); err != nil || made.Plan == nil {
		return fmt.Errorf("dry run: %w: %s", err, out)
	}
	first, last := made.Plan.First.Std(), made.Plan.Last.Std()
	tenth := last.Sub(first) / 10
	for _, q := range []struct {
		what string
		args []string
	}{
		{"dry run for one database of ten and a tenth of the time", []string{"resubmit", "add", "--dry-run", "--database", databaseName(0),
			"--start", first.Add(4 * tenth).Format(time.RFC3339Nano), "--end", first.Add(5 * tenth).Format(time.RFC3339Nano)}},
		{"dry run for one database and all of the time", []string{"resubmit", "add", "--dry-run", "--database", databaseName(0), "--start", "24h"}},
		{"safetynet summary", []string{"safetynet", "summary"}},
	} {
		var all []float64
		for range 3 {
			began := time.Now()
			if _, err := s.boundary.CLI(ctx, q.args...); err != nil {
				return err
			}
			all = append(all, time.Since(began).Seconds())
		}
		p.note(q.what+", median of 3", "%.2f s", median(all))
	}
	return nil
}

// rates compares how mail is taken with that of an empty boundary, in turns.
func (p *SafetyNet) rates(ctx context.Context, s *system) error {
	empty, err := p.boundary(ctx, "empty")
	if err != nil {
		return err
	}
	defer empty.stop()
	c := Cell{10 << 10, 50}
	rows := []Row{{System: "empty", Cell: c}, {System: "full", Cell: c}}
	for round := range p.Rounds {
		for j := range rows {
			if round%2 == 1 {
				j = 1 - j
			}
			run, err := p.measure(ctx, []*system{empty, s}[j], c)
			if err != nil {
				return err
			}
			rows[j].Runs = append(rows[j].Runs, run)
		}
	}
	cpu := func(r Run) float64 { return float64(r.CPU.Microseconds()) }
	p.note("messages of 10 KB taken a second, 50 sessions, beside an empty boundary", "%.0f beside %.0f: %.2f ×; processor time of the members %.0f µs beside %.0f",
		rows[1].Median(Run.Rate), rows[0].Median(Run.Rate), Ratio(rows[1], rows[0]), rows[1].Median(cpu), rows[0].Median(cpu))
	return nil
}

// resubmissions sends a database's mail again while fresh mail comes, once at
// the default rate and once as fast as it goes.
func (p *SafetyNet) resubmissions(ctx context.Context, s *system) error {
	if _, err := s.boundary.CLI(ctx, "queue", "resume", "--all"); err != nil {
		return err
	}
	if err := p.drained(ctx, s); err != nil {
		return err
	}
	before, err := p.withFresh(ctx, s, func() error { return sleep(ctx, 15*time.Second) })
	if err != nil {
		return err
	}
	p.note("fresh mail, from when it is sent until it is in the mailbox, p50, p99", "%.1f ms, %.1f ms", ms(percentile(before, 50)), ms(percentile(before, 99)))
	for i, rate := range []string{"2000/s", "50000/s"} {
		if _, err := s.boundary.CLI(ctx, "config", "set", "resubmit-rate="+rate); err != nil {
			return err
		}
		var n int
		var took time.Duration
		during, err := p.withFresh(ctx, s, func() (err error) {
			n, took, err = p.sendAgain(ctx, s, databaseName(1+i))
			return err
		})
		if err != nil {
			return err
		}
		p.note("all of one database sent again at resubmit-rate "+rate, "%d delivered in %.1f s: %.0f/s; fresh mail meanwhile p50 %.1f ms, p99 %.1f ms", n, took.Seconds(),
			float64(n)/took.Seconds(), ms(percentile(during, 50)), ms(percentile(during, 99)))
	}
	return nil
}

func percentile(all []time.Duration, p int) time.Duration {
	return Result{Latencies: all}.Percentile(p)
}

// withFresh lets fresh mail come while f runs, and returns its latencies.
func (p *SafetyNet) withFresh(ctx context.Context, s *system, f func() error) ([]time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- fresh(ctx, s.targets, freshEvery, 2<<10, Recipient) }()
	_ = sleep(ctx, time.Second)
	p.mail.latencies() // of the beginning
	err := f()
	cancel()
	if e := <-done; err == nil {
		err = e
	}
	return p.mail.latencies(), err
}

// drained waits until nothing is active any more.
func (p *SafetyNet) drained(ctx context.Context, s *system) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	for {
		out, err := s.boundary.CLI(ctx, "message", "list", "--state", "active", "--limit", "1", "-o", "id")
		if err != nil || out == "" {
			return err
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return fmt.Errorf("wait until all is delivered: %w", err)
		}
	}
}

// sendAgain makes a request for a database, and waits until it has ended.
func (p *SafetyNet) sendAgain(ctx context.Context, s *system, database string) (n int, took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	began := time.Now()
	id, err := s.boundary.CLI(ctx, "resubmit", "add", "--database", database, "--start", "24h", "-o", "id")
	if err != nil {
		return 0, 0, err
	}
	for {
		out, err := s.boundary.CLI(ctx, "resubmit", "show", id, "-o", "json")
		if err != nil {
			return 0, 0, err
		}
		var r admin.Request
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			return 0, 0, err
		}
		if !r.Ended.IsZero() {
			if r.Delivered != r.Sent || r.State != "completed" {
				return 0, 0, fmt.Errorf("request %s ended as %s: %d of %d were delivered", id, r.State, r.Delivered, r.Sent)
			}
			return r.Delivered, time.Since(began), nil
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return 0, 0, err
		}
	}
}

// memory is asked after all the work.
func (p *SafetyNet) memory(_ context.Context, s *system) error {
	var most int64
	for _, m := range s.boundary.Members {
		most = max(most, resident(m.PID()))
	}
	p.note("memory of the largest member after that (RSS)", "%d MB", most>>20)
	return nil
}

// expiry lets everything expire, and looks what stays on the disk.
func (p *SafetyNet) expiry(ctx context.Context, s *system) error {
	dir := s.boundary.Members[0].Dir
	was := size(dir)
	if _, err := s.boundary.CLI(ctx, "queue", "resume", "--all"); err != nil {
		return err
	}
	if err := p.drained(ctx, s); err != nil {
		return err
	}
	if err := sleep(ctx, 2*heartbeat); err != nil {
		return err
	}
	if _, err := s.boundary.CLI(ctx, "config", "set", "safety-net-hold-time=1s"); err != nil {
		return err
	}
	began := time.Now()
	gone := func() (bool, error) {
		out, err := s.boundary.CLI(ctx, "safetynet", "list", "--limit", "1", "-o", "id")
		return out == "", err
	}
	for {
		if done, err := gone(); err != nil {
			return err
		} else if done {
			break
		}
		if err := sleep(ctx, 500*time.Millisecond); err != nil {
			return err
		}
	}
	p.note("all of it expires", "%.0f s", time.Since(began).Seconds())
	left := size(dir)
	// Content stays until the not-after of its upload, ten minutes, and a sweep
	// comes each minute.
	for still := 0; (still < 8 || time.Since(began) < 12*time.Minute) && ctx.Err() == nil; still++ {
		if err := sleep(ctx, 15*time.Second); err != nil {
			return err
		}
		if now := size(dir); now < left {
			left, still = now, 0
		}
	}
	p.note("data directory of a member before, and when nothing is given back any more", "%d MB, %d MB (%s)", was>>20, size(dir)>>20, parts(dir))
	return nil
}

// parts says where the bytes of a data directory are.
func parts(dir string) string {
	var all []string
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		n := size(filepath.Join(dir, e.Name()))
		if fi, err := e.Info(); err == nil && fi.Mode().IsRegular() {
			n = fi.Size()
		}
		if n >= 1<<20 {
			all = append(all, e.Name()+" "+strconv.FormatInt(n>>20, 10))
		}
	}
	return strings.Join(all, ", ")
}
