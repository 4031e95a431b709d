package state

import (
	"fmt"
	"io"
	"io/fs"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// OpenReadOnly opens tables to look at them: nothing is written, not even what
// the WAL has and the tables lack. Nothing may be committed, and Sync not be
// called.
func OpenReadOnly(o Options) (*DB, error) {
	po := options(o)
	po.ReadOnly, po.FS = true, untouched{o.FS}
	db, err := pebble.Open(o.Dir, po)
	if err != nil {
		return nil, fmt.Errorf("open state tables in %s: %w", o.Dir, marked(err))
	}
	return &DB{db: db, fs: o.FS, dir: o.Dir, opts: po, fatal: o.Fatal}, nil
}

// untouched is a file system that nobody writes to. Pebble makes its lock file
// anew even to read: the caller holds the data directory's instead.
type untouched struct{ vfs.FS }

type noLock struct{}

func (noLock) Close() error { return nil }

func (untouched) Lock(string) (io.Closer, error) { return noLock{}, nil }

func (untouched) Create(name string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrPermission}
}

func (untouched) Remove(name string) error {
	return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrPermission}
}

func (untouched) Rename(name, _ string) error {
	return &fs.PathError{Op: "rename", Path: name, Err: fs.ErrPermission}
}
