// Package ingress is the ports on which mail is taken, by a member or a front
// end alike: what a configuration file says of them, and opening them with the
// certificates that they show and the users that they know.
//
// It knows files and listeners. What is said on a connection is package
// smtpd's.
package ingress

// Config is the table of ports: "smtp" in a configuration file.
type Config struct {
	// Listen is one listener with the role mx, in short. Default: loopback, if
	// Listeners is empty.
	Listen        string     `toml:"listen"`
	Listeners     []Listener `toml:"listener"`
	Milters       []Milter   `toml:"milter"`
	DefaultDomain string     `toml:"default-domain"` // of a bare <postmaster>
	TLSCert       string     `toml:"tls-cert"`       // with tls-key: the certificate of listeners that have none of their own
	TLSKey        string     `toml:"tls-key"`
	Auth          Auth       `toml:"auth"` // who may authenticate, where a listener asks for it
	Limits        Limits     `toml:"limits"`
	listeners     []Listener // all of them, complete
}
