package deliver

import (
	"context"
	"errors"
	"time"

	"mailraft/mail"
)

const (
	recallEvery = 200 * time.Millisecond // how often destinations in flight are looked at, at most
	recallWait  = 5 * time.Second        // how long a delivery that was recalled has to end
)

var errMoved = errors.New("the destination is another one now")

type jobKey struct {
	id  mail.ID
	key string
}

// flight is a job from its start until its report is applied.
type flight struct {
	job      *Job
	circuit  *circuit
	round    int       // of the circuit
	lease    uint64    // run of the lease
	since    mail.Time // begun then
	ctx      context.Context
	cancel   context.CancelFunc
	answered bool // the transport has; mu
	recalled bool // its destination was replaced meanwhile; mu
	left     bool // it did not end when it was recalled, and nobody waits for it; mu
	begun    time.Time
	class    class // mu
}

func (f *flight) key() jobKey { return jobKey{f.job.ID, f.job.Destination.Key} }

// release ends a flight. The caller holds mu.
func (d *Deliverer) release(f *flight) {
	f.cancel()
	clear(d.apart)
	d.open -= len(f.job.Recipients)
	if d.flight[f.key()] == f { // else it was left behind, and the message goes elsewhere
		delete(d.flight, f.key())
	}
}

// recall calls off deliveries to what their queue's key does not lead to any
// more: a server that is replaced because it is mute would hold them for
// minutes. What it takes nevertheless does not count, so nothing is lost, and
// the message is free for its new destination.
func (d *Deliverer) recall() {
	for d.ctx.Err() == nil {
		changed := d.Queue.Changed()
		d.recallMoved()
		t := time.NewTimer(recallEvery)
		select {
		case <-t.C:
		case <-d.ctx.Done():
			t.Stop()
		}
		select {
		case <-changed:
		case <-d.ctx.Done():
		}
	}
}

// recallMoved asks of each destination in flight whether it still is one.
func (d *Deliverer) recallMoved() {
	d.mu.Lock()
	current := map[Destination]bool{}
	for _, f := range d.flight {
		if !f.answered {
			current[f.job.Destination] = true
		}
	}
	d.mu.Unlock()
	moved := false
	for to := range current {
		current[to] = d.Queue.Current(to)
		moved = moved || !current[to]
	}
	if !moved {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.flight {
		if is, asked := current[f.job.Destination]; asked && !is && !f.answered && !f.recalled {
			f.recalled = true
			f.cancel()
			time.AfterFunc(recallWait, func() { d.leave(f) })
		}
	}
}

// leave gives up waiting for a delivery that was recalled and did not end, as
// one does that hangs in a file system. It cannot take the final step any more.
func (d *Deliverer) leave(f *flight) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f.answered {
		return
	}
	f.left = true
	d.running--
	d.places.leave(f)
	f.circuit.running--
	d.release(f)
	d.Logger.Warn("a delivery hangs, and is left behind", "id", f.job.ID, "destination", f.job.Destination.Key, "address", f.job.Destination.Addr)
	d.Kick()
}

// final is asked before the final step of a delivery.
func (d *Deliverer) final(f *flight) error {
	d.mu.Lock()
	recalled := f.recalled
	d.mu.Unlock()
	switch {
	case recalled:
		return errMoved
	case d.ctx.Err() != nil || d.Lease.Run() != f.lease:
		return errLease
	}
	return nil
}
