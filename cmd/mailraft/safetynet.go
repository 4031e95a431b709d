package main

import (
	"fmt"
	"strings"

	"mailraft/admin"
	"mailraft/mail"

	"github.com/urfave/cli/v2"
)

func safetynetCommand() *cli.Command {
	by := &cli.StringFlag{Name: "by", Value: "database", Usage: "`WHAT` to group by: " + strings.Join(admin.SafetyNetGroupings(), ", ")}
	const about = "Here --start and --end are of the time of delivery. --state undelivered selects resubmissions that were given up."
	return &cli.Command{
		Name: "safetynet", Usage: "what was delivered and is still kept",
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list deliveries that can be sent again", Description: about, ArgsUsage: "[ID…|-]",
				Flags: flags(filterFlags()), Action: asking(0, -1, listSafetyNet)},
			{Name: "summary", Usage: "count them for each database, or each hour of it", ArgsUsage: "[ID…|-]",
				Description: about + "\nSize is what sending all of it again would send; disk is what the content takes on every member. Content that\n" +
					"several databases share is counted for one of them. Projected is the disk that a whole hold time needs, if mail goes on as\nin the last hour.",
				Flags: flags([]cli.Flag{by}, filterFlags()), Action: asking(0, -1, summarizeSafetyNet)},
		},
	}
}

func listSafetyNet(s *session) error {
	q, err := s.filter()
	if err != nil {
		return err
	}
	if s.output == "table" && !q.Has("limit") {
		q.Set("limit", itoa(tableLimit))
	}
	return list(s, path("safetynet"), q, listing[admin.Delivery]{
		noun: "delivery", header: "delivered\tid\tdatabase\trecipient\tstate\tsender\tsize\texpires",
		id: func(d admin.Delivery) string { return d.ID.String() },
		row: func(now mail.Time, d admin.Delivery) []string {
			return []string{d.Delivered.String(), d.ID.String(), d.Database, cut(d.Recipient, 40), d.State, sender(d.Sender), size(d.Size), until(now, d.Expires)}
		},
	})
}

func summarizeSafetyNet(s *session) error {
	q, err := s.filter()
	if err != nil {
		return err
	}
	q.Set("by", s.String("by"))
	if s.String("by") == "hour" {
		return list(s, path("safetynet/summary"), q, listing[admin.SafetyNetSum]{
			noun: "hour", header: "database\thour\tdeliveries\tsize\tdisk\texpires",
			id: func(x admin.SafetyNetSum) string { return x.Database + " " + x.Hour.String() },
			row: func(now mail.Time, x admin.SafetyNetSum) []string {
				return []string{x.Database, hourText(x.Hour), itoa(x.Deliveries), size(x.Bytes), size(x.ContentBytes), until(now, x.Expires)}
			},
		})
	}
	l := listing[admin.SafetyNetSum]{
		noun: "database", header: "database\tdeliveries\tundelivered\tsize\tdisk\toldest\tnewest\thold time\tper hour\tprojected\tgaps",
		id: func(x admin.SafetyNetSum) string { return x.Database },
		row: func(now mail.Time, x admin.SafetyNetSum) []string {
			return []string{x.Database, itoa(x.Deliveries), itoa(x.Undelivered), size(x.Bytes), size(x.ContentBytes), since(now, x.Oldest), since(now, x.Newest), x.HoldTime,
				size(x.HourBytes), size(x.Projected), gaps(x.Gaps)}
		},
	}
	if s.output != "table" {
		return list(s, path("safetynet/summary"), q, l)
	}
	var doc admin.List[admin.SafetyNetSum]
	if err := s.client.Get(s.Context.Context, path("safetynet/summary"), q, &doc); err != nil {
		return err
	}
	l.print(s.out, doc)
	var need int64
	for _, x := range doc.Items {
		need += x.Projected
	}
	if need > 0 {
		fmt.Fprintf(s.out, "at the rate of the last hour, %s of content will be held on the disk of every member\n", size(need))
	}
	return nil
}

// hourText is an hour by its begin.
func hourText(t mail.Time) string { return t.Std().Format("2006-01-02T15:04Z") }

// gaps are the Primary Safety Nets that lost what they held; others have it.
func gaps(list []admin.Gap) string {
	var all []string
	for _, g := range list {
		all = append(all, fmt.Sprintf("%s before %s", g.Member, g.Until))
	}
	return strings.Join(all, ", ")
}
