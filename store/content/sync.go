//go:build !broken_sync

package content

import "github.com/cockroachdb/pebble/v2/vfs"

// syncData makes what was written to a segment durable. The tag broken_sync
// leaves that out, to see that its absence is noticed.
func syncData(f vfs.File) error { return f.SyncData() }
