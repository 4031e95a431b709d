package admin

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"mailraft/fsm"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
)

func fetch(h http.Handler, path string) (int, string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

func TestHealth(t *testing.T) {
	b := newBoundary(t)
	h := b.server().Health()
	bad := Check{Name: "disk", Reason: "1 GiB free, below 2 GiB"}
	for _, tt := range []struct {
		path   string
		checks []Check
		code   int
		body   string
	}{
		{"/livez", []Check{bad}, 200, "ok\n"},
		{"/readyz", []Check{{Name: "quorum", OK: true}}, 200, "ok\n"},
		{"/readyz?verbose", []Check{{Name: "quorum", OK: true}}, 200, "[+]quorum ok\nok\n"},
		{"/readyz", []Check{{Name: "quorum", OK: true}, bad}, 503, "[-]disk 1 GiB free, below 2 GiB\n"},
		{"/readyz?verbose", []Check{{Name: "quorum", OK: true}, bad}, 503, "[+]quorum ok\n[-]disk 1 GiB free, below 2 GiB\n"},
		{"/v1/status", nil, 404, "404 page not found\n"},
	} {
		b.checks = tt.checks
		if code, body := fetch(h, tt.path); code != tt.code || body != tt.body {
			t.Errorf("%s %v: %d %q", tt.path, tt.checks, code, body)
		}
	}
}

func TestMetrics(t *testing.T) {
	b := newBoundary(t)
	b.mailbag()
	b.finds("DB1", "a", true)
	b.must(fsm.KindRequestAdd, fsm.RequestAdd{Database: "DB1", Start: start})
	extra := prometheus.NewCounter(prometheus.CounterOpts{Name: "mailraft_smtp_received_messages_total", Help: "x"})
	extra.Add(5)
	s := b.server()
	s.Metrics = []prometheus.Collector{extra}
	code, body := fetch(s.Health(), "/metrics")
	if code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	for _, want := range []string{
		`mailraft_build_info{go_version="`,
		`mailraft_messages{database="DB1",state="deferred"} 1`,
		`mailraft_messages_bytes{database="DB1",state="ready"} 2000`,
		`mailraft_oldest_message_age_seconds{database="DB1",state="suspended"} 0`,
		`mailraft_safetynet_deliveries{database="DB1"} 2`,
		`mailraft_scan_truncated{of="queue"} 0`,
		`mailraft_raft_is_leader 1`,
		`mailraft_raft_peer_applied_index{peer="m2"} 97`,
		`mailraft_members{state="up"} 3`,
		`mailraft_failure_tolerance 1`,
		`mailraft_lease_seconds 7`,
		`mailraft_ready{check="disk"} 1`,
		`mailraft_databases{state="healthy"} 1`,
		`mailraft_copy_healthy{copy="a",database="DB1"} 1`,
		`mailraft_copy_active{copy="a",database="DB1"} 1`,
		`mailraft_database_activation{database="DB1"} 1`,
		`mailraft_activation_suspended{database="DB1"} 0`,
		`mailraft_resubmit_requests{state="running"} 1`,
		`mailraft_resubmit_recipients{outcome="waiting"} 0`,
		`mailraft_safetynet_held 0`,
		`mailraft_pressure_level{resource="disk"} 0`,
		`mailraft_pressure_limit{level="high",resource="disk"} 1.073741824e+09`,
		`mailraft_pressure_left{resource="disk"} 3.221225472e+09`,
		`mailraft_smtp_received_messages_total 5`,
		`go_goroutines`,
	} {
		if !strings.Contains(body, "\n"+want) {
			t.Errorf("no %s", want)
		}
	}
	if t.Failed() {
		t.Log(body)
	}
}

func TestScanIsBounded(t *testing.T) {
	b := newBoundary(t)
	b.mailbag()
	v := b.View()
	defer v.Close()
	if q := scanQueue(v, 2); q.total.Messages != 2 || !q.total.Truncated {
		t.Errorf("queue: %+v", q.total)
	}
	if n := scanNet(v, 1); n.deliveries["DB1"] != 1 || !n.truncated {
		t.Errorf("safety net: %+v", n)
	}
}

func TestPage(t *testing.T) {
	b := newBoundary(t)
	b.mailbag()
	b.checks[1] = Check{Name: "disk", Reason: "<full>"}
	b.finds("DB1", "a", false)
	b.must(fsm.KindRequestAdd, fsm.RequestAdd{Database: "DB1", Start: start})
	_, body := fetch(b.server().Health(), "/status")
	for _, want := range []string{`test is <span class="critical">`, "3 messages", `<span class="critical">no-copy</span>`, "dead for 0s: connection refused", "<td>running<td>DB1",
		"back pressure<td>normal: disk 3.0 GiB to medium", "&lt;full&gt;", "5.0 GiB free of 9.0 GiB", "</html>"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in %s", want, body)
		}
	}
}

// What a real Raft says of itself reaches /metrics.
func TestRaftMetrics(t *testing.T) {
	sink, err := RaftMetrics()
	if err != nil {
		t.Fatal(err)
	}
	b := newBoundary(t)
	s := b.server()
	s.Metrics = []prometheus.Collector{sink}

	c := raft.DefaultConfig()
	c.LocalID, c.Logger = "1", hclog.NewNullLogger()
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = 50*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
	addr, tr := raft.NewInmemTransport("")
	store := raft.NewInmemStore()
	r, err := raft.NewRaft(c, &raft.MockFSM{}, store, store, raft.NewInmemSnapshotStore(), tr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Shutdown().Error() }()
	r.BootstrapCluster(raft.Configuration{Servers: []raft.Server{{ID: "1", Address: addr}}})
	for leader := range r.LeaderCh() {
		if leader {
			break
		}
	}
	if err := r.Barrier(time.Minute).Error(); err != nil {
		t.Fatal(err)
	}
	if _, body := fetch(s.Health(), "/metrics"); !strings.Contains(body, "\nmailraft_raft_state_leader 1") || !strings.Contains(body, "\nmailraft_raft_commitTime_count") {
		t.Errorf("no series of Raft in %s", body)
	}
}
