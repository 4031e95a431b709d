package member

import (
	"context"
	"time"

	"mailraft/fsm"
)

// introduce has the state know what the configuration says of this member: the
// file may have been edited since it joined. What shadows lie where already is
// not changed by another site.
func (m *Member) introduce() {
	const introduceEvery = time.Second
	for !m.introduced() && m.pause(introduceEvery) {
	}
}

func (m *Member) introduced() bool {
	v := m.fsm.View()
	self, ok := v.Member(m.id.ID)
	v.Close()
	says := fsm.Says{SMTP: m.cfg.SMTP.MX(), Host: m.cfg.Hostname, Site: m.cfg.Site}
	if !ok || self.Says() == says {
		return ok
	}
	ctx, cancel := context.WithTimeout(m.ctx, m.params.get().CommitTimeout)
	defer cancel()
	a, err := m.Propose(ctx, fsm.KindMemberSet, fsm.MemberSet{Member: m.id.ID, Says: &says})
	if err != nil {
		m.log.Debug("what the configuration says of this member is not recorded yet", "error", err)
		return false
	}
	if a.Refused != nil {
		m.log.Warn("what the configuration says of this member is refused", "reason", a.Refused.String())
		return true
	}
	m.log.Info("recorded what the configuration says of this member", "smtp", says.SMTP, "hostname", says.Host, "site", says.Site)
	return true
}
