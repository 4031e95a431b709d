package frontend

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"mailraft/mail"
	"mailraft/smtpd/handover"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Status is how a front end is: the answer of GET /v1/frontend.
type Status struct {
	Name         string           `json:"name"`
	Site         string           `json:"site"`
	Hostname     string           `json:"hostname"`
	State        string           `json:"state"` // ready, draining, drained, not-ready
	Reason       string           `json:"reason,omitempty"`
	SMTP         []string         `json:"smtp"`
	HTTP         string           `json:"http"`
	Uptime       mail.Duration    `json:"uptime"`
	Sessions     int              `json:"sessions"`
	Transactions int              `json:"transactions"`
	Received     int64            `json:"received"` // messages answered 250
	Boundaries   []BoundaryStatus `json:"boundaries"`
}

// BoundaryStatus is a boundary as the front end sees it.
type BoundaryStatus struct {
	Name         string         `json:"name"`     // in the configuration
	Boundary     string         `json:"boundary"` // its identity
	CertNotAfter mail.Time      `json:"certificate_not_after"`
	Members      []MemberStatus `json:"members"`
}

// MemberStatus is a member as the front end sees it.
type MemberStatus struct {
	Name         string    `json:"name"`
	Address      string    `json:"address"` // of its cluster port
	Site         string    `json:"site"`
	Ready        bool      `json:"ready"`
	Reason       string    `json:"reason,omitempty"`
	Heard        mail.Time `json:"heard,omitzero"`
	Transactions int       `json:"transactions"` // of this front end, now
	Others       int       `json:"others"`       // of others there
	Streams      int       `json:"streams"`      // that wait for the next transaction
	Handed       int64     `json:"handed"`       // transactions since the start
	Version      string    `json:"version,omitempty"`
}

// RouteStatus is where mail for a recipient would go: the answer of GET
// /v1/route.
type RouteStatus struct {
	Address  string      `json:"address"`
	Boundary string      `json:"boundary,omitempty"` // empty: to none
	Reply    *mail.Reply `json:"reply,omitempty"`    // what RCPT would be answered then
	Verdicts []Verdict   `json:"verdicts"`
}

func (f *Frontend) api() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/frontend", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, f.Status()) })
	mux.HandleFunc("GET /v1/route", f.getRoute)
	for op, on := range map[string]bool{"drain": true, "undrain": false} {
		mux.HandleFunc("POST /v1/frontend/"+op, func(w http.ResponseWriter, _ *http.Request) {
			f.draining.Store(on)
			f.log.Info("changed by an operator", "what", op)
			answer(w, http.StatusOK, f.Status())
		})
	}
	return mux
}

func answer(w http.ResponseWriter, code int, doc any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(doc) // the client asks again
}

func (f *Frontend) getRoute(w http.ResponseWriter, r *http.Request) {
	text := r.URL.Query().Get("address")
	a, err := mail.ParseAddress(text)
	if err != nil || a.Domain == "" {
		answer(w, http.StatusBadRequest, map[string]any{"error": map[string]any{"status": 400, "text": fmt.Sprintf("%q is no address", text)}})
		return
	}
	found := f.resolve(r.Context(), handover.Client{Relay: r.URL.Query().Get("relay") == "true"}, a, nil)
	s := RouteStatus{Address: a.String(), Verdicts: found.items}
	if found.to != nil {
		s.Boundary = found.to.Name
	} else {
		s.Reply = found.refusal()
	}
	answer(w, http.StatusOK, s)
}

// Status is how the front end is now.
func (f *Frontend) Status() Status {
	c := f.smtp.Counts()
	s := Status{Name: f.cfg.Name, Site: f.cfg.Site, Hostname: f.cfg.Hostname, State: "ready", SMTP: f.smtpAddrs, HTTP: f.httpAddr,
		Uptime: mail.Duration(time.Since(f.started).Milliseconds()), Sessions: c.Open, Transactions: c.Transactions, Received: c.Received}
	switch err := f.Ready(); {
	case f.draining.Load() && c.Transactions == 0:
		s.State = "drained"
	case f.draining.Load():
		s.State = "draining"
	case err != nil:
		s.State, s.Reason = "not-ready", reason(err)
	}
	for _, b := range f.boundaries {
		s.Boundaries = append(s.Boundaries, b.status())
	}
	return s
}

func (b *boundary) status() BoundaryStatus {
	s := BoundaryStatus{Name: b.Name, Boundary: b.id.Boundary, CertNotAfter: mail.At(b.id.load().Cert.Leaf.NotAfter)}
	for _, p := range b.list() {
		m := MemberStatus{Name: p.name(), Address: p.addr, Site: p.site(), Ready: true}
		if err := p.ready(time.Now()); err != nil {
			m.Ready, m.Reason = false, reason(err)
		}
		p.mu.Lock()
		m.Transactions, m.Others, m.Streams, m.Handed, m.Version = p.open, p.others, len(p.idle), p.handed, p.state.Version
		if !p.heard.IsZero() {
			m.Heard = mail.At(p.heard)
		}
		p.mu.Unlock()
		s.Members = append(s.Members, m)
	}
	return s
}

// health is for load balancers and monitoring, and changes nothing.
func (f *Frontend) health() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := f.Ready(); err != nil {
			http.Error(w, strings.TrimSpace("[-]smtp "+reason(err)), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collector{f})
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	if f.cfg.HTTP.Pprof {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}
