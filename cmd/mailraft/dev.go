package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"text/tabwriter"
	"time"

	"mailraft/internal/loopback"

	"github.com/urfave/cli/v2"
)

// devParams make what takes half a minute in production visible in seconds.
var devParams = map[string]string{"shadow-resubmit-time-span": "5s", "failover-after": "3s"}

// devCommand runs a whole boundary on loopback.
func devCommand() *cli.Command {
	return &cli.Command{
		Name:  "dev",
		Usage: "run a whole boundary on this host, to try things out",
		Description: "Starts the members as processes on loopback, with database DB1 (a Maildir below DIR/mail) and every local part of the\n" +
			"domain as a mailbox. Runs until SIGINT or SIGTERM. The same DIR again goes on with its data.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "dir", Required: true, Usage: "`DIR` for data, mail and logs"},
			&cli.IntFlag{Name: "members", Value: 3, Usage: "how many: 1, 3 or 5"},
			&cli.BoolFlag{Name: "front-end", Usage: "also a front end, on the SMTP port after the members'"},
			&cli.IntFlag{Name: "smtp-port", Value: 2525, Usage: "`PORT` of the first member; the others follow"},
			&cli.StringFlag{Name: "domain", Value: "example.test", Usage: "accepted `DOMAIN`"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "table", Usage: "table or json"},
		},
		Action: runDev,
	}
}

func runDev(c *cli.Context) error {
	n := c.Int("members")
	if n != 1 && n != 3 && n != 5 {
		return usageError("--members: %d is none of 1, 3 and 5", n)
	}
	dir, err := filepath.Abs(c.String("dir"))
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	ctx, cancel := signal.NotifyContext(c.Context, syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	b, err := loopback.Start(ctx, loopback.Options{Exe: exe, Dir: dir, Members: n, SMTPPort: c.Int("smtp-port"),
		Domain: c.String("domain"), FrontEnd: c.Bool("front-end"), Params: devParams, Wait: 2 * time.Minute})
	if err != nil {
		return err
	}
	defer b.Stop()
	d, err := b.Describe(ctx)
	if err != nil {
		return err
	}
	if c.String("output") == "json" {
		err = json.NewEncoder(c.App.Writer).Encode(d)
	} else {
		err = describeDev(c, d)
	}
	if err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func describeDev(c *cli.Context, d loopback.Description) error {
	w := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MEMBER\tPID\tSMTP\tHEALTH\tSOCKET")
	for _, m := range d.Members {
		fmt.Fprintf(w, "%s\t%d\t%s\thttp://%s/status\t%s\n", m.Name, m.PID, m.SMTP, m.HTTP, m.Socket)
	}
	if f := d.FrontEnd; f != nil {
		fmt.Fprintf(w, "front end\t%d\t%s\thttp://%s/readyz\t%s\n", f.PID, f.SMTP, f.HTTP, f.Socket)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	first := d.Members[0]
	_, err := fmt.Fprintf(c.App.Writer, "\nsend:   swaks --server %s --to alice@%s\nlook:   export MAILRAFT_SOCKET=%s; mailraft safetynet list\nstop:   Ctrl-C\n",
		first.SMTP, d.Domain, first.Socket)
	return err
}
