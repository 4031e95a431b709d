package deliver

import (
	"slices"
	"time"

	"mailraft/mail"
)

// A recipient that was finished and comes back, for the same activation, is a
// row that did not change: delivering it again at once, and again, would fill
// a mailbox with copies. repeats remembers what was finished lately and holds
// such jobs back, longer each time.
type repeats struct {
	jobs  map[jobKey]*finished
	held  map[jobKey]hold
	swept mail.Time
}

// hold is a job that must wait, if it is for this activation.
type hold struct {
	until      mail.Time
	activation uint64
}

type finished struct {
	recipients []int
	activation uint64
	times      int
	until      mail.Time
}

// forgetAfter is how long a job is remembered after its wait is over.
const forgetAfter = 10 * time.Second

func newRepeats() repeats {
	return repeats{jobs: make(map[jobKey]*finished), held: make(map[jobKey]hold)}
}

// add notes that recipients of a job were reported finished.
func (r *repeats) add(k jobKey, recipients []int, activation uint64, now mail.Time) {
	r.sweep(now)
	f := r.jobs[k]
	if f == nil || f.activation != activation {
		f = &finished{activation: activation}
		r.jobs[k] = f
	}
	if f.overlaps(recipients) {
		f.times++
	} else {
		f.recipients = append(f.recipients, recipients...)
	}
	f.until = now.Add(schedule[min(f.times, len(schedule)-1)])
}

// hold reports that the job must wait, and remembers it so that it is not
// asked for again until then.
func (r *repeats) hold(k jobKey, recipients []int, activation uint64, now mail.Time) bool {
	f := r.jobs[k]
	if f == nil || f.activation != activation || now >= f.until || !f.overlaps(recipients) {
		return false
	}
	r.held[k] = hold{f.until, activation}
	return true
}

func (r *repeats) holds(k jobKey, activation uint64, now mail.Time) bool {
	h, ok := r.held[k]
	if ok && (now >= h.until || h.activation != activation) {
		delete(r.held, k)
		return false
	}
	return ok
}

// next is the earliest end of a wait after now, zero for none.
func (r *repeats) next(now mail.Time) (next mail.Time) {
	for _, h := range r.held {
		if h.until > now && (next == 0 || h.until < next) {
			next = h.until
		}
	}
	return next
}

func (r *repeats) sweep(now mail.Time) {
	if now < r.swept.Add(forgetAfter) {
		return
	}
	r.swept = now
	for k, f := range r.jobs {
		if now > f.until.Add(forgetAfter) {
			delete(r.jobs, k)
			delete(r.held, k)
		}
	}
}

func (f *finished) overlaps(recipients []int) bool {
	return slices.ContainsFunc(recipients, func(i int) bool { return slices.Contains(f.recipients, i) })
}
