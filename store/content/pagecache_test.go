package content

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// Of many megabytes that were stored only the newest are left in the page
// cache, and all can be read.
func TestOnlyTheNewestStaysCached(t *testing.T) {
	dir := t.TempDir()
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil || fs.Type == unix.TMPFS_MAGIC {
		t.Skip("no disk behind the page cache here")
	}
	const cacheMax, contents, size = 1 << 20, 24, 500_000
	s := mustOpen(t, Options{FS: vfs.Default, Dir: dir, CacheMax: cacheMax, SegmentSize: 4 << 20})
	for n := range contents {
		mustPut(t, s, n, size)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
	if err != nil || len(files) < 3 {
		t.Fatalf("%d segments, %v", len(files), err)
	}
	slices.Sort(files)
	for i, f := range files {
		n := cachedBytes(t, f)
		switch {
		case i < len(files)-2 && n > 0:
			t.Errorf("segment %d of %d: %d bytes are cached", i, len(files), n)
		case i == len(files)-1 && (n == 0 || n > 2*cacheMax+size):
			t.Errorf("open segment: %d bytes are cached", n)
		}
	}
	for n := range contents {
		mustGet(t, s, n, size)
	}
}

func cachedBytes(t *testing.T, file string) int {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var st unix.Cachestat_t
	err = unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{}, &st, 0)
	if errors.Is(err, unix.ENOSYS) {
		t.Skip("the kernel is older than 6.5 and does not tell")
	}
	if err != nil {
		t.Fatal(err)
	}
	return int(st.Cache) * os.Getpagesize()
}
