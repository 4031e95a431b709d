package main

import (
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"

	"mailraft/admin"
	"mailraft/mail"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"
)

func resubmitCommand() *cli.Command {
	return &cli.Command{
		Name: "resubmit", Usage: "requests to send again what the Safety Net holds",
		Subcommands: []*cli.Command{
			{Name: "add", Usage: "have delivered mail sent again", Flags: flags(requestFlags(), changeFlags()), Action: asking(0, 0, addRequest),
				Description: "Only what was delivered to a mailbox in [start, end) is sent, and only to its recipients. By itself it goes to a recipient\n" +
					"once, and not again where a resubmission of it arrived already since the database was activated last.\n" +
					"--dry-run counts what would be sent, by whom, and what would be left out and why."},
			{Name: "list", Usage: "list the requests that have not ended", Flags: flags([]cli.Flag{
				&cli.BoolFlag{Name: "all", Usage: "those that have ended, too (kept for request-retention)"},
				&cli.StringFlag{Name: "database", Usage: "mailbox database `NAME`"},
				&cli.IntFlag{Name: "limit", Usage: "at most `N`"},
			}), Action: asking(0, 0, listRequests)},
			{Name: "show", Usage: "show one request", ArgsUsage: "ID", Flags: flags([]cli.Flag{
				&cli.BoolFlag{Name: "watch", Usage: "until it has ended"}}), Action: asking(1, 1, showRequest),
				Description: "With --watch the exit code is 0 when the request ends as completed, and 1 when it ends otherwise."},
			requestChange("suspend", "make nothing of it for the time being; what was made is still delivered"),
			requestChange("resume", "go on with suspended requests where they were"),
			requestChange("cancel", "end requests; what was made is still delivered"),
		},
	}
}

func requestFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "database", Usage: "what was delivered to the mailbox database `NAME`"},
		&cli.StringFlag{Name: "recipient", Usage: "what was delivered to `ADDRESS`"},
		&cli.StringFlag{Name: "sender", Usage: "what came from `ADDRESS`, <> for none"},
		&cli.StringFlag{Name: "message-id", Usage: "what has the Message-`ID`"},
		&cli.StringFlag{Name: "start", Usage: "delivered from `TIME` on: RFC 3339, or how long ago, as 2h"},
		&cli.StringFlag{Name: "end", Usage: "delivered before `TIME`; now if it is left out"},
		&cli.StringFlag{Name: "resubmit-to", Usage: "to the mailbox `ADDRESS`, not to those who had it"},
		&cli.StringFlag{Name: "unresponsive-primary", Usage: "do not wait for the member `NAME`: shadows serve what it has"},
		&cli.StringFlag{Name: "correlation-id", Usage: "`TEXT` that is kept with it"},
		&cli.StringFlag{Name: "rate", Usage: "at most `N/s`; resubmit-rate bounds all requests"},
		&cli.BoolFlag{Name: "again", Usage: "also to recipients that a resubmission was delivered to already"},
	}
}

func addRequest(s *session) error {
	o := admin.RequestOrder{Order: s.order(), Database: s.String("database"), Recipient: s.String("recipient"), Sender: s.String("sender"),
		MessageID: s.String("message-id"), ResubmitTo: s.String("resubmit-to"), Unresponsive: s.String("unresponsive-primary"),
		CorrelationID: s.String("correlation-id"), Again: s.Bool("again")}
	if o.Database == "" && o.Recipient == "" && o.Sender == "" && o.MessageID == "" {
		return usageError("say what to send again: --database, --recipient, --sender or --message-id")
	}
	var err error
	if o.Start, err = s.moment("start"); err != nil {
		return err
	}
	if o.End, err = s.moment("end"); err != nil {
		return err
	}
	if text := s.String("rate"); text != "" {
		if o.Rate, err = strconv.Atoi(strings.TrimSuffix(text, "/s")); err != nil || o.Rate < 1 {
			return usageError("--rate %s: want N/s, as 100/s", text)
		}
	}
	var made admin.NewRequest
	if err := s.client.Post(s.Context.Context, path("requests"), nil, o, &made); err != nil {
		return err
	}
	s.warn(made.Warnings)
	return show(s, made, made.ID, func(w io.Writer) {
		if made.Plan != nil {
			printPlan(w, made.Plan)
			return
		}
		fmt.Fprintf(w, "request %s was added at index %d; see how it goes: mailraft resubmit show %s --watch\n", made.ID, made.Index, made.ID)
	})
}

// moment is the value of a flag that is a time.
func (s *session) moment(name string) (admin.Moment, error) {
	m, err := admin.ParseMoment(s.String(name))
	if err != nil {
		return m, usageError("--%s: %w", name, err)
	}
	return m, nil
}

func listRequests(s *session) error {
	q := url.Values{}
	if s.Bool("all") {
		q.Set("all", "true")
	}
	if name := s.String("database"); name != "" {
		q.Set("database", name)
	}
	if s.IsSet("limit") {
		q.Set("limit", itoa(s.Int("limit")))
	}
	return list(s, path("requests"), q, requestListing())
}

func requestListing() listing[admin.Request] {
	return listing[admin.Request]{
		noun: "request", header: "id\tstate\twhat\tfrom\tto\tprogress\tmatched\tsent\tdelivered\tfailed\tage\twhy",
		id: func(x admin.Request) string { return x.ID },
		row: func(now mail.Time, x admin.Request) []string {
			return []string{x.ID, x.State, cut(whatText(x.RequestFilter), 60), orDash(x.Start.String()), x.End.String(), percent(x.Progress),
				comma(x.Matched), comma(x.Sent), comma(x.Delivered), comma(x.Failed), since(now, x.Created), cut(whyText(&x), 60)}
		},
	}
}

// whatText is what a request is about, but for the time.
func whatText(f admin.RequestFilter) string {
	var parts []string
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, name+" "+value)
		}
	}
	add("database", f.Database)
	add("recipient", f.Recipient)
	add("sender", f.Sender)
	add("message-id", f.MessageID)
	return strings.Join(parts, ", ")
}

// whyText is what made a request.
func whyText(x *admin.Request) string {
	var why string
	switch {
	case x.OnBehalfOf != "":
		why = fmt.Sprintf("for %s, of request %s", x.OnBehalfOf, x.Parent)
	case x.Activation != 0:
		why = fmt.Sprintf("activation %d", x.Activation)
	case x.By != "":
		why = "by " + x.By
	}
	if x.Reason != "" {
		why += ": " + x.Reason
	}
	return strings.TrimPrefix(why, ": ")
}

func percent(f float64) string { return fmt.Sprintf("%d%%", int(100*f)) }

func comma(n int) string { return humanize.Comma(int64(n)) }

func requestChange(op, usage string) *cli.Command {
	return &cli.Command{
		Name: op, Usage: usage, ArgsUsage: "ID…|-", Flags: flags(changeFlags()),
		Description: "All of the requests or none: an id that is not there is an error.",
		Action: asking(1, -1, func(s *session) error {
			ids, err := s.names(0)
			if err != nil {
				return err
			}
			if len(ids) == 0 {
				return usageError("no ids on standard input")
			}
			return s.change(path("requests", op), nil, admin.RequestsOrder{Order: s.order(), IDs: ids})
		}),
	}
}
