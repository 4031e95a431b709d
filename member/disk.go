//go:build !testdisk

package member

import "github.com/cockroachdb/pebble/v2/vfs"

// disk is what state and content lie on.
func disk() vfs.FS { return vfs.Default }
