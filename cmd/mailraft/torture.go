package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"time"

	"mailraft/internal/torture"

	"github.com/urfave/cli/v2"
)

// tortureCommand breaks what can break under a boundary of processes, and counts.
func tortureCommand() *cli.Command {
	return &cli.Command{
		Name:  "torture",
		Usage: "run a boundary under load on this host while members, disks, links and clocks fail; then check that nothing is lost",
		Description: `The order of faults is drawn from the seed. Links are cut and disks filled only as root, in namespaces that the run makes for itself;
clocks jump and disks fail only in a binary built with the tags testclock and testdisk (make torture). What is left out is said.
Exit code: 0 nothing was found, 1 a promise was broken: the command to run it again is printed, and the directories stay.`,
		Flags: []cli.Flag{
			&cli.Uint64Flag{Name: "seed", Usage: "`NUMBER` that the order of faults is drawn from; default: another one each time"},
			&cli.DurationFlag{Name: "time", Value: 10 * time.Minute, Usage: "how long things fail; healing and checking come on top"},
			&cli.StringFlag{Name: "dir", Usage: "`DIR` for what the run makes; default: a temporary one"},
		},
		Action: tortureBoundary,
	}
}

func tortureBoundary(c *cli.Context) error {
	if err := arguments(c, 0, 0); err != nil {
		return err
	}
	if ran, err := torture.Inside(); ran {
		var e *exec.ExitError
		if errors.As(err, &e) {
			return exit{code: e.ExitCode()}
		}
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	dir := c.String("dir")
	if dir == "" {
		if dir, err = os.MkdirTemp("", "mailraft-torture-"); err != nil {
			return err
		}
	}
	seed := c.Uint64("seed")
	if !c.IsSet("seed") {
		seed = uint64(time.Now().UnixNano()) % 1_000_000
	}
	r, err := torture.Run(c.Context, torture.Options{Exe: exe, Dir: dir, Seed: seed, Time: c.Duration("time"), Out: c.App.Writer})
	if err != nil {
		return fmt.Errorf("%w (what there is lies in %s)", err, dir)
	}
	printTorture(c.App.Writer, r)
	if len(r.Violations) == 0 {
		if c.String("dir") == "" {
			return os.RemoveAll(dir)
		}
		return nil
	}
	return fmt.Errorf("%s; the directories are in %s. Again:\n  %s torture --seed %d --time %s", plural(len(r.Violations), "violation"), r.Kept, exe, seed, c.Duration("time"))
}

func printTorture(w io.Writer, r torture.Report) {
	fmt.Fprintf(w, "\n%s, %s accepted, none lost unless said above\n", plural(r.Steps, "step"), plural(r.Accepted, "message"))
	t := table(w, "fault\ttimes")
	for _, f := range slices.Sorted(maps.Keys(r.Faults)) {
		t.row(string(f), fmt.Sprint(r.Faults[f]))
	}
	for _, f := range r.LeftOut {
		t.row(string(f), "left out")
	}
	t.Flush()
	fmt.Fprintf(w, "\n%s sent again for requests\n", comma(r.Resent))
	t = table(w, "duplicates\ttimes")
	for _, k := range slices.Sorted(maps.Keys(r.Windows)) {
		t.row(k, fmt.Sprint(r.Windows[k]))
	}
	t.Flush()
	for _, v := range r.Violations {
		fmt.Fprintln(w, "VIOLATION: "+v)
	}
}
