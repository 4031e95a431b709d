//go:build !broken_guard

package fsm

// applied reports whether the tables have an entry already: the log is replayed
// from further back after a crash. The tag broken_guard forgets that, to see
// that it is noticed.
func (t *tx) applied(index uint64) bool { return index <= t.at.Index }
