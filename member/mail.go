package member

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"mailraft/deliver"
	"mailraft/deliver/maildir"
	"mailraft/deliver/remote"
	"mailraft/fsm"
	"mailraft/mail"
	"mailraft/smtpd"
)

// openMail starts delivery and opens SMTP. Clients are told 421 until the
// member may take mail.
func (m *Member) openMail() error {
	out := &remote.Transport{Host: m.cfg.Hostname}
	transports := map[string]deliver.Transport{
		maildir.Scheme: &maildir.Transport{Host: m.cfg.Hostname, Retain: m.retain, Now: m.now, Create: m.newCopy},
	}
	for _, scheme := range remote.Schemes {
		transports[scheme] = out
	}
	m.onClose(out.Close)
	m.Deliver(transports, m.node.Lease())

	cert := newCertificate(m.cfg.SMTP.TLSCert, m.cfg.SMTP.TLSKey)
	if cert.certFile != "" && cert.config() == nil {
		return fmt.Errorf("smtp.tls-cert %s and smtp.tls-key %s cannot be read as a certificate and its key", cert.certFile, cert.keyFile)
	}
	m.smtp = smtpd.New(smtpd.Config{Hostname: m.cfg.Hostname, DefaultDomain: m.cfg.SMTP.DefaultDomain, Queue: m, Directory: m, Gate: m,
		TLS: cert.config, SizeMax: func() int64 { return m.params.get().MessageSizeMax },
		ConnectionsMax: m.cfg.SMTP.ConnectionsMax, ConnectionsPerClient: m.cfg.SMTP.ConnectionsPerClient, Logger: m.log.Named("smtp")})
	m.onClose(func() { m.closed("SMTP", m.smtp.Close()) })
	l, err := net.Listen("tcp", m.cfg.SMTP.Listen)
	if err != nil {
		return fmt.Errorf("open SMTP port: %w", err)
	}
	m.smtpAddr = l.Addr().String()
	m.work.Go(func() { m.served("SMTP", m.smtp.Serve(l)) })
	return nil
}

// now is the state machine time that this member has applied.
func (m *Engine) now() mail.Time {
	_, now := m.fsm.Applied()
	return now
}

// newCopy reports whether the directory of a Maildir copy may be made: while
// nobody has found the copy healthy yet. One that was there and is gone is away
// with the mail in it, and an empty one must not take its place.
func (m *Engine) newCopy(path string) bool {
	v := m.fsm.View()
	defer v.Close()
	for d := range v.Databases() {
		for _, c := range d.Copies {
			if c.Addr != maildir.Scheme+":"+path {
				continue
			}
			return !slices.ContainsFunc(v.Health(d.Name), func(r fsm.CopyRecord) bool { return r.Copy == c.Name && r.Seen != 0 })
		}
	}
	return false
}

// retain is how long a mailbox remembers what it was given: as long as a
// message can be sent again (hold time, and the life of an unacknowledged
// shadow beyond it).
func (m *Engine) retain() time.Duration {
	p := m.params.get()
	return p.SafetyNetHoldTime + p.MessageExpirationTimeout
}

// certificate is the SMTP certificate, read again when its file changes.
type certificate struct {
	certFile, keyFile string

	mu       sync.Mutex
	modified time.Time
	loaded   *tls.Config
}

func newCertificate(certFile, keyFile string) *certificate {
	return &certificate{certFile: certFile, keyFile: keyFile}
}

// config is nil while there is no certificate: STARTTLS is not offered then. A
// pair that cannot be read leaves the last good one in use.
func (c *certificate) config() *tls.Config {
	if c.certFile == "" {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	info, err := os.Stat(c.certFile)
	if err != nil || info.ModTime().Equal(c.modified) {
		return c.loaded
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return c.loaded
	}
	c.modified = info.ModTime()
	c.loaded = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	return c.loaded
}
