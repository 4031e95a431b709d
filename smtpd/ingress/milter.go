package ingress

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mailraft/mail"
	"mailraft/smtpd"
	"mailraft/smtpd/milter"

	"github.com/hashicorp/go-hclog"
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
func (c *Config) completeMilters() error {
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

// Filters makes the filters, in the order of the file.
func (c *Config) Filters(log hclog.Logger) (list []*milter.Filter, err error) {
	for _, m := range c.Milters {
		cfg := m.cfg
		cfg.Logger = log
		f, err := milter.New(cfg)
		if err != nil {
			return nil, fmt.Errorf("smtp.milter %s: %w", m.Name, err)
		}
		list = append(list, f)
	}
	return list, nil
}

// filters are the milters of a listener, in the order that it names.
func (l *Listener) filters(all []*milter.Filter) (list []*milter.Filter) {
	for _, name := range l.Milters {
		for _, f := range all {
			if f.Name() == name {
				list = append(list, f)
			}
		}
	}
	return list
}

// FiltersFor are the milters of the first listener with a role, else all: for
// what front ends take in that role.
func (c *Config) FiltersFor(r smtpd.Role, all []*milter.Filter) []*milter.Filter {
	for _, l := range c.listeners {
		if l.role == r {
			return l.filters(all)
		}
	}
	return all
}
