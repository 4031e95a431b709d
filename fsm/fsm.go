package fsm

import (
	"fmt"
	"sync"
	"sync/atomic"

	"mailraft/mail"
	"mailraft/store/state"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// FSM applies the log to the state tables of one member. It implements
// raft.BatchingFSM; the result of every command is an encoded Answer.
type FSM struct {
	db     *state.DB
	fatal  func(error)
	log    hclog.Logger
	hashes hashes

	install func(index, term uint64) error // see OnInstall
	streams sync.WaitGroup                 // of the tables to other members

	// settings are those of the committed tables; nil while that changes.
	settings atomic.Pointer[Settings]
	freed    atomic.Int64 // see Freed

	recent recent // of applying; forgotten when the rows are exchanged

	mu      sync.Mutex
	applied Applied       // guarded by mu; what is committed to the tables
	changed chan struct{} // guarded by mu; closed and replaced after each batch
}

// New opens the state machine over its tables. fatal is called when the state
// cannot go on: a table that fails, an entry that is not known.
func New(db *state.DB, fatal func(error), log hclog.Logger) *FSM {
	f := &FSM{db: db, fatal: fatal, log: log, changed: make(chan struct{})}
	v := f.View()
	defer v.Close()
	f.applied = v.Tables.Applied()
	f.settings.Store(v.Settings())
	return f
}

// View is the state at one applied index.
type View struct {
	Tables
	v *state.View
}

// View opens a view of the state. It must be closed.
func (f *FSM) View() *View {
	// The same settings before and after: no change of them came in between.
	s := f.settings.Load()
	v := f.db.View()
	if s != f.settings.Load() {
		s = nil
	}
	return &View{Tables: Tables{v, f.fatal, s}, v: v}
}

// Close releases the view.
func (v *View) Close() { v.v.Close() }

// Sync makes everything applied so far durable.
func (f *FSM) Sync() { f.db.Sync() }

// Own reads a row of this member's own: not replicated, and kept when a
// snapshot is installed.
func (f *FSM) Own(name string) ([]byte, bool) {
	v := f.View()
	defer v.Close()
	return v.Get([]byte("l" + name))
}

// SetOwn writes one. It is durable after the next Sync, like every row.
func (f *FSM) SetOwn(name string, value []byte) {
	b := f.db.NewBatch()
	b.Set([]byte("l"+name), value)
	b.Commit()
}

// Applied is the index that this member's state includes, and its time.
func (f *FSM) Applied() (uint64, mail.Time) {
	at := f.position()
	return at.Index, at.Time
}

func (f *FSM) position() Applied {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.applied
}

// Changed returns a channel that is closed when the state has moved on.
func (f *FSM) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

// Apply implements raft.FSM.
func (f *FSM) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch implements raft.BatchingFSM: all entries and the position that
// they lead to become visible in one commit, which a crash keeps or loses
// whole. A Mark ends a commit, so that the hashed view is the state at it.
func (f *FSM) ApplyBatch(logs []*raft.Log) []any {
	answers := make([]any, len(logs))
	t := f.begin()
	for i, l := range logs {
		if t.applied(l.Index) {
			continue // in the tables already: replayed after a restart
		}
		t.at.Index, t.at.Term = l.Index, l.Term
		a, mark := t.applyLog(l)
		a.Index = l.Index
		b, err := enc.Marshal(a)
		if err != nil {
			f.fatal(fmt.Errorf("encode answer to entry %d: %w", l.Index, err))
		}
		answers[i] = b
		if mark {
			f.commit(t)
			f.hashes.begin(f.View(), l.Index)
			t = f.begin()
		}
	}
	f.commit(t)
	return answers
}

func (f *FSM) begin() *tx {
	b := f.db.NewBatch()
	t := &tx{Tables: Tables{b, f.fatal, f.settings.Load()}, rows: b, log: f.log, recent: &f.recent}
	t.at = f.position()
	return t
}

// Freed counts the contents that lost their last reference since the start, of
// which nothing more is known than that a sweep finds them.
func (f *FSM) Freed() int64 { return f.freed.Load() }

func (f *FSM) commit(t *tx) {
	defer f.freed.Add(t.freed)
	t.put(tab(tabApplied), t.at)
	if s := t.Settings(); s != f.settings.Load() {
		f.settings.Store(nil)
		defer f.settings.Store(s)
	}
	t.rows.Commit()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.applied = t.at
	close(f.changed)
	f.changed = make(chan struct{})
}

// Snapshot implements raft.FSM: the live tables are the snapshot, so there is
// nothing to copy. See Snapshots.
func (f *FSM) Snapshot() (raft.FSMSnapshot, error) { return liveSnapshot{}, nil }
