package member

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"mailraft/mail"

	"github.com/BurntSushi/toml"
)

// Config is a member's own file: what need not agree between members. What
// must agree is replicated; see "mailraft config show".
type Config struct {
	Name     string `toml:"name"`     // of the member; a word
	Site     string `toml:"site"`     // data centre, rack; may be empty
	Hostname string `toml:"hostname"` // its name in mail; default: the host's
	Dir      string `toml:"dir"`      // data directory, absolute
	Socket   string `toml:"socket"`   // of the command line; default DIR/mailraft.sock
	LogLevel string `toml:"log-level"`
	LogJSON  bool   `toml:"log-json"`

	SMTP    SMTP    `toml:"smtp"`
	Cluster Cluster `toml:"cluster"`
	HTTP    HTTP    `toml:"http"`
	Disk    Disk    `toml:"disk"`
}

// SMTP is the ingress.
type SMTP struct {
	Listen               string `toml:"listen"`
	DefaultDomain        string `toml:"default-domain"` // of a bare <postmaster>
	TLSCert              string `toml:"tls-cert"`       // with tls-key: STARTTLS is offered
	TLSKey               string `toml:"tls-key"`
	ConnectionsMax       int    `toml:"connections-max"`
	ConnectionsPerClient int    `toml:"connections-per-client"`
}

// Cluster is the one port between members.
type Cluster struct {
	Listen    string `toml:"listen"`
	Advertise string `toml:"advertise"` // what the others dial; default: listen
}

// HTTP is the listener of health, metrics and the status page.
type HTTP struct {
	Listen string `toml:"listen"`
}

// Disk is the floor below which no new mail is taken.
type Disk struct {
	SpaceMin string `toml:"space-min"` // default 1GiB
	spaceMin int64
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
		return c, fmt.Errorf("%s:%d: unknown key %q", path, lineOf(path, un[0]), un[0])
	}
	if err := c.complete(); err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// lineOf finds the line of a key that nobody knows; 0 if it is not plain.
func lineOf(path string, k toml.Key) int {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	table := ""
	for i, line := range strings.Split(string(b), "\n") {
		line = strings.TrimSpace(line)
		if t, ok := strings.CutPrefix(line, "["); ok {
			table = strings.Trim(strings.TrimSpace(t), "[]") + "."
			if table == k.String()+"." {
				return i + 1
			}
		}
		name, _, _ := strings.Cut(line, "=")
		if table+strings.TrimSpace(name) == k.String() || strings.TrimSpace(name) == k.String() && table == "" {
			return i + 1
		}
	}
	return 0
}

// complete fills in defaults, and names the first key that cannot stand.
func (c *Config) complete() error {
	if c.Name == "" || strings.ContainsAny(c.Name, " /\\\"@\r\n\t") {
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
	setDefault(&c.Socket, filepath.Join(c.Dir, "mailraft.sock"))
	setDefault(&c.LogLevel, "info")
	setDefault(&c.SMTP.Listen, "127.0.0.1:2525")
	setDefault(&c.HTTP.Listen, "127.0.0.1:8125")
	setDefault(&c.Disk.SpaceMin, "1GiB")
	for _, a := range []struct{ key, addr string }{
		{"smtp.listen", c.SMTP.Listen}, {"http.listen", c.HTTP.Listen}, {"cluster.listen", c.Cluster.Listen},
	} {
		if _, _, err := net.SplitHostPort(a.addr); err != nil {
			return fmt.Errorf("%s: %q: want host:port", a.key, a.addr)
		}
	}
	setDefault(&c.Cluster.Advertise, c.Cluster.Listen)
	if host, port, err := net.SplitHostPort(c.Cluster.Advertise); err != nil || host == "" || port == "0" || net.ParseIP(host).IsUnspecified() {
		return fmt.Errorf("cluster.advertise: %q: want an address that the other members can dial", c.Cluster.Advertise)
	}
	if (c.SMTP.TLSCert == "") != (c.SMTP.TLSKey == "") {
		return errors.New("smtp.tls-cert and smtp.tls-key: one without the other")
	}
	n, err := mail.ParseSize(c.Disk.SpaceMin)
	if err != nil {
		return fmt.Errorf("disk.space-min: %w", err)
	}
	c.Disk.spaceMin = n
	return nil
}

func setDefault(s *string, d string) {
	if *s == "" {
		*s = d
	}
}
