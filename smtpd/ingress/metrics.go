package ingress

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mailraft/smtpd"
)

// Metrics are the series of an SMTP server: the same at a member and at a front
// end. It implements prometheus.Collector.
type Metrics struct {
	Server       *smtpd.Server
	Certificates *Certificates // that its listeners show
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("mailraft_"+name, help, labels, nil)
}

var (
	smtpOpen        = desc("smtp_connections", "SMTP connections open now.")
	smtpConnections = desc("smtp_connections_total", "SMTP connections let in.")
	smtpSessions    = desc("smtp_sessions_total", "SMTP connections that said EHLO or HELO.")
	smtpReceived    = desc("smtp_received_messages_total", "Messages answered 250.")
	smtpBytes       = desc("smtp_received_bytes_total", "Bytes of messages answered 250.")
	smtpDiscarded   = desc("smtp_discarded_messages_total", "Messages answered 250 and not kept, as a milter wanted.")
	smtpRejects     = desc("smtp_rejects_total", "Refusals by stage and code.", "stage", "code")
	smtpAuth        = desc("smtp_auth_total", "Authentications by result: ok, denied, away (nobody could tell), limited (too many failed before).", "result")
	smtpCert        = desc("smtp_certificate_expiry_seconds", "Time left until an SMTP certificate ends, by its file.", "file")
	smtpLimited     = desc("smtp_limited_total", "Refusals that enforce a limit, by its setting; see docs/smtp.md.", "limit")
	smtpProxyErrors = desc("smtp_proxy_errors_total", "Connections of proxies that were closed for want of a PROXY header that can be read.")
	smtpCommit      = desc("smtp_commit_seconds", "End of data to the answer.")
)

// Describe implements prometheus.Collector; the series are not all known
// beforehand.
func (Metrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (m Metrics) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	s := m.Server.Counts()
	gauge(smtpOpen, float64(s.Open))
	count(smtpConnections, float64(s.Connections))
	count(smtpSessions, float64(s.Sessions))
	count(smtpReceived, float64(s.Received))
	count(smtpBytes, float64(s.Bytes))
	count(smtpDiscarded, float64(s.Discarded))
	for r, n := range s.Rejects {
		count(smtpRejects, float64(n), r.Stage, strconv.Itoa(r.Code))
	}
	for _, result := range []string{"ok", "denied", "away", "limited"} {
		count(smtpAuth, float64(s.Auth[result]), result)
	}
	for _, cert := range m.Certificates.Lives() {
		gauge(smtpCert, time.Until(cert.Until).Seconds(), cert.File)
	}
	for name, n := range s.Limited {
		count(smtpLimited, float64(n), name)
	}
	count(smtpProxyErrors, float64(s.ProxyErrors))
	buckets, sum := map[float64]uint64{}, uint64(0)
	for i, b := range s.Commit.Bounds {
		sum += uint64(s.Commit.Counts[i])
		buckets[b] = sum
	}
	ch <- prometheus.MustNewConstHistogram(smtpCommit, uint64(s.Commit.Total), s.Commit.Sum, buckets)
}
