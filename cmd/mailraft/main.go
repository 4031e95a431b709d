// Command mailraft is a replicated mail queue: the member process, and the
// command line that looks at a boundary and changes it.
//
// There is one file for each noun. A command parses its words, asks a member
// over its socket, and prints the answer; what it asks and gets is defined in
// package admin. Nothing is decided here.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"mailraft/member"

	"github.com/urfave/cli/v2"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// commands are all commands, in the order of the help.
func commands() []*cli.Command {
	return []*cli.Command{
		demoCommand(), devCommand(), serveCommand(), frontendCommand(), mailboxCommand(),
		statusCommand(), checkCommand(),
		queueCommand(), messageCommand(), safetynetCommand(), resubmitCommand(),
		configCommand(checkConfig),
		directoryCommand(), databaseCommand(),
		boundaryCommand(), userCommand(), stateCommand(), snapshotCommand(), benchCommand(), tortureCommand(), verifyCommand(),
		versionCommand(),
	}
}

// checkConfig is what serve would say of a member's configuration.
func checkConfig(path string) error {
	_, err := member.Load(path)
	if err != nil {
		return badConfiguration(err)
	}
	return nil
}

// run is main with everything of the process passed in.
func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	app := newApp(in, out, errs)
	args, err := arrange(app, args)
	if err == nil {
		err = app.RunContext(ctx, args)
	}
	if text := explain(err); text != "" {
		fmt.Fprintln(errs, "mailraft: "+text)
	}
	return exitCode(err)
}

func newApp(in io.Reader, out, errs io.Writer) *cli.App {
	app := &cli.App{
		Name: "mailraft", Usage: "a mail queue that is replicated by Raft, with shadow redundancy and a Safety Net",
		Version: member.Version, HideHelpCommand: true, DisableSliceFlagSeparator: true,
		Reader: in, Writer: out, ErrWriter: errs, Commands: commands(),
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError:   misused,
		Action:         func(c *cli.Context) error { return group(c) },
		Description: `Flags may stand before or after the words of a command. Tables are for people: programs ask for -o json or jsonl.

Exit codes: 0 done, 1 failed, 64 usage, 66 no such id, 69 no member reachable, 75 no quorum (try again), 77 not allowed,
78 bad configuration. status and check: 0 healthy, 1 degraded, 2 critical, 3 unknown.`,
	}
	for _, c := range app.Commands {
		prepare(c)
	}
	return app
}

// prepare sets what every command has in common.
func prepare(c *cli.Command) {
	c.HideHelpCommand = true
	c.OnUsageError = misused
	for _, sub := range c.Subcommands {
		prepare(sub)
	}
	if len(c.Subcommands) > 0 && c.Action == nil {
		c.Action = group
	}
}

// group is the action of a word that needs another one.
func group(c *cli.Context) error {
	c.App.Writer = c.App.ErrWriter
	if c.Command == nil || c.Command.Name == c.App.Name {
		_ = cli.ShowAppHelp(c)
	} else {
		_ = cli.ShowSubcommandHelp(c)
	}
	return exit{code: exitUsage}
}
