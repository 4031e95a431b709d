package main

import (
	"fmt"
	"io"
	"strings"

	"mailraft/admin"
	"mailraft/mail"

	"github.com/urfave/cli/v2"
)

func messageCommand() *cli.Command {
	raw := &cli.BoolFlag{Name: "raw", Usage: "the bytes as they were received, without our Received field and what filters changed"}
	return &cli.Command{
		Name: "message", Usage: "single messages, in the queue and in the Safety Net",
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list messages: the active ones, unless ids, --state, --message-id or --request say otherwise", ArgsUsage: "[ID…|-]",
				Flags: flags(filterFlags()), Action: asking(0, -1, listMessages)},
			{Name: "show", Usage: "show messages with their recipients and history", ArgsUsage: "ID…|-, or a filter",
				Flags: flags(filterFlags()), Action: asking(0, -1, showMessages)},
			{Name: "cat", Usage: "print the content as it is delivered", ArgsUsage: "ID",
				Flags: flags([]cli.Flag{raw}), Action: asking(1, 1, catMessage)},
			{Name: "track", Usage: "print what happened to a message, in the order of time", ArgsUsage: "ID or Message-ID",
				Flags: flags(), Action: asking(1, 1, trackMessage)},
			messageExport(),
			messageChange("retry", "try to deliver now"),
			messageChange("suspend", "hold messages back; what is being delivered comes to its end, and none is given up for its age meanwhile"),
			messageChange("resume", "deliver suspended messages again, and those set aside as poison"),
			messageChange("bounce", "give up what is not delivered now, with a report to the sender if he wants one"),
			messageChange("redirect", "deliver what is not delivered yet elsewhere: --to-database DB or --to ADDRESS",
				&cli.StringFlag{Name: "to-database", Usage: "to the same mailboxes, in the mailbox database `NAME`"},
				&cli.StringFlag{Name: "to", Usage: "to one mailbox or outside recipient, `ADDRESS`"}),
			messageChange("remove", "give up what is not delivered; nobody is told"),
		},
	}
}

// tableLimit is how much a table shows when nobody says.
const tableLimit = 100

func listMessages(s *session) error {
	q, err := s.filter()
	if err != nil {
		return err
	}
	if s.output == "table" && !q.Has("limit") {
		q.Set("limit", itoa(tableLimit))
	}
	return list(s, path("messages"), q, listing[admin.Message]{
		noun: "message", header: "id\tstate\tsize\tage\tsender\trcpt\tfirst recipient\tnext try\tlast error",
		id: func(m admin.Message) string { return m.ID.String() },
		row: func(now mail.Time, m admin.Message) []string {
			next := "-"
			if m.NextAttempt != 0 && m.State != admin.StateSuspended {
				next = until(now, m.NextAttempt)
			}
			return []string{m.ID.String(), m.State, size(m.Size), since(now, m.Accepted), sender(m.Sender),
				fmt.Sprintf("%d/%d", m.RecipientsDone, m.RecipientsTotal), cut(m.FirstRecipient, 40), next, cut(m.Reason, 60)}
		},
	})
}

func sender(s string) string {
	if s == "" {
		return "<>"
	}
	return cut(s, 40)
}

func showMessages(s *session) error {
	q, err := s.filter()
	switch {
	case err != nil:
		return err
	case len(q) == 0:
		return usageError("say which: by id or by a filter; see: %s --help", s.Command.HelpName)
	case len(q) == 1 && len(q["id"]) == 1:
		var m admin.OneMessage
		if err := s.client.Get(s.Context.Context, path("messages", q.Get("id")), nil, &m); err != nil {
			return err
		}
		return show(s, m, m.ID.String(), func(w io.Writer) { printMessage(w, m.Time, &m.Message) })
	}
	q.Set("detail", "true")
	if s.output != "table" {
		return list(s, path("messages"), q, listing[admin.Message]{id: func(m admin.Message) string { return m.ID.String() }})
	}
	return admin.Each(s.Context.Context, s.client, path("messages"), q, func(m admin.Message) error {
		printMessage(s.out, m.Accepted, &m)
		fmt.Fprintln(s.out)
		return nil
	})
}

func printMessage(w io.Writer, now mail.Time, m *admin.Message) {
	d := m.Detail
	t := table(w, "")
	line := func(name, value string) {
		if value != "" {
			t.row(name, value)
		}
	}
	line("Id", m.ID.String())
	line("State", m.State)
	line("Message-ID", m.MessageID)
	line("Subject", cut(m.Subject, 100))
	line("Sender", sender(m.Sender))
	line("Quarantine", cut(d.Quarantine, 100))
	if d.Changes > 0 {
		line("Header", fmt.Sprintf("%d fields added, changed or removed by filters", d.Changes))
	}
	line("Size", fmt.Sprintf("%s (%d bytes)", size(m.Size), m.Size))
	from := orDash(d.Client)
	if d.User != "" {
		from += ", authenticated as " + d.User
	}
	line("Accepted", fmt.Sprintf("%s from %s", m.Accepted, from))
	line("Finished", m.Finished.String())
	line("Primary", m.Primary)
	line("Shadow", orDash(m.Shadow))
	line("Content", fmt.Sprintf("%s, first held by %s", d.Content, strings.Join(d.Holders, " ")))
	switch {
	case m.Request != "":
		line("Resubmits", fmt.Sprintf("%s, for request %s", m.Origin, m.Request))
	case !m.Origin.IsZero():
		line("Report on", m.Origin.String())
	}
	for _, id := range d.Resubmitted {
		line("Sent again as", id.String())
	}
	if !m.Parent.IsZero() {
		line("Piece of", m.Parent.String())
	}
	if m.FewerCopies {
		line("Copies", "fewer than a majority")
	}
	t.Flush()
	fmt.Fprintln(w)
	t = table(w, "recipient\tstate\tdestination\ttries\twhen\treply")
	for _, r := range d.Recipients {
		when := r.Done.String()
		if r.Done == 0 {
			when = r.NextAttempt.String()
		}
		reply := ""
		if r.Reply != nil {
			reply = cut(r.Reply.String(), 80)
		}
		t.row(cut(r.Address, 60), r.State, r.Destination, itoa(r.Attempts), when, reply)
	}
	t.Flush()
	fmt.Fprintln(w)
	events := table(w, eventHeader)
	for _, e := range d.Events {
		events.row(eventRow(now, e)...)
	}
	events.Flush()
}

const eventHeader = "time\tevent\tmember\trecipient\ttext"

func eventRow(_ mail.Time, e admin.Event) []string {
	text := e.Text
	if e.Times > 1 {
		text = fmt.Sprintf("%d times: %s", e.Times, text)
	}
	return []string{e.Time.String(), e.Event, orDash(e.Member), orDash(e.Recipient), cut(text, 100)}
}

func trackMessage(s *session) error {
	key, name := "id", s.Args().First()
	if _, err := mail.ParseID(name); err != nil {
		key = "message_id"
	}
	return list(s, path("track"), values(key, name), listing[admin.Event]{
		noun: "event", header: eventHeader, row: eventRow, id: func(e admin.Event) string { return e.Message.String() },
	})
}

func catMessage(s *session) error {
	if _, err := mail.ParseID(s.Args().First()); err != nil {
		return usageError("%w", err)
	}
	q := values()
	if s.Bool("raw") {
		q.Set("raw", "true")
	}
	body, err := s.client.Open(s.Context.Context, path("messages", s.Args().First(), "content"), q, "*/*")
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(s.out, body)
	return err
}

func messageChange(op, usage string, more ...cli.Flag) *cli.Command {
	all := &cli.BoolFlag{Name: "all", Usage: "every active message"}
	var aliases []string
	if op == "remove" {
		aliases = []string{"delete"}
	}
	return &cli.Command{
		Name: op, Aliases: aliases, Usage: usage, ArgsUsage: "ID…|-, a filter, or --all", Flags: flags(append([]cli.Flag{all}, more...), filterFlags(), changeFlags()),
		Action: asking(0, -1, func(s *session) error {
			q, err := s.filter()
			if err != nil {
				return err
			}
			o := admin.MessageOrder{Order: s.order(), All: s.Bool("all"), Database: s.String("to-database"), To: s.String("to")}
			for _, text := range q["id"] {
				id, err := mail.ParseID(text)
				if err != nil {
					return usageError("%w", err)
				}
				o.IDs = append(o.IDs, id)
			}
			q.Del("id") // in the body, where there may be any number
			given := len(o.IDs) > 0 || len(q) > 1 || len(q) == 1 && !q.Has("limit")
			if err := s.selection(given); err != nil {
				return err
			}
			return s.change(path("messages", op), q, o)
		}),
	}
}
