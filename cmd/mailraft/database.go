package main

import (
	"fmt"
	"io"
	"strings"

	"mailraft/admin"
	"mailraft/mail"

	"github.com/urfave/cli/v2"
)

func databaseCommand() *cli.Command {
	copies := &cli.StringSliceFlag{Name: "copy", Usage: "`NAME=ADDRESS` of a copy: lmtp://, lmtps://, smtp:// or maildir:/path"}
	address := &cli.StringFlag{Name: "address", Usage: "another `ADDRESS`"}
	return &cli.Command{
		Name: "database", Usage: "mailbox databases, and the copies that they live in",
		Subcommands: append([]*cli.Command{
			{Name: "add", Usage: "add a database; its first copy is the active one", ArgsUsage: "NAME", Description: "The flags that describe a copy are for one copy.",
				Flags: flags([]cli.Flag{copies}, copyFlags(), changeFlags()), Action: asking(1, 1, addDatabase)},
			{Name: "list", Usage: "list databases and their copies", Flags: flags(), Action: asking(0, 0, func(s *session) error {
				return list(s, path("databases"), nil, databaseListing())
			})},
			{Name: "show", Usage: "show one database", ArgsUsage: "NAME", Flags: flags(), Action: asking(1, 1, showDatabase)},
			{Name: "remove", Usage: "remove a database that nothing uses", ArgsUsage: "NAME", Flags: flags(changeFlags()),
				Action: asking(1, 1, func(s *session) error { return changeDatabase(s, "remove", nil) })},
			{Name: "copy", Usage: "copies of a database", Subcommands: []*cli.Command{
				{Name: "add", Usage: "add a copy", ArgsUsage: "DATABASE COPY=ADDRESS", Flags: flags(copyFlags(), changeFlags()), Action: asking(2, 3, addCopy)},
				{Name: "set", Usage: "change a copy; what is not named stays", ArgsUsage: "DATABASE COPY",
					Flags: flags([]cli.Flag{address}, copyFlags(), changeFlags()), Action: asking(2, 2, setCopy)},
				{Name: "remove", Usage: "remove copies that are not active", ArgsUsage: "DATABASE COPY…", Flags: flags(changeFlags()), Action: asking(2, -1, removeCopies)},
			}},
		}, activationCommands()...),
	}
}

func copyFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "site", Usage: "`SITE` where it is"},
		&cli.StringFlag{Name: "lag", Usage: "replay lag, `TIME` up to 14d"},
		&cli.IntFlag{Name: "preference", Usage: "activation preference `N`: lower is sooner"},
		&cli.StringFlag{Name: "replication-slack", Usage: "`TIME` subtracted from what it is known to hold; 0 is the parameter's"},
		&cli.StringFlag{Name: "data-through", Usage: "it holds all that was delivered before `TIME`: RFC 3339, or how long ago, as 2h"},
		&cli.StringFlag{Name: "replication", Usage: "live if it is complete whenever it is healthy, else none"},
	}
}

// fillCopy lays the flags that were given over a copy.
func fillCopy(s *session, c *admin.Copy) (err error) {
	if s.IsSet("address") {
		c.Addr = s.String("address")
	}
	if s.IsSet("site") {
		c.Site = s.String("site")
	}
	if s.IsSet("preference") {
		c.Preference = s.Int("preference")
	}
	if s.IsSet("lag") {
		err = c.Lag.UnmarshalText([]byte(s.String("lag")))
	}
	if s.IsSet("replication-slack") && err == nil {
		err = c.Slack.UnmarshalText([]byte(s.String("replication-slack")))
	}
	if s.IsSet("replication") && err == nil {
		switch s.String("replication") {
		case "live", "none":
			c.Live = s.String("replication") == "live"
		default:
			err = fmt.Errorf("replication %q: want live or none", s.String("replication"))
		}
	}
	if err != nil {
		return usageError("%w", err)
	}
	if s.IsSet("data-through") {
		c.DataThrough, err = s.time("data-through")
	}
	return err
}

// time is the value of a flag that is a time, by the boundary's clock.
func (s *session) time(name string) (mail.Time, error) {
	m, err := s.moment(name)
	if err != nil || !m.Relative() {
		return m.Of(0), err
	}
	var now admin.List[admin.Database]
	err = s.client.Get(s.Context.Context, path("databases"), values("limit", "1"), &now)
	return m.Of(now.Time), err
}

// parseCopy reads "NAME=ADDRESS".
func parseCopy(text string) (admin.Copy, error) {
	name, addr, ok := strings.Cut(text, "=")
	if !ok || name == "" || addr == "" {
		return admin.Copy{}, usageError("copy %q: want NAME=ADDRESS, as a=lmtp://host:24", text)
	}
	return admin.Copy{Name: name, Addr: addr}, nil
}

func changeDatabase(s *session, op string, copies []admin.Copy) error {
	return s.change(path("databases"), nil, admin.DatabaseOrder{Order: s.order(), Op: op, Name: s.Args().First(), Copies: copies})
}

func addDatabase(s *session) error {
	var copies []admin.Copy
	for _, text := range s.StringSlice("copy") {
		c, err := parseCopy(text)
		if err == nil {
			err = fillCopy(s, &c)
		}
		if err != nil {
			return err
		}
		copies = append(copies, c)
	}
	if len(copies) != 1 {
		for _, f := range copyFlags() {
			if s.IsSet(f.Names()[0]) {
				return usageError("--%s describes one copy; add the others with: mailraft database copy add", f.Names()[0])
			}
		}
	}
	return changeDatabase(s, "add", copies)
}

func addCopy(s *session) error {
	text := strings.Join(s.Args().Slice()[1:], "=") // NAME=ADDRESS, or NAME ADDRESS
	c, err := parseCopy(text)
	if err == nil {
		err = fillCopy(s, &c)
	}
	if err != nil {
		return err
	}
	return changeDatabase(s, "copy-add", []admin.Copy{c})
}

func setCopy(s *session) error {
	var d admin.One[admin.Database]
	if err := s.client.Get(s.Context.Context, path("databases", s.Args().First()), nil, &d); err != nil {
		return err
	}
	c := admin.Copy{Name: s.Args().Get(1)}
	for _, x := range d.Item.Copies {
		if x.Name == c.Name {
			c = x.Copy
		}
	}
	if err := fillCopy(s, &c); err != nil {
		return err
	}
	return changeDatabase(s, "copy-set", []admin.Copy{c})
}

func removeCopies(s *session) error {
	names, err := s.names(1)
	if err != nil {
		return err
	}
	var copies []admin.Copy
	for _, n := range names {
		copies = append(copies, admin.Copy{Name: n})
	}
	return changeDatabase(s, "copy-remove", copies)
}

func databaseListing() listing[admin.Database] {
	return listing[admin.Database]{
		noun: "database", header: "database\tactive\tactivation\tsince\thealth\tcopies", id: func(d admin.Database) string { return d.Name },
		row: func(now mail.Time, d admin.Database) []string {
			var copies []string
			for _, c := range d.Copies {
				copies = append(copies, c.Name+"="+c.Addr)
			}
			return []string{d.Name, orDash(d.Active), fmt.Sprint(d.Activation), since(now, d.Since), healthOf(d), strings.Join(copies, " ")}
		},
	}
}

// healthOf is how the copies of a database are, in few words.
func healthOf(d admin.Database) string {
	var dead []string
	unknown := 0
	for _, c := range d.Copies {
		switch {
		case c.Health == nil:
			unknown++
		case !c.Health.Healthy && c.Name == d.Active:
			dead = append([]string{"active " + c.Name}, dead...)
		case !c.Health.Healthy:
			dead = append(dead, c.Name)
		}
	}
	switch {
	case len(dead) > 0:
		return "dead: " + strings.Join(dead, " ")
	case unknown > 0:
		return fmt.Sprintf("%d of %d healthy", len(d.Copies)-unknown, len(d.Copies))
	}
	return "healthy"
}

func showDatabase(s *session) error {
	var one admin.One[admin.Database]
	if err := s.client.Get(s.Context.Context, path("databases", s.Args().First()), nil, &one); err != nil {
		return err
	}
	if s.output != "table" {
		return showOne(s, one, databaseListing())
	}
	d := one.Item
	fmt.Fprintf(s.out, "%s: activation %d of copy %s, %s ago, as of index %d\n", d.Name, d.Activation, orDash(d.Active), since(one.Time, d.Since), one.Index)
	if d.Request != "" {
		fmt.Fprintf(s.out, "what the copy lacked is sent by request %s; see: mailraft resubmit show %s\n", d.Request, d.Request)
	}
	if d.Suspended != nil {
		fmt.Fprintf(s.out, "nothing is activated automatically: %s\n", stopText(one.Time, d.Suspended))
	}
	for _, c := range d.Copies {
		if c.Suspended != nil {
			fmt.Fprintf(s.out, "copy %s is not activated automatically: %s\n", c.Name, stopText(one.Time, c.Suspended))
		}
	}
	fmt.Fprintln(s.out)
	t := table(s.out, "copy\thealth\tsince\tseen\taddress\tsite\tlag\tpreference\tslack\tdata through\treplication\tlast error")
	for _, c := range d.Copies {
		t.row(copyRow(one.Time, d, c)...)
	}
	return t.Flush()
}

// stopText is who suspended automatic activation, when and why.
func stopText(now mail.Time, x *admin.Stop) string {
	text := fmt.Sprintf("suspended %s ago", since(now, x.At))
	if x.By != "" {
		text += " by " + x.By
	}
	if x.Reason != "" {
		text += ": " + x.Reason
	}
	return text
}

func copyRow(now mail.Time, d admin.Database, c admin.DatabaseCopy) []string {
	name, health, changed, seen, text := c.Name, "unknown", "-", "-", ""
	if name == d.Active {
		name += " *"
	}
	if h := c.Health; h != nil {
		health = "dead"
		if h.Healthy {
			health = "healthy"
		}
		changed, seen, text = since(now, h.Since), since(now, h.Seen), h.Error
	}
	replication, slack := "-", "default"
	if c.Live {
		replication = "live"
	}
	if c.Slack != 0 {
		slack = mail.FormatDuration(c.Slack.Std())
	}
	return []string{name, health, changed, seen, c.Addr, orDash(c.Site), mail.FormatDuration(c.Lag.Std()), itoa(c.Preference), slack,
		orDash(c.DataThrough.String()), replication, cut(text, 60)}
}

// showOne prints one object as its listing would.
func showOne[T any](s *session, one admin.One[T], l listing[T]) error {
	return show(s, one, l.id(one.Item), func(w io.Writer) {
		t := table(w, l.header)
		t.row(l.row(one.Time, one.Item)...)
		t.Flush()
		fmt.Fprintf(w, "as of index %d\n", one.Index)
	})
}
