package state

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/cockroachdb/pebble/v2"
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
	w := tableWriter{d: d}
	for k, v := range rows {
		if err := w.add(k, v); err != nil {
			return errors.Join(fmt.Errorf("write state to install: %w", err), w.discard())
		}
	}
	if err := fault(); err != nil {
		return errors.Join(fmt.Errorf("read state to install: %w", err), w.discard())
	}
	if err := w.finish(); err != nil {
		return errors.Join(fmt.Errorf("write state to install: %w", err), w.discard())
	}
	_, err := d.db.IngestAndExcise(context.Background(), w.paths, nil, nil, pebble.KeyRange{Start: lower, End: upper})
	if err != nil {
		return errors.Join(fmt.Errorf("install state: %w", err), w.discard())
	}
	return nil
}

type tableWriter struct {
	d     *DB
	w     *sstable.Writer
	size  int
	paths []string
}

func (t *tableWriter) add(k, v []byte) error {
	if t.w != nil && t.size > tableSizeMax {
		if err := t.finish(); err != nil {
			return err
		}
	}
	if t.w == nil {
		path := t.d.fs.PathJoin(t.d.dir, fmt.Sprintf("install-%06d.tmp", len(t.paths)))
		f, err := t.d.fs.Create(path, vfs.WriteCategoryUnspecified)
		if err != nil {
			return err
		}
		t.paths = append(t.paths, path)
		t.w = sstable.NewWriter(objstorageprovider.NewFileWritable(f), t.d.opts.MakeWriterOptions(0, format.MaxTableFormat()))
		t.size = 0
	}
	t.size += len(k) + len(v)
	return t.w.Set(k, v)
}

func (t *tableWriter) finish() error {
	if t.w == nil {
		return nil
	}
	err := t.w.Close() // syncs
	t.w = nil
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
