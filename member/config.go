package member

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mailraft/mail"
	"mailraft/smtpd/ingress"

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

	SMTP     ingress.Config `toml:"smtp"`
	Deliver  Deliver        `toml:"deliver"`
	Cluster  Cluster        `toml:"cluster"`
	HTTP     HTTP           `toml:"http"`
	Disk     Disk           `toml:"disk"`
	Pressure Pressure       `toml:"pressure"`
	Log      Log            `toml:"log"`
	Content  Content        `toml:"content"`
}

// Cluster is the one port between members.
type Cluster struct {
	Listen    string `toml:"listen"`
	Advertise string `toml:"advertise"` // what the others dial; default: listen
}

// HTTP is the listener of health, metrics and the status page.
type HTTP struct {
	Listen string `toml:"listen"`
	Pprof  bool   `toml:"pprof"` // Go's profiles below /debug/pprof/, for whoever reaches the listener
}

// Disk is how much space must stay free.
type Disk struct {
	SpaceMin    string `toml:"space-min"`    // below it no new mail is taken; default 1GiB
	SpaceMedium string `toml:"space-medium"` // below it resubmission waits; default twice space-min
	spaceMin    int64
	spaceMedium int64
}

// Pressure is where the levels of back pressure begin: at medium resubmission
// waits, at high no new mail is taken. For the disk see Disk.
type Pressure struct {
	MemoryMax    string `toml:"memory-max"`    // what this process may use; default: the limit of its control group, or the machine's memory
	MemoryMedium int    `toml:"memory-medium"` // percent of memory-max that is live heap; default 50
	MemoryHigh   int    `toml:"memory-high"`   // default 75
	QueueMedium  int64  `toml:"queue-medium"`  // active messages of the boundary; default 100,000
	QueueHigh    int64  `toml:"queue-high"`    // default 1,000,000
	memoryMax    int64
}

// Log is how much of the Raft log is kept for members that were away. Who was
// away for longer gets a snapshot of the state.
type Log struct {
	EntriesMax      uint64 `toml:"entries-max"`      // kept behind a snapshot; default 2,000,000
	SizeMax         string `toml:"size-max"`         // default 1GiB: the file is read at the start
	SnapshotEntries uint64 `toml:"snapshot-entries"` // between two; default 50,000
	SnapshotEvery   string `toml:"snapshot-every"`   // how often is looked; default 1m
	sizeMax         int64
	snapshotEvery   time.Duration
}

// Content is how fast stored content is fetched and read through in the
// background, in bytes a second.
type Content struct {
	RefillRate string `toml:"refill-rate"` // default 200MiB; what is to be delivered is not held back
	ScrubRate  string `toml:"scrub-rate"`  // default 8MiB; 0 turns it off
	ScrubEvery string `toml:"scrub-every"` // from the end of one to the next; default 1d
	refillRate int64
	scrubRate  int64
	scrubEvery time.Duration
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
	setDefault(&c.HTTP.Listen, "127.0.0.1:8125")
	for _, a := range []struct{ key, addr string }{
		{"http.listen", c.HTTP.Listen}, {"cluster.listen", c.Cluster.Listen},
	} {
		if _, _, err := net.SplitHostPort(a.addr); err != nil {
			return fmt.Errorf("%s: %q: want host:port", a.key, a.addr)
		}
	}
	setDefault(&c.Cluster.Advertise, c.Cluster.Listen)
	if host, port, err := net.SplitHostPort(c.Cluster.Advertise); err != nil || host == "" || port == "0" || net.ParseIP(host).IsUnspecified() {
		return fmt.Errorf("cluster.advertise: %q: want an address that the other members can dial", c.Cluster.Advertise)
	}
	if err := c.SMTP.Complete(); err != nil {
		return fmt.Errorf("smtp.%w", err)
	}
	if err := c.Deliver.complete(); err != nil {
		return err
	}
	return c.quantities()
}

// quantities reads the sizes and times.
func (c *Config) quantities() error {
	for _, q := range []struct {
		key, standard string
		text          *string
		n             *int64
	}{
		{"disk.space-min", "1GiB", &c.Disk.SpaceMin, &c.Disk.spaceMin},
		{"log.size-max", "1GiB", &c.Log.SizeMax, &c.Log.sizeMax},
		{"content.refill-rate", "200MiB", &c.Content.RefillRate, &c.Content.refillRate},
		{"content.scrub-rate", "8MiB", &c.Content.ScrubRate, &c.Content.scrubRate},
	} {
		setDefault(q.text, q.standard)
		n, err := mail.ParseSize(*q.text)
		if err != nil {
			return fmt.Errorf("%s: %w", q.key, err)
		}
		*q.n = n
	}
	if c.Content.refillRate < 1 || c.Log.sizeMax < 1 {
		return errors.New("content.refill-rate and log.size-max: want more than 0")
	}
	if err := c.levels(); err != nil {
		return err
	}
	for _, q := range []struct {
		key, standard string
		text          *string
		d             *time.Duration
	}{
		{"log.snapshot-every", "1m", &c.Log.SnapshotEvery, &c.Log.snapshotEvery},
		{"content.scrub-every", "1d", &c.Content.ScrubEvery, &c.Content.scrubEvery},
	} {
		setDefault(q.text, q.standard)
		d, err := mail.ParseDuration(*q.text)
		if err != nil {
			return fmt.Errorf("%s: %w", q.key, err)
		}
		if d < 5*time.Millisecond { // the least that Raft takes
			return fmt.Errorf("%s: %s is too short", q.key, *q.text)
		}
		*q.d = d
	}
	return nil
}

// levels reads where back pressure begins.
func (c *Config) levels() error {
	p := &c.Pressure
	setDefault(&c.Disk.SpaceMedium, mail.FormatSize(2*c.Disk.spaceMin))
	setDefault(&p.MemoryMax, mail.FormatSize(memoryMax()))
	for _, q := range []struct {
		key, text string
		n         *int64
	}{{"disk.space-medium", c.Disk.SpaceMedium, &c.Disk.spaceMedium}, {"pressure.memory-max", p.MemoryMax, &p.memoryMax}} {
		n, err := mail.ParseSize(q.text)
		if err != nil {
			return fmt.Errorf("%s: %w", q.key, err)
		}
		*q.n = n
	}
	p.MemoryMedium, p.MemoryHigh = cmp.Or(p.MemoryMedium, 50), cmp.Or(p.MemoryHigh, 75)
	p.QueueMedium, p.QueueHigh = cmp.Or(p.QueueMedium, 100_000), cmp.Or(p.QueueHigh, 1_000_000)
	switch {
	case c.Disk.spaceMedium < c.Disk.spaceMin:
		return fmt.Errorf("disk.space-medium: %s is below space-min, %s", c.Disk.SpaceMedium, c.Disk.SpaceMin)
	case p.MemoryMedium < 1 || p.MemoryHigh < p.MemoryMedium || p.MemoryHigh > 100:
		return fmt.Errorf("pressure.memory-medium and memory-high: %d and %d: want percentages, the second not below the first", p.MemoryMedium, p.MemoryHigh)
	case p.QueueMedium < 1 || p.QueueHigh < p.QueueMedium:
		return fmt.Errorf("pressure.queue-medium and queue-high: %d and %d: want more than 0, the second not below the first", p.QueueMedium, p.QueueHigh)
	}
	return nil
}

// MemoryMax is what this process may use, in bytes; 0: not known, or no limit.
func (c *Config) MemoryMax() int64 { return c.Pressure.memoryMax }

func setDefault(s *string, d string) {
	if *s == "" {
		*s = d
	}
}
