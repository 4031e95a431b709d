package fsm

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

func snapshots(m *machine) *Snapshots {
	m.t.Helper()
	s, err := NewSnapshots(m.f, m.t.TempDir())
	if err != nil {
		m.t.Fatal(err)
	}
	return s
}

// take does what Raft does to take a snapshot up to index.
func take(m *machine, s *Snapshots, index uint64) error {
	m.t.Helper()
	snap, err := m.f.Snapshot()
	if err != nil {
		m.t.Fatal(err)
	}
	sink, err := s.Create(raft.SnapshotVersionMax, index, 1, raft.Configuration{}, 1, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	if err := snap.Persist(sink); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

// The log is shortened right after a snapshot was taken: the state must be on
// the disk up to there, whatever the disk loses of what was not synced.
func TestSnapshotIsDurable(t *testing.T) {
	m := newMachine(t)
	m.boundary()
	s := snapshots(m)
	for i := range byte(20) {
		m.must(KindAccept, Accept{Submission: m.submission(i+1, m1, m1, m2)})
		index, _ := m.f.Applied()
		if err := take(m, s, index); err != nil {
			t.Fatal(err)
		}
		crashed := &machine{t: t, now: begin}
		crashed.open(m.fs.CrashClone(vfs.CrashCloneCfg{}))
		if at, _ := crashed.f.Applied(); at < index {
			t.Fatalf("snapshot up to %d, and after a crash the state ends at %d", index, at)
		}
		crashed.close()
	}
}

// Raft counts its no-ops as applied; the state does not have them, and would
// ask for log that is gone.
func TestSnapshotEndsWhereTheStateEnds(t *testing.T) {
	m := newMachine(t)
	m.boundary()
	index, _ := m.f.Applied()
	if err := take(m, snapshots(m), index+1); err == nil {
		t.Fatal("a snapshot behind the end of the state")
	}
}

// What follows a stream stays in the log until the stream was read.
func TestLogStaysWhileTheStateIsSent(t *testing.T) {
	m := newMachine(t)
	m.boundary()
	s := snapshots(m)
	index, _ := m.f.Applied()
	_, r, err := s.Open(liveID)
	if err != nil {
		t.Fatal(err)
	}
	if err := take(m, s, index); err == nil {
		t.Fatal("the log would be shortened")
	}
	if err := r.Close(); err != nil { // cut off
		t.Fatal(err)
	}
	m.f.streams.Wait()
	if err := take(m, s, index); err != nil {
		t.Fatal(err)
	}
}

func TestOlderSnapshotIsRefused(t *testing.T) {
	old, m := newMachine(t), newMachine(t)
	old.boundary()
	m.boundary()
	m.must(KindAccept, Accept{Submission: m.submission(1, m1, m1, m2)})
	_, r, err := snapshots(old).Open(liveID)
	if err != nil {
		t.Fatal(err)
	}
	before := m.hash()
	if err := m.f.Restore(r); !errors.Is(err, ErrOlder) {
		t.Fatalf("got %v, want %v", err, ErrOlder)
	}
	if m.hash() != before || m.f.Installing() {
		t.Error("refused, and changed all the same")
	}
}

// A crash between the installing and the settling of the log is remembered.
func TestInstallingIsRemembered(t *testing.T) {
	from, to := newMachine(t), newMachine(t)
	from.boundary()
	var crashed *vfs.MemFS
	to.f.OnInstall(func(index, term uint64) error {
		if at, _ := to.f.Applied(); at != index || term != 1 {
			t.Errorf("settled at %d, term %d", index, term)
		}
		crashed = to.fs.CrashClone(vfs.CrashCloneCfg{})
		return nil
	})
	from.install(to)
	if to.f.Installing() {
		t.Error("it is still being installed")
	}
	again := &machine{t: t, now: begin}
	again.open(crashed)
	defer again.close()
	if !again.f.Installing() || again.hash() != from.hash() {
		t.Error("the crash is not remembered, or the state is another")
	}
}

// What comes from another member is received into a file, which is gone after
// it was installed, or was cut off.
func TestReceivedSnapshotLeavesNoFile(t *testing.T) {
	from, to := newMachine(t), newMachine(t)
	from.boundary()
	s := snapshots(to)
	meta, r, err := snapshots(from).Open(liveID)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, cut := range []int{len(whole) / 2, len(whole)} {
		sink, err := s.Create(meta.Version, meta.Index, meta.Term, meta.Configuration, meta.ConfigurationIndex, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(sink, bytes.NewReader(whole[:cut])); err != nil {
			t.Fatal(err)
		}
		if cut < len(whole) {
			if err := sink.Cancel(); err != nil {
				t.Fatal(err)
			}
		} else if err := sink.Close(); err != nil {
			t.Fatal(err)
		} else if _, r, err := s.Open(sink.ID()); err != nil {
			t.Fatal(err)
		} else if err := to.f.Restore(r); err != nil {
			t.Fatal(err)
		}
		if files, err := os.ReadDir(s.dir); err != nil || len(files) > 0 {
			t.Errorf("left behind: %v, %v", files, err)
		}
	}
	if to.hash() != from.hash() {
		t.Error("another state")
	}
}
