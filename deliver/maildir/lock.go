package maildir

import (
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// lockWait bounds the wait for another process. A lock is held for a few
// synced writes only, never while content comes in.
const lockWait = 30 * time.Second

// inside keeps threads of this process from polling for each other; it is
// shared by all stores, since two may serve one directory.
var inside [64]sync.Mutex

var insideSeed = maphash.MakeSeed()

// lock takes the lock of a directory against other threads and processes.
// The file lock goes when its process does, however it dies; the file stays.
func (s *Store) lock(dir string) (unlock func(), err error) {
	mu := &inside[maphash.String(insideSeed, dir)%uint64(len(inside))]
	mu.Lock()
	defer func() {
		if err != nil {
			mu.Unlock()
		}
	}()
	name := filepath.Join(dir, lockFile)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for wait := time.Duration(0); ; wait += time.Millisecond {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close(); mu.Unlock() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) || wait*wait/2 > lockWait*time.Millisecond {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
		time.Sleep(wait)
	}
}
