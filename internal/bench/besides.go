package bench

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"mailraft/internal/fixedport"
)

// besides is what is measured beside how mail is taken: slow disks, mail that
// is passed on, and what the parts alone could do.
type besides struct {
	slow                   []Row
	relays                 []Relay
	one, three             float64 // group commits a second, on one file and on three
	alone                  Row     // our SMTP with nothing behind it
	relayCell, commitsCell Cell
}

const (
	slowTime      = 2 * time.Millisecond
	slowRounds    = 3
	relayMessages = 5000
	relayRounds   = 3
)

func (p Plan) besides(ctx context.Context) (b besides, err error) {
	common := Cell{Size: 10 << 10, Sessions: 50}
	b.relayCell, b.commitsCell = common, common
	fmt.Fprintln(p.Out, "each sync takes longer")
	slow := p
	slow.after, slow.SyncTime, slow.Rounds, slow.Cells, slow.Dir = nil, slowTime, slowRounds, []Cell{common, {Size: 10 << 10, Sessions: 1}}, filepath.Join(p.Dir, "slow")
	if err := os.Mkdir(slow.Dir, 0o755); err != nil {
		return b, err
	}
	if b.slow, err = slow.Run(ctx); err != nil {
		return b, fmt.Errorf("with slow syncs: %w", err)
	}
	fmt.Fprintln(p.Out, "mail is passed on")
	relay := p
	relay.Rounds = relayRounds
	if b.relays, err = relay.Relays(ctx, relayMessages, common); err != nil {
		return b, fmt.Errorf("pass mail on: %w", err)
	}
	fmt.Fprintln(p.Out, "the parts alone")
	if b.one, err = commits(ctx, p.Dir, 1, common, p.Time); err != nil {
		return b, err
	}
	if b.three, err = commits(ctx, p.Dir, 3, common, p.Time); err != nil {
		return b, err
	}
	b.alone, err = p.discardAlone(ctx, common)
	return b, err
}

// discardAlone measures "mailraft bench discard".
func (p Plan) discardAlone(ctx context.Context, c Cell) (Row, error) {
	addr, err := fixedport.Addr()
	if err != nil {
		return Row{}, err
	}
	child, err := startChild(filepath.Join(p.Dir, "discard"), nil, p.Exes[0], "bench", "discard", addr)
	if err != nil {
		return Row{}, fmt.Errorf("start our SMTP alone: %w", err)
	}
	defer child.stop()
	for began := time.Now(); ; {
		s, err := Dial(ctx, addr)
		if err == nil {
			s.Close()
			break
		}
		if time.Since(began) > 10*time.Second {
			return Row{}, fmt.Errorf("wait for our SMTP alone: %w", err)
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return Row{}, err
		}
	}
	row := Row{System: "our SMTP alone", Cell: c}
	s := &system{name: row.System, targets: []string{addr}, members: 1, pids: func() []int { return []int{child.Process.Pid} }}
	for range p.Rounds {
		run, err := p.measure(ctx, s, c)
		if err != nil {
			return row, err
		}
		row.Runs = append(row.Runs, run)
	}
	return row, nil
}

func (b besides) write(w io.Writer) {
	fmt.Fprintf(w, "\n## With %s added to every sync\n\nBy strace, which stops the systems at their syncs and at no other call; %d rounds.\n\n", slowTime, slowRounds)
	Table(w, b.slow)
	fmt.Fprintf(w, "\n## Passed on\n\n%d messages of %s are sent in %d sessions to a system that passes them on to Postfix's smtp-sink; %d rounds in turns.\n\n",
		relayMessages, sizeText(b.relayCell.Size), b.relayCell.Sessions, relayRounds)
	fmt.Fprintf(w, "| system | taken, msg/s | passed on, msg/s, until the last was there |\n|---|---|---|\n")
	for _, name := range []string{"Postfix", "mailraft"} {
		var taken, passed []float64
		for _, r := range b.relays {
			if r.System == name {
				taken, passed = append(taken, float64(r.Messages)/r.Accepted.Seconds()), append(passed, r.Rate())
			}
		}
		fmt.Fprintf(w, "| %s | %.0f | %.0f |\n", name, median(taken), median(passed))
	}
	fmt.Fprintf(w, "\nRatio of what is passed on, round by round: %.2f.\n", RelayRatio(b.relays))
	fmt.Fprintf(w, "\n## The parts alone\n\n%s, %d sessions.\n\n| part | msg/s |\n|---|---|\n| this disk: written to the end of one file and synced, all that wait at once | %.0f |\n"+
		"| the same to three files, answered when two have it | %.0f |\n| our SMTP with nothing behind it (%.0f µs of CPU a message) | %.0f |\n", sizeText(b.commitsCell.Size), b.commitsCell.Sessions,
		b.one, b.three, b.alone.Median(func(r Run) float64 { return float64(r.CPU.Microseconds()) }), b.alone.Median(Run.Rate))
}
