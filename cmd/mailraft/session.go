package main

import (
	"bufio"
	"cmp"
	"io"
	"net/url"
	"os"
	"os/user"
	"slices"
	"strings"

	"mailraft/admin"

	"github.com/urfave/cli/v2"
)

const defaultSocket = "/var/lib/mailraft/mailraft.sock"

// memberFlags are on every command that asks a member.
func memberFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "socket", Usage: "`PATH` of the member's socket (MAILRAFT_SOCKET, else " + defaultSocket + ")"},
		&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "table", Usage: "`FORM`: table, json, jsonl or id; tables are for people"},
	}
}

// changeFlags are on every command that changes something.
func changeFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "dry-run", Usage: "say what would change, and change nothing"},
		&cli.StringFlag{Name: "reason", Usage: "`TEXT` that is kept with who and when"},
	}
}

func flags(more ...[]cli.Flag) []cli.Flag { return slices.Concat(append(more, memberFlags())...) }

// session is one command that asks a member.
type session struct {
	*cli.Context
	client *admin.Client
	output string
	out    io.Writer
}

// asking makes an action of a function that asks a member. least and most
// bound the number of arguments.
func asking(least, most int, f func(*session) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		if err := arguments(c, least, most); err != nil {
			return err
		}
		s := &session{Context: c, output: c.String("output"), out: c.App.Writer}
		if !slices.Contains([]string{"table", "json", "jsonl", "id"}, s.output) {
			return usageError("-o %s: want table, json, jsonl or id", s.output)
		}
		s.client = admin.NewClient(cmp.Or(c.String("socket"), os.Getenv("MAILRAFT_SOCKET"), defaultSocket))
		defer s.client.Close()
		return f(s)
	}
}

// order is what goes along with every change.
func (s *session) order() admin.Order {
	return admin.Order{DryRun: s.Bool("dry-run"), Reason: s.String("reason"), By: whoami()}
}

// whoami is the user who typed the command, also behind sudo.
func whoami() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}

// names are the arguments from the n-th on; "-" stands for the first word of
// each line of standard input.
func (s *session) names(n int) ([]string, error) {
	var list []string
	for _, a := range s.Args().Slice()[min(n, s.Args().Len()):] {
		if a != "-" {
			list = append(list, a)
			continue
		}
		lines := bufio.NewScanner(s.App.Reader)
		for lines.Scan() {
			if f := strings.Fields(lines.Text()); len(f) > 0 {
				list = append(list, f[0])
			}
		}
		if err := lines.Err(); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// path joins the parts of an API path, each escaped by the client.
func path(parts ...string) string { return "/v1/" + strings.Join(parts, "/") }

func values(kv ...string) url.Values {
	q := url.Values{}
	for i := 0; i+1 < len(kv); i += 2 {
		q.Add(kv[i], kv[i+1])
	}
	return q
}
