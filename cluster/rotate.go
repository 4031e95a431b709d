package cluster

import (
	"context"

	"mailraft/fsm"
)

// useCA has the new CA sign as soon as every member believes it. That the old
// one is dropped is for the operator to say: what it signed is refused then.
func (s *Steward) useCA(ctx context.Context, term uint64) error {
	v := s.state.View()
	b, _ := v.Boundary()
	v.Close()
	if b.Rotation == nil || b.Rotation.Used {
		return nil
	}
	for _, m := range s.members() {
		if m.Retired == 0 && m.BehindCA(fsm.CAUse, b.Rotation.Pin) {
			return nil
		}
	}
	a, err := s.propose(ctx, term, fsm.KindCA, fsm.CAChange{Op: fsm.CAUse, Pin: b.Rotation.Pin})
	if err == nil && a.Refused == nil {
		s.log.Info("every member believes the new CA: it signs from here on", "pin", b.Rotation.Pin)
	}
	return err
}
