package admin

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// The series about databases, the Safety Net and what is sent from it again.
var (
	descDatabases   = desc("databases", "Mailbox databases by how they are.", "state")
	descCopyHealthy = desc("copy_healthy", "1 if a majority of the members finds the copy healthy, 0 if dead; none while nothing is known.", "database", "copy")
	descActive      = desc("copy_active", "1 for the active copy.", "database", "copy")
	descActivation  = desc("database_activation", "Activation number.", "database")
	descActSuspend  = desc("activation_suspended", "1 if nothing is activated automatically.", "database")
	descRequests    = desc("resubmit_requests", "Resubmit requests by state; ended ones while they are kept.", "state")
	descResubmitted = desc("resubmit_recipients", "Recipients of the open requests: sent, delivered, failed, waiting (for a member that is down).", "outcome")
	descHeld        = desc("safetynet_held", "1 if nothing expires since there was no quorum for long.")
	descPins        = desc("safetynet_pins", "Open requests that keep what is older than the hold time.")

	databaseDescriptions = []*prometheus.Desc{descDatabases, descCopyHealthy, descActive, descActivation, descActSuspend,
		descRequests, descResubmitted, descHeld, descPins}
)

func (g gauges) databases(list []Database) {
	states := map[string]int{}
	for i := range list {
		d := &list[i]
		states[d.State()]++
		g.set(descActivation, float64(d.Activation), d.Name)
		g.set(descActSuspend, one01(d.Suspended != nil), d.Name)
		for _, c := range d.Copies {
			g.set(descActive, one01(c.Name == d.Active), d.Name, c.Name)
			if c.Health != nil {
				g.set(descCopyHealthy, one01(c.Health.Healthy), d.Name, c.Name)
			}
		}
	}
	for _, s := range DatabaseStates() {
		g.set(descDatabases, float64(states[s]), s)
	}
}

func (g gauges) requests(r *RequestsInfo, n *NetInfo) {
	for _, s := range requestStates() {
		g.set(descRequests, float64(r.States[s]), s)
	}
	outcomes := map[string]int{}
	for i := range r.Items {
		x := &r.Items[i]
		outcomes["sent"] += x.Sent
		outcomes["delivered"] += x.Delivered
		outcomes["failed"] += x.Failed
		for _, w := range x.Waiting {
			outcomes["waiting"] += w.Count
		}
	}
	for _, o := range []string{"sent", "delivered", "failed", "waiting"} {
		g.set(descResubmitted, float64(outcomes[o]), o)
	}
	g.set(descHeld, one01(n.Held != nil))
	g.set(descPins, float64(len(n.Pins)))
}

// describeAll is every series of ours.
func describeAll() []*prometheus.Desc { return slices.Concat(everyDescription, databaseDescriptions) }
