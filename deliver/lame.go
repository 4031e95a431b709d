package deliver

import "time"

// Slow destinations must not take the places of quick ones. So deliveries are
// of three classes: quick, where the last one was over soon; fresh, where
// nothing is known yet; lame, where the last one failed or took long, and any
// that takes long itself. Half of all places are for the quick alone. Fresh ones
// have the other half, and become lame when they are not over soon, which makes
// room for the next: ten thousand domains that never answer are found out by
// the hundred, while mail flows to the others.
type class uint8

const (
	quick class = iota
	fresh
	lame
)

const (
	quickTime  = 5 * time.Second // from the start of a delivery to its answers
	sweepEvery = time.Second
	lamesMax   = 3 // times the places: deliveries that hang
)

// places counts what runs, by class.
type places struct {
	running    [3]int
	recipients [3]int
	swept      time.Time
}

func (p *places) enter(c class, f *flight) {
	f.class = c
	p.running[c]++
	p.recipients[c] += len(f.job.Recipients)
}

func (p *places) leave(f *flight) {
	p.running[f.class]--
	p.recipients[f.class] -= len(f.job.Recipients)
}

// class is that of the next delivery to a destination. The caller holds mu.
func (d *Deliverer) class(to Destination) class {
	c := d.circuits[keyOf(to)]
	switch {
	case to.Addr == "": // nobody is asked
		return quick
	case c == nil || !c.known:
		return fresh
	case c.failures > 0 || !c.quick:
		return lame
	}
	return quick
}

// free is how many more deliveries of a class may start. The caller holds mu.
func (d *Deliverer) free(c class) int {
	n, half := &d.places.running, max(1, d.Running/2)
	left := d.Running - d.running
	switch c {
	case quick:
		left = max(left, half-n[quick])
	case fresh:
		left = min(half-n[fresh], lamesMax*d.Running-n[fresh]-n[lame])
	case lame:
		left = min(left, half-n[lame])
	}
	return min(left, openMax-d.open)
}

// freeAny is how many of whatever class may start. The caller holds mu.
func (d *Deliverer) freeAny() int { return max(d.free(quick), d.free(fresh), d.free(lame)) }

// fits reports that the recipients of a job may be open too. Of those of lame
// ones half of all may, and of fresh ones a quarter more. The caller holds mu.
func (d *Deliverer) fits(j *Job, c class) bool {
	n, open := len(j.Recipients), &d.places.recipients
	slow := open[fresh] + open[lame]
	switch {
	case d.open == 0:
		return true
	case c == fresh && (open[fresh] > 0 && open[fresh]+n > openMax/4 || slow+n > openMax*3/4):
		return false
	case c == lame && slow+n > openMax/2:
		return false
	}
	return d.open+n <= openMax
}

// sweep looks which deliveries have taken long by now. The caller holds mu.
func (d *Deliverer) sweep() {
	now := time.Now()
	if now.Sub(d.places.swept) < sweepEvery {
		return
	}
	d.places.swept = now
	for _, f := range d.flight {
		if !f.answered && f.class != lame && f.job.Destination.Addr != "" && now.Sub(f.begun) >= quickTime {
			d.places.leave(f)
			d.places.enter(lame, f)
			f.circuit.known, f.circuit.quick = true, false
		}
	}
}
