package frontend

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"mailraft/smtpd/ingress"

	"github.com/BurntSushi/toml"
)

// Config is a front end's own file.
type Config struct {
	Name     string `toml:"name"`     // a word; boundaries know it by that
	Site     string `toml:"site"`     // members of the same site are preferred; may be empty
	Hostname string `toml:"hostname"` // its name in mail; default: the host's
	Dir      string `toml:"dir"`      // for certificates, absolute
	Socket   string `toml:"socket"`   // of the command line; default DIR/frontend.sock
	LogLevel string `toml:"log-level"`
	LogJSON  bool   `toml:"log-json"`

	SMTP       ingress.Config   `toml:"smtp"`
	Boundaries []BoundaryConfig `toml:"boundary"` // none: one, whose certificate is in DIR
	HTTP       struct {
		Listen string `toml:"listen"`
		Pprof  bool   `toml:"pprof"`
	} `toml:"http"`
}

// BoundaryConfig is a boundary that mail is handed over to.
type BoundaryConfig struct {
	Name    string   `toml:"name"`    // for people, in this file
	Dir     string   `toml:"dir"`     // of the certificate; default: DIR/NAME
	Members []string `toml:"members"` // cluster addresses to begin with; default: those known from before
	Only    bool     `toml:"only"`    // no other members are used
}

// Load reads and checks a file. Errors name the line or the key.
func Load(path string) (Config, error) {
	var c Config
	meta, err := toml.DecodeFile(path, &c)
	if pe := (toml.ParseError{}); errors.As(err, &pe) {
		return c, fmt.Errorf("%s:%d: %s", path, pe.Position.Line, pe.Message)
	}
	if err != nil {
		return c, fmt.Errorf("read configuration: %w", err)
	}
	if un := meta.Undecoded(); len(un) > 0 {
		return c, fmt.Errorf("%s: unknown key %q", path, un[0])
	}
	if err := c.complete(); err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

func setDefault(s *string, d string) {
	if *s == "" {
		*s = d
	}
}

// complete fills in defaults, and names the first key that cannot stand.
func (c *Config) complete() error {
	if !word(c.Name) {
		return fmt.Errorf("name: %q: want a word", c.Name)
	}
	if !filepath.IsAbs(c.Dir) {
		return fmt.Errorf("dir: %q is not an absolute path", c.Dir)
	}
	if c.Hostname == "" {
		h, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("hostname: not set, and the host does not say: %w", err)
		}
		c.Hostname = h
	}
	setDefault(&c.Socket, filepath.Join(c.Dir, "frontend.sock"))
	setDefault(&c.LogLevel, "info")
	setDefault(&c.HTTP.Listen, "127.0.0.1:8126")
	if _, _, err := net.SplitHostPort(c.HTTP.Listen); err != nil {
		return fmt.Errorf("http.listen: %q: want host:port", c.HTTP.Listen)
	}
	if err := c.SMTP.Complete(); err != nil {
		return fmt.Errorf("smtp.%w", err)
	}
	if len(c.SMTP.Milters) > 0 {
		return errors.New("smtp.milter: filters are asked by the members; put them into their files")
	}
	return c.completeBoundaries()
}

func (c *Config) completeBoundaries() error {
	if len(c.Boundaries) == 0 {
		c.Boundaries = []BoundaryConfig{{Name: "default", Dir: c.Dir}}
	}
	seen := map[string]bool{}
	for i := range c.Boundaries {
		b := &c.Boundaries[i]
		if !word(b.Name) || seen[b.Name] {
			return fmt.Errorf("boundary.name: %q: want a word that no other one has", b.Name)
		}
		setDefault(&b.Dir, filepath.Join(c.Dir, b.Name))
		if !filepath.IsAbs(b.Dir) || seen[b.Dir] {
			return fmt.Errorf("boundary.dir: %q: want an absolute path that no other one has", b.Dir)
		}
		seen[b.Name], seen[b.Dir] = true, true
		for _, addr := range b.Members {
			if host, _, err := net.SplitHostPort(addr); err != nil || host == "" {
				return fmt.Errorf("boundary.members: %q: want the host:port of a member's cluster port", addr)
			}
		}
		if b.Only && len(b.Members) == 0 {
			return fmt.Errorf("boundary.only: %s names no members", b.Name)
		}
	}
	return nil
}

func word(s string) bool { return s != "" && !strings.ContainsAny(s, " /\\\"@\r\n\t") }

// boundary finds one by name; empty: the only one.
func (c *Config) boundary(name string) (BoundaryConfig, error) {
	for _, b := range c.Boundaries {
		if b.Name == name || name == "" && len(c.Boundaries) == 1 {
			return b, nil
		}
	}
	if name == "" {
		return BoundaryConfig{}, errors.New("there are several boundaries: say which, with --boundary NAME")
	}
	return BoundaryConfig{}, fmt.Errorf("the configuration has no boundary %q", name)
}
