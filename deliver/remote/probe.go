package remote

import (
	"context"
	"fmt"

	"mailraft/directory"
)

// Probe implements deliver.Prober: a fresh connection, the greeting, LHLO
// (RFC 2033 §4.1) or EHLO (RFC 5321 §4.1.1.1), and QUIT. Encryption is tried
// only where it is required, since delivery goes on without it elsewhere.
func (t *Transport) Probe(ctx context.Context, addr string) error {
	to, err := t.target(addr)
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	s, err := t.connect(ctx, to, to.hop.Policy() >= directory.TLSRequired && !to.hop.Implicit())
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("no answer in time: %w", err)
		}
		return fmt.Errorf("probe %s: %w", addr, err)
	}
	stop := context.AfterFunc(ctx, func() { s.conn.Close() })
	defer stop()
	s.quit() // it has answered: how it parts does not matter
	return nil
}
