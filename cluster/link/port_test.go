package link_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"

	"mailraft/cluster/link"
	"mailraft/cluster/pki"
	"mailraft/cluster/port"
	"mailraft/cluster/port/porttest"
)

func TestMain(m *testing.M) { porttest.Main(m) }

// Over a real port: the handler knows the member, and a member that is removed
// loses its calls and gets no further.
func TestOverThePort(t *testing.T) {
	b := porttest.New(t, "mail-a")
	var removed atomic.Bool
	one := b.Open(1, func(c *port.Config) {
		c.Allow = func(id pki.Identity) error {
			if removed.Load() {
				return errors.New("removed")
			}
			return nil
		}
	})
	two := b.Open(2)
	entered, ended := make(chan struct{}, 1), make(chan struct{}, 1)
	h := func(ctx context.Context, peer pki.Identity, kind byte, body []byte) ([]byte, error) {
		if kind == 2 {
			entered <- struct{}{}
			<-ctx.Done()
			ended <- struct{}{}
		}
		return fmt.Appendf(nil, "%s %x %s", peer.Name, uint64(peer.Member), body), nil
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- link.Serve(ctx, one.Listener(port.Link), h) }()
	c := link.NewClient(func(ctx context.Context, addr string) (net.Conn, error) { return two.Dial(ctx, addr, port.Link) }, nil)

	addr := one.Addr().String()
	if got, err := c.Call(t.Context(), addr, 1, []byte("hello")); err != nil || string(got) != "m2 2 hello" {
		t.Fatalf("%q, %v", got, err)
	}
	failed := make(chan error, 1)
	go func() { _, err := c.Call(t.Context(), addr, 2, nil); failed <- err }()
	<-entered
	removed.Store(true)
	one.Drop(func(id pki.Identity) bool { return id.Member == 2 })
	if err := <-failed; !errors.Is(err, link.ErrUnknownOutcome) {
		t.Errorf("pending call: %v", err)
	}
	<-ended
	if _, err := c.Call(t.Context(), addr, 1, nil); !errors.Is(err, link.ErrUnreachable) || !errors.Is(err, port.ErrRefused) {
		t.Errorf("next call: %v", err)
	}
	c.Close()
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
