package member

import (
	"context"
	"strings"
	"time"

	"mailraft/deliver"
	"mailraft/resubmit"
)

// newWatch watches the copies of all databases that the transports can probe.
func (m *Engine) newWatch(transports map[string]deliver.Transport) *resubmit.Watch {
	return &resubmit.Watch{
		Targets: func() ([]resubmit.Target, time.Duration) { return m.targets(transports), m.params.get().FailoverAfter },
		Probe:   func(ctx context.Context, addr string) error { return deliver.Probe(ctx, transports, addr) },
		Send:    m.sendFindings,
		Logger:  m.log.Named("watch"),
	}
}

func (m *Engine) targets(transports map[string]deliver.Transport) (list []resubmit.Target) {
	v := m.fsm.View()
	defer v.Close()
	for d := range v.Databases() {
		for _, c := range d.Copies {
			scheme, _, _ := strings.Cut(c.Addr, ":")
			if _, ok := transports[scheme].(deliver.Prober); ok {
				list = append(list, resubmit.Target{Database: d.Name, Copy: c.Name, Addr: c.Addr})
			}
		}
	}
	return list
}

// CopyHealth is what this member itself finds of each copy of each database,
// by their names; what was not probed yet is not in the list. The boundary's
// verdict is another thing: it is in the state, and takes a majority.
func (m *Engine) CopyHealth() []resubmit.Finding {
	if m.watch == nil {
		return nil
	}
	return m.watch.Findings()
}
