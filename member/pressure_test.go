package member

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

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

// What a running member measures: its own disk, heap and queue, and with mail
// that cannot be delivered the queue rises.
func TestPressure(t *testing.T) {
	h := newHouse(t, 1, func(c *Config) { c.Pressure.MemoryMax = "1GiB" })
	resource := func(name string) resubmit.Resource {
		p := h.members[0].Pressure()
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
		found := h.members[0].CopyHealth()
		return len(found) == 1 && found[0].Healthy && found[0].Database == "DB1" && found[0].Copy == "a"
	})
}
