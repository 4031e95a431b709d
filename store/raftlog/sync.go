//go:build !broken_sync

package raftlog

import "github.com/cockroachdb/pebble/v2/vfs"

// syncData makes what was written to the journal durable. The tag broken_sync
// leaves that out, to see that its absence is noticed.
func syncData(f vfs.File) error { return f.SyncData() }
