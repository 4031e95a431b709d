package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"mailraft/internal/loopback"
	"mailraft/mail"
)

// Domain is where the load goes: any local part of it is taken.
const Domain = "example.test"

// Recipient is who all the load is for.
const Recipient = "bob@" + Domain

// Plan is which systems are measured, at what, and how often.
type Plan struct {
	Dir      string // made; everything lies below it, on the same disk
	Exes     []string
	Postfix  bool
	Rival    string // program of internal/bench/rival: compare with JetStream, and with RabbitMQ where it is installed
	Cells    []Cell
	Rounds   int
	Warm     time.Duration
	Time     time.Duration
	OneByOne bool
	SyncTime time.Duration // what each sync of every system waits longer; needs strace
	Leader   bool          // load goes to the leader alone, and not to all members
	Profiles string        // directory for CPU profiles of the members, one of each run; "" is none
	Out      io.Writer

	after func(context.Context, *system, []Row) error // the rounds, with the last system
}

// Cell is one kind of load.
type Cell struct {
	Size     int
	Sessions int
}

// String is the cell as ParseCell reads it.
func (c Cell) String() string { return fmt.Sprintf("%s:%d", sizeText(c.Size), c.Sessions) }

func sizeText(n int) string {
	if n >= 1<<20 && n%(1<<20) == 0 {
		return fmt.Sprintf("%d MB", n>>20)
	}
	return fmt.Sprintf("%d KB", n>>10)
}

// ParseCell reads "75KB:50": size and sessions.
func ParseCell(s string) (c Cell, err error) {
	size, sessions, ok := strings.Cut(s, ":")
	n, err := mail.ParseSize(strings.NewReplacer("KB", "KiB", "MB", "MiB", " ", "").Replace(size))
	if err == nil && ok {
		_, err = fmt.Sscan(sessions, &c.Sessions)
	}
	if c.Size = int(n); err != nil || !ok || c.Sessions < 1 || c.Size < 1 {
		return c, fmt.Errorf("%q: want SIZE:SESSIONS, as 75KB:50", s)
	}
	return c, nil
}

// system is something that takes mail.
type system struct {
	name     string
	targets  []string
	members  int
	pids     func() []int
	stop     func()
	boundary *loopback.Boundary // of mailraft

	// Of a system that knows no SMTP: makes ready, and returns the load itself,
	// which other processes generate.
	prepare    func(Load) (func(context.Context) Result, error)
	generators []int
}

// Run is one system under one load for a while.
type Run struct {
	Result
	CPU     time.Duration // of the system, for a message
	Written float64       // bytes to the disk for a byte of content, and member
	Foreign float64       // processors that somebody else used meanwhile
}

// Row is all runs of one system at one cell.
type Row struct {
	System string
	Cell   Cell
	Runs   []Run
}

// Median of what f says of the runs.
func (r Row) Median(f func(Run) float64) float64 {
	var all []float64
	for _, run := range r.Runs {
		all = append(all, f(run))
	}
	return median(all)
}

func median(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	n := len(all)
	return (all[(n-1)/2] + all[n/2]) / 2
}

// Run starts the systems and lets them take turns, cell by cell and round
// by round. The order is turned around in every other round: who comes second
// finds a disk that is still busy with the first.
func (p Plan) Run(ctx context.Context) ([]Row, error) {
	systems, err := p.start(ctx)
	defer func() {
		for _, s := range systems {
			s.stop()
		}
	}()
	if err != nil {
		return nil, err
	}
	rows := make([]Row, 0, len(p.Cells)*len(systems))
	for _, c := range p.Cells {
		for _, s := range systems {
			rows = append(rows, Row{System: s.name, Cell: c})
		}
	}
	for round := range p.Rounds {
		for i, c := range p.Cells {
			for j := range systems {
				if round%2 == 1 {
					j = len(systems) - 1 - j
				}
				run, err := p.measure(ctx, systems[j], c)
				if err != nil {
					return rows, err
				}
				row := &rows[i*len(systems)+j]
				row.Runs = append(row.Runs, run)
				fmt.Fprintf(p.Out, "round %d  %-6s %3d sessions  %-10s %8.0f msg/s  p50 %6.1f ms  p99 %6.1f ms  %5.0f µs/msg  %.2f written  foreign %.2f  errors %d %v\n",
					round+1, sizeText(c.Size), c.Sessions, row.System, run.Rate(), ms(run.Percentile(50)), ms(run.Percentile(99)),
					float64(run.CPU.Microseconds()), run.Written, run.Foreign, run.Errors, text(run.Err))
			}
		}
	}
	if p.after != nil {
		return rows, p.after(ctx, boundaryOf(systems), rows)
	}
	return rows, nil
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// start starts all systems.
func (p Plan) start(ctx context.Context) (all []*system, err error) {
	wrap, err := slowSyncs(p.SyncTime)
	if err != nil {
		return nil, err
	}
	if p.Postfix {
		s, err := startPostfix(ctx, filepath.Join(p.Dir, "postfix"), "", wrap)
		if err != nil {
			return all, err
		}
		all = append(all, s)
	}
	for i, exe := range p.Exes {
		name := "mailraft"
		if len(p.Exes) > 1 {
			name = filepath.Base(filepath.Dir(exe))
		}
		s, err := startBoundary(ctx, loopback.Options{Dir: filepath.Join(p.Dir, fmt.Sprintf("boundary%d", i+1)), Exe: exe, Pprof: p.Profiles != "",
			Wrap: func(int) []string { return wrap }})
		if err != nil {
			return all, err
		}
		s.name = name
		if p.Leader {
			if m, err := s.boundary.Leader(ctx); err == nil {
				s.targets = []string{m.SMTP}
			}
		}
		all = append(all, s)
	}
	return p.startRivals(ctx, wrap, all)
}

func (p Plan) startRivals(ctx context.Context, wrap []string, all []*system) ([]*system, error) {
	if p.Rival == "" {
		return all, nil
	}
	s, err := startJetStream(p.Rival, wrap, filepath.Join(p.Dir, "jetstream"))
	if err != nil {
		return all, err
	}
	all = append(all, s)
	s, err = startRabbitMQ(ctx, p.Rival, wrap, filepath.Join(p.Dir, "rabbitmq"))
	if errors.Is(err, ErrNoRabbitMQ) {
		fmt.Fprintln(p.Out, err)
		return all, nil
	}
	if err == nil {
		all = append(all, s)
	}
	return all, err
}

// startBoundary starts three members whose queues are suspended: they take
// mail, and deliver none.
func startBoundary(ctx context.Context, o loopback.Options) (*system, error) {
	o.Members, o.Domain = 3, Domain
	b, err := loopback.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	s := &system{name: "mailraft", members: len(b.Members), stop: b.Stop, boundary: b,
		pids: func() []int {
			var pids []int
			for _, m := range b.Members {
				pids = append(pids, m.PID())
			}
			return pids
		}}
	for _, m := range b.Members {
		s.targets = append(s.targets, m.SMTP)
	}
	if _, err := b.CLI(ctx, "queue", "suspend", "--all", "--reason", "measuring how mail is taken"); err != nil {
		b.Stop()
		return nil, err
	}
	return s, nil
}

// measure lets one system work. What the others left in the page cache is
// written first.
func (p Plan) measure(ctx context.Context, s *system, c Cell) (Run, error) {
	if err := ctx.Err(); err != nil {
		return Run{}, err
	}
	syscall.Sync()
	load := Load{Targets: s.targets, Sessions: c.Sessions, Size: c.Size, Warm: p.Warm, Time: p.Time, To: Recipient, OneByOne: p.OneByOne}
	type moment struct {
		usage
		own, busy time.Duration
	}
	look := func() moment { return moment{used(s.pids()), own() + used(s.generators).cpu, busy()} }
	generate := load.Run
	if s.prepare != nil {
		var err error
		if generate, err = s.prepare(load); err != nil {
			return Run{}, fmt.Errorf("prepare %s: %w", s.name, err)
		}
	}
	var begin, end moment
	var looking sync.WaitGroup
	looking.Go(func() {
		if sleep(ctx, p.Warm) == nil {
			begin = look()
		}
		if sleep(ctx, p.Time-20*time.Millisecond) == nil { // before the sessions end
			end = look()
		}
	})
	profiled := p.profile(ctx, s, c)
	run := Run{Result: generate(ctx)}
	profiled()
	looking.Wait()
	if err := ctx.Err(); err != nil {
		return run, err
	}
	if run.Messages > 0 {
		cpu := end.cpu - begin.cpu
		run.CPU = cpu / time.Duration(run.Messages)
		run.Written = float64(end.written-begin.written) / float64(run.Messages) / float64(c.Size) / float64(s.members)
		run.Foreign = (end.busy - begin.busy - cpu - (end.own - begin.own)).Seconds() / p.Time.Seconds()
	}
	return run, nil
}

// boundaryOf is the last system that is a boundary.
func boundaryOf(systems []*system) *system {
	var last *system
	for _, s := range systems {
		if s.boundary != nil {
			last = s
		}
	}
	return last
}
