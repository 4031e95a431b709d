//go:build testclock

package cluster

import (
	"fmt"
	"os"
	"sync"
	"time"
)

// EnvTestClock names a file that says how wrong this process's wall clock is:
// a duration, such as 72h or -1h, and from the next reading on another one when
// the file was changed. Only binaries built with the tag testclock know it.
const EnvTestClock = "MAILRAFT_TEST_CLOCK"

// shiftKept is how long what the file said is believed without another look.
const shiftKept = 10 * time.Millisecond

var shift struct {
	sync.Mutex
	by   time.Duration
	read time.Time
}

// WallTime reads the wall clock as the file bends it.
func WallTime() time.Time {
	path, now := os.Getenv(EnvTestClock), time.Now()
	if path == "" {
		return now
	}
	shift.Lock()
	defer shift.Unlock()
	if now.Sub(shift.read) > shiftKept {
		var text string
		b, err := os.ReadFile(path)
		if err == nil {
			_, err = fmt.Sscan(string(b), &text)
		}
		if err == nil {
			shift.by, err = time.ParseDuration(text)
		}
		if err != nil {
			panic(fmt.Sprintf("read %s=%s: %v", EnvTestClock, path, err))
		}
		shift.read = now
	}
	return now.Add(shift.by)
}
