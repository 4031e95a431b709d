package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// commits is how many messages of size a second this disk takes if nothing is
// done but writing them to the end of files and syncing, each file by one
// writer that takes all that wait (group commit), for so many sessions in a
// closed loop. A message is taken when most of the files have it.
func commits(ctx context.Context, dir string, files int, c Cell, d time.Duration) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var writers sync.WaitGroup
	defer writers.Wait()
	asks := make([]chan chan error, files)
	for i := range files {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("commits%d", i)))
		if err != nil {
			return 0, err
		}
		defer os.Remove(f.Name())
		asks[i] = make(chan chan error, c.Sessions)
		writers.Go(func() { commitAll(f, make([]byte, c.Size), asks[i]) })
	}
	var sessions sync.WaitGroup
	counts := make([]int, c.Sessions)
	errs := make([]error, c.Sessions)
	for n := range c.Sessions {
		sessions.Go(func() {
			for ctx.Err() == nil && errs[n] == nil {
				done := make(chan error, files)
				for _, ask := range asks {
					ask <- done
				}
				for range files/2 + 1 {
					errs[n] = errors.Join(errs[n], <-done)
				}
				counts[n]++
			}
		})
	}
	sessions.Wait()
	for _, ask := range asks {
		close(ask)
	}
	sum := 0
	for _, n := range counts {
		sum += n
	}
	return float64(sum) / d.Seconds(), errors.Join(errs...)
}

// commitAll is one file's writer.
func commitAll(f *os.File, text []byte, asks <-chan chan error) {
	defer f.Close()
	var waiting []chan error
	for first := range asks {
		waiting = append(waiting[:0], first)
		for len(asks) > 0 && len(waiting) < cap(asks) {
			waiting = append(waiting, <-asks)
		}
		var err error
		for range waiting {
			_, e := f.Write(text)
			err = errors.Join(err, e)
		}
		err = errors.Join(err, syscall.Fdatasync(int(f.Fd())))
		for _, done := range waiting {
			done <- err
		}
	}
}
