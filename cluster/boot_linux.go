package cluster

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"mailraft/mail"
)

// Clock gives the two times that are needed here.
type Clock interface {
	// Boot is the time since the machine was started, the time that it slept
	// included. A process that was stopped, or a laptop that was closed, finds
	// its leases over when it wakes; Go's own monotonic time stands still
	// while the machine sleeps.
	Boot() time.Duration
	// Wall is the wall clock, right or wrong.
	Wall() mail.Time
}

// systemClock is the machine's.
type systemClock struct{}

func (systemClock) Boot() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic(fmt.Sprintf("read boot-time clock: %v", err)) // Linux has it since 2.6.39
	}
	return time.Duration(t.Nano())
}

func (systemClock) Wall() mail.Time { return mail.At(WallTime()) }

// BootTime reads the machine's boot-time clock.
func BootTime() time.Duration { return systemClock{}.Boot() }
