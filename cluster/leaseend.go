//go:build !broken_lease

package cluster

import "time"

// leaseEnd is when a lease is over that was asked for at sent. With the tag
// broken_lease it is not, to see that its end is missed.
func leaseEnd(sent, length time.Duration) time.Duration { return sent + length }
