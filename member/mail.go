package member

import (
	"slices"
	"strings"
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
	out := m.outbound()
	transports := map[string]deliver.Transport{
		maildir.Scheme: &maildir.Transport{Host: m.cfg.Hostname, Retain: m.retain, Now: m.now, Create: m.newCopy},
	}
	for _, scheme := range remote.Schemes {
		transports[scheme] = out
	}
	m.onClose(out.Close)
	var err error
	m.hand, err = openHand(m.cfg.Dir, m.id.ID, m.id.Starts, bootID(), func(what string, err error) { m.log.Warn("cannot "+what, "error", err) })
	if err != nil {
		return err
	}
	m.onClose(func() { m.closed("what is in hand", m.hand.close()) })
	m.Deliver(transports, m.node.Lease())

	if err := m.openMilters(); err != nil {
		return err
	}
	users, err := m.cfg.SMTP.OpenUsers(m.log.Named("smtp"))
	if err != nil {
		return err
	}
	m.smtp = smtpd.New(smtpd.Config{Users: users, Hostname: m.cfg.Hostname, DefaultDomain: m.cfg.SMTP.DefaultDomain, Queue: m, Directory: m, Gate: m,
		SizeMax: func() int64 { return m.params.get().MessageSizeMax },
		Limits:  m.cfg.SMTP.Limits.Bounds(), Own: m.isMember, Logger: m.log.Named("smtp")})
	m.onClose(func() { m.closed("SMTP", m.smtp.Close()) })
	ports, err := m.cfg.SMTP.Open(&m.certificates, m.milters)
	if err != nil {
		return err
	}
	for _, p := range ports {
		m.smtpAddrs = append(m.smtpAddrs, p.Addr().String())
		m.work.Go(func() { m.served("SMTP", m.smtp.Serve(p, p.Says)) })
	}
	return nil
}

// isMember reports a host name that a member of the boundary has in mail.
func (m *Engine) isMember(host string) bool {
	return slices.ContainsFunc(m.fsm.Settings().Members, func(o fsm.Member) bool { return o.Host != "" && strings.EqualFold(o.Host, host) })
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
