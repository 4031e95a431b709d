package ingress

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"mailraft/smtpd"
)

// What an operator looks at is there, at a member and a front end alike, before
// anything has happened.
func TestMetrics(t *testing.T) {
	server := smtpd.New(smtpd.Config{Hostname: "mx.example.test"})
	t.Cleanup(func() { server.Close() })
	reg := prometheus.NewRegistry()
	reg.MustRegister(Metrics{Server: server, Certificates: &Certificates{}})
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, f := range families {
		got[f.GetName()] = true
	}
	for _, name := range []string{"connections", "connections_total", "sessions_total", "received_messages_total", "received_bytes_total", "auth_total",
		"proxy_errors_total", "commit_seconds"} {
		if !got["mailraft_smtp_"+name] {
			t.Errorf("no mailraft_smtp_%s in %v", name, got)
		}
	}
}
