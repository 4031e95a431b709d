package frontend

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mailraft/smtpd/ingress"
)

// collector reads the counters when Prometheus asks. What a session is counts
// under the same names as at a member.
type collector struct{ f *Frontend }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("mailraft_"+name, help, labels, nil)
}

var (
	open = desc("frontend_transactions", "Transactions open now.")

	ready     = desc("frontend_member_ready", "Whether a member is given transactions.", "boundary", "member")
	handed    = desc("frontend_handed_over_total", "Transactions handed over to a member.", "boundary", "member")
	streams   = desc("frontend_streams", "Connections to a member that wait for the next transaction.", "boundary", "member")
	retries   = desc("frontend_retries_total", "Times that a member gave no answer and another was asked, which the client did not see.")
	broken    = desc("frontend_broken_total", "Transactions given up with 451 because their member was lost.")
	settled   = desc("frontend_settled_total", "Messages whose answer was lost and whose outcome was found, by outcome.", "outcome")
	uncertain = desc("frontend_uncertain_total", "Messages whose answer was lost and whose outcome nobody knew: they may arrive twice.")
	certEnds  = desc("frontend_certificate_end_seconds", "When the certificate for a boundary ends, as a Unix time.", "boundary")
)

// Describe implements prometheus.Collector; the series are not all known
// beforehand.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	ingress.Metrics{Server: c.f.smtp, Certificates: &c.f.certificates}.Collect(ch)
	gauge(open, int64(c.f.smtp.Counts().Transactions))
	n := &c.f.counters
	count(retries, n.retries.Load())
	count(broken, n.broken.Load())
	count(settled, n.settledTaken.Load(), "taken")
	count(settled, n.settledNot.Load(), "not-taken")
	count(uncertain, n.uncertain.Load())
	for _, b := range c.f.boundaries {
		gauge(certEnds, b.id.load().Cert.Leaf.NotAfter.Unix(), b.Name)
		for _, p := range b.list() {
			takes := int64(0)
			if p.ready(time.Now()) == nil {
				takes = 1
			}
			gauge(ready, takes, b.Name, p.name())
			p.mu.Lock()
			idle, all := int64(len(p.idle)), p.handed
			p.mu.Unlock()
			gauge(streams, idle, b.Name, p.name())
			count(handed, all, b.Name, p.name())
		}
	}
}
