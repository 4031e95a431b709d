package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/go-hclog"
)

// A flipped bit in a table file, and a cut one, are found by whoever reads the
// row; nothing wrong is served. Bits of the WAL and of its end are another
// matter: the tables are then a shorter prefix, which the log knows.
func TestDamagedTableIsFound(t *testing.T) {
	dir := t.TempDir()
	d, err := Open(Options{FS: vfs.Default, Dir: dir, Fatal: func(err error) { t.Error(err) }, Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	const n = 3000
	for i := range n {
		put(d, fmt.Sprintf("r%06d", i), strings.Repeat(fmt.Sprint(i), 20))
	}
	if err := d.db.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("%v, %v", tables, err)
	}
	whole, err := os.ReadFile(tables[0])
	if err != nil {
		t.Fatal(err)
	}
	read := func() (found bool) {
		fatal := func(err error) {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("got %v, want %v", err, ErrDamaged)
			}
			found = true
		}
		d, err := OpenReadOnly(Options{FS: vfs.Default, Dir: dir, Fatal: fatal, Logger: hclog.NewNullLogger()})
		if err != nil {
			fatal(err)
			return true
		}
		defer d.Close()
		v := d.View()
		defer v.Close()
		rows := 0
		for k, x := range v.Scan([]byte("r"), []byte("s")) {
			if i := rows; string(k) != fmt.Sprintf("r%06d", i) || string(x) != strings.Repeat(fmt.Sprint(i), 20) {
				t.Errorf("served %s: %q", k, x)
			}
			rows++
		}
		return found || rows != n
	}
	if read() {
		t.Fatal("damaged without damage")
	}
	missed := 0
	for at := 0; at < len(whole); at += len(whole) / 60 {
		b := append([]byte(nil), whole...)
		b[at] ^= 16
		if err := os.WriteFile(tables[0], b, 0o600); err != nil {
			t.Fatal(err)
		}
		if !read() {
			missed++ // properties that nobody needs; the rows were right
		}
	}
	if missed > 6 {
		t.Errorf("%d of 60 flips not found", missed)
	}
	if err := os.WriteFile(tables[0], whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if !read() {
		t.Error("a cut table was not found")
	}
}
