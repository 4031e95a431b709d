package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"mailraft/internal/ledger"
	"mailraft/internal/loopback"
	"mailraft/mail"

	"github.com/urfave/cli/v2"
)

const (
	demoMessages = 500
	demoTime     = 100 * time.Second // the end, whatever happens
)

// demoCommand shows the main job: mail into a boundary whose leader is killed.
func demoCommand() *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "start a boundary, send mail, kill the leader, wipe a disk, lose a mailbox database, and count: nothing is lost",
		Action: func(c *cli.Context) error {
			ctx, cancel := signal.NotifyContext(c.Context, syscall.SIGINT, syscall.SIGTERM)
			defer cancel()
			ctx, end := context.WithTimeout(ctx, demoTime)
			defer end()
			return runDemo(ctx, c.App.Writer)
		},
	}
}

// demo is one run.
type demo struct {
	out    io.Writer
	b      *loopback.Boundary
	ledger *ledger.Ledger
	mail   string // where the mailboxes are

	mu       sync.Mutex // guards out while the progress bar is drawn
	leader   time.Duration
	takeover time.Duration
	refill   time.Duration
	owned    int // messages that the killed member owned
	fail     failover
}

func runDemo(ctx context.Context, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "mailraft-demo-")
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	began := time.Now()
	fmt.Fprintf(out, "Three members on this host, in %s …\n", dir)
	b, err := loopback.Start(ctx, loopback.Options{Exe: exe, Dir: dir, Members: 3, Domain: "example.test", Params: devParams})
	if err != nil {
		return err
	}
	defer func() {
		b.Stop()
		if err != nil {
			fmt.Fprintf(out, "Logs and data are left in %s.\n", dir)
		} else {
			err = os.RemoveAll(dir)
		}
	}()
	d := &demo{out: out, b: b, ledger: ledger.New(), mail: filepath.Join(dir, "mail")}
	fmt.Fprintf(out, "Ready after %s: %s.\n\n", seconds(time.Since(began)), d.addresses())
	if err := d.send(ctx); err != nil {
		return err
	}
	if err := d.wipe(ctx); err != nil {
		return err
	}
	if err := d.failDatabase(ctx); err != nil {
		return err
	}
	return d.result()
}

func (d *demo) addresses() string {
	var all []string
	for _, m := range d.b.Members {
		all = append(all, m.Name+" takes mail on "+m.SMTP)
	}
	return strings.Join(all, ", ")
}

// send sends all mail, and kills the leader and brings it back meanwhile.
func (d *demo) send(ctx context.Context) error {
	fmt.Fprintf(d.out, "Sending %d messages of 1 KB to 5 MB to all members; the leader is killed while they flow.\n", demoMessages)
	s := &ledger.Sender{Ledger: d.ledger, From: "sender@example.org", Count: demoMessages, Sessions: 6, Pause: 200 * time.Millisecond,
		Every:     100 * time.Millisecond,
		Recipient: func(n int) string { return []string{"alice", "bob", "carol", "dave"}[n%4] + "@example.test" },
		Size:      demoSize, Progress: d.progress}
	for _, m := range d.b.Members {
		s.Targets = append(s.Targets, m.SMTP)
	}
	done := make(chan struct{})
	go func() { s.Run(ctx); close(done) }()
	err := d.killLeader(ctx)
	select {
	case <-done:
	case <-ctx.Done():
	}
	<-done
	fmt.Fprintln(d.out)
	return err
}

// demoSize: mostly small, as mail is; every fiftieth large.
func demoSize(n int) int {
	switch {
	case n%50 == 49:
		return 5 << 20
	case n%10 == 9:
		return 200 << 10
	default:
		return 1<<10 + n%7*3<<10
	}
}

func (d *demo) progress(accepted int) {
	const width = 40
	d.mu.Lock()
	defer d.mu.Unlock()
	n := min(accepted*width/demoMessages, width)
	fmt.Fprintf(d.out, "\r  [%s%s] %d accepted ", strings.Repeat("=", n), strings.Repeat(" ", width-n), accepted)
}

func (d *demo) say(format string, a ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fmt.Fprintf(d.out, "\r"+format+"%s\n", append(a, strings.Repeat(" ", 30))...)
}

// killLeader waits until a third of the mail is in, holds deliveries for a
// moment so that the leader has messages of its own to lose, and kills it.
func (d *demo) killLeader(ctx context.Context) error {
	if err := d.accepted(ctx, demoMessages/3); err != nil {
		return err
	}
	victim, err := d.b.Leader(ctx)
	if err != nil {
		return err
	}
	if _, err := d.b.CLI(ctx, "queue", "suspend", "db/DB1", "--reason", "demo: so that the leader has mail of its own when it dies"); err != nil {
		return err
	}
	if err := d.accepted(ctx, demoMessages/3+30); err != nil {
		return err
	}
	if err := d.copyDatabase(ctx); err != nil {
		return err
	}
	killed := time.Now()
	if err := victim.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	d.say("  kill -9 %s, the leader", victim.Name)
	if err := d.newLeader(ctx, killed); err != nil {
		return err
	}
	if _, err := d.b.CLI(ctx, "queue", "resume", "db/DB1"); err != nil {
		return err
	}
	if err := d.takenOver(ctx, victim, killed); err != nil {
		return err
	}
	if err := victim.Start(); err != nil {
		return err
	}
	d.say("  %s is started again, and gets nothing back that was taken over", victim.Name)
	return nil
}

func (d *demo) accepted(ctx context.Context, n int) error {
	return poll(ctx, func() (bool, error) { return d.ledger.Accepted() >= n, nil })
}

func (d *demo) newLeader(ctx context.Context, killed time.Time) error {
	err := poll(ctx, func() (bool, error) {
		l, err := d.b.Leader(ctx)
		if err != nil {
			return false, nil
		}
		d.leader = time.Since(killed)
		d.say("  %s leads after %s", l.Name, seconds(d.leader))
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("wait for a new leader: %w", err)
	}
	return nil
}

// takenOver waits until the killed member owns nothing any more.
func (d *demo) takenOver(ctx context.Context, victim *loopback.Member, killed time.Time) error {
	owns := func() (int, error) {
		out, err := d.b.CLI(ctx, "message", "list", "--member", victim.Name, "--state", "active", "-o", "id")
		return len(strings.Fields(out)), err
	}
	n, err := owns()
	if err != nil {
		return err
	}
	d.owned = n
	err = poll(ctx, func() (bool, error) {
		n, err := owns()
		return n == 0, err
	})
	if err != nil {
		return fmt.Errorf("wait for the takeover: %w", err)
	}
	d.takeover = time.Since(killed)
	d.say("  its %d messages are taken over after %s", d.owned, seconds(d.takeover))
	return nil
}

// wipe removes the data of a member that does not lead, lets it join anew under
// its name, and waits until it has everything again.
func (d *demo) wipe(ctx context.Context) error {
	victim := d.b.Members[len(d.b.Members)-1]
	if leader, err := d.b.Leader(ctx); err != nil {
		return err
	} else if leader == victim {
		victim = d.b.Members[0]
	}
	d.say("  the disk of %s is wiped", victim.Name)
	began := time.Now()
	if err := d.b.Replace(ctx, victim); err != nil {
		return err
	}
	err := poll(ctx, func() (bool, error) {
		s, err := d.b.Status(ctx, victim)
		if err != nil || s.Member.ContentMissing > 0 || s.Member.Lag > 0 {
			return false, nil
		}
		for _, m := range s.Members {
			if m.Name == victim.Name && m.State == "up" && m.Role != "non-voter" {
				d.refill = time.Since(began)
				d.say("  %s has joined anew, has all %s again, and votes after %s", victim.Name, mail.FormatSize(s.Member.ContentBytes>>20<<20), seconds(d.refill))
				return true, nil
			}
		}
		return false, nil
	})
	if err != nil {
		return fmt.Errorf("wait until %s is filled: %w", victim.Name, err)
	}
	return nil
}

// result holds what users find in the copy that is active now against what was
// accepted, and prints the table.
func (d *demo) result() error {
	a, err := d.ledger.Audit(d.copyDir("b"))
	if err != nil {
		return err
	}
	fmt.Fprintln(d.out)
	w := tabwriter.NewWriter(d.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "accepted\tin copy b\tlost\tdamaged\tshown twice\tnew leader\ttakeover\trefill\tactivation\tnothing missing\t")
	fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t\n", a.Accepted, a.Delivered, len(a.Lost), len(a.Damaged), a.Duplicates,
		seconds(d.leader), seconds(d.takeover), seconds(d.refill), seconds(d.fail.activated), seconds(d.fail.again))
	if err := w.Flush(); err != nil {
		return err
	}
	switch {
	case len(a.Lost) > 0 || len(a.Damaged) > 0:
		return cli.Exit("mailraft: mail was lost", 1)
	case a.Accepted < demoMessages:
		return cli.Exit(fmt.Sprintf("mailraft: only %d of %d messages were accepted in time", a.Accepted, demoMessages), 1)
	}
	fmt.Fprintln(d.out, "\nNothing is lost. To look around in a boundary of your own: mailraft dev --dir DIR")
	return nil
}

func poll(ctx context.Context, f func() (bool, error)) error {
	for {
		if done, err := f(); done || err != nil {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func seconds(d time.Duration) string { return mail.FormatDuration(d.Round(100 * time.Millisecond)) }
