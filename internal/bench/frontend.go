package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"mailraft/internal/loopback"
)

// FrontEnd measures what a front end costs: the same load straight to the
// members and through it, in turns.
type FrontEnd struct {
	Exe    string
	Dir    string
	Rounds int
	Time   time.Duration // of one load
	Idle   int           // sessions
	Out    io.Writer
}

// Run prints the figures.
func (p FrontEnd) Run(ctx context.Context) error {
	b, err := loopback.Start(ctx, loopback.Options{Exe: p.Exe, Dir: filepath.Join(p.Dir, "frontend-bench"), Members: 3, Domain: "example.test", FrontEnd: true, Wait: 2 * time.Minute})
	if err != nil {
		return err
	}
	defer b.Stop()
	if _, err := b.CLI(ctx, "queue", "suspend", "--all"); err != nil {
		return err
	}
	var direct []string
	for _, m := range b.Members {
		direct = append(direct, m.SMTP)
	}
	through := []string{b.FrontEnd.SMTP}
	for _, l := range []Load{
		{Sessions: 50, Size: 10 << 10},
		{Sessions: 50, Size: 10 << 10, Every: 500 * time.Millisecond},
	} {
		if err := p.compare(ctx, l, b, direct, through); err != nil {
			return err
		}
	}
	return p.idle(ctx, b.FrontEnd)
}

// compare runs a load in turns and prints medians and their ratios.
func (p FrontEnd) compare(ctx context.Context, l Load, b *loopback.Boundary, direct, through []string) error {
	l.Warm, l.Time, l.To = time.Second, p.Time, Recipient
	var rates, added, p50 []float64
	var cpu time.Duration
	messages := 0
	for range p.Rounds {
		l.Targets = direct
		d := l.Run(ctx)
		l.Targets = through
		before := used([]int{b.FrontEnd.PID()}).cpu
		t := l.Run(ctx)
		cpu += used([]int{b.FrontEnd.PID()}).cpu - before
		if err := errors.Join(d.Err, t.Err, ctx.Err()); err != nil || d.Messages == 0 || t.Messages == 0 {
			return fmt.Errorf("%d and %d messages: %w", d.Messages, t.Messages, err)
		}
		messages += int(float64(t.Messages) * (l.Time + l.Warm).Seconds() / l.Time.Seconds())
		rates = append(rates, t.Rate()/d.Rate())
		added = append(added, (t.Percentile(50)-d.Percentile(50)).Seconds()*1e3)
		p50 = append(p50, d.Percentile(50).Seconds()*1e3)
	}
	for _, list := range [][]float64{rates, added, p50} {
		slices.Sort(list)
	}
	mid := p.Rounds / 2
	fmt.Fprintf(p.Out, "%d sessions of %d bytes, each a message every %s: rate %.2f of direct, p50 %+.2f ms to %.2f ms, about %d µs of CPU a message in the front end\n",
		l.Sessions, l.Size, l.Every, rates[mid], added[mid], p50[mid], cpu.Microseconds()/int64(max(messages, 1)))
	return nil
}

// idle opens sessions that say EHLO and wait.
func (p FrontEnd) idle(ctx context.Context, f *loopback.FrontEnd) error {
	before := resident(f.PID())
	var open []*Session
	defer func() {
		for _, s := range open {
			s.Close()
		}
	}()
	for range p.Idle {
		s, err := Dial(ctx, f.SMTP)
		if err != nil {
			return fmt.Errorf("%d sessions are open: %w", len(open), err)
		}
		open = append(open, s)
	}
	fmt.Fprintf(p.Out, "%d idle sessions: %d MB resident, %d MB before\n", p.Idle, resident(f.PID())>>20, before>>20)
	return nil
}
