package cluster

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// BenchmarkPropose is what this package costs for each proposal, from many
// sessions at once: one voter, everything in memory.
func BenchmarkPropose(b *testing.B) {
	m, disk := newToy(), raft.NewInmemStore()
	_, trans := raft.NewInmemTransport("host0")
	n, err := Start(Config{
		ID: 1, Addr: "host0", Machine: m, Log: disk, Stable: disk, Snapshots: raft.NewInmemSnapshotStore(),
		Transport: trans, Link: &host{}, Logger: hclog.NewNullLogger(),
		Term: func(term uint64) []byte { return toyEntry(kindTerm, term) },
		Down: m.isDown, Span: func() time.Duration { return 30 * time.Second }, Complete: func() (uint64, uint64) { return 0, 0 },
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	if err := n.Bootstrap(ctx, []raft.Server{{ID: "0000000000000001", Address: "host0"}}); err != nil {
		b.Fatal(err)
	}
	if _, err := n.Propose(ctx, toyEntry(kindAdd, 1)); err != nil { // an election goes by
		b.Fatal(err)
	}
	b.ResetTimer()
	var key atomic.Uint64
	b.SetParallelism(256)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := n.Propose(ctx, toyEntry(kindAdd, key.Add(1))); err != nil {
				b.Error(err)
			}
		}
	})
	if err := n.Shutdown(ctx); err != nil {
		b.Fatal(err)
	}
}
