package state

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/go-hclog"
)

func mustOpen(t *testing.T, fs vfs.FS) *DB {
	t.Helper()
	d, err := Open(Options{FS: fs, Dir: "state", Fatal: func(err error) { panic(err) }, Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func rows(r Reader, lower, upper string) map[string]string {
	m := map[string]string{}
	for k, v := range r.Scan([]byte(lower), []byte(upper)) {
		m[string(k)] = string(v)
	}
	return m
}

func put(d *DB, kv ...string) {
	b := d.NewBatch()
	for i := 0; i < len(kv); i += 2 {
		b.Set([]byte(kv[i]), []byte(kv[i+1]))
	}
	b.Commit()
}

func TestBatchReadsItsOwnChanges(t *testing.T) {
	d := mustOpen(t, vfs.NewMem())
	defer d.Close()
	put(d, "r1", "a", "r2", "b")
	b := d.NewBatch()
	b.Set([]byte("r3"), []byte("c"))
	b.Delete([]byte("r1"))
	if got, want := rows(b, "r", "s"), (map[string]string{"r2": "b", "r3": "c"}); !maps.Equal(got, want) {
		t.Errorf("batch: got %v, want %v", got, want)
	}
	v := d.View()
	defer v.Close()
	b.Commit()
	if got, want := rows(v, "r", "s"), (map[string]string{"r1": "a", "r2": "b"}); !maps.Equal(got, want) {
		t.Errorf("view opened before the commit: got %v, want %v", got, want)
	}
	if _, ok := v.Get([]byte("r3")); ok {
		t.Error("view sees a later commit")
	}
}

// After a crash the tables hold a prefix of the batches, whole ones only, and
// at least what was synced.
func TestCrashLeavesAPrefix(t *testing.T) {
	for _, unsynced := range []int{0, 50, 100} {
		fs := vfs.NewCrashableMem()
		d := mustOpen(t, fs)
		for i := range 50 {
			put(d, fmt.Sprintf("r%03d", i), "x", "rlast", fmt.Sprint(i))
			if i == 20 {
				d.Sync()
			}
		}
		crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsynced, RNG: rand.New(rand.NewPCG(1, uint64(unsynced)))})
		d.Close()
		d = mustOpen(t, crashed)
		got := rows(d.View(), "r", "s")
		var last int
		fmt.Sscan(got["rlast"], &last)
		if last < 20 || len(got) != last+2 {
			t.Errorf("unsynced %d %%: %d rows, last batch %d", unsynced, len(got), last)
		}
	}
}

// A view that is open while everything is replaced goes on showing what was:
// a sweep that saw it empty would take all content for unwanted.
func TestViewOutlivesReplace(t *testing.T) {
	for _, flushed := range []bool{false, true} {
		d := mustOpen(t, vfs.NewMem())
		defer d.Close()
		for i := range 100 {
			put(d, fmt.Sprintf("r%03d", i), "old")
		}
		if flushed {
			if err := d.db.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		v := d.View()
		defer v.Close()
		fresh := func(yield func(k, v []byte) bool) {
			_ = yield([]byte("r000"), []byte("new")) && yield([]byte("r5"), []byte("new"))
		}
		if err := d.Replace([]byte("r"), []byte("s"), fresh, func() error { return nil }); err != nil {
			t.Fatal(err)
		}
		was := rows(v, "r", "s")
		if _, ok := v.Get([]byte("r042")); !ok || len(was) != 100 || was["r000"] != "old" {
			t.Errorf("flushed %t: the view has %d rows", flushed, len(was))
		}
		if is := rows(d.View(), "r", "s"); len(is) != 2 || is["r000"] != "new" {
			t.Errorf("flushed %t: the tables have %v", flushed, is)
		}
	}
}

func TestReplaceIsAllOrNothing(t *testing.T) {
	fs := vfs.NewCrashableMem()
	d := mustOpen(t, fs)
	put(d, "l1", "own", "r1", "old", "r2", "old")
	d.Sync()
	seq := func(m map[string]string) iter.Seq2[[]byte, []byte] {
		return func(yield func(k, v []byte) bool) {
			for _, k := range slices.Sorted(maps.Keys(m)) {
				if !yield([]byte(k), []byte(m[k])) {
					return
				}
			}
		}
	}
	bad := errors.New("cut off")
	if err := d.Replace([]byte("r"), []byte("s"), seq(map[string]string{"r9": "x"}), func() error { return bad }); !errors.Is(err, bad) {
		t.Fatalf("got %v, want %v", err, bad)
	}
	if got := rows(d.View(), "r", "s"); len(got) != 2 {
		t.Fatalf("after a fault: %v", got)
	}
	fresh := map[string]string{"r2": "new", "r5": "new"}
	if err := d.Replace([]byte("r"), []byte("s"), seq(fresh), func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	put(d, "r6", "after")
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	for _, db := range []*DB{d, mustOpen(t, crashed)} {
		got := rows(db.View(), "r", "s")
		delete(got, "r6")
		if !maps.Equal(got, fresh) {
			t.Errorf("got %v, want %v", got, fresh)
		}
		if own := rows(db.View(), "l", "m"); own["l1"] != "own" {
			t.Errorf("own rows: %v", own)
		}
	}
}
