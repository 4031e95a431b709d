package raftlog

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// BenchmarkOpenLongLog says how long a log of the largest size that members
// keep by default takes to open: its pages are read, and their checksums
// verified, before Raft says a word. In the entries' sizes of small mail.
func BenchmarkOpenLongLog(b *testing.B) {
	const entrySize = 700
	for _, size := range []int{1 << 28, 1 << 30} {
		b.Run(fmt.Sprintf("%dMiB", size>>20), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "raft.db")
			s, err := Open(Options{Path: path})
			if err != nil {
				b.Fatal(err)
			}
			entries := uint64(size / (entrySize + entryCost))
			for i := uint64(1); i <= entries; {
				var l []*raft.Log
				for ; len(l) < 10_000 && i <= entries; i++ {
					l = append(l, &raft.Log{Index: i, Term: 1, Data: make([]byte, entrySize)})
				}
				if err := s.StoreLogs(l); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(entries), "entries")
			b.ReportMetric(float64(s.Size()>>20), "file-MiB")
			for b.Loop() {
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				start := time.Now()
				if s, err = Open(Options{Path: path}); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(time.Since(start).Milliseconds()), "open-ms")
			}
			s.Close()
		})
	}
}
