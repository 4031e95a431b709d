package admin

import (
	"strings"
	"testing"
	"time"

	"mailraft/fsm"
)

func TestDatabaseState(t *testing.T) {
	health := map[byte]*CopyHealth{'h': {Healthy: true}, 'd': {}, '?': nil}
	for copies, want := range map[string]string{ // the first copy is the active one
		"h": DatabaseHealthy, "hh": DatabaseHealthy, "h?": DatabaseHealthy, "?h": DatabaseUnknown, "?": DatabaseUnknown, "": DatabaseUnknown,
		"hd": DatabaseBehind, "?d": DatabaseBehind, "dh": DatabaseDead, "d?": DatabaseDead, "d": DatabaseLost, "dd": DatabaseLost,
	} {
		d := Database{Active: "0"}
		for i := range copies {
			d.Copies = append(d.Copies, DatabaseCopy{Copy: Copy{Name: itoa(i)}, Health: health[copies[i]]})
		}
		if got := d.State(); got != want {
			t.Errorf("%q: %s, want %s", copies, got, want)
		}
	}
}

func TestDatabaseJudgement(t *testing.T) {
	b := newBoundary(t)
	b.must(fsm.KindDatabase, fsm.DatabaseChange{Op: "copy-add", Name: "DB1", Copies: []fsm.Copy{{Name: "b", Addr: "maildir:/b"}}})
	stop := func(op string, copies ...fsm.Copy) {
		b.must(fsm.KindDatabase, fsm.DatabaseChange{Op: op, Name: "DB1", Copies: copies, Reason: "upgrade"})
	}
	c := b.client()
	for _, tt := range []struct {
		name   string
		do     func()
		health string
		reason string // part of one
	}{
		{"nothing is known", func() {}, "healthy", ""},
		{"a copy is dead", func() { b.finds("DB1", "b", false) }, "degraded", "copy b is dead for 0s: connection refused"},
		{"both are", func() { b.finds("DB1", "a", false) }, "critical", "no copy of it is healthy"},
		{"the active one", func() { b.finds("DB1", "b", true) }, "degraded", "active copy a is dead"},
		{"and its activation is suspended", func() { stop("suspend-activation") }, "critical", "its activation is suspended; mailraft database activate DB1"},
		{"the leader says why", func() { b.status.Stuck = []Stuck{{Database: "DB1", Why: "no other copy can be activated: b: dead"}} }, "critical", "no other copy can be activated: b: dead; if"},
		{"it waits", func() { b.status.Stuck[0].Waits = true }, "degraded", "another copy will be activated: no"},
		{"another database", func() { b.status.Stuck[0].Database = "DB2" }, "critical", "its activation is suspended"},
		{"it is well", func() { b.finds("DB1", "a", true) }, "degraded", "nothing is activated automatically: upgrade"},
		{"a copy is suspended", func() { stop("resume-activation"); stop("suspend-activation", fsm.Copy{Name: "b"}) }, "degraded", "copy b is not activated"},
		{"resumed", func() { stop("resume-activation", fsm.Copy{Name: "b"}) }, "healthy", ""},
		{"no quorum for long", func() { b.now = b.now.Add(time.Hour); b.must(fsm.KindTick, fsm.Tick{}) }, "degraded", "nothing in the Safety Net expires"},
		{"seen healthy since", func() { b.finds("DB1", "a", true) }, "healthy", ""},
	} {
		tt.do()
		st := get[Status](t, c, "/v1/status")
		if text := strings.Join(st.Reasons, "; "); st.Health != tt.health || !strings.Contains(text, tt.reason) || (text == "") != (tt.health == "healthy") {
			t.Errorf("%s: %s %q", tt.name, st.Health, text)
		}
	}
}

// A request keeps what is older than the hold time while it has not come to it.
func TestPins(t *testing.T) {
	b := newBoundary(t)
	b.mailbag()
	b.must(fsm.KindRequestAdd, fsm.RequestAdd{Database: "DB1", Start: start + 1})
	c := b.client()
	if p := get[Status](t, c, "/v1/status").SafetyNet.Pins; len(p) != 0 {
		t.Errorf("at first: %+v", p)
	}
	b.pass(54 * time.Hour)
	if p := get[Status](t, c, "/v1/status").SafetyNet.Pins; len(p) != 1 || p[0] != (Pin{"1", start + 1}) {
		t.Errorf("two days later: %+v", p)
	}
}
