package admin

import (
	"fmt"
	"sync"
	"time"

	gometrics "github.com/armon/go-metrics"
	gmprometheus "github.com/armon/go-metrics/prometheus"
	"github.com/prometheus/client_golang/prometheus"
)

// RaftMetrics is the collector of what Raft measures of itself. Raft speaks to
// the one global go-metrics of the process, so there is one collector, however
// many members a process holds; its series are named mailraft_raft_….
var RaftMetrics = sync.OnceValues(func() (prometheus.Collector, error) {
	// The sink wants to be registered somewhere; each member registers it in
	// its own registry later.
	sink, err := gmprometheus.NewPrometheusSinkFrom(gmprometheus.PrometheusOpts{
		Registerer: prometheus.NewRegistry(),
		Expiration: time.Minute,
		Name:       "mailraft_raft_sink",
	})
	if err != nil {
		return nil, fmt.Errorf("make Raft metrics: %w", err)
	}
	c := gometrics.DefaultConfig("mailraft")
	c.EnableHostname, c.EnableRuntimeMetrics = false, false
	if _, err := gometrics.NewGlobal(c, sink); err != nil {
		return nil, fmt.Errorf("make Raft metrics: %w", err)
	}
	return sink, nil
})
