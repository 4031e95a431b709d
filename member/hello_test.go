package member

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"mailraft/cluster/pki"
	"mailraft/fsm"

	"github.com/fxamacker/cbor/v2"
	"github.com/hashicorp/go-hclog"
)

// What a member reports reaches the state, and one that says less later is
// refused, with the way back in the text.
func TestHelloRefusesWhatWentBack(t *testing.T) {
	h := newHouse(t, 1)
	m := h.members[0]
	var row fsm.Member
	h.until("the report is in the state", func() bool {
		v := m.fsm.View()
		defer v.Close()
		row, _ = v.Member(m.id.ID)
		return row.Commit > 0 && row.Starts > 0
	})
	greeter := newHello(m.Engine)
	peer := pki.Identity{Role: pki.RoleMember, Member: m.id.ID, Name: "m1"}
	good := greeting{Generation: 1, Starts: row.Starts + 5, Last: row.Commit + 1000, Process: [16]byte{1}}
	for _, c := range []struct {
		name   string
		change func(*greeting)
		want   string
	}{
		{"as it should be", func(*greeting) {}, ""},
		{"another connection", func(*greeting) {}, ""},
		{"new here", func(g *greeting) { g.Generation = 0 }, ""},
		{"its log ends too early", func(g *greeting) { g.Last = row.Commit - 1 }, "was set back"},
		{"started less often than it said", func(g *greeting) { g.Starts = row.Starts - 1 }, "runs twice"},
		{"a copy beside it", func(g *greeting) { g.Process = [16]byte{2} }, "from a copy"},
		{"started again", func(g *greeting) { g.Process, g.Starts = [16]byte{3}, g.Starts+1 }, ""},
		{"the one before", func(*greeting) {}, "from a copy"},
	} {
		g := good
		c.change(&g)
		b, err := cbor.Marshal(g)
		if err != nil {
			t.Fatal(err)
		}
		err = greeter.Check(peer, b)
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "--replace m1") || len(err.Error()) > 255) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if err := greeter.Check(peer, []byte("nonsense")); err == nil {
		t.Error("nonsense was understood")
	}
	var own greeting
	if err := cbor.Unmarshal(newHello(m.Engine).Hello(peer), &own); err != nil || own.Generation != 1 || own.Last < row.Commit || own.Starts < row.Starts || own.Yours.Commit < row.Commit {
		t.Errorf("says %+v of itself, %v; reported %d", own, err, row.Commit)
	}
}

// A member learns from others that it must not go on; those of an earlier
// generation know nothing of it.
func TestBehind(t *testing.T) {
	peer := pki.Identity{Role: pki.RoleMember, Member: 2, Name: "m2"}
	own := greeting{Generation: 2, Starts: 5, Last: 100}
	for _, c := range []struct {
		name   string
		theirs greeting
		want   string
	}{
		{"nothing on record", greeting{Generation: 2}, ""},
		{"as it was", greeting{Generation: 2, Yours: record{Commit: 100, Starts: 5}}, ""},
		{"set back", greeting{Generation: 2, Yours: record{Commit: 101, Starts: 5}}, "its log ends at 100, and m2 knows that it had 101"},
		{"an earlier start", greeting{Generation: 2, Yours: record{Commit: 90, Starts: 6}}, "start 5, and m2 knows of start 6"},
		{"a later generation", greeting{Generation: 3}, "recovered without it"},
	} {
		err := behind(peer, own, c.theirs)
		if (err == nil) != (c.want == "") || err != nil && (!errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// A directory that was disowned is not opened again, and says why and what to do.
func TestDisowned(t *testing.T) {
	c := Config{Name: "m1", Hostname: "m1.example.test", Dir: t.TempDir()}
	c.SMTP.Listen, c.Cluster.Listen, c.HTTP.Listen = freeAddr(t), freeAddr(t), freeAddr(t)
	if err := c.complete(); err != nil {
		t.Fatal(err)
	}
	id, err := Init(c, "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	var stopped error
	e := newEngine(c, id, hclog.NewNullLogger(), func(err error) { stopped = err })
	e.disown(fmt.Errorf("it was set back: %w", ErrUnusable))
	if !errors.Is(stopped, ErrUnusable) || ExitCode(stopped) != 78 {
		t.Errorf("stopped with %v", stopped)
	}
	for range 2 {
		_, err = Start(c, hclog.NewNullLogger(), nil)
		if !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), "it was set back") || !strings.Contains(err.Error(), "boundary token --replace m1") {
			t.Errorf("started: %v", err)
		}
	}
}

// A certificate renews itself with the same key, is in the state by its serial
// number, and is there after a restart.
func TestRenew(t *testing.T) {
	h := newHouse(t, 1)
	m := h.members[0]
	was := m.id.credentials.Load().Cert.Leaf
	if err := m.renew(pki.RenewAt(was)); err != nil {
		t.Fatal(err)
	}
	is := m.id.credentials.Load().Cert.Leaf
	if is.SerialNumber.Cmp(was.SerialNumber) == 0 || is.NotAfter.Sub(was.NotAfter) < pki.CertLife/2 {
		t.Errorf("ends %v, before %v", is.NotAfter, was.NotAfter)
	}
	m.recordSerial()
	id, err := pki.IdentityOf(is)
	if err != nil || id.Member != m.id.ID {
		t.Fatalf("%+v, %v", id, err)
	}
	h.until("the serial number is in the state", func() bool {
		v := m.fsm.View()
		defer v.Close()
		row, _ := v.Member(m.id.ID)
		return row.Serial == id.Serial
	})
	h.stop(0)
	h.start(0)
	if leaf := h.members[0].id.credentials.Load().Cert.Leaf; leaf.SerialNumber.Cmp(is.SerialNumber) != 0 || time.Until(leaf.NotAfter) < pki.CertLife {
		t.Errorf("after a restart: %v", leaf.NotAfter)
	}
}
