package member

import (
	"time"

	"mailraft/admin"
	"mailraft/mail"
	"mailraft/smtpd/milter"
)

// openMilters makes the filters, and keeps an eye on them.
func (m *Member) openMilters() (err error) {
	m.milters, err = m.cfg.SMTP.Filters(m.log)
	for _, f := range m.milters {
		m.work.Go(func() { m.probeMilter(f) })
	}
	return err
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
