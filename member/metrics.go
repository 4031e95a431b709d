package member

import (
	"mailraft/smtpd/ingress"

	"github.com/prometheus/client_golang/prometheus"
)

// collector reads the counters of the parts when Prometheus asks.
type collector struct{ m *Member }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("mailraft_"+name, help, labels, nil)
}

var (
	milterVerdicts    = desc("milter_verdicts_total", "What milters decided; failed: they were away, late, or said what cannot be.", "milter", "verdict")
	milterMessages    = desc("milter_messages_total", "Messages that a milter has decided about.", "milter")
	milterSeconds     = desc("milter_seconds_total", "Time waited for a milter over these messages.", "milter")
	milterAway        = desc("milter_away", "1 if a milter is away.", "milter")
	milterConnections = desc("milter_connections", "Connections to a milter.", "milter")

	deliveries = desc("delivery_recipients_total", "Recipients by the result of an attempt.", "result")
	duplicates = desc("duplicates_suppressed_total", "Deliveries that the mailbox had already.")
	uncertain  = desc("delivery_uncertain_total", "Deliveries without an answer after the final dot: they may arrive twice.")
	aborted    = desc("delivery_aborted_total", "Deliveries given up before the final step for want of a lease.")
	dsns       = desc("dsn_total", "Non-delivery reports made.")

	withdrawals = desc("withdrawals_total", "Submissions whose client was told 4xx with the outcome unknown.")
	tooLate     = desc("withdrawals_late_total", "Of these, accepted all the same: their messages may arrive twice.")

	contentSyncs   = desc("content_syncs_total", "Syncs of content segments.")
	contentRecords = desc("content_records_total", "Records written to content segments.")
	contentWritten = desc("content_written_bytes_total", "Bytes written to content segments.")
	contentDamages = desc("content_damages_total", "Damaged places found in content segments.")
	contentDamaged = desc("content_damaged_total", "Stored contents found damaged: never delivered, fetched again.")
	contentMended  = desc("content_repaired_total", "Of these, fetched again from another member.")
	scrubBytes     = desc("scrub_bytes", "Bytes read in this pass through what is stored.")
	scrubPass      = desc("scrub_passes_total", "Passes through what is stored, the present one included.")
	scrubFound     = desc("scrub_found_total", "Damaged contents that a pass has found since the start.")
	refillBytes    = desc("refill_missing_bytes", "Bytes of contents that rows name and this member has yet to fetch.")
	refillLeft     = desc("refill_left_seconds", "Estimate until they are fetched; 0 when nothing is known.")
	refillLost     = desc("refill_unavailable", "Of these contents, how many no member that is up has.")
	contentLost    = desc("content_lost", "Messages whose content no member has; 50,000 at most.")
	refillLooked   = desc("refill_looked_total", "Rows looked at for content that is missing.")
	refillFetched  = desc("refill_fetched_total", "Contents fetched because this member lacked them.")
	refillGot      = desc("refill_fetched_bytes_total", "Bytes of contents fetched because this member lacked them.")
	replicaSent    = desc("replica_sent_bytes_total", "Content sent to other members.")
	replicaGot     = desc("replica_received_bytes_total", "Content received from other members.")
	replicaLeftOut = desc("replica_left_out_total", "Times that a member fell out of an upload.")
	replicaPulls   = desc("replica_pulls_total", "Contents fetched from other members.")
	replicaQueue   = desc("replica_queued_bytes", "Content that waits to be sent, by member.", "member")
)

// Describe implements prometheus.Collector; the series are not all known
// beforehand.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	ingress.Metrics{Server: c.m.smtp, Certificates: &c.m.certificates}.Collect(ch)
	c.milters(count, gauge)
	d := c.m.deliverer.Status().Counts
	for result, n := range map[string]uint64{"delivered": d.Delivered, "relayed": d.Relayed, "deferred": d.Deferred, "failed": d.Failed, "expired": d.Expired} {
		count(deliveries, float64(n), result)
	}
	count(duplicates, float64(d.Duplicates))
	count(uncertain, float64(d.Uncertain))
	count(aborted, float64(d.Aborted))
	count(dsns, float64(d.Notices))
	count(withdrawals, float64(c.m.withdrawals.Load()))
	count(tooLate, float64(c.m.tooLate.Load()))
	s := c.m.content.Stats()
	count(contentSyncs, float64(s.Syncs))
	count(contentRecords, float64(s.Records))
	count(contentWritten, float64(s.Written))
	count(contentDamages, float64(s.Damages))
	r := c.m.replica.Stats()
	count(replicaSent, float64(r.SentBytes))
	count(replicaGot, float64(r.ReceivedBytes))
	count(replicaLeftOut, float64(r.LeftOut))
	count(replicaPulls, float64(r.Pulls))
	for _, p := range r.Peers {
		gauge(replicaQueue, float64(p.QueuedBytes), p.ID.String())
	}
	sc := c.m.scrub.status()
	gauge(scrubBytes, float64(sc.Bytes))
	count(scrubPass, float64(sc.Pass))
	count(scrubFound, float64(sc.Found))
	f := c.m.refill.status()
	gauge(refillBytes, float64(f.MissingBytes))
	gauge(refillLeft, f.Left.Std().Seconds())
	gauge(refillLost, float64(f.Unavailable))
	gauge(contentLost, float64(c.m.lostMessages()))
	count(refillLooked, float64(c.m.refill.looked.Load()))
	count(refillFetched, float64(f.Fetched))
	count(refillGot, float64(f.FetchedBytes))
	count(contentDamaged, float64(f.Damaged))
	count(contentMended, float64(f.Repaired))
}

func (c collector) milters(count, gauge func(*prometheus.Desc, float64, ...string)) {
	for _, f := range c.m.milters {
		s := f.State()
		for verdict, n := range s.Verdicts {
			count(milterVerdicts, float64(n), s.Name, verdict)
		}
		count(milterMessages, float64(s.Messages), s.Name)
		count(milterSeconds, s.Took.Seconds(), s.Name)
		away := 0.0
		if s.Away {
			away = 1
		}
		gauge(milterAway, away, s.Name)
		gauge(milterConnections, float64(s.Open), s.Name)
	}
}
