package content

import (
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// faultyFS is a file system that asks before and after every operation that
// changes something whether it fails, and that may have a limited size.
type faultyFS struct {
	vfs.FS
	before  func(op string) error   // an error here: failed and lost
	after   func(op string) error   // an error here: failed but stored
	opening func(name string) error // asked when a file is opened for reading; may be nil

	mu   sync.Mutex
	room int64 // bytes that may still be written at ends of files; -1: no limit
}

func newFaultyFS(fs vfs.FS) *faultyFS {
	ok := func(string) error { return nil }
	return &faultyFS{FS: fs, before: ok, after: ok, room: -1}
}

func (f *faultyFS) do(op string, run func() error) error {
	if err := f.before(op); err != nil {
		return err
	}
	if err := run(); err != nil {
		return err
	}
	return f.after(op)
}

func (f *faultyFS) open(op string, open func() (vfs.File, error)) (vfs.File, error) {
	var file vfs.File
	err := f.do(op, func() (err error) {
		file, err = open()
		return err
	})
	if err != nil {
		if file != nil {
			file.Close()
		}
		return nil, err
	}
	return &faultyFile{File: file, fs: f}, nil
}

func (f *faultyFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return f.open("open", func() (vfs.File, error) { return f.FS.OpenReadWrite(name, c, o...) })
}

func (f *faultyFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.open("create", func() (vfs.File, error) { return f.FS.Create(name, c) })
}

func (f *faultyFS) OpenDir(name string) (vfs.File, error) {
	d, err := f.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &faultyFile{File: d, fs: f}, nil
}

func (f *faultyFS) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	if f.opening != nil {
		if err := f.opening(name); err != nil {
			return nil, err
		}
	}
	return f.FS.Open(name, o...)
}

func (f *faultyFS) Rename(from, to string) error {
	return f.do("rename", func() error { return f.FS.Rename(from, to) })
}

func (f *faultyFS) Remove(name string) error {
	return f.do("remove", func() error { return f.FS.Remove(name) })
}

func (f *faultyFS) setRoom(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.room = n
}

// grow takes room for what b at off adds to a file, and says how much of b fits.
func (f *faultyFS) grow(file vfs.File, off int64, n int) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	st, err := file.Stat()
	if err != nil || f.room < 0 {
		return n, err
	}
	more := max(0, off+int64(n)-st.Size())
	if more <= f.room {
		f.room -= more
		return n, nil
	}
	short := more - f.room
	f.room = 0
	return n - int(short), syscall.ENOSPC
}

type faultyFile struct {
	vfs.File
	fs  *faultyFS
	pos int64
}

// writeAt appends where it can: the memory file system's WriteAt grows a file
// byte by byte.
func (f *faultyFile) writeAt(b []byte, off int64) (n int, err error) {
	if off != f.pos {
		return f.File.WriteAt(b, off)
	}
	n, err = f.File.Write(b)
	f.pos += int64(n)
	return n, err
}

func (f *faultyFile) WriteAt(b []byte, off int64) (n int, err error) {
	err = f.fs.do("write", func() error {
		k, fullErr := f.fs.grow(f.File, off, len(b))
		if k > 0 {
			if n, err = f.writeAt(b[:k], off); err != nil {
				return err
			}
		}
		return fullErr
	})
	return n, err
}

func (f *faultyFile) Write(b []byte) (n int, err error) {
	err = f.fs.do("write", func() error {
		st, err := f.File.Stat()
		if err != nil {
			return err
		}
		k, fullErr := f.fs.grow(f.File, st.Size(), len(b))
		if k > 0 {
			if n, err = f.File.Write(b[:k]); err != nil {
				return err
			}
		}
		return fullErr
	})
	return n, err
}

func (f *faultyFile) Sync() error     { return f.fs.do("sync", f.File.Sync) }
func (f *faultyFile) SyncData() error { return f.fs.do("sync", f.File.SyncData) }
