package link

import (
	"context"
	"net"
	"testing"
)

// BenchmarkCall: many callers over one loopback connection.
func BenchmarkCall(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, l, echo) }()
	c := NewClient(func(ctx context.Context, addr string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}, nil)
	body := make([]byte, 1000)
	b.SetBytes(int64(len(body)))
	b.SetParallelism(100)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.Call(ctx, l.Addr().String(), 1, body); err != nil {
				b.Error(err)
			}
		}
	})
	c.Close()
	stop()
	<-served
}
