package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"mailraft/admin"

	"github.com/dustin/go-humanize/english"
)

func showRequest(s *session) error {
	if s.Bool("watch") {
		return watchRequest(s)
	}
	x, err := s.request()
	if err != nil {
		return err
	}
	return show(s, x, x.ID, func(w io.Writer) { printRequest(w, &x) })
}

func (s *session) request() (x admin.OneRequest, err error) {
	err = s.client.Get(s.Context.Context, path("requests", s.Args().First()), nil, &x)
	return x, err
}

// watchPause is between two looks at a request that is watched.
const watchPause = time.Second

// watchRequest shows how a request goes on until it has ended: on a terminal
// by a bar, elsewhere by a line for each change.
func watchRequest(s *session) error {
	v := watcher{s: s, bar: s.output == "table" && isTerminal(s.out)}
	ticks := time.NewTicker(watchPause)
	defer ticks.Stop()
	for {
		x, err := s.request()
		if err != nil {
			v.end()
			return err
		}
		if err := v.look(x); err != nil || x.Ended != 0 {
			return err
		}
		select {
		case <-ticks.C:
		case <-s.Context.Context.Done():
			v.end()
			return exit{code: exitFailed}
		}
	}
}

type watcher struct {
	s    *session
	bar  bool
	last string // line that was printed
}

// look shows what has become of a request. An end that is not "completed" is
// an error.
func (v *watcher) look(x admin.OneRequest) error {
	line := progressText(&x)
	switch {
	case v.s.output == "jsonl" && line != v.last:
		if err := encoder(v.s.out).Encode(x); err != nil {
			return err
		}
	case v.bar:
		fmt.Fprintf(v.s.out, "\r%s %s\x1b[K", bar(x.Progress), line) // and clear what is left of a longer line
	case v.s.output == "table" && line != v.last:
		fmt.Fprintf(v.s.out, "%s %s\n", x.Time, line)
	}
	v.last = line
	if x.Ended == 0 {
		return nil
	}
	v.end()
	var err error
	if v.s.output != "jsonl" {
		err = show(v.s, x, x.ID, func(w io.Writer) {
			fmt.Fprintln(w)
			printRequest(w, &x)
		})
	}
	if err == nil && x.State != admin.RequestCompleted {
		err = exit{code: exitFailed}
	}
	return err
}

func (v *watcher) end() {
	if v.bar {
		fmt.Fprintln(v.s.out)
	}
}

const barWidth = 30

func bar(share float64) string {
	n := min(max(int(share*barWidth), 0), barWidth)
	return "[" + strings.Repeat("=", n) + strings.Repeat(" ", barWidth-n) + "]"
}

// progressText is how far a request and its shadow requests are, in one line.
func progressText(x *admin.OneRequest) string {
	t := &x.Total
	text := fmt.Sprintf("%s %s: %s sent, %s delivered", percent(x.Progress), x.State, comma(t.Sent), comma(t.Delivered))
	if t.Failed > 0 {
		text += fmt.Sprintf(", %s failed", comma(t.Failed))
	}
	for _, w := range x.Waiting {
		text += fmt.Sprintf(", %s wait for %s", comma(w.Count), w.Member)
	}
	if x.Left > 0 {
		text += ", about " + brief(x.Left.Std()) + " left"
	}
	return text
}

// isTerminal reports whether a person looks at what is written.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func printRequest(w io.Writer, x *admin.OneRequest) {
	t := table(w, "")
	line := func(name, value string) {
		if value != "" {
			t.row(name, value)
		}
	}
	line("Request", x.ID)
	line("State", stateText(&x.Request))
	line("What", whatText(x.RequestFilter))
	line("Interval", intervalText(x.RequestFilter)+", by time of delivery")
	line("Sent to", x.ResubmitTo)
	line("Why", whyText(&x.Request))
	line("Created", fmt.Sprintf("%s, %s ago", x.Created, since(x.Time, x.Created)))
	line("Ended", x.Ended.String())
	line("Correlation id", x.CorrelationID)
	if x.Again {
		line("Again", "also where a resubmission was delivered already")
	}
	if x.Rate > 0 {
		line("Rate", fmt.Sprintf("%d/s at most", x.Rate))
	}
	line("Not waited for", strings.Join(x.Unresponsive, " "))
	line("Progress", progressText(x))
	t.Flush()
	fmt.Fprintln(w)
	printCounts(w, &x.RequestCounts)
	if len(x.Shadows) == 0 {
		return
	}
	fmt.Fprintln(w)
	t = table(w, "shadow request\tstate\tfor\tfrom\tto\tmatched\tsent\tdelivered\tfailed")
	for _, c := range x.Shadows {
		t.row(c.ID, c.State, c.OnBehalfOf, orDash(c.Start.String()), c.End.String(), comma(c.Matched), comma(c.Sent), comma(c.Delivered), comma(c.Failed))
	}
	t.Flush()
}

// stateText is the state of a request with its reason.
func stateText(x *admin.Request) string {
	text := x.State
	if x.BackPressure {
		text += " by back pressure"
	} else if x.StateBy != "" {
		text += " by " + x.StateBy
	}
	if x.StateReason != "" {
		text += ": " + x.StateReason
	}
	return text
}

func intervalText(f admin.RequestFilter) string {
	if f.Start == 0 {
		return "before " + f.End.String()
	}
	return fmt.Sprintf("from %s to %s", f.Start, f.End)
}

// printCounts prints what a request has come to, or would.
func printCounts(w io.Writer, c *admin.RequestCounts) {
	fmt.Fprintf(w, "%s matched", plural(c.Matched, "delivery"))
	if c.Matched > 0 {
		fmt.Fprintf(w, ", delivered from %s to %s", c.First, c.Last)
	}
	fmt.Fprintln(w)
	if len(c.ServedBy) > 0 {
		fmt.Fprintln(w)
		t := table(w, "served by\tfrom\tdeliveries")
		for _, x := range c.ServedBy {
			t.row(x.Member, x.Net+" safety net", comma(x.Count))
		}
		t.Flush()
	}
	if len(c.LeftOut) > 0 {
		fmt.Fprintln(w)
		t := table(w, "left out\twhy")
		for _, x := range c.LeftOut {
			t.row(comma(x.Count), leftOutText(x.Reason))
		}
		t.Flush()
	}
	for i, g := range c.Gaps {
		if i == 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "gap: %s\n", gapText(g))
	}
}

// leftOutText says in words why recipients are left out.
func leftOutText(reason string) string {
	switch reason {
	case "already":
		return "already: a resubmission was delivered or is under way"
	case "moved":
		return "moved: the mailbox lives in another database now"
	case "gone":
		return "gone: there is no such mailbox any more"
	case "outside":
		return "outside: not a mailbox of this boundary"
	}
	return reason
}

func gapText(g admin.RequestGap) string {
	text := fmt.Sprintf("from %s to %s", g.Start, g.End)
	if g.Member != "" {
		text += ", primary safety net of " + g.Member
	}
	if g.Count > 0 {
		return text + fmt.Sprintf(": %s that no member has", plural(g.Count, "delivery"))
	}
	return text + ": not held any more"
}

func plural(n int, noun string) string { return comma(n) + " " + english.PluralWord(n, noun, "") }

// printPlan prints what a dry run has found.
func printPlan(w io.Writer, p *admin.Plan) {
	fmt.Fprintf(w, "%s, delivered %s\n", whatText(p.RequestFilter), intervalText(p.RequestFilter))
	printNeed(w, p)
	fmt.Fprintf(w, "dry run as of index %d: nothing was sent\n", p.Index)
}

// printNeed prints what a plan comes to.
func printNeed(w io.Writer, p *admin.Plan) {
	printCounts(w, &p.RequestCounts)
	for _, x := range p.Waiting {
		fmt.Fprintf(w, "%s\n", waitText(x))
	}
	for i := range p.Shadows {
		x := &p.Shadows[i]
		fmt.Fprintf(w, "\nshadow request for %s, delivered %s\n", x.OnBehalfOf, intervalText(x.RequestFilter))
		printCounts(w, &x.RequestCounts)
	}
	fmt.Fprintf(w, "\n%s to send, %s in all", plural(p.Total.Messages, "message"), size(p.Total.Bytes))
	if t := p.Time.Std(); t >= time.Second {
		fmt.Fprintf(w, ", which takes %s or longer at %d/s", brief(t), p.Rate)
	}
	fmt.Fprintln(w)
	if p.Partial {
		fmt.Fprintln(w, "and more: the search took too long")
	}
}

// waitText says what is left until a member is up.
func waitText(x admin.RequestWait) string {
	text := fmt.Sprintf("%s would wait for %s, which is down", plural(x.Count, "delivery"), x.Member)
	if x.Content {
		return text + ": no other is known to have the content"
	}
	return text + "; after unresponsive-primary-timeout others send them"
}
