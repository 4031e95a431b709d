package raftlog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"
)

// tree is bbolt as the journal sees it: every change is there as a whole or
// not at all. before is called before each.
type tree struct {
	logs   map[uint64]raft.Log
	values map[string]string
	before func()
}

func newTree() *tree { return &tree{logs: map[uint64]raft.Log{}, values: map[string]string{}} }

func (d *tree) clone() *tree { return &tree{logs: maps.Clone(d.logs), values: maps.Clone(d.values)} }

func (d *tree) change(do func()) error {
	if d.before != nil {
		d.before()
	}
	do()
	return nil
}

func (d *tree) indexes() []uint64 { return slices.Sorted(maps.Keys(d.logs)) }

func (d *tree) FirstIndex() (uint64, error) {
	if len(d.logs) == 0 {
		return 0, nil
	}
	return d.indexes()[0], nil
}

func (d *tree) LastIndex() (uint64, error) {
	if len(d.logs) == 0 {
		return 0, nil
	}
	return d.indexes()[len(d.logs)-1], nil
}

func (d *tree) GetLog(index uint64, l *raft.Log) error {
	e, ok := d.logs[index]
	if *l = e; !ok {
		return raft.ErrLogNotFound
	}
	return nil
}

func (d *tree) StoreLog(l *raft.Log) error { return d.StoreLogs([]*raft.Log{l}) }
func (d *tree) StoreLogs(ls []*raft.Log) error {
	return d.change(func() {
		for _, l := range ls {
			d.logs[l.Index] = *l
		}
	})
}

func (d *tree) DeleteRange(lo, hi uint64) error {
	return d.change(func() { maps.DeleteFunc(d.logs, func(i uint64, _ raft.Log) bool { return i >= lo && i <= hi }) })
}

func (d *tree) Set(k, v []byte) error {
	return d.change(func() { d.values[string(k)] = string(v) })
}

func (d *tree) Get(k []byte) ([]byte, error) {
	v, ok := d.values[string(k)]
	if !ok {
		return nil, ErrNotFound
	}
	return []byte(v), nil
}

func (d *tree) RunMetrics(context.Context, time.Duration) {}
func (d *tree) Close() error                              { return nil }

// content is the whole log, by reading it as Raft would.
func content(t *testing.T, s raft.LogStore) map[uint64]string {
	t.Helper()
	first, err1 := s.FirstIndex()
	last, err2 := s.LastIndex()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	m := map[uint64]string{}
	for i := first; i <= last && first > 0; i++ {
		var l raft.Log
		if err := s.GetLog(i, &l); err != nil || l.Index != i {
			t.Fatalf("entry %d of %d to %d: %v, index %d", i, first, last, err, l.Index)
		}
		m[i] = fmt.Sprint(l.Term, l.Type, string(l.Data), string(l.Extensions))
	}
	return m
}

// history changes a journaled log as Raft does, by chance, and beside it a map.
type history struct {
	rng  *rand.Rand
	j    Bolt
	want map[uint64]string
	last uint64
	term uint64
}

// step makes one change; done is called with what the log then is, before the
// change is made.
func (h *history) step(t *testing.T, begin func(map[uint64]string)) {
	t.Helper()
	next := maps.Clone(h.want)
	first, err := h.j.FirstIndex()
	if err != nil {
		t.Fatal(err)
	}
	var do func() error
	remove := func(lo, hi uint64) {
		maps.DeleteFunc(next, func(i uint64, _ string) bool { return i >= lo && i <= hi })
		do = func() error { return h.j.DeleteRange(lo, hi) }
	}
	switch n := h.rng.IntN(20); {
	case n == 0 && h.last > first: // its beginning
		remove(first, first+h.rng.Uint64N(h.last-first))
	case n == 1 && len(h.want) > 1: // a conflict: its end
		from := h.last - h.rng.Uint64N(min(uint64(len(h.want)), 10))
		remove(from, h.last)
		h.last, h.term = from-1, h.term+1
	case n == 2 && len(h.want) > 0: // a snapshot was installed
		remove(first, h.last)
		h.last += h.rng.Uint64N(3) * 100
	default:
		var ls []*raft.Log
		size := []int{10, 10, 3000, 30_000, 200_000}[h.rng.IntN(5)]
		for range 1 + h.rng.IntN(3) {
			h.last++
			l := &raft.Log{Index: h.last, Term: h.term, Type: raft.LogType(h.rng.IntN(3)), Data: make([]byte, size), Extensions: []byte("sum")}
			copy(l.Data, fmt.Sprint("entry ", h.last, " of ", h.term))
			ls, next[h.last] = append(ls, l), fmt.Sprint(l.Term, l.Type, string(l.Data), string(l.Extensions))
		}
		do = func() error { return h.j.StoreLogs(ls) }
	}
	begin(next)
	if err := do(); err != nil {
		t.Fatal(err)
	}
	h.want = next
}

// Whenever the power fails: the log is what it was before the change under
// way, or what it was to be, whatever reached the disk of what was not synced.
func TestJournalAtEveryCrash(t *testing.T) {
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 1))
		mem, db := vfs.NewCrashableMem(), newTree()
		type moment struct {
			fs       *vfs.MemFS
			db       *tree
			was, new map[uint64]string
		}
		var moments []moment
		h := &history{rng: rng, want: map[uint64]string{}, term: 1}
		next := h.want
		look := func() {
			kept := []int{0, 30, 70, 100}[rng.IntN(4)]
			fs := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: kept, RNG: rng})
			moments = append(moments, moment{fs, db.clone(), h.want, next})
		}
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && rng.IntN(8) == 0 {
				look()
			}
			return nil
		}))
		db.before = look
		j, err := Journaled(db, fs, "raft.journal", seed)
		if err != nil {
			t.Fatal(err)
		}
		h.j = j
		for range 60 {
			h.step(t, func(m map[uint64]string) { next = m })
			if got := content(t, j); !maps.Equal(got, h.want) {
				t.Fatalf("seed %d: %d entries, want %d", seed, len(got), len(h.want))
			}
		}
		for i, m := range moments {
			for range 2 { // and the start once more
				j, err := Journaled(m.db, m.fs, "raft.journal", uint64(i))
				if err != nil {
					t.Fatalf("seed %d, moment %d: %v", seed, i, err)
				}
				if got := content(t, j); !maps.Equal(got, m.was) && !maps.Equal(got, m.new) {
					t.Fatalf("seed %d, moment %d: %d entries, want %d or %d", seed, i, len(got), len(m.was), len(m.new))
				}
			}
		}
	}
}

// abandoned is a directory as a crash leaves it, with entries 1 to n.
func abandoned(t *testing.T, n uint64) (dir string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "raft.db")
	s := open(t, path)
	defer s.Close()
	for i := uint64(1); i <= n; i += 3 {
		if err := s.StoreLogs(logs(i, min(i+2, n))); err != nil {
			t.Fatal(err)
		}
	}
	dir = t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Dir(path))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// One damaged place of a journal that is in use changes nothing: everything
// is there twice. A journal that is cut, lost or another's is refused.
func TestDamagedJournal(t *testing.T) {
	const entries = 90
	dir := abandoned(t, entries)
	path := filepath.Join(dir, "raft.db")
	if r, err := Check(path); err != nil || r.First != 1 || r.Last != entries || r.LastTerm != 3 {
		t.Fatalf("%+v, %v", r, err)
	}
	db, err1 := os.ReadFile(path)
	whole, err2 := os.ReadFile(journalPath(path))
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	start := func(journal []byte) error {
		if err := errors.Join(os.WriteFile(path, db, 0o600), os.WriteFile(journalPath(path), journal, 0o600)); err != nil {
			t.Fatal(err)
		}
		s, err := Open(Options{Path: path, Fatal: func(err error) { t.Errorf("fatal: %v", err) }})
		if err != nil {
			return err
		}
		defer s.Close()
		if got := content(t, s); len(got) != entries || s.Bytes() < entries*entryCost {
			t.Errorf("%d entries, %d bytes", len(got), s.Bytes())
		}
		return nil
	}
	for _, half := range []int{0, journalHalf} {
		for off := 0; off < 34*framePage; off += 1021 {
			b := slices.Clone(whole)
			b[half+off] ^= 1 << (off % 8)
			if err := start(b); err != nil {
				t.Errorf("byte %d: %v", half+off, err)
			}
		}
		b := slices.Clone(whole)
		clear(b[half : half+journalHalf])
		if err := start(b); err != nil {
			t.Errorf("half at %d is zero: %v", half, err)
		}
	}
	for _, b := range [][]byte{nil, whole[:100], whole[:journalHalf], append(slices.Clone(whole), 0), make([]byte, len(whole))} {
		if err := start(b); !errors.Is(err, ErrDamaged) {
			t.Errorf("%d bytes: %v", len(b), err)
		}
	}
	os.WriteFile(path, db, 0o600)
	os.Remove(journalPath(path))
	if s, err := Open(Options{Path: path}); !errors.Is(err, ErrDamaged) {
		t.Errorf("%v, %v without its journal", s, err)
	}
	if _, err := Check(path); !errors.Is(err, ErrDamaged) {
		t.Errorf("check without the journal: %v", err)
	}
	os.WriteFile(journalPath(path), whole, 0o600)
	os.Remove(path)
	if s, err := Open(Options{Path: path}); !errors.Is(err, ErrApart) {
		t.Errorf("%v, %v with the journal of another", s, err)
	}
}

// What earlier turns left behind the end is no part of the log, even where a
// sender of mail made it look like a frame: it would have to know the salt.
func TestForgedFrame(t *testing.T) {
	for salt, entries := range map[uint64]int{5: 3, 6: 2} {
		fs, db := vfs.NewMem(), newTree()
		forged := appendFrame(nil, logs(3, 3))
		sealFrame(forged, 2, 5, 2*framePage)
		long := logs(1, 1)[0]
		long.Data = slices.Concat(make([]byte, framePage-frameHead-entryHead), forged)
		for i, l := range []*raft.Log{long, logs(2, 2)[0]} {
			j, err := Journaled(db, fs, "raft.journal", salt+uint64(i)-1)
			if err != nil {
				t.Fatal(err)
			}
			if err := j.StoreLog(l); err != nil {
				t.Fatal(err)
			}
		}
		j, err := Journaled(db, fs, "raft.journal", 9)
		if err != nil {
			t.Fatal(err)
		}
		if got := content(t, j); len(got) != entries {
			t.Errorf("salt %d: %d entries, want %d", salt, len(got), entries)
		}
	}
}

// Entries that do not go on where the log ends are the log's alone.
func TestGapGoesPastTheJournal(t *testing.T) {
	fs, db := vfs.NewMem(), newTree()
	for salt := range uint64(2) {
		j, err := Journaled(db, fs, "raft.journal", salt)
		if err != nil {
			t.Fatal(err)
		}
		if salt == 0 {
			if err := errors.Join(j.StoreLogs(logs(1, 3)), j.StoreLogs(logs(7, 8)), j.StoreLogs(logs(9, 9))); err != nil {
				t.Fatal(err)
			}
		}
		for i := uint64(1); i <= 9; i++ {
			var l raft.Log
			err := j.GetLog(i, &l)
			if gap := i > 3 && i < 7; gap != (err == raft.ErrLogNotFound) || !gap && l.Index != i {
				t.Errorf("entry %d: %+v, %v", i, l, err)
			}
		}
	}
}

func FuzzJournal(f *testing.F) {
	b := appendFrame(nil, logs(1, 3))
	sealFrame(b, 7, 8, 0)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		fr := parseFrame(b, 0)
		if fr == nil {
			return
		}
		again := appendFrame(nil, fr.logs)
		sealFrame(again, fr.turn, fr.salt, 0)
		if parseFrame(again, 0) == nil {
			t.Error("what was read cannot be written")
		}
	})
}
