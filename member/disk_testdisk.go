//go:build testdisk

package member

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// envTestDisk names a file that says how state and content are written: empty
// for as always, "fail", or a duration that each sync takes longer. Only
// binaries built with the tag testdisk know it.
const envTestDisk = "MAILRAFT_TEST_DISK"

var errTestDisk = errors.New("the disk fails, since a test says so")

func disk() vfs.FS {
	path := os.Getenv(envTestDisk)
	if path == "" {
		return vfs.Default
	}
	return &badDisk{vfs.Default, path}
}

// badDisk is a file system that fails, or is slow, when a file says so.
type badDisk struct {
	vfs.FS
	path string
}

// trouble waits, or says why nothing is written.
func (d *badDisk) trouble(sync bool) error {
	b, err := os.ReadFile(d.path)
	text := strings.TrimSpace(string(b))
	switch {
	case err != nil:
		return fmt.Errorf("read %s=%s: %w", envTestDisk, d.path, err)
	case text == "":
		return nil
	case text == "fail":
		return errTestDisk
	}
	late, err := time.ParseDuration(text)
	if err == nil && sync {
		time.Sleep(late)
	}
	return err
}

func (d *badDisk) wrap(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &badFile{f, d}, nil
}

func (d *badDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return d.wrap(d.FS.Create(name, c))
}

func (d *badDisk) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return d.wrap(d.FS.OpenReadWrite(name, c, o...))
}

func (d *badDisk) ReuseForWrite(was, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return d.wrap(d.FS.ReuseForWrite(was, name, c))
}

type badFile struct {
	vfs.File
	disk *badDisk
}

func (f *badFile) Write(p []byte) (int, error) {
	if err := f.disk.trouble(false); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

func (f *badFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.disk.trouble(false); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, off)
}

func (f *badFile) Sync() error {
	if err := f.disk.trouble(true); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *badFile) SyncData() error {
	if err := f.disk.trouble(true); err != nil {
		return err
	}
	return f.File.SyncData()
}

func (f *badFile) SyncTo(n int64) (bool, error) {
	if err := f.disk.trouble(true); err != nil {
		return false, err
	}
	return f.File.SyncTo(n)
}
