package maildir

import (
	"context"
	"fmt"
	"strings"
)

// probing is a probe of one copy that runs.
type probing struct {
	done chan struct{}
	err  error // once done is closed
}

// Probe implements deliver.Prober: see Store.Probe. A file system that hangs
// cannot be called off, so a probe that has not come back is waited for
// instead of beginning another beside it.
func (t *Transport) Probe(ctx context.Context, addr string) error {
	path := strings.TrimPrefix(addr, Scheme+":")
	t.mu.Lock()
	p := t.probes[path]
	if p == nil {
		p = &probing{done: make(chan struct{})}
		if t.probes == nil {
			t.probes = map[string]*probing{}
		}
		t.probes[path] = p
		go t.run(p, path)
	}
	t.mu.Unlock()
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("probe %s: the file system does not answer: %w", path, ctx.Err())
	}
}

func (t *Transport) run(p *probing, path string) {
	if t.probe != nil {
		p.err = t.probe(path)
	} else {
		p.err = t.store(path).Probe()
	}
	t.mu.Lock()
	delete(t.probes, path)
	t.mu.Unlock()
	close(p.done)
}
