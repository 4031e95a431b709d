package port

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// dialTime bounds a dial even if the caller's context does not.
const dialTime = 10 * time.Second

var errNoProtocol = errors.New("the other side does not speak this protocol")

// Dial connects to a member. The connection is a *Conn; the other side has
// taken it (except for API, where that shows later).
func (p *Port) Dial(ctx context.Context, addr, proto string) (net.Conn, error) {
	cfg, err := p.clientConfig(proto)
	if err != nil {
		return nil, fmt.Errorf("dial %s for %s: %w", addr, proto, err)
	}
	c, err := dial(ctx, p, addr, cfg, func(c *Conn) error {
		if err := p.keep(c); err != nil {
			return err
		}
		return p.cfg.Allow(c.peer)
	})
	if err != nil {
		return nil, fmt.Errorf("dial %s for %s: %w", addr, proto, err)
	}
	return c, nil
}

// DialJoin connects to a member whose CA has the given pin. Nothing but the
// TLS handshake is sent before that is sure.
func DialJoin(ctx context.Context, addr, pin string) (net.Conn, error) {
	c, err := dial(ctx, nil, addr, pinConfig(pin), func(*Conn) error { return nil })
	if err != nil {
		return nil, fmt.Errorf("dial %s to join: %w", addr, err)
	}
	return c, nil
}

func dial(ctx context.Context, p *Port, addr string, cfg *tls.Config, allow func(*Conn) error) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	d := net.Dialer{KeepAliveConfig: keepAlive}
	raw, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c, err := shake(ctx, p, raw, cfg)
	if err != nil {
		raw.Close()
		return nil, err
	}
	if err := errors.Join(allow(c), ctx.Err()); err != nil {
		c.abort()
		return nil, err
	}
	// The welcome is read under the context too.
	stop := context.AfterFunc(ctx, c.abort)
	err = c.readWelcome()
	if !stop() {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		c.abort()
		if p != nil && errors.Is(err, ErrGone) {
			p.cfg.Gone(c.peer, err)
		}
		return nil, err
	}
	return c, nil
}

func shake(ctx context.Context, p *Port, raw net.Conn, cfg *tls.Config) (*Conn, error) {
	t := tls.Client(raw, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	cs := t.ConnectionState()
	if cs.NegotiatedProtocol != cfg.NextProtos[0] {
		return nil, errNoProtocol
	}
	return newConn(p, raw, t, cs)
}
