package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"mailraft/admin"
	"mailraft/mail"
	"mailraft/member"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
	"github.com/urfave/cli/v2"
)

// statusTime bounds the question: a member that does not answer is unknown.
const statusTime = 10 * time.Second

func statusCommand() *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "show how the boundary and this member are",
		Description: "Exit code: 0 healthy, 1 degraded (it works, but one more failure hurts), 2 critical, 3 unknown.",
		Flags:       flags(),
		Action: judged(func(s *session, st admin.Status) error {
			return show(s, st, st.Health, func(w io.Writer) { printStatus(w, st) })
		}),
	}
}

func checkCommand() *cli.Command {
	return &cli.Command{
		Name: "check", Usage: "say in one line how the boundary is, for monitoring",
		Description: "Exit code: 0 healthy, 1 degraded, 2 critical, 3 unknown. What follows the bar is performance data.",
		Flags:       flags(),
		Action: judged(func(s *session, st admin.Status) error {
			return show(s, st, st.Health, func(w io.Writer) { printCheck(w, st) })
		}),
	}
}

// judged asks for the status, and ends with the health as exit code.
func judged(print func(*session, admin.Status) error) cli.ActionFunc {
	return asking(0, 0, func(s *session) error {
		ctx, cancel := context.WithTimeout(s.Context.Context, statusTime)
		defer cancel()
		var st admin.Status
		if err := s.client.Get(ctx, path("status"), nil, &st); err != nil {
			return exit{admin.Unknown, fmt.Errorf("unknown: %w", err)}
		}
		if err := print(s, st); err != nil {
			return err
		}
		if code := admin.HealthCode(st.Health); code != 0 {
			return exit{code: code}
		}
		return nil
	})
}

func printStatus(w io.Writer, st admin.Status) {
	b, m, now := st.Boundary, st.Member, st.Time
	fmt.Fprintf(w, "Boundary %s is %s: %d of %d voters up, %d may fail\n", b.Name, st.Health, b.VotersUp, b.Voters, b.Tolerance)
	for _, r := range st.Reasons {
		fmt.Fprintln(w, "  "+r)
	}
	fmt.Fprintln(w)
	t := table(w, "member\tstate\trole\tsite\tsmtp\tbehind\tsince")
	for _, x := range st.Members {
		t.row(memberRow(now, st.Member.CommitIndex, x)...)
	}
	t.Flush()
	fmt.Fprintln(w)
	q := st.Queue
	more := ""
	if q.Truncated {
		more = " or more"
	}
	fmt.Fprintf(w, "Queue   %s%s messages, %s, %s deferred, oldest %s\n", humanize.Comma(int64(q.Messages)), more, size(q.Bytes),
		humanize.Comma(int64(q.Deferred)), since(now, q.Oldest))
	if len(st.Suspensions) > 0 {
		fmt.Fprintf(w, "        suspended: %s; resume with: mailraft queue resume\n", strings.Join(st.Suspensions, " "))
	}
	printDatabases(w, st)
	fmt.Fprintf(w, "%-7s %s, version %s, lease %s, up %s, %d SMTP sessions\n", m.Name, m.Role, m.Version, lease(m.LeaseLeft), brief(m.Uptime.Std()), m.Sessions)
	fmt.Fprintf(w, "        disk %s free of %s; content %s in %s, state %s, log %s\n", size(m.DiskFree), size(m.DiskTotal),
		size(m.ContentBytes), english.Plural(m.ContentSegments, "segment", ""), size(m.StateBytes), size(m.LogBytes))
	if text := m.Pressure.Distance(); text != "" {
		fmt.Fprintf(w, "        pressure %s: %s\n", m.Pressure.Level, text)
	}
	if m.ContentMissing > 0 {
		fmt.Fprintf(w, "        %s\n", refillText(m.Refill))
	}
	if m.Refill.Damaged > 0 {
		fmt.Fprintf(w, "        %d contents were found damaged, %d were fetched again\n", m.Refill.Damaged, m.Refill.Repaired)
	}
	if m.Scrub.Found > 0 {
		fmt.Fprintf(w, "        last found %s: %s\n", since(now, m.Scrub.LastAt), m.Scrub.LastFound)
	}
	for _, c := range m.SMTPCerts {
		fmt.Fprintf(w, "        SMTP certificate %s ends %s\n", c.File, c.NotAfter)
	}
	fmt.Fprintf(w, "        certificate ends %s; applied %d of %d, as of index %d\n", orDash(m.CertNotAfter.String()), m.AppliedIndex, m.CommitIndex, st.As.Index)
}

// printDatabases prints a line each for databases and requests.
func printDatabases(w io.Writer, st admin.Status) {
	if len(st.Databases) > 0 {
		states := map[string]int{}
		for i := range st.Databases {
			states[st.Databases[i].State()]++
		}
		fmt.Fprintf(w, "Mail    %s: %s; the Safety Net holds what was delivered since %s\n", plural(len(st.Databases), "database"), countsText(states, admin.DatabaseStates()), orDash(st.SafetyNet.HeldSince.String()))
	}
	r := &st.Requests
	if r.Open > 0 {
		var sent, delivered int
		for i := range r.Items {
			sent, delivered = sent+r.Items[i].Sent, delivered+r.Items[i].Delivered
		}
		fmt.Fprintf(w, "        %s open: %s sent, %s delivered; see: mailraft resubmit list\n", plural(r.Open, "resubmit request"), comma(sent), comma(delivered))
	}
	for _, p := range st.SafetyNet.Pins {
		fmt.Fprintf(w, "        request %s keeps what was delivered from %s on beyond the hold time\n", p.Request, p.From)
	}
}

// countsText is how many of each there are, in the order of names.
func countsText(counts map[string]int, names []string) string {
	var parts []string
	for _, name := range names {
		if n := counts[name]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, name))
		}
	}
	return strings.Join(parts, ", ")
}

func lease(d mail.Duration) string {
	if d <= 0 {
		return "none"
	}
	return mail.FormatDuration(d.Std().Round(100 * time.Millisecond))
}

func printCheck(w io.Writer, st admin.Status) {
	word := map[string]string{"healthy": "OK", "degraded": "WARNING", "critical": "CRITICAL"}[st.Health]
	text := strings.Join(st.Reasons, "; ")
	if text == "" {
		text = fmt.Sprintf("%d of %d voters up, %d messages queued", st.Boundary.VotersUp, st.Boundary.Voters, st.Queue.Messages)
	}
	oldest := 0
	if st.Queue.Oldest != 0 {
		oldest = int(st.Time.Sub(st.Queue.Oldest).Seconds())
	}
	dead := 0
	for i := range st.Databases {
		dead += len(st.Databases[i].Dead())
	}
	fmt.Fprintf(w, "MAILRAFT %s - %s | voters_up=%d messages=%d deferred=%d oldest=%ds disk_free=%dB pressure=%d copies_dead=%d requests=%d\n", word, text,
		st.Boundary.VotersUp, st.Queue.Messages, st.Queue.Deferred, oldest, st.Member.DiskFree, st.Member.Pressure.Number(), dead, st.Requests.Open)
}

func versionCommand() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "print the version of this binary", Flags: []cli.Flag{memberFlags()[1]},
		Action: func(c *cli.Context) error {
			if err := arguments(c, 0, 0); err != nil {
				return err
			}
			s := &session{Context: c, output: c.String("output"), out: c.App.Writer}
			return show(s, map[string]string{"version": member.Version}, member.Version, func(w io.Writer) {
				fmt.Fprintln(w, "mailraft "+member.Version)
			})
		},
	}
}
