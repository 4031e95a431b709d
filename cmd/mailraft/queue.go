package main

import (
	"strings"

	"mailraft/admin"
	"mailraft/mail"

	"github.com/urfave/cli/v2"
)

func queueCommand() *cli.Command {
	by := &cli.StringFlag{Name: "by", Value: "destination", Usage: "`WHAT` to group by: " + strings.Join(admin.Groupings(), ", ")}
	return &cli.Command{
		Name: "queue", Usage: "what waits to be delivered, by destination",
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list the queues, one for each destination, and the suspended ones", ArgsUsage: "[ID…|-]",
				Flags: flags(filterFlags()), Action: asking(0, -1, listQueues)},
			{Name: "summary", Usage: "count what waits, in groups", ArgsUsage: "[ID…|-]",
				Flags: flags([]cli.Flag{by}, filterFlags()), Action: asking(0, -1, summarizeQueues)},
			queueChange("suspend", "deliver nothing to a destination; mail is still taken, and is not given up for its age meanwhile"),
			queueChange("resume", "deliver to a destination again"),
			queueChange("retry", "try what waits for a destination now"),
		},
	}
}

func listQueues(s *session) error {
	q, err := s.filter()
	if err != nil {
		return err
	}
	return list(s, path("queues"), q, listing[admin.Queue]{
		noun: "queue", header: "queue\tstate\tmessages\trecipients\tdeferred\tsize\toldest\tnext try\tlast error",
		id: func(x admin.Queue) string { return x.Name },
		row: func(now mail.Time, x admin.Queue) []string {
			state, last := "active", x.LastError
			if x.Suspended {
				state = "suspended"
				if x.Reason != "" {
					last = "suspended: " + x.Reason
				}
			}
			return append([]string{x.Name, state}, groupRow(now, &x.Group, last)...)
		},
	})
}

func groupRow(now mail.Time, g *admin.Group, last string) []string {
	next := "-"
	if g.Recipients > 0 {
		next = until(now, g.NextAttempt)
	}
	return []string{itoa(g.Messages), itoa(g.Recipients), itoa(g.Deferred), size(g.Bytes), since(now, g.Oldest), next, cut(last, 60)}
}

func summarizeQueues(s *session) error {
	q, err := s.filter()
	if err != nil {
		return err
	}
	q.Set("by", s.String("by"))
	return list(s, path("queues/summary"), q, listing[admin.Group]{
		noun: "group", header: s.String("by") + "\tmessages\trecipients\tdeferred\tsize\toldest\tnext try\tlast error",
		id: func(x admin.Group) string { return x.Name },
		row: func(now mail.Time, x admin.Group) []string {
			return append([]string{cut(x.Name, 60)}, groupRow(now, &x, x.LastError)...)
		},
	})
}

func queueChange(op, usage string) *cli.Command {
	all := &cli.BoolFlag{Name: "all", Usage: "every destination"}
	return &cli.Command{
		Name: op, Usage: usage, ArgsUsage: "QUEUE…|-|--all, as db/DB1 or relay/smtp://host:25", Flags: flags([]cli.Flag{all}, changeFlags()),
		Action: asking(0, -1, func(s *session) error {
			keys, err := s.names(0)
			if err != nil {
				return err
			}
			if err := s.selection(len(keys) > 0); err != nil {
				return err
			}
			return s.change(path("queues", op), nil, admin.QueueOrder{Order: s.order(), Keys: keys, All: s.Bool("all")})
		}),
	}
}

// selection: without anything selected, --all must be spelt out.
func (s *session) selection(given bool) error {
	switch {
	case !given && !s.Bool("all"):
		return usageError("say which, or --all; see: %s --help", s.Command.HelpName)
	case given && s.Bool("all"):
		return usageError("--all and a selection contradict each other")
	}
	return nil
}
