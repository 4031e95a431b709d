//go:build !testclock

package cluster

import "time"

// WallTime reads the wall clock, right or wrong.
func WallTime() time.Time { return time.Now() }
