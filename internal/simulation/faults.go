package simulation

import (
	"math/rand/v2"
	"time"
)

// faults breaks things until it is over. What is broken at one time is
// repaired some time later, or at the end.
type faults struct {
	*world
	rng  *rand.Rand
	stop <-chan struct{}
	end  time.Time
}

// fault does something to a machine, and undoes it after some time.
type fault struct {
	name   string
	weight int
	do     func(f *faults, m *machine, length time.Duration)
}

var faultTable = []fault{
	{"crash", 5, (*faults).crash},
	{"power loss everywhere", 2, (*faults).blackout},
	{"isolate", 6, (*faults).isolate},
	{"cut one way", 4, (*faults).oneWay},
	{"break connections", 3, (*faults).breakConns},
	{"slow network", 2, (*faults).slow},
	{"cut off from the mailbox server", 2, (*faults).noMailbox},
	{"stall disk", 4, (*faults).stall},
	{"full disk", 3, (*faults).full},
	{"failing disk", 2, (*faults).failing},
	{"disk without any space", 2, (*faults).fullest},
	{"wrong clock", 3, (*faults).wrongClock},
	{"wrong clocks everywhere", 1, (*faults).wrongClocks},
}

func (f *faults) run() {
	total := 0
	for _, x := range faultTable {
		total += x.weight
	}
	for time.Now().Before(f.end) {
		if f.Only != "" {
			f.only()
			continue
		}
		pick, chosen := f.rng.IntN(total), 0
		for pick >= faultTable[chosen].weight {
			pick -= faultTable[chosen].weight
			chosen++
		}
		f.begin(faultTable[chosen], f.length())
		if rest(f.stop, time.Duration(500+f.rng.IntN(9000))*time.Millisecond) {
			return
		}
	}
}

func (f *faults) begin(x fault, length time.Duration) {
	m := f.machines[f.rng.IntN(len(f.machines))]
	f.event("%s: %s for %v", x.name, m.name, length)
	f.count.fault(x.name)
	f.tasks.Go(func() { x.do(f, m, length) })
}

// only does the one thing that was asked for, long enough for a takeover,
// whenever the boundary has worked for a while.
func (f *faults) only() {
	rest(f.stop, f.span)
	for _, x := range faultTable {
		if x.name == f.Only {
			f.begin(x, 2*f.span)
		}
	}
	rest(f.stop, 2*f.span)
}

// length is from a tenth of a second to three times the takeover span: as
// often far below it as around it, where members are taken for down.
func (f *faults) length() time.Duration {
	most := 3 * f.span
	for range f.rng.IntN(2) * f.rng.IntN(4) {
		most /= 3
	}
	return 100*time.Millisecond + time.Duration(f.rng.Int64N(int64(most)))
}

func (f *faults) crash(m *machine, length time.Duration) {
	p := m.process()
	if p == nil || !p.crash() {
		return
	}
	f.count.crashes.Add(1)
	rest(f.stop, length)
	f.restart(m)
}

// restart starts a machine that does not run.
func (w *world) restart(m *machine) {
	m.mu.Lock()
	busy := m.running != nil || m.starting || m.away || m.disk.is(diskFullest)
	m.starting = !busy || m.starting
	m.mu.Unlock()
	if busy {
		return
	}
	if err := m.start(); err != nil {
		w.violate("%v", err)
	}
	m.mu.Lock()
	m.starting = false
	m.mu.Unlock()
}

func (f *faults) blackout(_ *machine, length time.Duration) {
	for _, m := range f.machines {
		if p := m.process(); p != nil && p.crash() {
			f.count.crashes.Add(1)
		}
	}
	rest(f.stop, length)
	for _, m := range f.machines {
		f.restart(m)
	}
}

// isolate cuts a machine off from the others; clients and the mailbox server
// still reach it.
func (f *faults) isolate(m *machine, length time.Duration) {
	var ways [][2]int
	for _, o := range f.machines {
		if o != m {
			ways = append(ways, [2]int{o.i, m.i}, [2]int{m.i, o.i})
		}
	}
	f.cutFor(length, ways...)
}

func (f *faults) oneWay(m *machine, length time.Duration) {
	other := (m.i + 1) % len(f.machines)
	f.cutFor(length, [2]int{m.i, other})
}

func (f *faults) noMailbox(m *machine, length time.Duration) {
	f.cutFor(length, [2]int{m.i, f.outside()}, [2]int{f.outside(), m.i})
}

func (f *faults) cutFor(length time.Duration, ways ...[2]int) {
	f.net.cut(true, ways...)
	rest(f.stop, length)
	f.net.cut(false, ways...)
}

func (f *faults) breakConns(m *machine, _ time.Duration) { f.net.breakConns(m.i, -1) }

func (f *faults) slow(_ *machine, length time.Duration) {
	f.net.slowTo(min(length/4, 3*time.Second))
	rest(f.stop, length)
	f.net.slowTo(0)
}

// stall holds every sync up. The guard of the log gives up after ten seconds.
func (f *faults) stall(m *machine, length time.Duration) {
	length = min(length, 30*time.Second)
	m.excuse()
	m.device().stall(length)
	rest(f.stop, length)
}

func (f *faults) full(m *machine, length time.Duration) {
	m.device().set([]trouble{diskFull, diskFuller}[m.i%2])
	rest(f.stop, length)
	m.device().set(0)
}

// fullest leaves no room for the log and the tables either: the process stops.
func (f *faults) fullest(m *machine, length time.Duration) {
	if m.process() == nil {
		return
	}
	m.excuse()
	d := m.device()
	d.set(diskFullest)
	rest(f.stop, length)
	d.set(0)
	f.restart(m)
}

func (f *faults) failing(m *machine, length time.Duration) {
	if m.process() == nil {
		return
	}
	m.excuse()
	m.device().set(diskFailing)
	rest(f.stop, length)
	if m.process() == nil {
		f.restart(m)
	}
}

// excuse notes that the process on m may stop itself.
func (m *machine) excuse() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.excused = true
}

// device is the disk that a machine has now.
func (m *machine) device() *disk {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.disk
}

const days = 24 * time.Hour

func (f *faults) wrongClock(m *machine, length time.Duration) {
	if off := m.clock.off(); off != 0 {
		return
	}
	m.clock.set([]time.Duration{3 * days, -days, time.Hour, -10 * time.Second}[m.i%4])
	f.noteClocks()
	rest(f.stop, 2*length)
	m.clock.set(0)
}

// wrongClocks sets all clocks three days ahead, as a broken time server would,
// and back.
func (f *faults) wrongClocks(_ *machine, length time.Duration) {
	for _, m := range f.machines {
		m.clock.set(3 * days)
	}
	f.noteClocks()
	rest(f.stop, 2*length)
	for _, m := range f.machines {
		m.clock.set(0)
	}
}

// noteClocks keeps how far ahead a majority of the clocks has ever been: state
// machine time may be there, and no further.
func (w *world) noteClocks() {
	for _, at := range w.machines {
		n := 0
		for _, m := range w.machines {
			if m.clock.off() >= at.clock.off() {
				n++
			}
		}
		w.mu.Lock()
		if n > len(w.machines)/2 {
			w.ahead = max(w.ahead, at.clock.off())
		}
		w.mu.Unlock()
	}
}

// heal repairs everything.
func (w *world) heal() {
	w.net.heal()
	for _, m := range w.machines {
		m.device().set(0)
		m.device().stall(0)
		m.clock.set(0)
		w.restart(m)
	}
}

// revive starts machines whose process has stopped itself, after a while.
func (w *world) revive(stop <-chan struct{}) {
	idle := map[*machine]int{}
	for !rest(stop, time.Second) {
		for _, m := range w.machines {
			if m.process() != nil {
				idle[m] = 0
				continue
			}
			if idle[m]++; idle[m] > 40 {
				w.restart(m)
			}
		}
	}
}
