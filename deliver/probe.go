package deliver

import (
	"context"
	"fmt"
	"strings"
)

// Prober is a Transport that can ask an address whether it could take mail
// now. It sends none, leaves nothing behind, and ends soon after ctx does.
type Prober interface {
	Probe(ctx context.Context, addr string) error
}

// Probe asks an address by the transport of its scheme. Nil: mail could be
// handed over there now. It says nothing about what the place holds.
func Probe(ctx context.Context, transports map[string]Transport, addr string) error {
	scheme, _, _ := strings.Cut(addr, ":")
	p, ok := transports[scheme].(Prober)
	if !ok {
		return fmt.Errorf("probe %s: no way to ask there", addr)
	}
	return p.Probe(ctx, addr)
}
