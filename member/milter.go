package member

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mailraft/admin"
	"mailraft/mail"
	"mailraft/smtpd/milter"
)

// Milter is a mail filter that is asked before mail is accepted. What is left
// zero is as package milter has it.
type Milter struct {
	Name           string `toml:"name"`
	Address        string `toml:"address"` // inet:HOST:PORT or unix:/PATH
	ConnectTimeout string `toml:"connect-timeout"`
	CommandTimeout string `toml:"command-timeout"`
	ContentTimeout string `toml:"content-timeout"`
	WhenAway       string `toml:"when-away"` // tempfail, accept, quarantine
	SizeMax        string `toml:"size-max"`  // larger messages are not shown to it; default: all are
	ConnectionsMax int    `toml:"connections-max"`

	cfg milter.Config
}

// completeMilters reads the milters, and whom the listeners ask.
func (c *SMTP) completeMilters() error {
	var names []string
	for i := range c.Milters {
		m := &c.Milters[i]
		if err := m.complete(); err != nil {
			return fmt.Errorf("milter: %q: %w", m.Name, err)
		}
		if slices.Contains(names, m.Name) {
			return fmt.Errorf("milter: %q: there are two of that name", m.Name)
		}
		names = append(names, m.Name)
	}
	for i := range c.listeners {
		l := &c.listeners[i]
		if l.Milters == nil {
			l.Milters = names
		}
		for _, name := range l.Milters {
			if !slices.Contains(names, name) {
				return fmt.Errorf("listener: %q: milters: there is no [[smtp.milter]] with the name %q", l.Listen, name)
			}
		}
	}
	return nil
}

func (m *Milter) complete() error {
	if m.Name == "" || strings.ContainsAny(m.Name, " \t\r\n\"") {
		return errors.New("name: want a word")
	}
	m.cfg = milter.Config{Name: m.Name, Address: m.Address, OpenMax: m.ConnectionsMax}
	if err := m.cfg.WhenAway.UnmarshalText([]byte(cmp.Or(m.WhenAway, "tempfail"))); err != nil {
		return fmt.Errorf("when-away: %w", err)
	}
	for _, q := range []struct {
		key, text string
		d         *time.Duration
	}{{"connect-timeout", m.ConnectTimeout, &m.cfg.Connect}, {"command-timeout", m.CommandTimeout, &m.cfg.Command}, {"content-timeout", m.ContentTimeout, &m.cfg.Content}} {
		if q.text == "" {
			continue
		}
		d, err := mail.ParseDuration(q.text)
		if err == nil && (d < 100*time.Millisecond || d > 10*time.Minute) { // a client waits ten minutes at most
			err = errors.New("want 100ms to 10m")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", q.key, err)
		}
		*q.d = d
	}
	if m.ConnectionsMax < 0 {
		return fmt.Errorf("connections-max: %d is below 0", m.ConnectionsMax)
	}
	if m.SizeMax != "" {
		n, err := mail.ParseSize(m.SizeMax)
		if err != nil {
			return fmt.Errorf("size-max: %w", err)
		}
		m.cfg.SizeMax = n
	}
	_, err := milter.New(m.cfg)
	if err != nil {
		return fmt.Errorf("address: %w", err)
	}
	return nil
}

// openMilters makes the filters, and keeps an eye on them.
func (m *Member) openMilters() error {
	if err := m.makeMilters(); err != nil {
		return err
	}
	for _, f := range m.milters {
		m.work.Go(func() { m.probeMilter(f) })
	}
	return nil
}

func (m *Member) makeMilters() error {
	for _, c := range m.cfg.SMTP.Milters {
		cfg := c.cfg
		cfg.Logger = m.log
		f, err := milter.New(cfg)
		if err != nil {
			return fmt.Errorf("smtp.milter %s: %w", c.Name, err)
		}
		m.milters = append(m.milters, f)
	}
	return nil
}

const (
	milterProbeEvery = 5 * time.Second
	milterQuiet      = time.Minute // a milter that has answered since is not probed
)

// probeMilter asks a milter whether it is there, so that status knows before
// the first mail does, and knows that it is back before the next.
func (m *Member) probeMilter(f *milter.Filter) {
	for f.Probe(m.ctx, milterQuiet); m.pause(milterProbeEvery); {
		f.Probe(m.ctx, milterQuiet)
	}
}

// filtersOf are the milters of a listener, in the order that it names.
func (m *Member) filtersOf(l Listener) (list []*milter.Filter) {
	for _, name := range l.Milters {
		for _, f := range m.milters {
			if f.Name() == name {
				list = append(list, f)
			}
		}
	}
	return list
}

// milterViews are the milters as admin shows them.
func (m *Member) milterViews() (views []admin.Milter) {
	for _, f := range m.milters {
		s := f.State()
		v := admin.Milter{Name: s.Name, Address: s.Address, WhenAway: s.WhenAway.String(), Away: s.Away, Error: s.Error, Connections: s.Open, Verdicts: s.Verdicts}
		if s.Away {
			v.AwayFor = mail.Duration(time.Since(s.Since).Milliseconds())
		}
		views = append(views, v)
	}
	return views
}
