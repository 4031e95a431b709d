package main

import (
	"cmp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// arrange puts arguments into the one order that the flag parser reads: the
// words of the command, then its flags, then what they are about. People write
// flags where they think of them.
func arrange(app *cli.App, args []string) ([]string, error) {
	a := arrangement{app: app, next: app.Commands}
	for len(args) > 1 && a.done == nil {
		var err error
		if args, err = a.take(args); err != nil {
			return nil, err
		}
	}
	out := slices.Concat([]string{app.Name}, a.words, a.flags)
	if len(a.rest)+len(a.done) > 0 {
		out = slices.Concat(out, []string{"--"}, a.rest, a.done)
	}
	return out, nil
}

type arrangement struct {
	app                      *cli.App
	leaf                     *cli.Command   // so far
	next                     []*cli.Command // the words that may follow
	words, flags, rest, done []string       // done: everything after "--"
}

// take moves args[1] to its place, with its value if it has one. args[0] is
// what was taken before.
func (a *arrangement) take(args []string) ([]string, error) {
	arg := args[1]
	switch {
	case arg == "--":
		a.done = append([]string{}, args[2:]...)
		return nil, nil
	case len(arg) > 1 && arg[0] == '-':
		return a.takeFlag(args)
	case arg == "help" && len(a.words) == 0:
		a.flags = append(a.flags, "--help")
	case len(a.next) > 0:
		i := slices.IndexFunc(a.next, func(c *cli.Command) bool { return c.HasName(arg) })
		if i < 0 {
			return nil, usageError("there is no command %q; see: %s --help", strings.Join(append(a.words, arg), " "),
				strings.Join(append([]string{a.app.Name}, a.words...), " "))
		}
		a.leaf, a.next = a.next[i], a.next[i].Subcommands
		a.words = append(a.words, arg)
	default:
		a.rest = append(a.rest, arg)
	}
	return args[1:], nil
}

func (a *arrangement) takeFlag(args []string) ([]string, error) {
	arg := args[1]
	name, _, valued := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	flags := memberFlags()
	if a.leaf != nil && (len(a.next) == 0 || find(a.leaf.Flags, name) != nil) {
		flags = a.leaf.Flags
	} else if !slices.Contains([]string{"help", "h", "version", "v"}, name) && find(flags, name) == nil {
		return nil, usageError("flag %s must stand after the words of its command", arg)
	}
	a.flags = append(a.flags, arg)
	if _, isBool := find(flags, name).(*cli.BoolFlag); valued || isBool || find(flags, name) == nil || len(args) < 3 {
		return args[1:], nil
	}
	a.flags = append(a.flags, args[2])
	return args[2:], nil
}

func find(flags []cli.Flag, name string) cli.Flag {
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

// arguments checks how many there are; most < 0 is any number.
func arguments(c *cli.Context, least, most int) error {
	switch n := c.Args().Len(); {
	case n < least:
		return usageError("want %s; see: %s --help", cmp.Or(c.Command.ArgsUsage, "more arguments"), c.Command.HelpName)
	case most >= 0 && n > most:
		return usageError("unexpected %q; see: %s --help", c.Args().Get(most), c.Command.HelpName)
	}
	return nil
}
