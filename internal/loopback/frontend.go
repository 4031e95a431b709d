package loopback

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mailraft/admin"
	"mailraft/internal/fixedport"
	"mailraft/smtpd/frontend"
)

// FrontEnd is the process of a front end.
type FrontEnd struct {
	SMTP   string
	HTTP   string
	Socket string
	Config string
	Dir    string

	exe string
	process
}

// startFrontEnd makes the front end, or goes on with the one that is there, and
// returns when it takes mail.
func (b *Boundary) startFrontEnd(ctx context.Context) error {
	smtp := ""
	if b.SMTPPort != 0 {
		smtp = fmt.Sprintf("127.0.0.1:%d", b.SMTPPort+b.Options.Members)
	}
	f, err := NewFrontEnd(b.Exe, filepath.Join(b.Dir, "frontend"), smtp, b.Domain, "")
	if err != nil {
		return err
	}
	b.FrontEnd = f
	if err := b.Admit(ctx, f, ""); err != nil {
		return err
	}
	if err := f.Start(); err != nil {
		return err
	}
	return b.until(ctx, "the front end is ready", func() error { return f.Ready(ctx, len(b.Members)) })
}

// NewFrontEnd lays a front end out in a directory; extra is added to its
// configuration file. Without an address it gets a free one.
func NewFrontEnd(exe, dir, smtp, domain, extra string) (*FrontEnd, error) {
	f := &FrontEnd{SMTP: smtp, Dir: dir, Config: filepath.Join(dir, "frontend.toml"), Socket: socketPath(dir), exe: exe}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make %s: %w", dir, err)
	}
	if old, err := frontend.Load(f.Config); err == nil {
		f.HTTP = old.HTTP.Listen
		if f.SMTP == "" {
			f.SMTP = old.SMTP.Listen
		}
	}
	for _, a := range []*string{&f.SMTP, &f.HTTP} {
		if *a != "" {
			continue
		}
		free, err := fixedport.Addr()
		if err != nil {
			return nil, err
		}
		*a = free
	}
	var t strings.Builder
	fmt.Fprintf(&t, "name = \"fe1\"\nhostname = %q\ndir = %q\nsocket = %q\nlog-json = true\n", "fe1."+domain, dir, f.Socket)
	fmt.Fprintf(&t, "\n[smtp]\nlisten = %q\ndefault-domain = %q\n\n[smtp.limits]\nsessions-max = 20000\nexempt-networks = [\"127.0.0.0/8\"]\n\n[http]\nlisten = %q\n%s", f.SMTP, domain, f.HTTP, extra)
	if err := os.WriteFile(f.Config, []byte(t.String()), 0o600); err != nil {
		return nil, fmt.Errorf("write %s: %w", f.Config, err)
	}
	return f, nil
}

// Admit lets a front end into the boundary, which is the one of that name in
// its configuration; one that is let in already stays.
func (b *Boundary) Admit(ctx context.Context, f *FrontEnd, name string) error {
	if _, err := os.Stat(filepath.Join(f.Dir, name, "frontend.json")); err == nil {
		return nil
	}
	token, err := b.CLI(ctx, "boundary", "token", "--role", "frontend", "-o", "id")
	if err != nil {
		return err
	}
	for _, m := range b.Members {
		if !m.Running() {
			continue
		}
		_, err := b.run(ctx, strings.NewReader(token), "frontend", "join", "--config", f.Config, "--boundary", name, "--token", "-", m.cluster)
		return err
	}
	return errors.New("no member is running to join by")
}

// Start runs the front end's process; one that runs is left alone.
func (f *FrontEnd) Start() error {
	return f.start("front end", filepath.Join(f.Dir, "frontend.log"), f.exe, "frontend", "--config", f.Config)
}

// Status asks the front end how it is.
func (f *FrontEnd) Status(ctx context.Context) (frontend.Status, error) {
	var s frontend.Status
	c := admin.NewClient(f.Socket)
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	err := c.Get(ctx, "/v1/frontend", nil, &s)
	return s, err
}

// Ready is nil if the front end takes mail and has found so many members that
// take it.
func (f *FrontEnd) Ready(ctx context.Context, members int) error {
	s, err := f.Status(ctx)
	if err != nil {
		return err
	}
	ready := 0
	for _, b := range s.Boundaries {
		for _, m := range b.Members {
			if m.Ready {
				ready++
			}
		}
	}
	if ready < members {
		return fmt.Errorf("%d of %d members are ready", ready, members)
	}
	if s.State != "ready" {
		return errors.New(s.Reason)
	}
	return nil
}
