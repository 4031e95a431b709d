package raftlog

import (
	"bytes"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Unload takes the pages of the file out of this process' memory. bbolt maps
// the file, and whoever reads all of it, as a start and a read-through do, has
// all of it counted as memory of the process for good: a gigabyte. The pages
// stay in the page cache as long as the kernel has room, and come back when
// they are read.
func (s *Store) Unload() { unload(s.path) }

// unload is advice: where the system tells nothing of the map, nothing is done.
func unload(path string) {
	fi, err := os.Stat(path)
	if err != nil {
		return
	}
	file, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	for line := range bytes.Lines(maps) {
		m, ok := parseMap(line)
		if ok && m.inode == file.Ino && unix.Mkdev(m.major, m.minor) == file.Dev {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(m.from), uintptr(m.to-m.from), unix.MADV_DONTNEED)
		}
	}
}

// mapping is a line of /proc/PID/maps.
type mapping struct {
	from, to     uint64
	major, minor uint32
	inode        uint64
}

func parseMap(line []byte) (m mapping, ok bool) {
	var mode string
	var off uint64
	n, _ := fmt.Sscanf(string(line), "%x-%x %s %x %x:%x %d", &m.from, &m.to, &mode, &off, &m.major, &m.minor, &m.inode)
	// Dropping what is mapped for reading, and shared with the file, loses nothing.
	return m, n == 7 && mode == "r--s"
}
