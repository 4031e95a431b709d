package simulation

import (
	"errors"
	"math/rand/v2"
	"path"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// trouble is what a disk can be made to do.
type trouble int

const (
	diskFull    trouble = iota + 1 // below the floor: nothing new is begun
	diskFuller                     // content cannot be written
	diskFailing                    // the next sync fails
	diskFullest                    // nor anything else
	diskUnsafe                     // syncs of content do nothing: the negative control
)

// disk is what a machine keeps when its process ends. What is written through
// it lasts only when it was synced.
type disk struct {
	mu      sync.Mutex
	fs      *vfs.MemFS
	log     *logDisk
	rng     *rand.Rand
	stalled time.Time // nothing is synced before
	trouble trouble
}

func newDisk(seed int64) *disk {
	return &disk{fs: vfs.NewCrashableMem(), log: newLogDisk(), rng: rand.New(rand.NewPCG(uint64(seed), 0))}
}

// crash loses what was not synced, in part, and whatever is still open works
// on a disk that nobody will see again.
func (d *disk) crash() {
	d.mu.Lock()
	defer d.mu.Unlock()
	kept := []int{0, 30, 70, 100}[d.rng.IntN(4)]
	d.fs = d.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: kept, RNG: d.rng})
	d.log = d.log.crash(d.rng)
	d.stalled = time.Time{}
	if d.trouble != diskUnsafe && d.trouble != diskFullest {
		d.trouble = 0
	}
}

func (d *disk) set(t trouble) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.trouble != diskUnsafe {
		d.trouble = t
	}
}

func (d *disk) is(t trouble) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.trouble == t
}

func (d *disk) stall(length time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stalled = time.Now().Add(length)
}

// open gives a process its view of the disk; gone is closed when it ends.
func (d *disk) open(gone <-chan struct{}, fatal func(error)) (vfs.FS, *logHandle) {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := &handle{disk: d, gone: gone, fatal: fatal}
	return &faulty{FS: errorfs.Wrap(d.fs, errorfs.InjectorFunc(h.before)), handle: h}, &logHandle{logDisk: d.log, handle: h, fatal: fatal}
}

// handle is one process's access to a disk.
type handle struct {
	disk  *disk
	gone  <-chan struct{}
	fatal func(error)
}

func (h *handle) over() bool {
	select {
	case <-h.gone:
		return true
	default:
		return false
	}
}

var errSync = errors.New("input/output error of the simulated disk")

// sync takes the time of a sync. Where it is slow no lock may be held that
// others wait for: a goroutine that waits for a lock keeps virtual time from
// passing.
func (h *handle) sync() error {
	d := h.disk
	d.mu.Lock()
	wait := time.Duration(100+d.rng.IntN(3000)) * time.Microsecond
	if until := time.Until(d.stalled); until > wait {
		wait = until
	}
	d.mu.Unlock()
	h.pause(wait)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.trouble == diskFailing && !h.over() {
		d.trouble = 0
		return errSync
	}
	return nil
}

func (h *handle) pause(wait time.Duration) {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-h.gone:
	}
}

// rotating reports that the caller ends a write-ahead log of the tables, which
// it does under a lock.
func rotating() bool {
	var pcs [16]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	for {
		f, more := frames.Next()
		if strings.HasSuffix(f.Function, "(*LogWriter).closeInternal") {
			return true
		}
		if !more {
			return false
		}
	}
}

// before is asked before every operation on files.
func (h *handle) before(op errorfs.Op) error {
	if h.over() {
		return nil
	}
	content, wal, journal := strings.HasSuffix(op.Path, ".seg"), strings.HasSuffix(op.Path, ".log"), strings.HasSuffix(op.Path, ".journal")
	switch op.Kind {
	case errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpCreate:
		switch {
		case content || journal || !h.disk.is(diskFullest): // those two do not ask here, and do not grow
		case wal:
			// The end of the process. Pebble panics under its locks: where others
			// already wait for them, a process of this simulation would not end.
			h.fatal(syscall.ENOSPC)
		default:
			return syscall.ENOSPC
		}
	case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
		if content || journal || wal && !rotating() {
			return h.sync()
		}
	}
	return nil
}

// faulty is a file system with a size, and with syncs that may be left out.
type faulty struct {
	*errorfs.FS
	handle *handle
}

// GetDiskUsage implements vfs.FS.
func (f *faulty) GetDiskUsage(string) (vfs.DiskUsage, error) {
	f.handle.disk.mu.Lock()
	defer f.handle.disk.mu.Unlock()
	u := vfs.DiskUsage{TotalBytes: 1 << 40, AvailBytes: 1 << 39}
	if t := f.handle.disk.trouble; t == diskFull || t == diskFuller || t == diskFullest {
		u.AvailBytes = 0
	}
	return u, nil
}

// OpenReadWrite implements vfs.FS.
func (f *faulty) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	file, err := f.FS.OpenReadWrite(name, c, o...)
	if err == nil && path.Ext(name) == ".seg" {
		file = segment{File: file, handle: f.handle}
	}
	return file, err
}

// segment is a file of content: it does not grow while the disk is full, and
// its syncs do nothing while the disk is unsafe.
type segment struct {
	vfs.File
	handle *handle
}

func (s segment) is(t trouble) bool { return s.handle.disk.is(t) }

// WriteAt implements vfs.File.
func (s segment) WriteAt(p []byte, off int64) (int, error) {
	if (s.is(diskFuller) || s.is(diskFullest)) && !s.handle.over() {
		if info, err := s.File.Stat(); err != nil || off+int64(len(p)) > info.Size() {
			return 0, errors.Join(err, syscall.ENOSPC)
		}
	}
	return s.File.WriteAt(p, off)
}

// SyncData implements vfs.File.
func (s segment) SyncData() error {
	if s.is(diskUnsafe) {
		return nil
	}
	return s.File.SyncData()
}

// Sync implements vfs.File.
func (s segment) Sync() error {
	if s.is(diskUnsafe) {
		return nil
	}
	return s.File.Sync()
}
