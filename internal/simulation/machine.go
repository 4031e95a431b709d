package simulation

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"mailraft/deliver"
	"mailraft/mail"
	"mailraft/member"
	"mailraft/store/raftlog"

	"github.com/hashicorp/raft"
)

// machine is what stays when a member's process ends: disk, clocks, address.
type machine struct {
	world *world
	i     int
	name  string
	clock *clock

	mu       sync.Mutex
	id       mail.MemberID // of the member that its disk is of
	disk     *disk
	starts   uint64
	running  *process // nil while there is none
	starting bool
	away     bool // it is being made another member: nobody starts it
	excused  bool // something was done to it that ends a process
}

// clock is a machine's clocks: its boot time runs fast or slow, its wall clock
// may be wrong.
type clock struct {
	start time.Time
	rate  float64

	mu    sync.Mutex
	wrong time.Duration
}

// Boot implements cluster.Clock.
func (c *clock) Boot() time.Duration { return time.Duration(float64(time.Since(c.start)) * c.rate) }

// Wall implements cluster.Clock.
func (c *clock) Wall() mail.Time { return mail.At(time.Now().Add(c.off())) }

func (c *clock) off() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wrong
}

func (c *clock) set(wrong time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrong = wrong
}

// process is one run of a member, from its start to its crash.
type process struct {
	machine  *machine
	id       mail.MemberID
	disk     *disk
	ctx      context.Context // ends with it
	cancel   context.CancelFunc
	gone     <-chan struct{} // the same, for what wants a channel
	trans    *raft.InmemTransport
	contents *listener
	log      *raftlog.Store
	engine   *member.Engine

	mu      sync.Mutex
	inside  int           // who looks into the engine, or is served by it
	closing chan struct{} // made when it is to be closed; closed when nobody is inside
}

// enter keeps the engine open until leave; false: it is over.
func (p *process) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing != nil {
		return false
	}
	p.inside++
	return true
}

func (p *process) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.inside--; p.inside == 0 && p.closing != nil {
		close(p.closing)
	}
}

// empty lets nobody in any more, and waits for those inside.
func (p *process) empty() {
	p.mu.Lock()
	if p.closing == nil { // else it is stopped and crashes
		p.closing = make(chan struct{})
		if p.inside == 0 {
			close(p.closing)
		}
	}
	p.mu.Unlock()
	<-p.closing
}

func (p *process) dead() bool { return p.ctx.Err() != nil }

// process is the running one, or nil.
func (m *machine) process() *process {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.running
}

// start runs a member on what the disk holds.
func (m *machine) start() error {
	w := m.world
	m.mu.Lock()
	m.starts++
	m.excused = false
	p := &process{machine: m, id: m.id, disk: m.disk, contents: newListener()}
	id := &member.Identity{ID: m.id, Name: m.name, Addr: m.name, Starts: m.starts}
	m.mu.Unlock()
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.gone = p.ctx.Done()
	_, p.trans = raft.NewInmemTransportWithTimeout(raft.ServerAddress(m.name), 2*time.Second)
	fs, log := p.disk.open(p.gone, p.fatal)
	db, err := raftlog.Journaled(log, fs, "raft.journal", uint64(id.Starts))
	if err != nil {
		p.cancel()
		return fmt.Errorf("start %s: %w", m.name, err)
	}
	p.log = raftlog.Guard(db, raftlog.Options{Path: "log of " + m.name, Logger: w.log, Fatal: p.fatal})
	c := member.Config{Name: m.name, Site: fmt.Sprint("site", m.i%2), Hostname: m.name + ".example.test", Dir: "data"}
	c.Disk.SpaceMin = "1MiB"
	if w.shortLogs {
		c.Log.EntriesMax, c.Log.SnapshotEntries, c.Log.SnapshotEvery = 60, 60, "1s"
	}
	p.engine, err = member.OpenEngine(c, id, fs, p.log, member.Wires{Received: filepath.Join(w.dir, m.name, fmt.Sprint(id.Starts)),
		Transport: &raftNet{p.trans, p}, Link: p, Content: p.dial, Clock: m.clock}, w.log.Named(m.name), p.fatal)
	if err != nil {
		p.cancel()
		_ = p.log.Close()
		return fmt.Errorf("start %s: %w", m.name, err)
	}
	m.mu.Lock()
	m.running = p
	m.mu.Unlock()
	p.engine.Serve(p.contents)
	p.engine.Deliver(map[string]deliver.Transport{"lmtp": p}, w.lease(p.engine.Node().Lease()))
	w.tasks.Go(p.startAnew)
	return nil
}

// startAnew does what an installed snapshot may ask for.
func (p *process) startAnew() {
	select {
	case err := <-p.engine.Restart():
		p.machine.world.event("%s starts anew: %v", p.machine.name, err)
		if p.crash() {
			p.machine.world.restart(p.machine)
		}
	case <-p.gone:
	}
}

// fatal is the end of a process that cannot keep a promise.
func (p *process) fatal(err error) {
	m := p.machine
	m.mu.Lock()
	known := m.running != p || m.excused || p.dead()
	m.mu.Unlock()
	if !known {
		m.world.violate("%s stopped for no reason given to it: %v", m.name, err)
	}
	m.world.event("%s stops: %v", m.name, err)
	if p.crash() {
		m.world.count.stops.Add(1)
	}
}

// crash ends the process at once, and with it what its disk had not synced.
func (p *process) crash() bool {
	m := p.machine
	m.mu.Lock()
	if m.running != p {
		m.mu.Unlock()
		return false
	}
	m.running = nil
	p.cancel() // from here on nobody hears of it
	p.disk.crash()
	m.mu.Unlock()
	m.world.net.breakConns(m.i, -1)
	m.world.tasks.Go(p.bury)
	return true
}

// bury ends the goroutines of a process that is no more.
func (p *process) bury() {
	p.empty()
	p.engine.Close(p.ctx)
	_ = p.trans.Close()
}

// stop ends the process in order.
func (m *machine) stop() {
	p := m.process()
	if p == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	p.empty()
	p.engine.Close(ctx)
	m.mu.Lock()
	m.running = nil
	m.mu.Unlock()
	p.cancel()
	_ = p.trans.Close()
}
