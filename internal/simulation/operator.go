package simulation

import (
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"mailraft/fsm"
	"mailraft/mail"
)

// operator changes who is a member, one change at a time: a member loses its
// disk and comes back under its name, is drained, or is removed and joins
// later. It begins when the boundary is whole, since of two disks that are lost
// before the first was made good nobody promises anything; what breaks
// meanwhile is left to the faults.
type operator struct {
	*world
	rng *rand.Rand
	wg  sync.WaitGroup
}

// memberChanges are what is counted of it.
var memberChanges = []string{"disk lost", "removal", "drain"}

// run works until stop; what was begun then goes on, and finish waits for it.
func (o *operator) run(stop <-chan struct{}) {
	for !rest(stop, time.Duration(1+o.rng.IntN(8))*time.Second) {
		m := o.machines[o.rng.IntN(len(o.machines))]
		what := o.rng.IntN(5)
		for !o.fit() {
			if rest(stop, 200*time.Millisecond) {
				return
			}
		}
		switch what {
		case 0, 1:
			o.wipe(m)
		case 2:
			o.remove(m)
		default:
			o.drain(m, stop)
		}
	}
}

// finish waits, in a healed boundary, for what was begun.
func (o *operator) finish() {
	done := make(chan struct{})
	go func() { o.wg.Wait(); close(done) }()
	over := func() bool {
		select {
		case <-done:
			return true
		default:
			return false
		}
	}
	if err := o.until("a change of the members comes to its end", 5*time.Minute, over); err != nil {
		o.violate("%v", err)
	}
	<-done
}

// fit reports that all members are up, vote, and have all that any of them had
// a moment ago, content included.
func (o *operator) fit() bool {
	var furthest uint64
	o.inside(func(p *process) {
		at, _ := p.engine.State().Applied()
		furthest = max(furthest, at)
	})
	running := 0
	o.inside(func(p *process) {
		v := p.engine.State().View()
		defer v.Close()
		if p.engine.Ready() != nil || v.Tables.Applied().Index < furthest {
			return
		}
		b, _ := v.Boundary()
		n := 0
		for m := range v.Members() {
			if !m.Up || m.Draining || m.Retired != 0 {
				return
			}
			n++
		}
		if n != len(o.machines) || len(b.Voters) != n || b.NextAt != 0 {
			return
		}
		for m := range v.Messages(mail.ID{}) {
			if _, ok := p.engine.Content().Stat(m.Content.ID); !ok {
				return
			}
		}
		running++
	})
	return running == len(o.machines)
}

// insist repeats a change until it is carried out.
func (o *operator) insist(what string, do func() error) {
	for tries := 0; ; tries++ {
		err := do()
		if err == nil {
			return
		}
		if tries == 300 {
			o.violate("%s: %v", what, err)
			return
		}
		time.Sleep(time.Second)
	}
}

// wipe takes a machine's disk away, and lets it come back with an empty one.
func (o *operator) wipe(m *machine) {
	m.setAway(true)
	p := m.process()
	if p == nil || !p.crash() {
		m.setAway(false)
		return
	}
	o.event("%s (%v) loses its disk", m.name, p.id)
	o.count.fault("disk lost")
	o.join(m, m.name)
}

// join makes a machine another member, in the place of one if that is named.
func (o *operator) join(m *machine, replaced string) {
	o.mu.Lock()
	seed, pause := o.Seed+o.lastID.Add(1)*1000, time.Duration(o.rng.IntN(20))*time.Second
	o.mu.Unlock()
	m.mu.Lock()
	m.id, m.disk, m.starts = mail.MemberID(o.lastID.Load()), newDisk(seed), 0
	m.mu.Unlock()
	time.Sleep(pause)
	token := [32]byte{2, byte(o.lastID.Load())}
	o.insist("token for "+m.name, func() error {
		_, err := o.propose(fsm.KindToken, fsm.TokenAdd{Hash: token, Role: "member", Until: mail.At(time.Now().Add(1000 * days)), Uses: 1, Replace: replaced})
		return err
	})
	o.insist("joining of "+m.name, func() error {
		_, err := o.propose(fsm.KindMemberAdd, fsm.MemberAdd{Member: m.row(), Token: token})
		return err
	})
	o.event("%s joins as %v", m.name, m.row().ID)
	m.setAway(false)
	o.restart(m)
}

// remove takes a member out of the boundary, and lets its machine join anew.
func (o *operator) remove(m *machine) {
	id := m.row().ID
	o.event("%s (%v) is removed", m.name, id)
	o.count.fault("removal")
	err := errors.New("not asked yet")
	o.insist("removal of "+m.name, func() error {
		if o.former(id) {
			return nil
		}
		if err != nil { // a refusal may be over in a moment
			_, err = o.propose(fsm.KindMemberRemove, fsm.MemberRemove{Member: id})
		}
		return errors.Join(err, errors.New("it is a member still"))
	})
	m.setAway(true)
	if p := m.process(); p != nil {
		p.crash()
	}
	o.join(m, "")
}

func (o *operator) former(id mail.MemberID) (was bool) {
	o.inside(func(p *process) {
		v := p.engine.State().View()
		defer v.Close()
		if _, ok := v.Former(id); ok {
			was = true
		}
	})
	return was
}

// drain drains a member for a while.
func (o *operator) drain(m *machine, stop <-chan struct{}) {
	id := m.row().ID
	o.event("%s is drained", m.name)
	o.count.fault("drain")
	o.insist("draining of "+m.name, func() error { _, err := o.propose(fsm.KindDrain, fsm.Drain{Member: id}); return err })
	drained := func() (is bool) {
		o.inside(func(p *process) {
			v := p.engine.State().View()
			defer v.Close()
			row, _ := v.Member(id)
			is = is || row.Drained != 0
		})
		return is
	}
	for end := time.Now().Add(time.Minute); !drained() && time.Now().Before(end) && !rest(stop, time.Second); {
	}
	o.event("%s is drained: %v", m.name, drained())
	o.insist("end of draining "+m.name, func() error {
		_, err := o.propose(fsm.KindDrain, fsm.Drain{Member: id, Stop: true})
		return err
	})
}

func (m *machine) setAway(is bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.away = is
}
