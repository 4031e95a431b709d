package raftlog

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

// mapped is how much of a file this process has in its memory.
func mapped(t *testing.T, path string) (kib int) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skip(err)
	}
	ours := false
	for line := range bytes.Lines(b) {
		text := string(bytes.TrimSpace(line))
		if strings.Contains(text, "-") && strings.Contains(text, " r") {
			ours = strings.HasSuffix(text, path)
		}
		var n int
		if _, err := fmt.Sscanf(text, "Rss: %d kB", &n); err == nil && ours {
			kib += n
		}
	}
	return kib
}

// A log that was read to its end, as every start does, is not kept in memory;
// and can be read.
func TestUnload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.db")
	s := open(t, path)
	var logs []*raft.Log
	for i := range uint64(2000) {
		logs = append(logs, &raft.Log{Index: i + 1, Term: 1, Data: bytes.Repeat([]byte{byte(i)}, 4000)})
	}
	if err := s.StoreLogs(logs); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path)
	const most = 1000
	if n := mapped(t, path); n > most {
		t.Errorf("after opening %d KiB are in memory", n)
	}
	read := func() {
		for i := range uint64(2000) {
			var l raft.Log
			if err := s.GetLog(i+1, &l); err != nil || len(l.Data) != 4000 || l.Data[0] != byte(i) {
				t.Fatalf("entry %d: %v", i+1, err)
			}
		}
	}
	read()
	if n := mapped(t, path); n < 4*most {
		t.Fatalf("after reading %d KiB are in memory: nothing is measured here", n)
	}
	s.Unload()
	if n := mapped(t, path); n > most {
		t.Errorf("after unloading %d KiB are in memory", n)
	}
	read()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
