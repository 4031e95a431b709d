package member

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailraft/fsm"
	"mailraft/internal/ledger"
	"mailraft/resubmit"
)

func TestCgroupFiles(t *testing.T) {
	self := filepath.Join(t.TempDir(), "cgroup")
	if err := os.WriteFile(self, []byte("12:pids:/x\n0::/system.slice/mailraft.service\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := []string{"/cg/system.slice/mailraft.service/memory.max", "/cg/system.slice/memory.max", "/cg/memory.max"}
	if got := cgroupFiles(self, "/cg"); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := cgroupFiles(self+"-away", "/cg"); got != nil {
		t.Errorf("without the file: %q", got)
	}
	if n := memoryMax(); n < 1<<20 {
		t.Errorf("this machine has %d bytes", n)
	}
}

func TestLevelsOfPressure(t *testing.T) {
	valid := func() Config { return Config{Name: "m1", Dir: "/d", Cluster: Cluster{Listen: "127.0.0.1:1"}} }
	c := valid()
	c.Disk.SpaceMin = "1MiB"
	if err := c.complete(); err != nil || c.Disk.spaceMedium != 2<<20 || c.Pressure.memoryMax != memoryMax() || c.Pressure.QueueMedium != 100_000 {
		t.Errorf("defaults: %v, %+v %+v", err, c.Disk, c.Pressure)
	}
	for want, change := range map[string]func(*Config){
		"disk.space-medium":     func(c *Config) { c.Disk.SpaceMin, c.Disk.SpaceMedium = "2GiB", "1GiB" },
		"pressure.memory-max":   func(c *Config) { c.Pressure.MemoryMax = "much" },
		"pressure.memory-medi":  func(c *Config) { c.Pressure.MemoryMedium = 80 },
		"pressure.memory-high":  func(c *Config) { c.Pressure.MemoryHigh = 101 },
		"pressure.queue-medium": func(c *Config) { c.Pressure.QueueMedium = -1 },
		"pressure.queue-high":   func(c *Config) { c.Pressure.QueueHigh = 5 },
	} {
		c := valid()
		change(&c)
		if err := c.complete(); err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), " and ", " and pressure."), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// What a running member measures; and when mail cannot be delivered the queue
// rises: requests wait for it to fall, and at last no new mail is taken. What
// waits is delivered all the same.
func TestPressure(t *testing.T) {
	h := newHouse(t, 1, func(c *Config) {
		c.Pressure.MemoryMax, c.Pressure.QueueMedium, c.Pressure.QueueHigh = "1GiB", 5, 10
	})
	m := h.members[0]
	resource := func(name string) resubmit.Resource {
		p := m.Pressure()
		i := slices.IndexFunc(p.Resources, func(r resubmit.Resource) bool { return r.Name == name })
		if i < 0 {
			return resubmit.Resource{}
		}
		return p.Resources[i]
	}
	runtime.GC()
	h.until("it is measured", func() bool { return resource("memory").Value > 0 })
	if d := resource("disk"); d.Value <= 0 || d.High != 1<<20 || d.Medium != 2<<20 {
		t.Errorf("disk: %+v", d)
	}
	if m := resource("memory"); m.Medium != (1<<30)/100*50 || m.High != (1<<30)/100*75 {
		t.Errorf("memory: %+v", m)
	}
	h.until("the copy is found healthy", func() bool {
		found := m.CopyHealth()
		return len(found) == 1 && found[0].Healthy && found[0].Database == "DB1" && found[0].Copy == "a"
	})

	h.propose(fsm.KindConfigure, fsm.Configure{Set: map[string]string{"reject-message-on-shadow-failure": "false"}})
	h.send(3)
	h.propose(fsm.KindQueue, fsm.QueueChange{Key: "db/DB1", Suspend: true})
	l := ledger.New()
	post := func(ctx context.Context, n int) {
		s := &ledger.Sender{Ledger: l, From: "s@example.org", Targets: []string{m.smtpAddrs[0]}, Count: n, Sessions: 1, Pause: 50 * time.Millisecond,
			Recipient: func(int) string { return "u@example.test" }, Size: func(int) int { return 100 }}
		s.Run(ctx)
	}
	post(h.ctx, 7)
	h.until("the queue is long", func() bool { return resource("queue").Level == resubmit.Medium })
	a := h.propose(fsm.KindRequestAdd, fsm.RequestAdd{Database: "DB1"})
	request := func() fsm.Request {
		v := m.fsm.View()
		defer v.Close()
		id, _ := strconv.ParseUint(a.Text, 10, 64)
		r, _ := v.Request(id)
		return r
	}
	h.until("the request is suspended", func() bool { r := request(); return r.State == fsm.RequestSuspended && r.Auto })
	if r := request(); r.Counts.Sent != 0 || !strings.Contains(r.StateReason, "m1: queue: 7, medium begins at 5") {
		t.Errorf("suspended: %+v", r)
	}
	post(h.ctx, 3)
	h.until("the queue is too long", func() bool { return resource("queue").Level == resubmit.High })
	if _, err := m.Begin(h.ctx); err == nil || !strings.HasPrefix(err.Error(), "452 4.3.1 the queue of m1.example.test is too long") {
		t.Errorf("new mail: %v", err)
	}
	if u, err := m.begin(); err != nil { // a report to a sender
		t.Errorf("our own mail: %v", err)
	} else {
		u.Abort()
	}
	h.propose(fsm.KindQueue, fsm.QueueChange{Key: "db/DB1"})
	h.until("the request is completed", func() bool { return request().State == fsm.RequestCompleted })
	if r := request(); r.Counts.Delivered != 3 || r.Counts.Duplicates != 3 {
		t.Errorf("completed: %+v", r)
	}
	post(h.ctx, 1)
}
