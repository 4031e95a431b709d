package member

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"runtime/metrics"
	"strconv"
	"sync/atomic"
	"time"

	"mailraft/resubmit"

	"golang.org/x/sys/unix"
)

// Bounds of measuring.
const (
	pressureEvery = 2 * time.Second
	countShare    = 50 // counting the queue may take one part in so many of the time
)

// pressure measures how hard pressed this member is. Only run writes the
// meters; what they read is for all.
type pressure struct {
	m      *Engine
	disk   resubmit.Meter
	memory resubmit.Meter
	queue  resubmit.Meter
	heap   []metrics.Sample
	last   atomic.Pointer[resubmit.Pressure]
}

func newPressure(m *Engine) *pressure {
	c := &m.cfg
	percent := func(n int) int64 {
		if c.Pressure.memoryMax == 0 { // not known, or no limit
			return math.MaxInt64
		}
		return c.Pressure.memoryMax / 100 * int64(n)
	}
	p := &pressure{
		m:      m,
		disk:   resubmit.Meter{Name: "disk", Medium: c.Disk.spaceMedium, High: c.Disk.spaceMin, Falling: true},
		memory: resubmit.Meter{Name: "memory", Medium: percent(c.Pressure.MemoryMedium), High: percent(c.Pressure.MemoryHigh)},
		queue:  resubmit.Meter{Name: "queue", Medium: c.Pressure.QueueMedium, High: c.Pressure.QueueHigh},
		// What the last collection found in use: the heap as a whole grows and
		// shrinks with the collector.
		heap: []metrics.Sample{{Name: "/gc/heap/live:bytes"}},
	}
	p.last.Store(&resubmit.Pressure{})
	return p
}

// Pressure is how hard pressed this member is, by free space of its data
// directory, live heap, and the active messages of the boundary.
func (m *Engine) Pressure() resubmit.Pressure { return *m.pressure.last.Load() }

// run measures until the member stops. The queue is counted key by key; where
// it is long that is done the less often.
func (p *pressure) run() {
	var queue resubmit.Resource
	var next time.Time
	for {
		if begin := time.Now(); !begin.Before(next) {
			queue = p.queue.Read(p.m.activeMessages(p.queue.High))
			next = begin.Add(countShare * time.Since(begin))
		}
		now := resubmit.PressureOf(p.disk.Read(p.m.content.Stats().Free), p.memory.Read(p.live()), queue)
		was := p.last.Swap(&now)
		if now.Level != was.Level {
			p.m.watch.Tell() // the leader is to know at once
		}
		if now.Level > was.Level {
			p.m.log.Warn("back pressure rises", "level", now.Level, "reason", now.Reason())
		} else if now.Level < was.Level {
			p.m.log.Info("back pressure falls", "level", now.Level, "reason", now.Reason())
		}
		if !p.m.pause(pressureEvery) {
			return
		}
	}
}

func (p *pressure) live() int64 {
	metrics.Read(p.heap)
	if p.heap[0].Value.Kind() != metrics.KindUint64 || p.heap[0].Value.Uint64() == 0 {
		return -1 // nothing was collected yet
	}
	return int64(min(p.heap[0].Value.Uint64(), math.MaxInt64))
}

// activeMessages counts the active messages of the boundary; at most so many,
// more make no difference.
func (m *Engine) activeMessages(most int64) int64 {
	v := m.fsm.View()
	defer v.Close()
	return v.CountActive(most)
}

// memoryMax is what this process may use, as the system says: the limit of its
// control group, or the memory of the machine; 0 if neither is known.
func memoryMax() int64 {
	limit := int64(math.MaxInt64)
	for _, path := range append(cgroupFiles("/proc/self/cgroup", "/sys/fs/cgroup"), "/sys/fs/cgroup/memory/memory.limit_in_bytes") {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 64); err == nil && n > 0 { // "max" is none
			limit = min(limit, n)
		}
	}
	var s unix.Sysinfo_t
	if unix.Sysinfo(&s) == nil {
		limit = min(limit, int64(s.Totalram)*int64(s.Unit))
	}
	if limit == math.MaxInt64 {
		return 0
	}
	return limit
}

// cgroupFiles are the limits of the control group (version 2) that the process
// is in, and of those around it.
func cgroupFiles(self, root string) []string {
	b, err := os.ReadFile(self)
	if err != nil {
		return nil
	}
	var files []string
	for line := range bytes.Lines(b) {
		path, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("0::"))
		if !ok {
			continue
		}
		for dir := filepath.Join(root, string(path)); len(dir) >= len(root); dir = filepath.Dir(dir) {
			files = append(files, filepath.Join(dir, "memory.max"))
		}
	}
	return files
}
