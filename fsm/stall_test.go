package fsm

import (
	"encoding/binary"
	"io"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// BenchmarkSnapshotStall says how long applying an entry takes at most while
// nothing else goes on, while snapshots are taken, and while the state is
// streamed, with 100,000 messages on a real disk.
func BenchmarkSnapshotStall(b *testing.B) {
	m := &machine{t: b, now: begin}
	dir := b.TempDir()
	m.openDir(vfs.Default, dir)
	b.Cleanup(m.close)
	m.boundary()
	n := uint64(0)
	submit := func() {
		n++
		s := m.submission(1, m1, m1, m2)
		binary.BigEndian.PutUint64(s.Content.ID[:], n)
		e, err := Encode(KindAccept, Accept{Submission: s})
		if err != nil {
			b.Fatal(err)
		}
		index, _ := m.f.Applied()
		m.f.ApplyBatch([]*raft.Log{{Index: index + 1, Term: 1, Data: e}})
	}
	for range 100_000 {
		submit()
	}
	s := snapshots(m)
	for _, c := range []struct {
		name string
		f    func()
	}{
		{"alone", func() { time.Sleep(100 * time.Millisecond) }},
		{"snapshot", func() {
			if err := take(m, s, 1); err != nil {
				b.Error(err)
			}
		}},
		{"stream", func() {
			_, r, err := s.Open(liveID)
			if err != nil {
				b.Error(err)
				return
			}
			size, _ := io.Copy(io.Discard, r)
			b.ReportMetric(float64(size)/(1<<20), "stream-MB")
			r.Close()
			m.f.streams.Wait()
		}},
	} {
		longest, took, applied := time.Duration(0), time.Duration(0), 0
		for range 5 {
			done := make(chan struct{})
			start := time.Now()
			go func() { defer close(done); c.f() }()
			for end := false; !end; {
				at := time.Now()
				submit()
				longest, applied = max(longest, time.Since(at)), applied+1
				select {
				case <-done:
					end = true
				default:
				}
			}
			took += time.Since(start)
		}
		b.ReportMetric(float64(longest.Microseconds())/1000, c.name+"-longest-ms")
		b.ReportMetric(float64(took.Microseconds())/5000, c.name+"-ms")
	}
}
