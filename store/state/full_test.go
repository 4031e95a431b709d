package state

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
)

// What Pebble panics with where its log cannot be written (a full disk) ends
// the process by Fatal, which says why. A fault of ours is not hidden by it.
func TestFullDiskIsFatal(t *testing.T) {
	var told error
	write := func(v any) {
		defer caught(func(err error) { told = err })
		if v != nil {
			panic(v)
		}
	}
	if write(nil); told != nil {
		t.Errorf("nothing failed, and told %v", told)
	}
	if write(fmt.Errorf("write 000009.log: %w", syscall.ENOSPC)); !errors.Is(told, syscall.ENOSPC) {
		t.Errorf("told %v", told)
	}
	told = nil
	defer func() {
		if recover() == nil || told != nil {
			t.Errorf("a fault of ours was hidden, and told as %v", told)
		}
	}()
	write("assertion failed")
}
