package main

import (
	"fmt"
	"io"

	"mailraft/admin"
	"mailraft/mail"

	"github.com/urfave/cli/v2"
)

func boundaryCommand() *cli.Command {
	return &cli.Command{
		Name: "boundary", Usage: "the members and who may join them",
		Subcommands: []*cli.Command{
			boundaryInitCommand(),
			{Name: "token", Usage: "print a token with which another host can join", Flags: flags([]cli.Flag{
				&cli.StringFlag{Name: "replace", Usage: "for the member `NAME`, which has lost its disk, to come back with an empty one; its old queues are given to others"},
				&cli.StringFlag{Name: "role", Value: "member", Usage: "`ROLE` that the token is for: member or frontend"},
				&cli.IntFlag{Name: "uses", Value: 1, Usage: "how often it can be used: `N`"},
				&cli.StringFlag{Name: "life", Value: "1h", Usage: "how long it can be used: `TIME`"},
			}, changeFlags()), Action: asking(0, 0, makeToken)},
			boundaryJoinCommand(),
			boundaryRecoverCommand(),
			boundaryCACommand(),
			boundaryFrontendCommand(),
			memberChange("drain", "refuse new mail on a member and hand everything over, until undrain", nil),
			memberChange("undrain", "let a drained member take mail again; also calls off its removal", nil),
			memberChange("remove", "take a member out of the boundary for good; one that is up is drained first", []cli.Flag{
				&cli.BoolFlag{Name: "now", Usage: "do not drain it: it is shut out at once, and its messages go to others when its lease is over"},
				&cli.BoolFlag{Name: "dead", Usage: "it is lost for good: also give up the content that nobody else has; lists it, and wants consent"},
				&cli.StringFlag{Name: "consent", Usage: "with --dead: the `NAME` of the member once more"}}),
			memberChange("set", "give a member another cluster address", []cli.Flag{
				&cli.StringFlag{Name: "address", Required: true, Usage: "`HOST:PORT` that the others reach it at; its own configuration must say the same"}}),
			{Name: "transfer-leader", Usage: "have another member lead", ArgsUsage: "[NAME]", Flags: flags(changeFlags()), Action: asking(0, 1, transferLeader)},
			{Name: "former", Usage: "list who was a member and is refused now", Flags: flags(), Action: asking(0, 0, listFormers)},
			{Name: "members", Usage: "list the members", Flags: flags(), Action: asking(0, 0, listMembers)},
		},
	}
}

func makeToken(s *session) error {
	life, err := mail.ParseDuration(s.String("life"))
	if err != nil {
		return usageError("--life: %w", err)
	}
	var t admin.Token
	o := admin.TokenOrder{Order: s.order(), Role: s.String("role"), Replace: s.String("replace"), Uses: s.Int("uses"), Life: mail.Duration(life.Milliseconds())}
	if err := s.client.Post(s.Context.Context, path("tokens"), nil, o, &t); err != nil {
		return err
	}
	return show(s, t, t.Token, func(w io.Writer) {
		if t.Token == "" {
			fmt.Fprintln(w, "dry run: no token was made")
			return
		}
		if name := s.String("replace"); name != "" {
			fmt.Fprintf(w, "%s\n\nLets %s come back once in the next %s with an empty data directory. What it had of queues is then given to others,\nand the old directory is refused for ever. It is shown only once. On its host:\n\n  mailraft boundary join --config FILE --token TOKEN HOST:PORT\n",
				t.Token, name, mail.FormatDuration(t.Life.Std()))
			return
		}
		command := "boundary"
		if t.Role == "frontend" {
			command = "frontend"
		}
		fmt.Fprintf(w, "%s\n\nGood for %d joins in the next %s; it is shown only once. On the other host:\n\n  mailraft %s join --config FILE --token TOKEN HOST:PORT\n",
			t.Token, t.Uses, mail.FormatDuration(t.Life.Std()), command)
	})
}

func listMembers(s *session) error {
	var st admin.Status // the commit index, to say how far a member is behind
	if s.output == "table" {
		if err := s.client.Get(s.Context.Context, path("status"), nil, &st); err != nil {
			return err
		}
	}
	return list(s, path("members"), nil, listing[admin.MemberInfo]{
		noun: "member", header: "member\tstate\trole\tsite\tsmtp\tbehind\tsince\taddress\tqueue database id\tnote",
		id: func(m admin.MemberInfo) string { return m.ID.String() },
		row: func(now mail.Time, m admin.MemberInfo) []string {
			return append(memberRow(now, st.Member.CommitIndex, m), m.Address, m.ID.String(), memberNote(now, m))
		},
	})
}

// memberRow is what status and members have in common. Behind is how many
// entries the member has not applied, as the leader saw it last.
func memberRow(now mail.Time, commit uint64, m admin.MemberInfo) []string {
	behind := "-"
	if m.Seen != nil {
		behind = fmt.Sprint(commit - min(commit, m.Seen.AppliedIndex))
	}
	return []string{m.Name, m.State, m.Role, orDash(m.Site), orDash(m.SMTP), behind, since(now, m.Since)}
}
