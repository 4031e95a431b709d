package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// tableSizeMax is how much goes into one table file of Replace, in bytes.
const tableSizeMax = 64 << 20

// Replace puts rows, which must come in key order, in place of every row
// lower <= key < upper, atomically and durably: after a crash either the old
// rows are there or all of the new ones. A fault of the source comes as the
// error function's result after the last row; then nothing is changed.
func (d *DB) Replace(lower, upper []byte, rows iter.Seq2[[]byte, []byte], fault func() error) error {
	w := tableWriter{d: d, from: bytes.Clone(lower), upper: upper}
	for k, v := range rows {
		if err := w.add(k, v); err != nil {
			return errors.Join(fmt.Errorf("write state to install: %w", err), w.discard())
		}
	}
	if err := fault(); err != nil {
		return errors.Join(fmt.Errorf("read state to install: %w", err), w.discard())
	}
	if err := w.last(); err != nil {
		return errors.Join(fmt.Errorf("write state to install: %w", err), w.discard())
	}
	if err := d.db.Ingest(context.Background(), w.paths); err != nil {
		return errors.Join(fmt.Errorf("install state: %w", err), w.discard())
	}
	return nil
}

type tableWriter struct {
	d     *DB
	w     *sstable.Writer
	size  int
	paths []string
	from  []byte // what the tables before this one do not cover
	upper []byte
}

// last ends the last table, which covers the rest of the range.
func (t *tableWriter) last() error {
	if t.w == nil {
		if err := t.open(); err != nil {
			return err
		}
	}
	return t.finish(t.upper)
}

func (t *tableWriter) add(k, v []byte) error {
	if t.w != nil && t.size > tableSizeMax {
		if err := t.finish(bytes.Clone(k)); err != nil {
			return err
		}
	}
	if t.w == nil {
		if err := t.open(); err != nil {
			return err
		}
	}
	t.size += len(k) + len(v)
	return t.w.Set(k, v)
}

func (t *tableWriter) open() error {
	path := t.d.fs.PathJoin(t.d.dir, fmt.Sprintf("install-%06d.tmp", len(t.paths)))
	f, err := t.d.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	t.paths = append(t.paths, path)
	t.w = sstable.NewWriter(objstorageprovider.NewFileWritable(f), t.d.opts.MakeWriterOptions(0, format.MaxTableFormat()))
	t.size = 0
	return nil
}

// finish ends a table. It deletes what was there before up to the next table:
// a tombstone hides only older rows, and, other than an excise, leaves open
// views what they see.
func (t *tableWriter) finish(to []byte) error {
	err := errors.Join(t.w.DeleteRange(t.from, to), t.w.Close()) // Close syncs
	t.from, t.w = to, nil
	return err
}

func (t *tableWriter) discard() error {
	if t.w != nil {
		_ = t.w.Close()
	}
	var err error
	for _, p := range t.paths {
		err = errors.Join(err, t.d.fs.Remove(p))
	}
	return err
}
