package main

import (
	"fmt"
	"strings"

	"mailraft/admin"
	"mailraft/mail"

	"github.com/urfave/cli/v2"
)

func safetynetCommand() *cli.Command {
	const about = "Here --start and --end are of the time of delivery."
	return &cli.Command{
		Name: "safetynet", Usage: "what was delivered and is still kept",
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list deliveries that can be sent again", Description: about, ArgsUsage: "[ID…|-]",
				Flags: flags(filterFlags()), Action: asking(0, -1, listSafetyNet)},
			{Name: "summary", Usage: "count them for each database", Description: about, ArgsUsage: "[ID…|-]",
				Flags: flags(filterFlags()), Action: asking(0, -1, summarizeSafetyNet)},
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
		noun: "delivery", header: "delivered\tid\tdatabase\trecipient\tsender\tsize\texpires",
		id: func(d admin.Delivery) string { return d.ID.String() },
		row: func(now mail.Time, d admin.Delivery) []string {
			return []string{d.Delivered.String(), d.ID.String(), d.Database, cut(d.Recipient, 40), sender(d.Sender), size(d.Size), until(now, d.Expires)}
		},
	})
}

func summarizeSafetyNet(s *session) error {
	q, err := s.filter()
	if err != nil {
		return err
	}
	return list(s, path("safetynet/summary"), q, listing[admin.SafetyNetSum]{
		noun: "database", header: "database\tdeliveries\tsize\toldest\tnewest\thold time\tgaps",
		id: func(x admin.SafetyNetSum) string { return x.Database },
		row: func(now mail.Time, x admin.SafetyNetSum) []string {
			return []string{x.Database, itoa(x.Deliveries), size(x.Bytes), since(now, x.Oldest), since(now, x.Newest), x.HoldTime, gaps(x.Gaps)}
		},
	})
}

// gaps are the Primary Safety Nets that lost what they held; others have it.
func gaps(list []admin.Gap) string {
	var all []string
	for _, g := range list {
		all = append(all, fmt.Sprintf("%s before %s", g.Member, g.Until))
	}
	return strings.Join(all, ", ")
}
