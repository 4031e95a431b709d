package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"mailraft/internal/loopback"
)

// Figures are what is measured beside the rates.
type Figures struct {
	RSS, IdleRSS int64 // of a fresh member, without and with Idle sessions
	Idle         int
	Leader       time.Duration // median, from kill -9 of the leader to the next one
	Takeover     time.Duration // median, from kill -9 to the last of its messages having another owner
	Owned        int           // how many messages that were, about
	Protected    time.Duration // median, from kill -9 until each of them has an owner, a shadow and copies on a majority again
	Rows         int           // on the members that were started again
	Stopped      time.Duration // from the start after an orderly end until it takes mail
	Killed       time.Duration // the same after kill -9
	Loaded       int64         // RSS of that member before
}

const (
	idleSessions  = 2000
	kills         = 3
	takeoverMails = 600
)

// takeoverParams are those of "mailraft demo".
var takeoverParams = map[string]string{"shadow-resubmit-time-span": "5s"}

// fresh measures what needs a boundary without history.
func (p Plan) fresh(ctx context.Context, f *Figures) error {
	fmt.Fprintln(p.Out, "idle sessions, then the leader's end")
	s, err := startBoundary(ctx, loopback.Options{Exe: p.Exes[0], Dir: filepath.Join(p.Dir, "fresh"), Params: takeoverParams})
	if err != nil {
		return err
	}
	defer s.stop()
	if err := idle(ctx, s.boundary.Members[0], f); err != nil {
		return fmt.Errorf("idle sessions: %w", err)
	}
	var leader, takeover, protected []float64
	for range kills {
		k, err := killLeader(ctx, s, f)
		if err != nil {
			return fmt.Errorf("kill the leader: %w", err)
		}
		leader, takeover, protected = append(leader, k.leader.Seconds()), append(takeover, k.takeover.Seconds()), append(protected, k.protected.Seconds())
	}
	f.Leader = time.Duration(median(leader) * float64(time.Second))
	f.Takeover = time.Duration(median(takeover) * float64(time.Second))
	f.Protected = time.Duration(median(protected) * float64(time.Second))
	return nil
}

// killed is how long it took from the end of a leader until there was another,
// until its messages had another owner, and until they lacked nothing.
type killed struct{ leader, takeover, protected time.Duration }

// idle opens sessions that have said EHLO and say no more.
func idle(ctx context.Context, m *loopback.Member, f *Figures) error {
	f.RSS = resident(m.PID())
	var sessions []*Session
	defer func() {
		for _, s := range sessions {
			s.Close()
		}
	}()
	for range idleSessions {
		s, err := Dial(ctx, m.SMTP)
		if err != nil {
			return fmt.Errorf("after %d: %w", len(sessions), err)
		}
		sessions = append(sessions, s)
	}
	if err := sleep(ctx, 2*time.Second); err != nil {
		return err
	}
	f.Idle, f.IdleRSS = len(sessions), resident(m.PID())
	return nil
}

// killLeader lets the leader own some mail and ends it, and brings it back.
func killLeader(ctx context.Context, s *system, f *Figures) (k killed, err error) {
	load := Load{Targets: s.targets, Sessions: 6, Size: 10 << 10, Time: time.Minute, To: Recipient}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	enough, stop := context.WithCancel(ctx)
	load.Progress = func(n int) {
		if n >= takeoverMails {
			stop()
		}
	}
	load.Run(enough)
	stop()
	victim, err := s.boundary.Leader(ctx)
	if err != nil {
		return k, err
	}
	count := func(filter ...string) (int, error) {
		out, err := s.boundary.CLI(ctx, append([]string{"message", "list", "-o", "id"}, filter...)...)
		return len(strings.Fields(out)), err
	}
	none := func(filter ...string) (err error) {
		for n := 1; err == nil && n > 0; {
			if err = sleep(ctx, 50*time.Millisecond); err == nil {
				n, err = count(filter...)
			}
		}
		return err
	}
	owned := []string{"--member", victim.Name, "--state", "active"}
	if f.Owned, err = count(owned...); err != nil {
		return k, err
	}
	at := time.Now()
	if err := victim.Signal(syscall.SIGKILL); err != nil {
		return k, err
	}
	for ; err == nil; err = sleep(ctx, 10*time.Millisecond) {
		if _, e := s.boundary.Leader(ctx); e == nil {
			break
		}
	}
	k.leader = time.Since(at)
	if err == nil {
		err = none(owned...)
	}
	k.takeover = time.Since(at)
	if err == nil {
		err = none("--state", "without-shadow,fewer-copies,waiting-for-content")
	}
	k.protected = time.Since(at)
	if err == nil {
		err = victim.Start()
	}
	if err == nil {
		err = s.boundary.Ready(ctx)
	}
	return k, err
}

// restart ends and starts a member of the boundary that took all the load.
func (p Plan) restart(ctx context.Context, s *system, rows int, f *Figures) error {
	fmt.Fprintln(p.Out, "starting again")
	m := s.boundary.Members[0]
	f.Rows, f.Loaded = rows, resident(m.PID())
	m.Stop()
	for _, took := range []*time.Duration{&f.Stopped, &f.Killed} {
		if m.Running() {
			if err := m.Signal(syscall.SIGKILL); err != nil {
				return err
			}
		}
		began := time.Now()
		if err := m.Start(); err != nil {
			return err
		}
		if err := s.boundary.Ready(ctx); err != nil {
			return err
		}
		*took = time.Since(began)
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// machine says what the figures were measured on.
func machine(dir string) string {
	cpu, cores := "unknown processor", 0
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			cpu, cores = strings.TrimSpace(value), cores+1
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	meminfo, _ := os.ReadFile("/proc/meminfo")
	mem, _, _ := strings.Cut(strings.TrimPrefix(string(meminfo), "MemTotal:"), " kB")
	var fs syscall.Statfs_t
	kind := "another file system"
	if syscall.Statfs(dir, &fs) == nil && fs.Type == 0xef53 {
		kind = "ext4"
	}
	kib, _ := strconv.ParseInt(strings.TrimSpace(mem), 10, 64)
	return fmt.Sprintf("%d × %s, %d GiB, Linux %s, %s", cores, cpu, kib>>20, strings.TrimSpace(string(kernel)), kind)
}
