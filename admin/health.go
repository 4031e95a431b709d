package admin

import (
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"

	"mailraft/mail"

	"github.com/dustin/go-humanize"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Health is the handler of the health listener: what may be asked by load
// balancers, monitoring and browsers, and changes nothing.
//
//	/livez    the process answers
//	/readyz   it takes mail now; 503 and the reasons if not; ?verbose lists all
//	/metrics  for Prometheus
//	/status   a page for people
func (s *Server) Health() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.Handle("GET /metrics", s.metrics())
	mux.HandleFunc("GET /status", s.page)
	return mux
}

// readyz is what a load balancer takes a member out by: it turns before SMTP
// begins to refuse.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	var lines []string
	ready := true
	for _, c := range s.Host.Ready() {
		switch {
		case !c.OK:
			ready = false
			lines = append(lines, fmt.Sprintf("[-]%s %s", c.Name, c.Reason))
		case r.URL.Query().Has("verbose"):
			lines = append(lines, fmt.Sprintf("[+]%s ok", c.Name))
		}
	}
	if ready {
		lines = append(lines, "ok")
	} else {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	fmt.Fprintln(w, strings.Join(lines, "\n"))
}

func (s *Server) metrics() http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), series{s})
	reg.MustRegister(s.Metrics...)
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("status").Funcs(template.FuncMap{
	"bytes":   func(n int64) string { return humanize.IBytes(uint64(max(n, 0))) },
	"comma":   func(n int) string { return humanize.Comma(int64(n)) },
	"percent": func(share float64) string { return fmt.Sprintf("%.0f%%", 100*share) },
	"stateClass": func(state string) string {
		switch state {
		case DatabaseHealthy:
			return "healthy"
		case DatabaseDead, DatabaseLost:
			return "critical"
		}
		return "degraded"
	},
	"age": func(now, t mail.Time) string {
		if t == 0 {
			return ""
		}
		return mail.FormatDuration(now.Sub(t).Round(time.Second))
	},
}).Parse(pageText))

func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	v, as := s.view()
	defer v.Close()
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	st := s.statusOf(r.Context(), v, as, s.scans.queue(v))
	if err := pageTemplate.Execute(w, &st); err != nil {
		s.Logger.Warn("status page was not sent whole", "error", err)
	}
}
