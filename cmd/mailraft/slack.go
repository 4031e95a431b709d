package main

import (
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// timerSlack is by how much the kernel may wake a thread of a member late, so
// that it need not do it often. Nothing that a member times is that short.
const timerSlack = 500 * time.Microsecond

// slacken gives all threads of this process the timer slack, for which the
// program starts itself anew in its place, once.
//
// A thread of Go's runtime looks after goroutines that stay in a system call.
// A member syncs files hundreds of times a second, and as long as it does that
// thread looks every 20 µs: with the kernel's slack of 50 µs 14,000 times a
// second, which on two processors is a tenth of what a member under load uses.
// It is there before any code of ours is, a thread has the slack of the one that made it,
// and that of the first one outlives only an exec. Where something of this does not
// work the member runs all the same.
func slacken() {
	runtime.LockOSThread() // the slack is a thread's, and the one that calls exec keeps its own
	defer runtime.UnlockOSThread()
	if ownSlack() >= timerSlack {
		return
	}
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(timerSlack), 0, 0, 0)
	exe, err := os.Executable()
	if err == nil && ownSlack() == timerSlack { // real-time threads have none; without it there would be no end
		_ = syscall.Exec(exe, os.Args, os.Environ())
	}
}

func ownSlack() time.Duration {
	ns, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil {
		return 0
	}
	return time.Duration(ns)
}
