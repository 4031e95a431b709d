package torture

import (
	"math/rand/v2"
	"time"
)

// Fault is something that fails.
type Fault string

// The faults.
const (
	Kill     Fault = "kill"            // SIGKILL of one member
	KillTwo  Fault = "kill a majority" // at once
	KillAll  Fault = "kill all"        // at once
	Freeze   Fault = "freeze"          // SIGSTOP, SIGCONT
	Restart  Fault = "restart"         // in order
	Isolate  Fault = "isolate"         // cut off from the other members, not from clients and mailbox servers
	Deaf     Fault = "deaf"            // hears nothing of the other members, and is heard
	Mute     Fault = "mute"            // the reverse
	Lossy    Fault = "lossy link"      // delay and loss
	Full     Fault = "disk full"       // to the last byte
	Tight    Fault = "disk tight"      // below what must stay free
	SlowDisk Fault = "slow disk"       // syncs take long
	BadDisk  Fault = "failing disk"    // writes fail
	Clock    Fault = "clock"           // one member's jumps
	Wipe     Fault = "wipe"            // a member loses its disk, and joins anew
	FlipMail Fault = "flip content"    // bits, in segments of a member that does not run
	CutMail  Fault = "cut content"     // a segment ends early
	FlipLog  Fault = "flip log"        // bits, in the Raft log
	FlipRows Fault = "flip state"      // bits, in the state tables
	Failover Fault = "failover"        // the mailbox server of the active copy dies
	Activate Fault = "activate"        // the operator activates the other copy
	Resubmit Fault = "resubmit"        // the operator has everything sent again
	Lead     Fault = "transfer"        // of leadership
)

// faults are all of them, with how often they come.
var faults = []struct {
	fault  Fault
	weight int
}{
	{Kill, 6}, {KillTwo, 3}, {KillAll, 2}, {Freeze, 4}, {Restart, 2}, {Isolate, 4}, {Deaf, 3}, {Mute, 3}, {Lossy, 3}, {Full, 2}, {Tight, 2},
	{SlowDisk, 3}, {BadDisk, 3}, {Clock, 2}, {Wipe, 3}, {FlipMail, 3}, {CutMail, 2}, {FlipLog, 2}, {FlipRows, 2}, {Failover, 4}, {Activate, 2}, {Lead, 2},
}

// beside are what may go on while something else fails.
var beside = []Fault{"", "", Failover, Activate, Resubmit, Lead}

// damages reports whether the fault harms a disk: then all members must have
// everything before, and again before the next.
func (f Fault) damages() bool {
	switch f {
	case Wipe, FlipMail, CutMail, FlipLog, FlipRows:
		return true
	}
	return false
}

// Step is one fault of a run.
type Step struct {
	Fault  Fault
	Beside Fault
	Member int           // that it happens to, from 0
	For    time.Duration // how long it lasts
	Pause  time.Duration // until the next
	Draw   uint64        // whatever else is left to chance
}

// plan draws the steps of a seed. The same seed has the same steps on every
// machine; what a machine cannot do is left out when its turn comes.
type plan struct{ rng *rand.Rand }

func newPlan(seed uint64) *plan { return &plan{rand.New(rand.NewPCG(seed, 0x70747572))} }

func (p *plan) next() Step {
	total := 0
	for _, f := range faults {
		total += f.weight
	}
	n, s := p.rng.IntN(total), Step{}
	for _, f := range faults {
		if n -= f.weight; n < 0 {
			s.Fault = f.fault
			break
		}
	}
	s.Beside = beside[p.rng.IntN(len(beside))]
	s.Member, s.Draw = p.rng.IntN(members), p.rng.Uint64()
	s.For = time.Duration(1000+p.rng.IntN(7000)) * time.Millisecond
	s.Pause = time.Duration(p.rng.IntN(3000)) * time.Millisecond
	return s
}
