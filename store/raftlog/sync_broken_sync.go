//go:build broken_sync

package raftlog

import "github.com/cockroachdb/pebble/v2/vfs"

func syncData(vfs.File) error { return nil }
