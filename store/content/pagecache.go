package content

import (
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// What was stored is read once more, as a rule: when it is delivered, which is
// soon, and by one member of three. So only the newest stays in the page
// cache, and the kernel is told to give up the rest as it grows old. Otherwise
// content fills all memory there is, everybody else's cache is thrown out for
// it, and every record is copied to pages that were never touched before:
// in a virtual machine that is several times the cost of the copy.

// cacheDefault is what stays of the open segment, and of the one before.
const cacheDefault = 32 << 20

// uncache follows the synced end of the open segment at a distance of CacheMax.
// It goes in steps of a quarter of that, since each is a system call.
func (a *appender) uncache() {
	if a.before != (name{}) && a.file.synced > a.CacheMax {
		a.uncacheAll(a.before)
		a.before = name{}
	}
	const page = 4 << 10
	to := (a.file.synced - a.CacheMax) &^ (page - 1)
	if to-a.file.uncached >= a.CacheMax/4 {
		dontNeed(a.file.f, a.file.uncached, to)
		a.file.uncached = to
	}
}

// uncacheAll does it for a whole segment, if it is still there.
func (s *Store) uncacheAll(n name) {
	f, err := s.FS.Open(s.path(n, segmentSuffix))
	if err != nil {
		return
	}
	dontNeed(f, 0, 0)
	f.Close()
}

// dontNeed is advice: whether it is taken does not matter. to is 0 for the
// end. Files that are not the kernel's have no number.
func dontNeed(f vfs.File, from, to int64) {
	if fd := f.Fd(); fd != vfs.InvalidFd {
		_ = unix.Fadvise(int(fd), from, to-from, unix.FADV_DONTNEED)
	}
}
