package loopback

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"mailraft/member"
)

// layout fills in the members: from their configuration files if they are
// there, else with new files on free ports. fresh: not every one of
// them belongs to the boundary yet.
func (b *Boundary) layout() (fresh bool, err error) {
	for i := range b.Options.Members {
		m, empty, err := b.lay(i)
		if err != nil {
			return false, err
		}
		fresh = fresh || empty
		b.Members = append(b.Members, m)
	}
	extra := filepath.Join(b.Dir, fmt.Sprintf("m%d", b.Options.Members+1))
	if _, err := os.Stat(extra); err == nil {
		return false, fmt.Errorf("%s has a boundary with more members than %d", b.Dir, b.Options.Members)
	}
	return fresh, nil
}

// lay fills in one member; empty: it belongs to no boundary yet.
func (b *Boundary) lay(i int) (m *Member, empty bool, err error) {
	name := fmt.Sprintf("m%d", i+1)
	m = &Member{Name: name, exe: b.Exe, Dir: filepath.Join(b.Dir, name)}
	if b.Host != nil {
		m.host = b.Host(i)
	}
	if b.Wrap != nil {
		m.wrap = b.Wrap(i)
	}
	m.Config = filepath.Join(m.Dir, "mailraft.toml")
	m.Socket = socketPath(m.Dir)
	smtp := fmt.Sprintf("127.0.0.1:%d", b.SMTPPort+i)
	if b.SMTPPort == 0 {
		smtp = ""
	}
	old, err := member.Load(m.Config)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, false, err
	}
	empty = !m.hasIdentity()
	edit := func(text string) string { return text }
	if b.Edit != nil {
		edit = func(text string) string { return b.Edit(i, text) }
	}
	return m, empty, m.configure(b.Options, smtp, old, edit)
}

// socketPath stays below the 108 bytes that a Unix socket's name may have.
func socketPath(dir string) string {
	p := filepath.Join(dir, "mailraft.sock")
	if len(p) <= 100 {
		return p
	}
	sum := sha256.Sum256([]byte(dir))
	return filepath.Join(os.TempDir(), fmt.Sprintf("mailraft-%x.sock", sum[:8]))
}

// configure writes the member's file. Ports of an old one stay, but for SMTP,
// which is where the caller wants it.
func (m *Member) configure(o Options, smtp string, old member.Config, edit func(string) string) error {
	if err := os.MkdirAll(m.Dir, 0o700); err != nil {
		return fmt.Errorf("make %s: %w", m.Dir, err)
	}
	clusterAddr := old.Cluster.Listen
	m.SMTP, m.HTTP = smtp, old.HTTP.Listen
	if smtp == "" {
		m.SMTP = old.SMTP.Listen
	}
	for i, a := range []*string{&m.SMTP, &m.HTTP, &clusterAddr} {
		if *a != "" {
			continue
		}
		free, err := m.freePort(2525 + i)
		if err != nil {
			return err
		}
		*a = free
	}
	var t strings.Builder
	fmt.Fprintf(&t, "name = %q\nhostname = %q\ndir = %q\nsocket = %q\nlog-json = true\n", m.Name, m.Name+"."+o.Domain, m.Dir, m.Socket)
	fmt.Fprintf(&t, "\n[smtp]\nlisten = %q\ndefault-domain = %q\n", m.SMTP, o.Domain)
	// All clients are on this machine, and some are many at once.
	fmt.Fprint(&t, "\n[smtp.limits]\nexempt-networks = [\"127.0.0.0/8\", \"10.77.0.0/16\"]\n")
	fmt.Fprintf(&t, "\n[cluster]\nlisten = %q\n\n[http]\nlisten = %q\npprof = %t\n\n[disk]\nspace-min = \"256MiB\"\n", clusterAddr, m.HTTP, o.Pprof)
	if err := os.WriteFile(m.Config, []byte(edit(t.String())), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", m.Config, err)
	}
	m.cluster = clusterAddr
	return nil
}

func (m *Member) hasIdentity() bool {
	_, err := os.Stat(filepath.Join(m.Dir, "identity", "member.json"))
	return err == nil
}
