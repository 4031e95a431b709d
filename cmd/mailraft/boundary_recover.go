package main

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"mailraft/member"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
	"github.com/hashicorp/go-hclog"
	"github.com/urfave/cli/v2"
)

// boundaryRecoverCommand makes a boundary of what one member has left.
func boundaryRecoverCommand() *cli.Command {
	return &cli.Command{
		Name:  "recover",
		Usage: "go on with this member alone, after a majority of the voters was lost for good; offline",
		Description: `Works on the data directory of a member that does not run. It shows what may be lost, and changes nothing without consent.
If several members survive, look at each with --dry-run: the one whose log ends at the highest term, then the highest entry, goes on.
All others join anew, also those that survive. docs/operate.md has the whole way.`,
		Flags: []cli.Flag{configFlag,
			&cli.BoolFlag{Name: "dry-run", Usage: "show what may be lost, and change nothing"},
			&cli.StringFlag{Name: "consent", Usage: "the `NAME` of the boundary: what may be lost is given up"},
			&cli.BoolFlag{Name: "although-it-answers", Usage: "go on although something answers at the address of a member that is given up"},
			&cli.StringFlag{Name: "reason", Usage: "`TEXT` that is kept with who and when"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "table", Usage: "`FORM`: table or json; tables are for people"}},
		Action: recoverBoundary,
	}
}

func recoverBoundary(c *cli.Context) error {
	if err := arguments(c, 0, 0); err != nil {
		return err
	}
	output := c.String("output")
	if !slices.Contains([]string{"table", "json"}, output) {
		return usageError("-o %s: want table or json", output)
	}
	cfg, err := member.Load(c.String("config"))
	if err != nil {
		return badConfiguration(err)
	}
	log := hclog.New(&hclog.LoggerOptions{Name: "recover", Level: hclog.Warn, Output: c.App.ErrWriter})
	r, err := member.Recover(cfg, member.RecoverOrder{DryRun: c.Bool("dry-run"), Consent: c.String("consent"), Alive: c.Bool("although-it-answers"),
		By: whoami(), Reason: c.String("reason")}, log)
	if err != nil && !errors.Is(err, member.ErrConsent) {
		return err
	}
	if output == "json" {
		err = errors.Join(err, pretty(c.App.Writer, r))
	} else {
		printRecovery(c.App.Writer, r)
	}
	switch {
	case r.Done:
		fmt.Fprintf(c.App.ErrWriter, "%s is the boundary now, alone. Start it:\n\n  mailraft serve --config %s\n\nthen let the others in anew, with empty data directories:\n\n  mailraft boundary token --replace NAME\n",
			r.Member, c.String("config"))
	case c.Bool("dry-run"):
		fmt.Fprintln(c.App.ErrWriter, "dry run: nothing was changed")
	case err != nil:
		return exit{exitNotAllowed, err}
	}
	return nil
}

// unheldShown bounds what is listed for people.
const unheldShown = 10

func printRecovery(w io.Writer, r member.Recovery) {
	if r.Done && len(r.Lost) == 0 {
		fmt.Fprintf(w, "Boundary %s was recovered with %s before: it is of generation %d\n", r.Name, r.Member, r.Generation)
		return
	}
	fmt.Fprintf(w, "Boundary %s of generation %d, as the disk of %s has it\n\n", r.Name, r.Generation, r.Member)
	t := table(w, "")
	t.row("log ends at", fmt.Sprintf("entry %d of term %d", r.LastIndex, r.LastTerm), r.LastTime.String())
	t.row("state has applied", fmt.Sprintf("entry %d", r.AppliedIndex), r.AppliedTime.String())
	t.row("committed for certain", fmt.Sprintf("entry %d", r.CertainIndex))
	t.row("only in this log", fmt.Sprintf("%s, with %s", english.Plural(int(r.LastIndex-r.CertainIndex), "entry", "entries"), english.Plural(r.Uncertain, "message", "")))
	t.row("messages", fmt.Sprintf("%s, %s to be delivered", humanize.Comma(int64(r.Messages)), humanize.Comma(int64(r.Active))))
	t.row("content not on this disk", fmt.Sprintf("%s (%s), %s to be delivered", english.Plural(len(r.Unheld), "message", ""), size(r.UnheldBytes), humanize.Comma(int64(r.UnheldCount))))
	t.Flush()
	fmt.Fprintln(w)
	t = table(w, "given up\tvoter\taddress\towns\tknown to have\tqueue database id\tnote")
	for _, l := range r.Lost {
		note := ""
		if l.Answers {
			note = "ANSWERS: is it lost?"
		}
		t.row(l.Name, yesNo(l.Voter), l.Address, fmt.Sprintf("%s (%s)", english.Plural(l.Active, "message", ""), size(l.ActiveBytes)),
			fmt.Sprintf("entry %d, content to %d", l.CommitIndex, l.Complete), l.ID.String(), note)
	}
	t.Flush()
	if len(r.Unheld) > 0 {
		fmt.Fprintln(w, "\nThese wait for content that may be lost for ever (all of them: -o json):")
		t = table(w, "queue id\tsize\tsender\tstate")
		for _, u := range r.Unheld[:min(len(r.Unheld), unheldShown)] {
			state := "Safety Net"
			if u.Active {
				state = "to be delivered"
			}
			t.row(u.ID.String(), size(u.Size), "<"+u.Sender+">", state)
		}
		t.Flush()
	}
	fmt.Fprintln(w)
	for _, text := range r.Warnings() {
		fmt.Fprintln(w, "- "+text)
	}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
