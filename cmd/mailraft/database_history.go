package main

import (
	"fmt"

	"mailraft/admin"
	"mailraft/mail"

	"github.com/urfave/cli/v2"
)

// activationCommands are about which copy of a database is active.
func activationCommands() []*cli.Command {
	the := &cli.StringFlag{Name: "copy", Required: true, Usage: "the copy `NAME`"}
	one := &cli.StringFlag{Name: "copy", Usage: "only the copy `NAME`"}
	through := func(usage string, required bool) cli.Flag {
		return &cli.StringFlag{Name: "data-through", Usage: usage + ": RFC 3339, or how long ago, as 2h", Required: required}
	}
	return []*cli.Command{
		{Name: "activate", Usage: "make another copy the active one, and have the mail that it lacks sent again", ArgsUsage: "NAME",
			Flags:  flags([]cli.Flag{the, through("it holds all that was delivered before `TIME`", false)}, changeFlags()),
			Action: asking(1, 1, activate),
			Description: "One entry of the log activates the copy and asks for the resubmission. It begins where the copy is known to be complete,\n" +
				"less its replay lag and replication slack; if nothing is known, at the beginning of what is held.\n" +
				"The active copy itself can be activated, too, with --data-through, after it was restored from a backup.\n" +
				"--dry-run says what would be sent again, from when on and why."},
		{Name: "report", Usage: "record up to when a copy is complete, as its replication knows it", ArgsUsage: "NAME",
			Flags:  flags([]cli.Flag{the, through("it holds all that was delivered before `TIME`", true)}, changeFlags()),
			Action: asking(1, 1, reportCopy)},
		{Name: "suspend-activation", Usage: "let the Active Manager activate nothing of a database by itself", ArgsUsage: "NAME",
			Flags: flags([]cli.Flag{one}, changeFlags()), Action: asking(1, 1, activationChange("suspend-activation"))},
		{Name: "resume-activation", Usage: "let it again", ArgsUsage: "NAME",
			Flags: flags([]cli.Flag{one}, changeFlags()), Action: asking(1, 1, activationChange("resume-activation"))},
		{Name: "history", Usage: "print what happened to a database and its copies, in the order of time", ArgsUsage: "NAME",
			Flags: flags(), Action: asking(1, 1, databaseHistory)},
	}
}

func reportCopy(s *session) error {
	through, err := s.moment("data-through")
	if err != nil {
		return err
	}
	return s.change(path("databases", s.Args().First(), "report"), nil,
		admin.CopyReport{Order: s.order(), Copy: s.String("copy"), DataThrough: through})
}

func activationChange(op string) func(*session) error {
	return func(s *session) error {
		var copies []admin.Copy
		if name := s.String("copy"); name != "" {
			copies = []admin.Copy{{Name: name}}
		}
		return changeDatabase(s, op, copies)
	}
}

func databaseHistory(s *session) error {
	return list(s, path("databases", s.Args().First(), "history"), nil, listing[admin.DatabaseEvent]{
		noun: "event", header: "time\tevent\tcopy\tfrom\tactivation\trequest\tby\ttext",
		id: func(e admin.DatabaseEvent) string { return e.Event },
		row: func(_ mail.Time, e admin.DatabaseEvent) []string {
			return []string{e.Time.String(), e.Event, orDash(e.Copy), orDash(e.From), orDash(number(e.Activation)), orDash(e.Request), orDash(e.By),
				cut(historyText(e), 250)}
		},
	})
}

func historyText(e admin.DatabaseEvent) string {
	text := e.Text
	switch {
	case e.Reason != "" && text != "":
		text = e.Reason + "; " + text
	case e.Reason != "":
		text = e.Reason
	}
	if e.Times > 1 {
		text = fmt.Sprintf("%d times, the last: %s", e.Times, text)
	}
	return text
}

// number is a number that 0 is none of.
func number(n uint64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}
