//go:build broken_guard

package fsm

func (t *tx) applied(uint64) bool { return false }
