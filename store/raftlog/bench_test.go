package raftlog

import (
	"fmt"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// BenchmarkAppend appends entries as a boundary does, on the disk of TMPDIR:
// through the journal, and to bbolt alone.
func BenchmarkAppend(b *testing.B) {
	for _, batch := range []uint64{1, 10} {
		for _, journaled := range []bool{true, false} {
			b.Run(fmt.Sprintf("%d/journal=%t", batch, journaled), func(b *testing.B) {
				path := filepath.Join(b.TempDir(), "raft.db")
				var s raft.LogStore
				var err error
				if journaled {
					s, err = Open(Options{Path: path})
				} else {
					s, err = openBolt(path)
				}
				if err != nil {
					b.Fatal(err)
				}
				defer s.(io.Closer).Close()
				data := make([]byte, 340)
				for next := uint64(1); b.Loop(); next += batch {
					var l []*raft.Log
					for i := range batch {
						l = append(l, &raft.Log{Index: next + i, Term: 1, Data: data})
					}
					if err := s.StoreLogs(l); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkShorten says how long appends wait while the log's beginning is
// removed, 50,000 entries of 1 KB, and how long a log of that size takes to open.
func BenchmarkShorten(b *testing.B) {
	const entries = 50_000
	for range b.N {
		b.StopTimer()
		path := filepath.Join(b.TempDir(), "raft.db")
		s, err := Open(Options{Path: path})
		if err != nil {
			b.Fatal(err)
		}
		data := make([]byte, 1024)
		fill := func(from, to uint64) {
			for i := from; i <= to; i += 500 {
				var l []*raft.Log
				for k := i; k < i+500; k++ {
					l = append(l, &raft.Log{Index: k, Term: 1, Data: data})
				}
				if err := s.StoreLogs(l); err != nil {
					b.Fatal(err)
				}
			}
		}
		fill(1, 2*entries)
		done := make(chan struct{})
		b.StartTimer()
		start := time.Now()
		go func() {
			defer close(done)
			if err := s.DeleteRange(1, entries); err != nil {
				b.Error(err)
			}
		}()
		longest, n := time.Duration(0), 0
		for next := uint64(2*entries + 1); ; next++ {
			at := time.Now()
			if err := s.StoreLogs([]*raft.Log{{Index: next, Term: 1, Data: data}}); err != nil {
				b.Fatal(err)
			}
			longest, n = max(longest, time.Since(at)), n+1
			select {
			case <-done:
			default:
				continue
			}
			break
		}
		b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms")
		b.ReportMetric(float64(longest.Milliseconds()), "longest-append-ms")
		b.ReportMetric(float64(n), "appends")
		s.Close()
		start = time.Now()
		if s, err = Open(Options{Path: path}); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(start).Milliseconds()), "open-ms")
		s.Close()
	}
}
