package main

import (
	"mailraft/admin"
	"mailraft/mail"

	"github.com/urfave/cli/v2"
)

// boundaryFrontendCommand shows and shuts out front ends.
func boundaryFrontendCommand() *cli.Command {
	return &cli.Command{
		Name: "frontend", Usage: "the front ends that are let in",
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list them", Flags: flags(), Action: asking(0, 0, listFrontends)},
			{Name: "remove", Usage: "shut a front end out, at once; to come back it joins anew", ArgsUsage: "NAME", Flags: flags(changeFlags()),
				Action: asking(1, 1, func(s *session) error {
					return s.change(path("frontends", s.Args().First(), "remove"), nil, admin.FrontendOrder{Order: s.order()})
				})},
		},
	}
}

func listFrontends(s *session) error {
	return list(s, path("frontends"), nil, listing[admin.FrontendInfo]{
		noun: "front end", header: "front end\tsite\tjoined\trenewed\tserial number",
		id: func(f admin.FrontendInfo) string { return f.Name },
		row: func(now mail.Time, f admin.FrontendInfo) []string {
			return []string{f.Name, orDash(f.Site), since(now, f.Joined), since(now, f.Renewed), f.Serial}
		},
	})
}
