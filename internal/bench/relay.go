package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"mailraft/internal/fixedport"
	"mailraft/internal/loopback"
)

// Relay is one system that takes messages and passes them on to an SMTP server
// that keeps none, in one run.
type Relay struct {
	System   string
	Messages int
	Accepted time.Duration // from the first byte until the last was answered with 250
	Passed   time.Duration // until the last was at the sink
}

// Rate is messages a second from end to end.
func (r Relay) Rate() float64 { return float64(r.Messages) / r.Passed.Seconds() }

// relayed is a domain that is passed on.
const relayed = "relayed.test"

// sinkDaemon is Postfix's: it takes all mail and keeps none.
const sinkDaemon = "/usr/sbin/smtp-sink"

// Relays lets Postfix and a boundary take and pass on n messages, in turns.
func (p Plan) Relays(ctx context.Context, n int, c Cell) ([]Relay, error) {
	var all []Relay
	for round := range p.Rounds {
		turns := []func(context.Context, string, *smtpSink) (*system, error){relayPostfix, p.relayBoundary}
		if round%2 == 1 {
			turns[0], turns[1] = turns[1], turns[0]
		}
		for i, start := range turns {
			r, err := p.relay(ctx, filepath.Join(p.Dir, fmt.Sprintf("relay%d-%d", round, i)), start, n, c)
			if err != nil {
				return all, err
			}
			fmt.Fprintf(p.Out, "round %d  %d messages of %s, %d sessions  %-10s %8.0f msg/s taken, %8.0f msg/s passed on\n", round+1, n, sizeText(c.Size), c.Sessions,
				r.System, float64(n)/r.Accepted.Seconds(), r.Rate())
			all = append(all, r)
		}
	}
	return all, nil
}

// RelayRatio is the median of the rounds of what mailraft passes on for a message of Postfix.
func RelayRatio(all []Relay) float64 {
	var ratios []float64
	for i := 0; i+1 < len(all); i += 2 {
		pair := map[string]float64{all[i].System: all[i].Rate(), all[i+1].System: all[i+1].Rate()}
		ratios = append(ratios, pair["mailraft"]/pair["Postfix"])
	}
	return median(ratios)
}

// relayTime is how long one run may take.
const relayTime = 3 * time.Minute

func (p Plan) relay(ctx context.Context, dir string, start func(context.Context, string, *smtpSink) (*system, error), n int, c Cell) (Relay, error) {
	ctx, cancel := context.WithTimeout(ctx, relayTime)
	defer cancel()
	to, err := startSink()
	if err != nil {
		return Relay{}, fmt.Errorf("start the sink: %w", err)
	}
	defer to.stop()
	s, err := start(ctx, dir, to)
	if err != nil {
		return Relay{}, err
	}
	defer s.stop()
	syscall.Sync()
	r := Relay{System: s.name, Messages: n}
	began := time.Now()
	load := Load{Targets: s.targets, Sessions: c.Sessions, Size: c.Size, Time: relayTime, To: "bob@" + relayed, Messages: n}
	if got := load.Run(ctx); got.Messages != n || got.Errors > 0 {
		return r, fmt.Errorf("%s took %d of %d messages: %w", s.name, got.Messages, n, errors.Join(got.Err, ctx.Err()))
	}
	r.Accepted = time.Since(began)
	for to.messages.Load() < int64(n) {
		if err := sleep(ctx, 5*time.Millisecond); err != nil {
			return r, fmt.Errorf("%s passed on %d of %d messages: %w", s.name, to.messages.Load(), n, err)
		}
	}
	r.Passed = time.Since(began)
	return r, nil
}

func (p Plan) relayBoundary(ctx context.Context, dir string, to *smtpSink) (*system, error) {
	s, err := startBoundary(ctx, loopback.Options{Dir: dir, Exe: p.Exes[0]})
	if err != nil {
		return nil, err
	}
	_, err = s.boundary.CLI(ctx, "directory", "domain", "add", relayed, "--next-hop", "smtp://"+to.addr)
	if err == nil {
		_, err = s.boundary.CLI(ctx, "queue", "resume", "--all")
	}
	if err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func relayPostfix(ctx context.Context, dir string, to *smtpSink) (*system, error) {
	return startPostfix(ctx, dir, to.addr, nil)
}

// sink is a running smtp-sink, and how many messages it has taken.
type smtpSink struct {
	addr     string
	messages atomic.Int64
	cmd      *exec.Cmd
}

var sinkCount = regexp.MustCompile(`mesg=(\d+)`)

func startSink() (*smtpSink, error) {
	if _, err := os.Stat(sinkDaemon); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoPostfix, err)
	}
	addr, err := fixedport.Addr()
	if err != nil {
		return nil, err
	}
	s := &smtpSink{addr: addr, cmd: exec.Command(sinkDaemon, "-u", "postfix", "-c", addr, "1000")}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go s.count(out)
	return s, nil
}

// count reads the running counters, a line without an end.
func (s *smtpSink) count(out io.Reader) {
	buf := make([]byte, 64<<10)
	rest := 0
	for {
		n, err := out.Read(buf[rest:])
		if all := sinkCount.FindAllSubmatch(buf[:rest+n], -1); len(all) > 0 {
			if last, err := strconv.ParseInt(string(all[len(all)-1][1]), 10, 64); err == nil && last > s.messages.Load() {
				s.messages.Store(last)
			}
		}
		if err != nil {
			return
		}
		// The end may be the first half of a number.
		from := max(0, rest+n-64)
		rest = copy(buf, buf[from:rest+n])
	}
}

func (s *smtpSink) stop() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait() // it was killed
}
