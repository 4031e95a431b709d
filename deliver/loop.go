package deliver

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"mailraft/mail"
)

// Bounds of one member.
const (
	openMax       = 1000            // recipients that are being delivered or not yet reported
	runningMax    = 100             // deliveries at once, unless configured
	recipientsMax = 100             // recipients of one delivery (RFC 5321 §4.5.3.1.8)
	circuitsMax   = 4096            // idle destinations that are remembered
	leaseWait     = time.Second     // between two looks at a lease that is not valid
	queryWait     = 2 * time.Second // after a query that failed
	// lookEvery is how long a change of the state waits for more of them: they
	// come hundreds a second, and a look at the queue costs as much as one.
	lookEvery = 2 * time.Millisecond
	timerMax  = time.Hour
	flushTime = 5 * time.Second // for the last reports when stopping
)

// Config is what a Deliverer works with. Now is state machine time.
type Config struct {
	Self       mail.MemberID
	Host       string // this member's host name, for reports and trace fields
	Queue      Queue
	Source     Source
	Reporter   Reporter
	Uploader   Uploader
	Lease      Lease
	Hand       Hand                 // nil: nothing is kept
	Transports map[string]Transport // by the scheme of the address: "lmtp", "smtp", "maildir"
	Now        func() mail.Time
	Running    int  // deliveries at once; 0 = 100
	Held       bool // begin as after Hold(true)
	Logger     hclog.Logger
}

// Deliverer delivers until it is stopped.
type Deliverer struct {
	Config
	kick     chan struct{}
	reporter *reporter
	ctx      context.Context // of running deliveries
	cancel   context.CancelFunc
	loopDone chan struct{}
	jobs     sync.WaitGroup
	recalls  sync.WaitGroup

	mu       sync.Mutex
	stopping bool
	held     bool
	running  int // jobs
	open     int // recipients
	places   places
	flight   map[jobKey]*flight
	circuits map[circuitKey]*circuit
	past     repeats
	apart    map[jobKey]mail.Time // jobs that wait for a flight, see setApart
	counts   Counts
}

// Start begins to deliver.
func Start(c Config) *Deliverer {
	if c.Running <= 0 {
		c.Running = runningMax
	}
	d := &Deliverer{
		Config: c, kick: make(chan struct{}, 1), loopDone: make(chan struct{}),
		held: c.Held, flight: make(map[jobKey]*flight), circuits: make(map[circuitKey]*circuit), past: newRepeats(),
		apart: make(map[jobKey]mail.Time),
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	d.reporter = startReporter(c.Reporter, c.Logger, d.applied)
	go d.loop()
	d.recalls.Go(d.recall)
	return d
}

// Kick makes the loop look for work now.
func (d *Deliverer) Kick() {
	select {
	case d.kick <- struct{}{}:
	default:
	}
}

// Hold starts no delivery while on is true; those that run go on. Once it has
// returned, what is not InFlight will not be until Hold(false).
func (d *Deliverer) Hold(on bool) {
	d.mu.Lock()
	d.held = on
	d.mu.Unlock()
	d.Kick()
}

// Stop starts no more deliveries, waits for the running ones until ctx ends,
// then closes their connections, and reports what is known.
func (d *Deliverer) Stop(ctx context.Context) {
	d.mu.Lock()
	d.stopping = true
	d.mu.Unlock()
	d.Kick()
	<-d.loopDone
	ended := make(chan struct{})
	go func() { d.jobs.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-ctx.Done():
		d.cancel()
		select {
		case <-ended:
		case <-time.After(flushTime): // a disk that hangs cannot be called off
		}
	}
	d.cancel()
	d.recalls.Wait()
	d.reporter.stop(flushTime)
}

// loop is the only place where deliveries are started.
func (d *Deliverer) loop() {
	defer close(d.loopDone)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		changed := d.Queue.Changed() // before the query: a change during it counts
		wait, ok := d.pass()
		if !ok {
			return
		}
		timer.Reset(wait)
		select {
		case <-d.kick:
		case <-timer.C:
		case <-changed:
			timer.Reset(lookEvery)
			select {
			case <-d.kick:
			case <-timer.C:
			}
		}
	}
}

// pass starts what may start now, and returns how long nothing will change by
// itself; false once the Deliverer is stopping.
func (d *Deliverer) pass() (time.Duration, bool) {
	for {
		d.mu.Lock()
		d.sweep()
		stopping, held, free := d.stopping, d.held, d.freeAny()
		d.mu.Unlock()
		run := d.Lease.Run() // before the query: what it shows is ours in this run
		switch {
		case stopping:
			return 0, false
		case run == 0:
			return leaseWait, true
		case held || free <= 0:
			return timerMax, true // Hold and what finishes kick
		}
		now := d.Now()
		jobs, next, err := d.Queue.Due(now, d.room(now), d.taken(now), free)
		if err != nil {
			d.Logger.Error("cannot ask for due messages", "error", err)
			return queryWait, true
		}
		if again := d.startAll(jobs, now, run); !again {
			return d.sleep(now, next), true
		}
	}
}

// sleep is the time until something falls due, a destination may be probed,
// or a held job may go on.
func (d *Deliverer) sleep(now, next mail.Time) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	until := now.Add(timerMax)
	for _, t := range []mail.Time{next, d.past.next(now), d.nextSuspect(now)} {
		if t > now && t < until {
			until = t
		}
	}
	if d.places.running[fresh] > 0 {
		until = min(until, now.Add(sweepEvery))
	}
	for _, c := range d.circuits {
		if c.until > now && c.until < until {
			until = c.until
		}
	}
	return max(until.Sub(now), time.Millisecond)
}

func (d *Deliverer) room(now mail.Time) func(Destination) int {
	return func(dest Destination) int {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.roomLocked(dest, now)
	}
}

func (d *Deliverer) roomLocked(dest Destination, now mail.Time) int {
	if dest.Addr == "" && dest.Key != NoticeKey {
		return d.free(quick) // nothing is contacted
	}
	room := 1
	if c := d.circuits[keyOf(dest)]; c != nil {
		room = c.room(now)
	}
	return min(room, d.free(d.class(dest)))
}

func (d *Deliverer) taken(now mail.Time) func(mail.ID, Destination) bool {
	return func(id mail.ID, dest Destination) bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		k := jobKey{id, dest.Key}
		_, ok := d.flight[k]
		return ok || d.isApart(k, now) || d.past.holds(k, dest.Activation, now)
	}
}

// startAll starts the jobs that may start. It tells whether another query
// would bring others: some were left out, and will be left out by the queue.
func (d *Deliverer) startAll(jobs []Job, now mail.Time, run uint64) (again bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	started, left, held := 0, 0, len(d.past.held)+len(d.apart)
	for i := range jobs {
		if d.start(&jobs[i], now, run) {
			started++
		} else {
			left++
		}
	}
	return left > 0 && (started > 0 || len(d.past.held)+len(d.apart) > held)
}

// start runs one job. The caller holds mu.
func (d *Deliverer) start(j *Job, now mail.Time, run uint64) bool {
	k := jobKey{j.ID, j.Destination.Key}
	if len(j.Recipients) > recipientsMax {
		j.Recipients = j.Recipients[:recipientsMax] // the others are still due afterwards
	}
	if _, ok := d.flight[k]; ok || d.stopping || d.held || len(j.Recipients)+len(j.Tell) == 0 ||
		!d.fits(j, d.class(j.Destination)) || d.roomLocked(j.Destination, now) <= 0 ||
		d.setApart(k, j, now) ||
		d.past.hold(k, j.indices(), j.Destination.Activation, now) {
		return false
	}
	f := &flight{job: j, lease: run, begun: time.Now(), since: now}
	d.places.enter(d.class(j.Destination), f)
	f.circuit = d.circuit(j.Destination)
	f.round = f.circuit.round
	f.ctx, f.cancel = context.WithCancel(d.ctx)
	f.circuit.running++
	d.running++
	d.open += len(j.Recipients)
	d.flight[k] = f
	d.jobs.Go(func() { d.run(f) })
	return true
}

// applied is called when reports are part of the state.
func (d *Deliverer) applied(done []*pending) {
	now := d.Now()
	d.mu.Lock()
	for _, p := range done {
		d.release(p.flight)
		if len(p.final) > 0 {
			d.past.add(p.flight.key(), p.final, p.flight.job.Destination.Activation, now)
		}
	}
	d.mu.Unlock()
	d.Kick()
}

// indices are the recipients that a job is about, by their place in the row.
// Those that are only told of have numbers of their own.
func (j *Job) indices() []int {
	is := make([]int, 0, len(j.Recipients)+len(j.Tell))
	for _, r := range j.Recipients {
		is = append(is, r.Index)
	}
	for _, t := range j.Tell {
		is = append(is, -1-t.Index*int(noticeEvents)-int(t.Event))
	}
	return is
}

// noticeEvents is more than there are events.
const noticeEvents = mail.NotifyDelay << 1
