package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"mailraft/internal/bench"
	"mailraft/mail"

	"github.com/urfave/cli/v2"
)

// benchCommand measures. It is for those who work on mailraft, so the help of
// the command line does not show it.
func benchCommand() *cli.Command {
	return &cli.Command{
		Name: "bench", Usage: "measure how fast mail is taken", Hidden: true,
		Subcommands: []*cli.Command{benchSMTPCommand(), benchFrontEndCommand(), benchRoundsCommand(), benchRelayCommand(), benchDiscardCommand(), benchReportCommand(), benchSafetyNetCommand()},
	}
}

func benchSMTPCommand() *cli.Command {
	return &cli.Command{
		Name: "smtp", Usage: "send mail over SMTP as fast as it is taken", ArgsUsage: "HOST:PORT...",
		Description: "A closed loop: every session waits for the answer to its message before it sends the next, on the same connection.\nThe content is random. Never point it at a server that delivers.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "load", Value: "10KB:50", Usage: "`SIZE:SESSIONS`"},
			&cli.DurationFlag{Name: "time", Value: 10 * time.Second, Usage: "how long it is counted"},
			&cli.DurationFlag{Name: "warm", Value: time.Second, Usage: "how long it is not, before that"},
			&cli.StringFlag{Name: "to", Value: bench.Recipient, Usage: "`ADDRESS` of the recipient"},
			&cli.BoolFlag{Name: "one-by-one", Usage: "without pipelining"},
		},
		Action: runBenchSMTP,
	}
}

func runBenchSMTP(c *cli.Context) error {
	cell, err := bench.ParseCell(c.String("load"))
	if err != nil {
		return usageError("--load: %v", err)
	}
	if c.NArg() == 0 {
		return usageError("want the addresses to send to")
	}
	shown := time.Now()
	l := bench.Load{Targets: c.Args().Slice(), Sessions: cell.Sessions, Size: cell.Size, Warm: c.Duration("warm"), Time: c.Duration("time"),
		To: c.String("to"), OneByOne: c.Bool("one-by-one"), Progress: func(n int) {
			if time.Since(shown) > time.Second/4 {
				shown = time.Now()
				fmt.Fprintf(c.App.ErrWriter, "\r%d messages ", n)
			}
		}}
	r := l.Run(c.Context)
	fmt.Fprintf(c.App.ErrWriter, "\r%30s\r", "")
	fmt.Fprintf(c.App.Writer, "%d messages in %s: %.0f/s, %.1f MB/s; latency p50 %s, p90 %s, p99 %s, longest %s; %d errors\n", r.Messages, r.Time,
		r.Rate(), r.Rate()*float64(cell.Size)/1e6, r.Percentile(50), r.Percentile(90), r.Percentile(99), r.Percentile(100), r.Errors)
	if r.Err != nil {
		return fmt.Errorf("first error: %w", r.Err)
	}
	return nil
}

func benchRoundsCommand() *cli.Command {
	return &cli.Command{
		Name: "rounds", Usage: "compare binaries of mailraft, and Postfix, in turns",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "exe", Usage: "`PATH` of a binary, named by its directory; default: this one"},
			&cli.BoolFlag{Name: "postfix", Usage: "compare with Postfix"},
			&cli.StringFlag{Name: "rival", Usage: "`PATH` of the program of internal/bench/rival: compare with JetStream, and with RabbitMQ where it is installed"},
			&cli.StringSliceFlag{Name: "load", Value: cli.NewStringSlice("10KB:50", "75KB:50"), Usage: "`SIZE:SESSIONS`"},
			&cli.IntFlag{Name: "rounds", Value: 3},
			&cli.DurationFlag{Name: "time", Value: 4 * time.Second},
			&cli.DurationFlag{Name: "warm", Value: time.Second},
			&cli.StringFlag{Name: "dir", Usage: "`DIR` on the disk to be measured; default: the system's for temporary files"},
			&cli.BoolFlag{Name: "one-by-one", Usage: "without pipelining"},
			&cli.DurationFlag{Name: "sync-time", Usage: "how much longer each sync of every system takes (strace)"},
			&cli.BoolFlag{Name: "leader", Usage: "send to the leader alone"},
			&cli.StringFlag{Name: "profiles", Usage: "`DIR` for CPU profiles of the members"},
		},
		Action: runBenchRounds,
	}
}

func runBenchRounds(c *cli.Context) error {
	p := bench.Plan{Postfix: c.Bool("postfix"), Rival: c.String("rival"), Rounds: c.Int("rounds"), Time: c.Duration("time"), Warm: c.Duration("warm"),
		OneByOne: c.Bool("one-by-one"), SyncTime: c.Duration("sync-time"), Leader: c.Bool("leader"), Profiles: c.String("profiles"), Out: c.App.Writer}
	for _, text := range c.StringSlice("load") {
		cell, err := bench.ParseCell(text)
		if err != nil {
			return usageError("--load: %v", err)
		}
		p.Cells = append(p.Cells, cell)
	}
	for _, exe := range c.StringSlice("exe") {
		abs, err := filepath.Abs(exe)
		if err != nil {
			return err
		}
		p.Exes = append(p.Exes, abs)
	}
	if len(p.Exes) == 0 {
		exe, err := os.Executable()
		if err != nil {
			return err
		}
		p.Exes = []string{exe}
	}
	return inDirectory(c, &p, func() error {
		rows, err := p.Run(c.Context)
		bench.Table(c.App.Writer, rows)
		return err
	})
}

func benchRelayCommand() *cli.Command {
	return &cli.Command{
		Name: "relay", Usage: "take messages and pass them on to an SMTP server that keeps none, in turns with Postfix",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "messages", Value: 5000},
			&cli.StringFlag{Name: "load", Value: "10KB:50", Usage: "`SIZE:SESSIONS`"},
			&cli.IntFlag{Name: "rounds", Value: 3},
			&cli.StringFlag{Name: "dir", Usage: "`DIR` on the disk to be measured; default: the system's for temporary files"},
		},
		Action: func(c *cli.Context) error {
			cell, err := bench.ParseCell(c.String("load"))
			if err != nil {
				return usageError("--load: %v", err)
			}
			exe, err := os.Executable()
			if err != nil {
				return err
			}
			p := bench.Plan{Exes: []string{exe}, Rounds: c.Int("rounds"), Out: c.App.Writer}
			return inDirectory(c, &p, func() error {
				all, err := p.Relays(c.Context, c.Int("messages"), cell)
				fmt.Fprintf(c.App.Writer, "passed on beside Postfix: %.2f\n", bench.RelayRatio(all))
				return err
			})
		},
	}
}

func benchDiscardCommand() *cli.Command {
	return &cli.Command{
		Name: "discard", Usage: "take mail and keep none, until standard input ends; a line of it is answered with the number of messages", ArgsUsage: "HOST:PORT",
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usageError("want the address to listen on")
			}
			return new(bench.Discard).Serve(c.Args().First(), os.Stdin, c.App.Writer)
		},
	}
}

func inDirectory(c *cli.Context, p *bench.Plan, f func() error) (err error) {
	if p.Dir, err = os.MkdirTemp(c.String("dir"), "mailraft-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(p.Dir)) }()
	return f()
}

// benchReportCommand is "make bench".
func benchReportCommand() *cli.Command {
	return &cli.Command{
		Name: "report", Usage: "measure everything, beside Postfix, and write the document",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "write", Value: "docs/benchmarks.md", Usage: "`FILE`"},
			&cli.IntFlag{Name: "rounds", Value: 5},
			&cli.StringFlag{Name: "rival", Usage: "`PATH` of the program of internal/bench/rival"},
			&cli.DurationFlag{Name: "time", Value: 2 * time.Second},
			&cli.StringFlag{Name: "dir", Usage: "`DIR` on the disk to be measured; default: the system's for temporary files"},
		},
		Action: func(c *cli.Context) error {
			exe, err := os.Executable()
			if err != nil {
				return err
			}
			p := bench.Plan{Exes: []string{exe}, Postfix: true, Rival: c.String("rival"), Rounds: c.Int("rounds"), Warm: 500 * time.Millisecond, Time: c.Duration("time"), Out: c.App.Writer}
			for _, size := range []int{10 << 10, 75 << 10, 1 << 20} {
				for _, sessions := range []int{1, 50, 100} {
					p.Cells = append(p.Cells, bench.Cell{Size: size, Sessions: sessions})
				}
			}
			return inDirectory(c, &p, func() error { return p.Report(c.Context, c.App.Version, c.String("write")) })
		},
	}
}

// benchSafetyNetCommand measures what very much in the Safety Net costs.
func benchSafetyNetCommand() *cli.Command {
	return &cli.Command{
		Name: "safetynet", Usage: "measure a boundary whose Safety Net is full",
		Description: "Fills the stores of three members that stand still, by entries of the log as mail would have made them, and starts them:\na million messages of 2 KB need 10 GB of disk.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "exe", Usage: "`PATH` of the binary; default: this one"},
			&cli.IntFlag{Name: "messages", Value: 1_000_000, Usage: "`N` that are held"},
			&cli.StringFlag{Name: "size", Value: "2KiB", Usage: "`SIZE` of each"},
			&cli.IntFlag{Name: "rounds", Value: 5, Usage: "of taking mail, beside an empty boundary"},
			&cli.DurationFlag{Name: "time", Value: 4 * time.Second, Usage: "of each"},
			&cli.BoolFlag{Name: "resubmit", Value: true, Usage: "send two databases again"},
			&cli.BoolFlag{Name: "expire", Usage: "let all of it expire in the end, and wait until the disk is given back"},
			&cli.StringFlag{Name: "dir", Usage: "`DIR` on the disk to be measured; default: the system's for temporary files"},
		},
		Action: runBenchSafetyNet,
	}
}

func runBenchSafetyNet(c *cli.Context) (err error) {
	exe := c.String("exe")
	if exe == "" {
		if exe, err = os.Executable(); err != nil {
			return err
		}
	}
	if exe, err = filepath.Abs(exe); err != nil {
		return err
	}
	size, err := mail.ParseSize(c.String("size"))
	if err != nil {
		return usageError("--size: %v", err)
	}
	p := bench.SafetyNet{Plan: bench.Plan{Exes: []string{exe}, Rounds: c.Int("rounds"), Warm: time.Second, Time: c.Duration("time"), Out: c.App.Writer},
		Messages: c.Int("messages"), Size: int(size), Sink: c.Bool("resubmit"), Expiry: c.Bool("expire")}
	return inDirectory(c, &p.Plan, func() error { return p.Run(c.Context) })
}

func benchFrontEndCommand() *cli.Command {
	return &cli.Command{
		Name: "frontend", Usage: "compare mail through a front end with mail straight to the members",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "dir", Required: true, Usage: "`DIR` on the disk to be measured"},
			&cli.IntFlag{Name: "rounds", Value: 3},
			&cli.DurationFlag{Name: "time", Value: 3 * time.Second, Usage: "of one load"},
			&cli.IntFlag{Name: "idle", Value: 10_000, Usage: "idle sessions"},
		},
		Action: func(c *cli.Context) error {
			exe, err := os.Executable()
			if err != nil {
				return err
			}
			return bench.FrontEnd{Exe: exe, Dir: c.String("dir"), Rounds: c.Int("rounds"), Time: c.Duration("time"), Idle: c.Int("idle"), Out: c.App.Writer}.Run(c.Context)
		},
	}
}
