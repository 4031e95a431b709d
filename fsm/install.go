package fsm

import (
	"errors"
	"fmt"
	"io"
)

// keyInstalling is a row of this member's own: a snapshot is being installed,
// and the log has not been brought in line with it yet. After a crash it tells
// that a log which does not have the state's last entry is no damage.
var keyInstalling = []byte("linstalling")

// ErrOlder reports a snapshot of a state that this member is ahead of: an
// answer to its leader got lost, and another comes.
var ErrOlder = errors.New("the snapshot is older than the state")

// OnInstall sets what brings the log in line when a snapshot was installed
// (raftlog.Settle). Before Raft is started.
func (f *FSM) OnInstall(settle func(index, term uint64) error) { f.install = settle }

// Installing reports whether the process ended while a snapshot was installed.
func (f *FSM) Installing() bool {
	v := f.View()
	defer v.Close()
	_, ok := v.Get(keyInstalling)
	return ok
}

// Settled notes that the log is in line with the state.
func (f *FSM) Settled() {
	b := f.db.NewBatch()
	b.Delete(keyInstalling)
	b.Commit()
	f.db.Sync()
}

// Restore implements raft.FSM: it replaces the replicated rows by those of a
// received snapshot, all or none. A state never goes back: what was promised
// for an index that this member has reached (a lease) stays true.
func (f *FSM) Restore(r io.ReadCloser) error {
	defer r.Close()
	b := f.db.NewBatch()
	b.Set(keyInstalling, nil)
	b.Commit()
	f.db.Sync()
	s := &streamReader{r: r, position: f.notOlder}
	f.settings.Store(nil)
	f.recent = recent{}
	err := f.db.Replace(ReplicatedLow, ReplicatedHigh, s.rows(), s.fault)
	v := f.View()
	at := v.Tables.Applied()
	f.settings.Store(v.Settings())
	v.Close()
	if err != nil {
		f.Settled() // nothing was changed
		return err
	}
	f.mu.Lock()
	f.applied = at
	close(f.changed)
	f.changed = make(chan struct{})
	f.mu.Unlock()
	if f.install != nil {
		if err := f.install(at.Index, at.Term); err != nil {
			return err
		}
	}
	f.Settled()
	return nil
}

// notOlder looks at the position of a snapshot.
func (f *FSM) notOlder(v []byte) error {
	var a Applied
	if dec.Unmarshal(v, &a) != nil {
		return fmt.Errorf("%w: its position cannot be read", ErrSnapshot)
	}
	if at, _ := f.Applied(); a.Index < at {
		return fmt.Errorf("%w: it ends at entry %d, and the state at %d", ErrOlder, a.Index, at)
	}
	return nil
}
