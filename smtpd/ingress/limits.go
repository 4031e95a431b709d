package ingress

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"

	"mailraft/mail"
	"mailraft/smtpd"
	"mailraft/smtpd/limit"
)

// Limits are [smtp.limits]. Numbers: 0 is the default, -1 no limit. Rates:
// "600/1m", or "none".
type Limits struct {
	SessionsMax   int `toml:"sessions-max"`   // open at once; default 4096
	CommandsMax   int `toml:"commands-max"`   // without progress to a message; default 100
	ErrorsMax     int `toml:"errors-max"`     // refused since the last accepted message; default 50
	RecipientsMax int `toml:"recipients-max"` // of a message; default and most 1000
	HopsMax       int `toml:"hops-max"`       // Received fields; default 50
	OwnHopsMax    int `toml:"own-hops-max"`   // of those, by members of this boundary; default 5

	// Of one client: an IPv4 address or an IPv6 /64.
	SessionsPerClient  int    `toml:"sessions-per-client"`  // open at once; default 100
	MessagesPerSession int    `toml:"messages-per-session"` // default 1000
	ConnectionRate     string `toml:"connection-rate"`      // default 600/1m
	MessageRate        string `toml:"message-rate"`         // default 3000/1m
	RecipientRate      string `toml:"recipient-rate"`       // default 30000/1m

	ExemptNetworks []string `toml:"exempt-networks"` // free of those, and of greet-delay

	GreetDelay   string `toml:"greet-delay"`   // default 0s
	EarlyTalkers string `toml:"early-talkers"` // refuse or allow; default refuse

	CommandTime     string `toml:"command-time"`     // until the next command; default 5m
	BlockTime       string `toml:"block-time"`       // until the next piece of a message; default 3m
	TransactionTime string `toml:"transaction-time"` // from MAIL to the end of the message; default 1h
	HandshakeTime   string `toml:"handshake-time"`   // of TLS; default 30s
	ProxyTime       string `toml:"proxy-time"`       // the header of a proxy; default 5s
	RateMin         int64  `toml:"rate-min"`         // bytes a second of a message, on average; default 100

	limits smtpd.Limits
}

// Bounds are what a server holds its clients to.
func (l *Limits) Bounds() smtpd.Limits { return l.limits }

// recipientsMost is how many a message of the boundary can have.
const recipientsMost = 1000

// complete fills in defaults, and names the first key that cannot stand.
func (l *Limits) complete() error {
	out := smtpd.Limits{Sessions: cmp.Or(l.SessionsMax, 4096), Commands: cmp.Or(l.CommandsMax, 100), Errors: cmp.Or(l.ErrorsMax, 50),
		Recipients: cmp.Or(l.RecipientsMax, recipientsMost), Hops: cmp.Or(l.HopsMax, 50), OwnHops: cmp.Or(l.OwnHopsMax, 5), SessionsPerClient: cmp.Or(l.SessionsPerClient, 100),
		Messages: cmp.Or(l.MessagesPerSession, 1000), RateMin: cmp.Or(l.RateMin, 100)}
	switch {
	case out.Sessions < 1 || out.Hops < 1 || out.OwnHops < 1:
		return fmt.Errorf("sessions-max, hops-max, own-hops-max: %d, %d, %d: want more than 0", out.Sessions, out.Hops, out.OwnHops)
	case out.Recipients < 1 || out.Recipients > recipientsMost:
		return fmt.Errorf("recipients-max: %d: want 1 to %d", out.Recipients, recipientsMost)
	}
	setDefault(&l.EarlyTalkers, "refuse")
	if l.EarlyTalkers != "refuse" && l.EarlyTalkers != "allow" {
		return fmt.Errorf("early-talkers: %q is neither refuse nor allow", l.EarlyTalkers)
	}
	out.EarlyTalkers = l.EarlyTalkers == "allow"
	for _, text := range l.ExemptNetworks {
		p, err := readPrefix(text)
		if err != nil {
			return fmt.Errorf("exempt-networks: %w", err)
		}
		out.Exempt = append(out.Exempt, p)
	}
	if err := l.rates(&out); err != nil {
		return err
	}
	l.limits = out
	return l.times(&l.limits)
}

func (l *Limits) rates(out *smtpd.Limits) error {
	for _, q := range []struct {
		key, standard string
		text          *string
		rate          *limit.Rate
	}{
		{"connection-rate", "600/1m", &l.ConnectionRate, &out.ConnectionRate},
		{"message-rate", "3000/1m", &l.MessageRate, &out.MessageRate},
		{"recipient-rate", "30000/1m", &l.RecipientRate, &out.RecipientRate},
	} {
		setDefault(q.text, q.standard)
		r, err := limit.ParseRate(*q.text)
		if err != nil {
			return fmt.Errorf("%s: %w", q.key, err)
		}
		*q.rate = r
	}
	return nil
}

func (l *Limits) times(out *smtpd.Limits) error {
	t := &out.Times
	for _, q := range []struct {
		key, standard string
		text          *string
		d             *time.Duration
		least, most   time.Duration
	}{
		{"greet-delay", "0s", &l.GreetDelay, &out.GreetDelay, 0, time.Minute},
		{"command-time", "5m", &l.CommandTime, &t.Command, time.Second, time.Hour},
		{"block-time", "3m", &l.BlockTime, &t.Block, time.Second, time.Hour},
		{"transaction-time", "1h", &l.TransactionTime, &t.Message, time.Second, 24 * time.Hour},
		{"handshake-time", "30s", &l.HandshakeTime, &t.Handshake, time.Second, 5 * time.Minute},
		{"proxy-time", "5s", &l.ProxyTime, &t.Proxy, 100 * time.Millisecond, time.Minute},
	} {
		setDefault(q.text, q.standard)
		d, err := mail.ParseDuration(*q.text)
		if err != nil {
			return fmt.Errorf("%s: %w", q.key, err)
		}
		if d < q.least || d > q.most {
			return fmt.Errorf("%s: %s: want %s to %s", q.key, *q.text, mail.FormatDuration(q.least), mail.FormatDuration(q.most))
		}
		*q.d = d
	}
	return nil
}

// proxies reads proxy-from of a listener.
func (l *Listener) proxies() error {
	for _, text := range l.ProxyFrom {
		p, err := readPrefix(text)
		if err == nil && p.Bits() == 0 {
			err = fmt.Errorf("%q is everybody: anybody could say who he is", text)
		}
		if err != nil {
			return fmt.Errorf("proxy-from: %w", err)
		}
		l.proxyFrom = append(l.proxyFrom, p)
	}
	return nil
}

// readPrefix reads an address or a network.
func readPrefix(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if a, bad := netip.ParseAddr(text); bad == nil {
		p, err = a.Prefix(a.BitLen())
	}
	switch {
	case err != nil || p.Addr().Zone() != "" || p.Addr().Is4In6():
		return p, fmt.Errorf("%q is no network such as 192.0.2.0/24 or 2001:db8::/64", text)
	case p != p.Masked():
		return p, fmt.Errorf("%q has bits behind its prefix; %s is meant?", text, p.Masked())
	}
	return p, nil
}
