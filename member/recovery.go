package member

import (
	"fmt"

	"mailraft/admin"
	"mailraft/fsm"
	"mailraft/mail"
)

// Recovery is what is known of a boundary that is to be recovered, and of what
// may be lost: as far as this member's disk tells.
type Recovery struct {
	Boundary   string        `json:"boundary"` // id
	Name       string        `json:"name"`
	Generation uint64        `json:"generation"` // that is left behind
	Member     string        `json:"member"`     // that survives
	MemberID   mail.MemberID `json:"queue_database_id"`
	Done       bool          `json:"done"`

	// Everything up to CertainIndex was committed. What lies behind it, up to
	// LastIndex, is only known to be in the log of this member; it is taken for
	// committed. What was committed behind LastIndex is lost. Of several members
	// that survive the one goes on whose LastTerm, then LastIndex is the highest.
	CertainIndex uint64    `json:"certain_index"`
	AppliedIndex uint64    `json:"applied_index"`
	AppliedTime  mail.Time `json:"applied_time"`
	LastIndex    uint64    `json:"last_index"`
	LastTerm     uint64    `json:"last_term"`
	LastTime     mail.Time `json:"last_time"`

	Lost      []LostMember `json:"lost_members"`
	Messages  int          `json:"messages"` // rows, those of the Safety Net too
	Active    int          `json:"active"`
	Uncertain int          `json:"uncertain"` // messages accepted behind CertainIndex

	// Unheld are messages whose content is not on this disk.
	Unheld      []admin.Unheld `json:"unheld"`
	UnheldCount int            `json:"unheld_active"` // of these: still to be delivered
	UnheldBytes int64          `json:"unheld_bytes"`

	appliedTerm uint64
}

// LostMember is one that is given up.
type LostMember struct {
	Name        string        `json:"name"`
	ID          mail.MemberID `json:"queue_database_id"`
	Address     string        `json:"address"`
	Voter       bool          `json:"voter"`
	Up          bool          `json:"up"` // as far as the state says
	Answers     bool          `json:"answers"`
	CommitIndex uint64        `json:"commit_index"` // that it has reported last
	Complete    uint64        `json:"complete"`
	Active      int           `json:"active"` // messages that it owns
	ActiveBytes int64         `json:"active_bytes"`
}

// look fills the report from the state as it will be.
func (p *recovery) look(m *Member) error {
	r := &p.report
	b, _ := p.state.Boundary()
	r.Boundary, r.Name, r.Generation = b.Boundary, b.Name, b.Generation
	r.LastTime = p.state.Applied().Time
	r.Lost = p.others(m.id.ID, b)
	if err := p.recoverable(m, b); err != nil {
		return err
	}
	r.CertainIndex = min(max(r.AppliedIndex, highestCommit(p.state)), r.LastIndex)
	for id, c := range p.state.MessageContents(mail.ID{}) {
		r.Messages++
		if id.Index() > r.CertainIndex {
			r.Uncertain++
		}
		if _, ok := m.content.Stat(c.ID); !ok {
			p.unheld(id)
		}
	}
	for f := range p.state.Members() {
		for range p.state.Active(f.ID) {
			r.Active++
		}
	}
	return nil
}

func (p *recovery) unheld(id mail.ID) {
	e, ok := p.state.Message(id)
	if !ok {
		return
	}
	r := &p.report
	r.Unheld = append(r.Unheld, unheldOf(e))
	r.UnheldBytes += e.Content.Size
	if e.Active() {
		r.UnheldCount++
	}
}

func unheldOf(e *fsm.Message) admin.Unheld {
	return admin.Unheld{ID: e.ID, Sender: e.Envelope.ReversePath, Size: e.Content.Size, Active: e.Active()}
}

// highestCommit is the furthest that any member has said the log was committed.
func highestCommit(t fsm.Tables) (index uint64) {
	for f := range t.Members() {
		index = max(index, f.Commit)
	}
	return index
}

func (r *Recovery) missing() []mail.ID {
	ids := make([]mail.ID, 0, len(r.Unheld))
	for _, u := range r.Unheld {
		ids = append(ids, u.ID)
	}
	return ids
}

// Warnings are what an operator should know beyond the figures.
func (r *Recovery) Warnings() (text []string) {
	text = append(text, fmt.Sprintf("whatever was committed behind entry %d of term %d (%s) is not on this disk: messages answered 250, deliveries that will be made again, changes",
		r.LastIndex, r.LastTerm, r.LastTime))
	if n := r.LastIndex - r.CertainIndex; n > 0 {
		text = append(text, fmt.Sprintf("%d entries are only known to be in the log of %s, with %d messages; they are taken for committed, so a client that was told 4xx may find its message delivered",
			n, r.Member, r.Uncertain))
	}
	return text
}
