package main

import (
	"fmt"
	"io"
	"strings"

	"mailraft/admin"
	"mailraft/mail"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"
)

// memberChange is a command that changes one member.
func memberChange(op, usage string, more []cli.Flag) *cli.Command {
	return &cli.Command{
		Name: op, Usage: usage, ArgsUsage: "NAME", Flags: flags(more, changeFlags()),
		Action: asking(1, 1, func(s *session) error {
			err := s.change(path("members", s.Args().First(), op), nil,
				admin.MemberOrder{Order: s.order(), Now: s.Bool("now"), Dead: s.Bool("dead"), Consent: s.String("consent"), Address: s.String("address")})
			if err == nil && s.output == "table" && !s.Bool("dry-run") && (op == "drain" || op == "remove") {
				fmt.Fprintln(s.out, "it goes on by itself; see: mailraft boundary members")
			}
			return err
		}),
	}
}

func transferLeader(s *session) error {
	var l admin.Leader
	o := admin.LeaderOrder{Order: s.order(), Member: s.Args().First()}
	if err := s.client.Post(s.Context.Context, path("leader"), nil, o, &l); err != nil {
		return err
	}
	return show(s, l, l.Member, func(w io.Writer) {
		if l.DryRun {
			fmt.Fprintln(w, "dry run: nobody else leads")
			return
		}
		fmt.Fprintln(w, l.Member+" leads")
	})
}

func listFormers(s *session) error {
	return list(s, path("members/former"), nil, listing[admin.Former]{
		noun: "former member", header: "member\thow\tsince\tqueue database id\tby\treason",
		id: func(f admin.Former) string { return f.ID.String() },
		row: func(now mail.Time, f admin.Former) []string {
			return []string{f.Name, f.How, since(now, f.At), f.ID.String(), orDash(f.By), cut(f.Reason, 60)}
		},
	})
}

// memberNote is what is unusual about a member.
func memberNote(now mail.Time, m admin.MemberInfo) string {
	var notes []string
	switch {
	case m.Leaving:
		notes = append(notes, "is being removed")
	case m.Drained != 0:
		notes = append(notes, "drained since "+since(now, m.Drained))
	}
	if m.Left > 0 {
		notes = append(notes, fmt.Sprintf("%d messages left", m.Left))
	}
	if m.Gap != nil {
		notes = append(notes, "lost its Safety Net of before "+m.Gap.Until.String())
	}
	if m.Refill != nil && (m.Refill.Missing > 0 || m.Refill.Counting) {
		notes = append(notes, refillText(*m.Refill))
	}
	return strings.Join(notes, ", ")
}

// refillText says what a member has yet to fetch.
func refillText(r admin.Refill) string {
	text := fmt.Sprintf("%s contents (%s) to fetch", humanize.Comma(r.Missing), size(r.MissingBytes))
	if r.Counting {
		text = "at least " + text
	}
	if r.Unavailable > 0 {
		text += fmt.Sprintf(", %s of them at no member that is up", humanize.Comma(r.Unavailable))
	}
	if r.Left > 0 {
		text += ", about " + brief(r.Left.Std())
	}
	return text
}
