package main

import (
	"net/url"
	"strings"

	"mailraft/admin"

	"github.com/urfave/cli/v2"
)

// filterFlags are on every command that takes messages.
func filterFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "sender", Usage: "`ADDRESS`, @domain, <> for none; * stands for any text"},
		&cli.StringFlag{Name: "recipient", Usage: "`ADDRESS`, @domain; * stands for any text"},
		&cli.StringFlag{Name: "message-id", Usage: "Message-`ID` of the header"},
		&cli.StringFlag{Name: "database", Usage: "mailbox database `NAME`"},
		&cli.StringSliceFlag{Name: "state", Usage: "`STATE`[,…]: " + strings.Join(admin.States(), ", ")},
		&cli.StringFlag{Name: "older", Usage: "accepted longer ago than `TIME`, as 2h or 1d"},
		&cli.StringFlag{Name: "newer", Usage: "accepted less than `TIME` ago"},
		&cli.StringFlag{Name: "size", Usage: "`MIN..MAX`, either may be left out, as 1MB.. or ..10KB"},
		&cli.StringFlag{Name: "member", Usage: "primary or shadow server is `NAME`"},
		&cli.StringFlag{Name: "request", Usage: "made for the resubmit request `ID`"},
		&cli.StringFlag{Name: "reason-match", Usage: "the last word about a recipient matches `REGEXP`"},
		&cli.StringFlag{Name: "start", Usage: "from `TIME` on: RFC 3339, or how long ago, as 2h"},
		&cli.StringFlag{Name: "end", Usage: "before `TIME`: RFC 3339, or how long ago"},
		&cli.IntFlag{Name: "limit", Usage: "at most `N`"},
	}
}

// filter reads the filter flags, and ids from the arguments.
func (s *session) filter() (url.Values, error) {
	q := url.Values{}
	for _, f := range filterFlags() {
		name := f.Names()[0]
		if !s.IsSet(name) {
			continue
		}
		key := strings.ReplaceAll(name, "-", "_")
		switch f.(type) {
		case *cli.StringSliceFlag:
			q[key] = s.StringSlice(name)
		case *cli.IntFlag:
			q.Set(key, itoa(s.Int(name)))
		default:
			q.Set(key, s.String(name))
		}
	}
	ids, err := s.names(0)
	if err != nil {
		return nil, err
	}
	if len(ids) > 0 {
		q["id"] = ids
	}
	if _, err := admin.ParseFilter(q); err != nil {
		return nil, usageError("--%w", err)
	}
	return q, nil
}
