// Package loopback runs a whole boundary on this host: member processes on
// loopback ports, set up over the same commands that an operator would use.
// "mailraft dev" is this package with a signal handler; demo and the scenario
// tests kill, stop and bring back its members.
//
// It knows the command line and the admin API, and nothing of a member's
// inside.
package loopback

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"mailraft/admin"
	"mailraft/internal/fixedport"
)

// Options say what to run.
type Options struct {
	Exe      string // the mailraft binary
	Dir      string // absolute
	Members  int
	SMTPPort int               // of the first member; 0: free ports
	Domain   string            // accepted, every local part a mailbox of DB1
	Params   map[string]string // set when the boundary is made
	Wait     time.Duration     // how long it may take until every member is ready; 0 is a minute
	Pprof    bool              // members serve profiles
	FrontEnd bool              // also a front end, on the SMTP port after theirs

	// Host is the address of a member, from 0; nil: 127.0.0.1. With addresses of
	// their own the ports are fixed.
	Host func(i int) string
	// Wrap is what stands before the command of a member's process, such as the
	// words that run it in a network namespace; nil: nothing.
	Wrap func(i int) []string
	// Edit changes the configuration file of a member, from 0, before it is
	// written; nil: it stays.
	Edit func(i int, text string) string
}

// Boundary is the running processes. Its methods are for one goroutine.
type Boundary struct {
	Options
	Members  []*Member
	FrontEnd *FrontEnd // nil: there is none
}

// Member is one process.
type Member struct {
	Name   string
	SMTP   string
	HTTP   string
	Socket string
	Config string
	Dir    string

	exe     string
	wrap    []string
	host    string // empty: 127.0.0.1 and free ports
	cluster string
	process
}

// Start makes the boundary in o.Dir, or goes on with the one that is there,
// and returns when every member is ready.
func Start(ctx context.Context, o Options) (*Boundary, error) {
	if o.Wait == 0 {
		o.Wait = time.Minute
	}
	b := &Boundary{Options: o}
	ctx, cancel := context.WithTimeout(ctx, o.Wait)
	defer cancel()
	if err := b.start(ctx); err != nil {
		b.Stop()
		return nil, err
	}
	return b, nil
}

func (b *Boundary) start(ctx context.Context) error {
	fresh, err := b.layout()
	if err != nil {
		return err
	}
	if fresh {
		err = b.found(ctx)
	} else {
		for _, m := range b.Members {
			err = errors.Join(err, m.Start())
		}
	}
	if err == nil {
		err = b.Ready(ctx)
	}
	if err == nil && b.Options.FrontEnd {
		err = b.startFrontEnd(ctx)
	}
	return err
}

// found makes a new boundary: the first member founds it, the others join it
// with a token, and the domain and its database are created.
func (b *Boundary) found(ctx context.Context) error {
	first := b.Members[0]
	if !first.hasIdentity() {
		if _, err := b.run(ctx, nil, b.initCommand(first)...); err != nil {
			return err
		}
	}
	if err := first.Start(); err != nil {
		return err
	}
	if err := b.until(ctx, "the first member leads", func() error {
		s, err := b.Status(ctx, first)
		if err == nil && s.Member.LeaseLeft == 0 {
			err = errors.New("no lease yet")
		}
		return err
	}); err != nil {
		return err
	}
	if err := b.configure(ctx); err != nil {
		return err
	}
	return b.join(ctx)
}

// join lets in the members that have no identity yet.
func (b *Boundary) join(ctx context.Context) error {
	first := b.Members[0]
	if len(b.Members) == 1 {
		return nil
	}
	token, err := b.CLI(ctx, "boundary", "token", "--uses", fmt.Sprint(len(b.Members)-1), "-o", "id")
	if err != nil {
		return err
	}
	for _, m := range b.Members[1:] {
		if !m.hasIdentity() {
			if _, err := b.run(ctx, strings.NewReader(token), "boundary", "join", "--config", m.Config, "--token", "-", first.cluster); err != nil {
				return err
			}
		}
		if err := m.Start(); err != nil {
			return err
		}
	}
	return nil
}

// Replace wipes a member and lets it back in under its name.
func (b *Boundary) Replace(ctx context.Context, m *Member) error {
	if m.Running() {
		_ = m.Signal(syscall.SIGKILL)
	}
	if err := m.wipe(); err != nil {
		return err
	}
	token, err := b.CLI(ctx, "boundary", "token", "--replace", m.Name, "-o", "id")
	if err != nil {
		return err
	}
	return b.enter(ctx, m, token)
}

// Add makes another member, lets it in and starts it.
func (b *Boundary) Add(ctx context.Context) (*Member, error) {
	m, _, err := b.lay(len(b.Members))
	if err != nil {
		return nil, err
	}
	token, err := b.CLI(ctx, "boundary", "token", "-o", "id")
	if err != nil {
		return nil, err
	}
	b.Members = append(b.Members, m)
	return m, b.enter(ctx, m, token)
}

// enter joins by any member that runs, and starts.
func (b *Boundary) enter(ctx context.Context, m *Member, token string) error {
	for _, via := range b.Members {
		if via == m || !via.Running() {
			continue
		}
		if _, err := b.run(ctx, strings.NewReader(token), "boundary", "join", "--config", m.Config, "--token", "-", via.cluster); err != nil {
			return err
		}
		return m.Start()
	}
	return errors.New("no member is running to join by")
}

func (b *Boundary) initCommand(first *Member) []string {
	args := []string{"boundary", "init", "--config", first.Config, "--name", "dev"}
	if len(b.Members) < 3 {
		args = append(args, "--set", fmt.Sprintf("min-voters=%d", len(b.Members)), "--set", "reject-message-on-shadow-failure=false")
	}
	for name, value := range b.Params {
		args = append(args, "--set", name+"="+value)
	}
	return args
}

func (b *Boundary) configure(ctx context.Context) error {
	if out, err := b.CLI(ctx, "database", "list", "-o", "id"); err != nil || out != "" {
		return err // made by an earlier run
	}
	for _, c := range [][]string{
		{"database", "add", "DB1", "--copy", "a=maildir:" + filepath.Join(b.Dir, "mail", "DB1", "a")},
		{"directory", "domain", "add", b.Domain, "--any-mailbox", "--database", "DB1"},
	} {
		if _, err := b.CLI(ctx, c...); err != nil {
			return err
		}
	}
	return nil
}

// CLI runs a command against the first member that is running, and returns
// what it printed.
func (b *Boundary) CLI(ctx context.Context, args ...string) (string, error) {
	for _, m := range b.Members {
		if m.Running() {
			return b.run(ctx, nil, append([]string{"--socket", m.Socket}, args...)...)
		}
	}
	return "", errors.New("no member is running")
}

// Ask runs a command against one member, and returns what it printed.
func (b *Boundary) Ask(ctx context.Context, m *Member, args ...string) (string, error) {
	return b.run(ctx, nil, append([]string{"--socket", m.Socket}, args...)...)
}

func (b *Boundary) run(ctx context.Context, stdin *strings.Reader, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, b.Exe, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if stdin != nil {
		cmd.Stdin = stdin
	}
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("mailraft %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

// Status asks a member how it and the boundary are.
func (b *Boundary) Status(ctx context.Context, m *Member) (admin.Status, error) {
	var s admin.Status
	c := admin.NewClient(m.Socket)
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	err := c.Get(ctx, "/v1/status", nil, &s)
	return s, err
}

// Leader is the running member that leads, by its own word.
func (b *Boundary) Leader(ctx context.Context) (*Member, error) {
	for _, m := range b.Members {
		if !m.Running() {
			continue
		}
		if s, err := b.Status(ctx, m); err == nil && s.Member.Role == "leader" {
			return m, nil
		}
	}
	return nil, errors.New("no member leads")
}

// Ready waits until every running member says that it takes mail.
func (b *Boundary) Ready(ctx context.Context) error {
	for _, m := range b.Members {
		if !m.Running() {
			continue
		}
		if err := b.until(ctx, m.Name+" is ready", func() error { return m.Ready(ctx) }); err != nil {
			return err
		}
	}
	return nil
}

// until tries f until it succeeds; the error says what was waited for.
func (b *Boundary) until(ctx context.Context, what string, f func() error) error {
	for {
		err := f()
		if err == nil {
			return nil
		}
		for _, m := range b.Members {
			if m.cmd != nil && !m.Running() {
				return fmt.Errorf("wait until %s: member %s has ended; see %s", what, m.Name, m.logFile())
			}
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w (last: %w)", what, ctx.Err(), err)
		}
	}
}

// Stop ends the front end and all members in order, and waits for them.
func (b *Boundary) Stop() {
	if b.FrontEnd != nil {
		b.FrontEnd.Stop()
	}
	for _, m := range b.Members {
		m.Stop()
	}
}

// Start runs the member's process; one that runs is left alone.
func (m *Member) Start() error {
	return m.start(m.Name, m.logFile(), append(slices.Clone(m.wrap), m.exe, "serve", "--config", m.Config)...)
}

// Ready is nil if the member says that it takes mail.
func (m *Member) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.HTTP+"/readyz?verbose", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	_, _ = text.ReadFrom(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(text.String()))
	}
	return nil
}

// LastWords is the last line of its log.
func (m *Member) LastWords() string {
	text, err := os.ReadFile(m.logFile())
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

// wipe removes everything that the process has in the directory.
func (m *Member) wipe() error {
	for _, name := range []string{"identity", "state", "content", "raft", "snapshots", "LOCK"} {
		if err := os.RemoveAll(filepath.Join(m.Dir, name)); err != nil {
			return fmt.Errorf("wipe %s: %w", m.Name, err)
		}
	}
	return nil
}

func (m *Member) logFile() string { return filepath.Join(m.Dir, "mailraft.log") }

// freePort finds a port that nobody takes while the member is restarted. A
// member with an address of its own has it to itself, and fixed ports.
func (m *Member) freePort(fixed int) (string, error) {
	if m.host != "" {
		return fmt.Sprintf("%s:%d", m.host, fixed), nil
	}
	return fixedport.Addr()
}
