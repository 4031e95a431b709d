package deliver

import (
	"time"

	"mailraft/mail"
)

const (
	widthMax    = 20          // deliveries at once to one destination
	yieldingMax = 5           // of these, resubmissions
	probeMax    = time.Minute // longest time between two probes of a dead destination
	calmTime    = time.Minute // before one that refused further connections gets more
	crowdedWait = time.Second // where others have them all
)

// circuit is what is known of one destination's address. While it is open
// nothing is tried there but a probe now and then: one message, which alone
// bears the failure; the others keep their place and their attempts.
//
// It belongs to the address and the activation, not to the queue: a database
// that was activated elsewhere, or came back from a backup, begins anew.
type circuit struct {
	most     int // deliveries at once that it may have
	running  int
	width    int       // deliveries at once; grows by one with each success
	failures int       // in a row; the circuit is open while above zero
	until    mail.Time // no probe before
	round    int       // deliveries begun before the last failure do not count as further ones
	draining bool      // the last probe gave up an old message: go on with the next at once
	calm     mail.Time // it has refused further connections: no more than width until then
	known    bool      // there was a delivery
	quick    bool      // the last one was over soon
	reply    mail.Reply
}

type circuitKey struct {
	key, addr  string
	activation uint64
}

func keyOf(to Destination) circuitKey { return circuitKey{to.Key, to.Addr, to.Activation} }

// circuit returns the destination's circuit; a new one takes the place of those
// that the same queue had. The caller holds mu.
func (d *Deliverer) circuit(to Destination) *circuit {
	k := keyOf(to)
	if c := d.circuits[k]; c != nil {
		return c
	}
	for old, c := range d.circuits {
		if old.key == k.key || len(d.circuits) >= circuitsMax && c.idle() {
			delete(d.circuits, old)
		}
	}
	c := &circuit{width: 1, most: widthMax}
	if to.Yields {
		c.most = yieldingMax
	}
	d.circuits[k] = c
	return c
}

// room is how many deliveries may start now.
func (c *circuit) room(now mail.Time) int {
	width := c.width
	if now < c.until {
		return 0
	}
	if c.failures > 0 {
		width = 1
		if c.draining {
			width = c.most
		}
	}
	return max(0, width-c.running)
}

// down notes that the destination could not be used. Where the message is
// given up for its age anyway there is no wait before the next probe:
// otherwise a long queue for a dead destination would take days to be
// returned, one message a minute.
func (c *circuit) down(now mail.Time, round int, seed mail.ID, gaveUp bool, reply mail.Reply) {
	c.reply = reply
	if gaveUp {
		c.failures, c.until, c.draining = max(c.failures, 1), now, true
		return
	}
	if round != c.round {
		return
	}
	c.round++
	c.failures++
	c.width, c.draining = 1, false
	wait := schedule[min(c.failures, len(schedule))-1]
	c.until = now.Add(spread(min(wait, probeMax), seed[:], c.failures))
}

// crowded notes that the destination takes no more connections than it has now.
// With none of ours among them the next try is a moment later.
func (c *circuit) crowded(now mail.Time) {
	c.width, c.calm = max(1, c.running), now.Add(calmTime)
	if c.running == 0 {
		c.until = now.Add(crowdedWait)
	}
}

// up notes that the destination answered.
func (c *circuit) up(uncertain bool, now mail.Time) {
	c.failures, c.until, c.draining, c.reply = 0, 0, false, mail.Reply{}
	switch {
	case uncertain:
		c.width = max(1, c.width/2)
	case now >= c.calm:
		c.width = min(c.most, c.width+1)
	}
}

// idle reports that forgetting the circuit changes nothing that matters.
func (c *circuit) idle() bool { return c.running == 0 && c.failures == 0 }
