package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"mailraft/admin"
	"mailraft/mail"

	"github.com/urfave/cli/v2"
)

// configCommand takes the check of a member's own file from main: it is the
// member's to say what may stand there.
func configCommand(check func(path string) error) *cli.Command {
	return &cli.Command{
		Name: "config", Usage: "parameters of the boundary, and a member's configuration file",
		Subcommands: []*cli.Command{
			{Name: "show", Usage: "show the parameters that all members share", ArgsUsage: "[NAME…]", Flags: flags(), Action: asking(0, -1, showConfig)},
			{Name: "set", Usage: "set parameters, all or none; NAME= sets the default", ArgsUsage: "NAME=VALUE…",
				Flags: flags(changeFlags()), Action: asking(1, -1, setConfig)},
			{Name: "preset", Usage: "set all parameters that Exchange has to its values, but " + "reject-message-on-shadow-failure",
				ArgsUsage: "exchange", Flags: flags(changeFlags()), Action: asking(1, 1, func(s *session) error {
					return s.change(path("parameters"), nil, admin.ParameterOrder{Order: s.order(), Preset: s.Args().First()})
				})},
			{Name: "check", Usage: "check a member's configuration file, without a member", Flags: []cli.Flag{
				&cli.StringFlag{Name: "config", Usage: "the `FILE`", TakesFile: true, Required: true}},
				Action: func(c *cli.Context) error {
					if err := arguments(c, 0, 0); err != nil {
						return err
					}
					if err := check(c.String("config")); err != nil {
						return err
					}
					fmt.Fprintln(c.App.Writer, c.String("config")+": ok")
					return nil
				}},
		},
	}
}

func showConfig(s *session) error {
	l := listing[admin.Parameter]{
		noun: "parameter", header: "parameter\tvalue\tdefault\texchange\tmeaning",
		id: func(p admin.Parameter) string { return p.Name + "=" + p.Value },
		row: func(_ mail.Time, p admin.Parameter) []string {
			value := p.Value
			if p.Value != p.Default {
				value += " *"
			}
			return []string{p.Name, value, p.Default, orDash(p.Exchange), p.Doc}
		},
	}
	names, err := s.names(0)
	if err != nil {
		return err
	}
	return list(s, path("parameters"), values(slices.Collect(pairs("name", names))...), l)
}

// pairs repeats a key before each value.
func pairs(key string, list []string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for _, v := range list {
			if !yield(key) || !yield(v) {
				return
			}
		}
	}
}

func setConfig(s *session) error {
	args := s.Args().Slice()
	if len(args) == 2 && !strings.Contains(args[0], "=") {
		args = []string{args[0] + "=" + args[1]}
	}
	set := map[string]string{}
	for _, a := range args {
		name, value, ok := strings.Cut(a, "=")
		if !ok || name == "" {
			return usageError("%q: want NAME=VALUE", a)
		}
		set[name] = value
	}
	if len(set) != len(args) {
		return usageError("a parameter is named twice among %s", strings.Join(slices.Sorted(maps.Keys(set)), " "))
	}
	return s.change(path("parameters"), nil, admin.ParameterOrder{Order: s.order(), Set: set})
}
