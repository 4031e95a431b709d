package main

import (
	"fmt"
	"io"

	"mailraft/admin"

	"github.com/urfave/cli/v2"
)

// boundaryCACommand exchanges the CA that signs the members' certificates.
func boundaryCACommand() *cli.Command {
	change := func(op, usage string, more ...cli.Flag) *cli.Command {
		return &cli.Command{Name: op, Usage: usage, Flags: flags(more, changeFlags()), Action: asking(0, 0, func(s *session) error {
			return s.change(path("ca", op), nil, admin.CAOrder{Order: s.order(), Now: s.Bool("now")})
		})}
	}
	return &cli.Command{
		Name: "ca", Usage: "the certificate authority of the boundary",
		Subcommands: []*cli.Command{
			{Name: "show", Usage: "say which CA signs, and how far an exchange is", Flags: flags(), Action: asking(0, 0, showCA)},
			change("rotate", "begin to exchange it: all members believe a new one, then renew their certificates with it"),
			change("finish", "drop the old one, once all members have renewed; --now: without those who have not",
				&cli.BoolFlag{Name: "now", Usage: "go on without members that are behind: they have to join anew"}),
		},
	}
}

func showCA(s *session) error {
	var i admin.CAInfo
	if err := s.client.Get(s.Context.Context, path("ca"), nil, &i); err != nil {
		return err
	}
	return show(s, i, i.Pin, func(w io.Writer) {
		fmt.Fprintf(w, "CA %s signs, until %s\n", i.Pin, i.End)
		switch r := i.Rotation; {
		case r == nil:
			fmt.Fprintln(w, "no exchange is under way")
		case r.Used:
			fmt.Fprintf(w, "it replaces %s, which is believed until: mailraft boundary ca finish\n", r.WasPin)
		default:
			fmt.Fprintf(w, "%s replaces it as soon as every member believes it\n", r.Pin)
		}
		fmt.Fprintln(w)
		t := table(w, "member\tbelieves\tsigned by\tnote")
		for _, m := range i.Members {
			note := ""
			if m.Behind {
				note = "the next step waits for it"
			}
			t.row(m.Name, cut(orDash(m.Believes), 13), cut(orDash(m.Signer), 13), note)
		}
		t.Flush()
	})
}
