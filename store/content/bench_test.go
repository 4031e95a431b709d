package content

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"mailraft/mail"
)

// BenchmarkCommit stores contents on a real disk: TMPDIR says which.
func BenchmarkCommit(b *testing.B) {
	for _, size := range []int{10 << 10, 75 << 10, 1 << 20} {
		for _, writers := range []int{1, 50} {
			b.Run(fmt.Sprintf("%dKB/%d", size>>10, writers), func(b *testing.B) { benchCommit(b, size, writers) })
		}
	}
}

func benchCommit(b *testing.B, size, writers int) {
	dir := b.TempDir()
	s := mustOpen(b, Options{FS: vfs.Default, Dir: dir})
	data := testData(1, size)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	before := writtenToDisk()
	b.ResetTimer()
	var n atomic.Int64
	var wait sync.WaitGroup
	for range writers {
		wait.Go(func() {
			for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
				w, err := s.Create(testID(int(i)))
				if err != nil {
					b.Error(err)
					return
				}
				for p := data; len(p) > 0; { // as a session would
					k := min(len(p), 32<<10)
					w.Write(p[:k])
					p = p[k:]
				}
				if err := commit(w, mail.Time(1)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wait.Wait()
	b.StopTimer()
	st := s.Stats()
	if err := s.Close(); err != nil {
		b.Error(err)
	}
	bytes := int64(0)
	filepath.Walk(dir, func(_ string, fi os.FileInfo, err error) error {
		if err == nil && fi.Mode().IsRegular() {
			bytes += fi.Size()
		}
		return err
	})
	if disk := writtenToDisk(); disk > 0 {
		b.ReportMetric(float64(disk-before)/float64(b.N)/float64(size), "disk/content")
	}
	b.ReportMetric(float64(bytes)/float64(b.N)/float64(size), "written/content")
	b.ReportMetric(st.RecordsPerSync(), "records/sync")
}

// writtenToDisk is what the kernel sent to disks for this process, 0 if it
// does not tell.
func writtenToDisk() int64 {
	b, _ := os.ReadFile("/proc/self/io")
	_, after, _ := strings.Cut(string(b), "\nwrite_bytes: ")
	var n int64
	fmt.Sscan(after, &n)
	return n
}

// BenchmarkFind looks up contents in a store of many segments.
func BenchmarkFind(b *testing.B) {
	s := mustOpen(b, Options{FS: vfs.Default, Dir: b.TempDir(), SegmentSize: 256 << 10})
	const contents = 20000
	var wait sync.WaitGroup
	for n := range contents {
		w, err := s.Create(testID(n))
		if err != nil {
			b.Fatal(err)
		}
		w.Write(testData(0, 1000))
		wait.Add(1)
		w.Commit(1, func(error) { wait.Done() })
	}
	wait.Wait()
	for _, c := range []struct {
		name string
		from int
	}{{"present", 0}, {"absent", contents}} {
		b.Run(c.name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				s.Stat(testID(c.from + i*7919%contents))
			}
		})
	}
}

// BenchmarkSweep asks about a million contents of which all are wanted, in
// segments of the usual size, without what the asking costs itself.
func BenchmarkSweep(b *testing.B) {
	s := mustOpen(b, Options{FS: vfs.Default, Dir: b.TempDir()})
	const contents = 1_000_000
	data := testData(0, 100)
	var wait sync.WaitGroup
	for n := range contents {
		w, err := s.Create(testID(n))
		if err != nil {
			b.Fatal(err)
		}
		w.Write(data)
		wait.Add(1)
		w.Commit(1, func(error) { wait.Done() })
	}
	wait.Wait()
	for b.Loop() {
		st, err := s.Sweep(func(mail.Content) bool { return true }, func() error { return nil })
		if err != nil || st.Dead > 0 {
			b.Fatalf("%+v, %v", st, err)
		}
	}
}
