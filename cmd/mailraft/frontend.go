package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"mailraft/admin"
	"mailraft/mail"
	"mailraft/smtpd/frontend"

	"github.com/hashicorp/go-hclog"
	"github.com/urfave/cli/v2"
)

const defaultFrontendSocket = "/var/lib/mailraft-frontend/frontend.sock"

// frontendCommand runs a front end, and asks one that runs.
func frontendCommand() *cli.Command {
	file := &cli.StringFlag{Name: "config", Usage: "the front end's configuration `FILE`", TakesFile: true}
	required := *file
	required.Required = true
	return &cli.Command{
		Name: "frontend", Usage: "run a front end: one SMTP address in front of any number of members",
		Description: "Without a further word it runs, until SIGINT or SIGTERM. It keeps nothing but its certificates: any number may run.",
		Flags:       []cli.Flag{file},
		Action:      runFrontend,
		Subcommands: []*cli.Command{
			{Name: "join", Usage: "have a boundary let this front end in", ArgsUsage: "HOST:PORT of any member's cluster port",
				Flags: []cli.Flag{&required, tokenFlag(),
					&cli.StringFlag{Name: "boundary", Usage: "`NAME` in the configuration, if it has several"}},
				Action: joinFrontend},
			{Name: "status", Usage: "say how the front end and the members behind it are", Flags: frontendFlags(), Action: askingFrontend(0, 0, frontendStatus)},
			{Name: "route", Usage: "say to which boundary mail for a recipient goes, and why", ArgsUsage: "ADDRESS", Flags: frontendFlags(
				&cli.BoolFlag{Name: "relay", Usage: "for a client that may send to recipients outside"}), Action: askingFrontend(1, 1, frontendRoute)},
			{Name: "drain", Usage: "take no new sessions and transactions, until undrain", Flags: frontendFlags(), Action: askingFrontend(0, 0, frontendDrain)},
			{Name: "undrain", Usage: "take sessions again", Flags: frontendFlags(), Action: askingFrontend(0, 0, frontendDrain)},
		},
	}
}

func tokenFlag() cli.Flag {
	return &cli.StringFlag{Name: "token", Required: true, EnvVars: []string{"MAILRAFT_TOKEN"},
		Usage: "`TOKEN` from mailraft boundary token, or - to read it from standard input"}
}

// readToken is what the flag says, or the first line of standard input.
func readToken(c *cli.Context) (string, error) {
	token := c.String("token")
	if token != "-" {
		return token, nil
	}
	line, err := bufio.NewReader(c.App.Reader).ReadString('\n')
	if err != nil && err != io.EOF {
		return "", fmt.Errorf("read token: %w", err)
	}
	return strings.TrimSpace(line), nil
}

func runFrontend(c *cli.Context) error {
	if c.NArg() > 0 || c.String("config") == "" {
		return usageError("want --config FILE, or one of join, status, route, drain and undrain; see: mailraft frontend --help")
	}
	slacken()
	cfg, err := frontend.Load(c.String("config"))
	if err != nil {
		return badConfiguration(err)
	}
	collectLater(0)
	f, err := frontend.Start(cfg, hclog.New(&hclog.LoggerOptions{Name: cfg.Name, Level: hclog.LevelFromString(cfg.LogLevel), Output: os.Stderr,
		JSONFormat: cfg.LogJSON || !isTerminal(os.Stderr)}))
	if errors.Is(err, frontend.ErrNoIdentity) {
		return badConfiguration(err)
	}
	if err != nil {
		return err
	}
	waitForSignal()
	f.Stop()
	return nil
}

func joinFrontend(c *cli.Context) error {
	if c.NArg() != 1 {
		return usageError("frontend join wants one HOST:PORT, the cluster port of any member")
	}
	cfg, err := frontend.Load(c.String("config"))
	if err != nil {
		return badConfiguration(err)
	}
	token, err := readToken(c)
	if err != nil {
		return err
	}
	boundary, err := frontend.Join(c.Context, cfg, c.String("boundary"), c.Args().First(), token)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "front end %s is let in by boundary %s. Start it:\n\n  mailraft frontend --config %s\n", cfg.Name, boundary, c.String("config"))
	return nil
}

// frontendFlags are on every command that asks a front end.
func frontendFlags(more ...cli.Flag) []cli.Flag {
	return append(more,
		&cli.StringFlag{Name: "socket", Usage: "`PATH` of the front end's socket (MAILRAFT_FRONTEND_SOCKET, else " + defaultFrontendSocket + ")"},
		&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "table", Usage: "`FORM`: table or json; tables are for people"})
}

// askingFrontend makes an action of a function that asks a front end.
func askingFrontend(least, most int, f func(*session) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		if err := arguments(c, least, most); err != nil {
			return err
		}
		s := &session{Context: c, output: c.String("output"), out: c.App.Writer}
		if s.output != "table" && s.output != "json" {
			return usageError("-o %s: want table or json", s.output)
		}
		s.client = admin.NewClient(cmp.Or(c.String("socket"), os.Getenv("MAILRAFT_FRONTEND_SOCKET"), defaultFrontendSocket))
		defer s.client.Close()
		return f(s)
	}
}

func frontendStatus(s *session) error {
	var st frontend.Status
	if err := s.client.Get(s.Context.Context, path("frontend"), nil, &st); err != nil {
		return err
	}
	return showFrontend(s, st)
}

func frontendDrain(s *session) error {
	var st frontend.Status
	if err := s.client.Post(s.Context.Context, path("frontend", s.Command.Name), nil, struct{}{}, &st); err != nil {
		return err
	}
	return showFrontend(s, st)
}

// showFrontend prints a status; its exit code is that of status: 1 while the
// front end takes no mail.
func showFrontend(s *session, st frontend.Status) error {
	err := show(s, st, st.State, func(w io.Writer) {
		fmt.Fprintf(w, "%s is %s %s, up %s: %d sessions, %d transactions, %d messages answered 250\n\n", st.Name, st.State, st.Reason,
			brief(st.Uptime.Std()), st.Sessions, st.Transactions, st.Received)
		t := table(w, "boundary\tmember\tsite\tmail\ttransactions\tothers\tstreams\thanded over\taddress\tnote")
		for _, b := range st.Boundaries {
			for _, m := range b.Members {
				takes := "yes"
				if !m.Ready {
					takes = "no"
				}
				t.row(b.Name, m.Name, orDash(m.Site), takes, fmt.Sprint(m.Transactions), fmt.Sprint(m.Others), fmt.Sprint(m.Streams), fmt.Sprint(m.Handed), m.Address, m.Reason)
			}
		}
		t.Flush()
	})
	if err == nil && s.Command.Name == "status" && st.State != "ready" {
		return exit{code: exitFailed}
	}
	return err
}

func frontendRoute(s *session) error {
	var r frontend.RouteStatus
	q := values("address", s.Args().First(), "relay", fmt.Sprint(s.Bool("relay")))
	if err := s.client.Get(s.Context.Context, path("route"), q, &r); err != nil {
		return err
	}
	return show(s, r, r.Boundary, func(w io.Writer) {
		if r.Boundary != "" {
			fmt.Fprintf(w, "%s goes to boundary %s\n\n", r.Address, r.Boundary)
		} else {
			fmt.Fprintf(w, "%s goes nowhere: %s\n\n", r.Address, replyText(r.Reply))
		}
		t := table(w, "boundary\ttakes it\twhy")
		for _, v := range r.Verdicts {
			takes, why := "yes", v.Why
			if !v.Taken {
				takes = "no"
				why = strings.Join([]string{v.Error, v.Why, replyText(v.Refusal)}, " ")
			}
			t.row(v.Boundary, takes, strings.TrimSpace(why))
		}
		t.Flush()
	})
}

func replyText(r *mail.Reply) string {
	if r == nil {
		return ""
	}
	return "(" + r.String() + ")"
}
