package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// profile takes CPU profiles of a boundary's members for the time that counts,
// and returns the waiting for them. A profile that fails is left out.
func (p Plan) profile(ctx context.Context, s *system, c Cell) (wait func()) {
	var wg sync.WaitGroup
	if p.Profiles == "" || s.boundary == nil {
		return wg.Wait
	}
	for _, m := range s.boundary.Members {
		name := fmt.Sprintf("%s-%s-%s.pb.gz", s.name, m.Name, strings.NewReplacer(" ", "", ":", "x").Replace(c.String()))
		url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", m.HTTP, int((p.Warm + p.Time).Seconds()))
		wg.Go(func() {
			if err := save(ctx, url, filepath.Join(p.Profiles, name)); err != nil {
				fmt.Fprintf(p.Out, "no profile of %s: %v\n", m.Name, err)
			}
		})
	}
	return wg.Wait
}

func save(ctx context.Context, url, file string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", resp.Status)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o600)
}
