// Package state keeps one member's state tables in Pebble.
//
// It is a log-replayed store: commits are written to Pebble's WAL without a
// sync, so after a crash the tables are a clean prefix of what was applied,
// and the Raft log has the rest. The caller puts the applied index into the
// same batch as the change it came from. Sync makes everything so far durable;
// it is called every second and before anything that the tables gave up
// (log entries, content) is removed.
//
// Keys begin with 'r' (replicated: hashed, streamed in snapshots, replaced as
// a whole by Replace) or 'l' (this member's own). The package knows no table,
// no Raft, no clock. A table that cannot be read or written is a broken
// promise and stops the process: reads therefore return no errors.
package state

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"runtime"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/go-hclog"
)

// ErrDamaged says that the tables cannot be read as they were written.
var ErrDamaged = errors.New("the state tables are damaged")

// Options of Open.
type Options struct {
	FS     vfs.FS // vfs.Default in production
	Dir    string
	Fatal  func(error) // called on any failed read, write or sync; must not return in production
	Logger hclog.Logger
}

// DB is the open tables. All methods may be called from any goroutine.
type DB struct {
	db    *pebble.DB
	fs    vfs.FS
	dir   string
	opts  *pebble.Options
	fatal func(error)
}

// format is set explicitly so that a newer Pebble never upgrades a directory
// behind the back of a boundary that still has older members.
const format = pebble.FormatValueSeparation

func options(o Options) *pebble.Options {
	log := logger{o.Logger.Named("state"), o.Fatal}
	po := &pebble.Options{
		FS:                          o.FS,
		FormatMajorVersion:          format,
		MemTableSize:                8 << 20,
		MemTableStopWritesThreshold: 4,
		CacheSize:                   32 << 20,
		MaxOpenFiles:                512,
		Logger:                      log,
		// Damage is told of by whoever met it. Pebble's own way is Fatalf.
		EventListener: &pebble.EventListener{BackgroundError: log.background, DataCorruption: func(pebble.DataCorruptionInfo) {}},
	}
	// Most look-ups by a content id are for one that is not there: a filter
	// spares them a block of every level.
	for i := range po.Levels {
		po.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	po.EnsureDefaults() // Replace writes tables with the same options
	return po
}

// Open opens or creates the tables in o.Dir.
func Open(o Options) (*DB, error) {
	po := options(o)
	db, err := pebble.Open(o.Dir, po)
	if err != nil {
		return nil, fmt.Errorf("open state tables in %s: %w", o.Dir, marked(err))
	}
	d := &DB{db: db, fs: o.FS, dir: o.Dir, opts: po, fatal: o.Fatal}
	// What was recovered may still be in the page cache only; from here on it
	// is reported as the durable index.
	if err := db.LogData(nil, pebble.Sync); err != nil {
		return nil, errors.Join(fmt.Errorf("sync state tables in %s: %w", o.Dir, err), db.Close())
	}
	return d, nil
}

// marked says of an error whether it is damage: a checksum, a file that is not
// there or ends too early.
func marked(err error) error {
	sized := strings.Contains(err.Error(), "object size mismatch") // a cut table, which Pebble does not mark
	if sized || pebble.IsCorruptionError(err) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// Close closes the tables. No view or batch may be open.
func (d *DB) Close() error { return d.db.Close() }

// Sync returns when everything committed before the call is on disk.
func (d *DB) Sync() {
	defer caught(d.fatal)
	if err := d.db.LogData(nil, pebble.Sync); err != nil {
		d.fatal(fmt.Errorf("sync state tables: %w", err))
	}
}

// Size is the bytes that the tables take on disk.
func (d *DB) Size() int64 { return int64(d.db.Metrics().DiskSpaceUsage()) }

// Reader reads the tables at one moment: a View, or a Batch with its own
// changes laid over.
type Reader interface {
	// Get returns a copy of the value, and whether the key is there.
	Get(key []byte) ([]byte, bool)
	// Scan walks lower <= key < upper in order. Key and value are valid until
	// the next step. Do not change a batch while scanning it.
	Scan(lower, upper []byte) iter.Seq2[[]byte, []byte]
	// ScanBack walks them in the other direction.
	ScanBack(lower, upper []byte) iter.Seq2[[]byte, []byte]
}

type reader struct {
	src   pebble.Reader
	fatal func(error)
}

func (r reader) Get(key []byte) ([]byte, bool) {
	v, c, err := r.src.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false
	}
	if err != nil {
		r.fatal(fmt.Errorf("read state: %w", marked(err)))
		return nil, false
	}
	defer c.Close()
	return bytes.Clone(v), true
}

func (r reader) Scan(lower, upper []byte) iter.Seq2[[]byte, []byte] {
	return r.walk(lower, upper, (*pebble.Iterator).First, (*pebble.Iterator).Next)
}

func (r reader) ScanBack(lower, upper []byte) iter.Seq2[[]byte, []byte] {
	return r.walk(lower, upper, (*pebble.Iterator).Last, (*pebble.Iterator).Prev)
}

func (r reader) walk(lower, upper []byte, first, next func(*pebble.Iterator) bool) iter.Seq2[[]byte, []byte] {
	return func(yield func(k, v []byte) bool) {
		it, err := r.src.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
		if err != nil {
			r.fatal(fmt.Errorf("scan state: %w", marked(err)))
			return
		}
		for ok := first(it); ok; ok = next(it) {
			v, err := it.ValueAndErr()
			if err != nil || !yield(it.Key(), v) {
				break
			}
		}
		if err := errors.Join(it.Error(), it.Close()); err != nil {
			r.fatal(fmt.Errorf("scan state: %w", marked(err)))
		}
	}
}

// View is the tables at one moment. It pins disk space until closed.
type View struct {
	reader
	snap *pebble.Snapshot
}

// View opens a view of the committed tables.
func (d *DB) View() *View {
	s := d.db.NewSnapshot()
	return &View{reader: reader{s, d.fatal}, snap: s}
}

// Close releases the view.
func (v *View) Close() { _ = v.snap.Close() }

// Batch collects changes that become visible together at Commit.
type Batch struct {
	reader
	b *pebble.Batch
}

// NewBatch opens a batch that reads its own changes.
func (d *DB) NewBatch() *Batch {
	b := d.db.NewIndexedBatch()
	return &Batch{reader: reader{b, d.fatal}, b: b}
}

// Set puts a row.
func (b *Batch) Set(key, value []byte) { b.check(b.b.Set(key, value, nil)) }

// Delete removes a row; one that is not there is no error.
func (b *Batch) Delete(key []byte) { b.check(b.b.Delete(key, nil)) }

// DeleteRange removes lower <= key < upper. Only for index keys: rows give up
// what they refer to and are removed one by one.
func (b *Batch) DeleteRange(lower, upper []byte) { b.check(b.b.DeleteRange(lower, upper, nil)) }

// Commit makes the changes visible, all or none, and releases the batch. They
// are durable after the next Sync, or any later one; never out of order.
func (b *Batch) Commit() {
	defer caught(b.fatal)
	b.check(b.b.Commit(pebble.NoSync))
	_ = b.b.Close()
}

// caught hands on what Pebble panics with where a write-ahead log cannot be
// written any more, such as on a full disk: with its locks held, so nothing can
// go on after it. Anything else is not ours to catch.
func caught(fatal func(error)) {
	switch v := recover().(type) {
	case nil:
	case runtime.Error:
		panic(v)
	case error:
		fatal(fmt.Errorf("write state: %w", v))
	default:
		panic(v)
	}
}

// Discard releases the batch without its changes.
func (b *Batch) Discard() { _ = b.b.Close() }

func (b *Batch) check(err error) {
	if err != nil {
		b.fatal(fmt.Errorf("write state: %w", err))
	}
}

// logger is Pebble's. What it finds fatal (a log that cannot be written) is a
// broken promise like any other.
type logger struct {
	hclog.Logger
	fatal func(error)
}

func (l logger) Infof(format string, a ...any)  { l.Trace(fmt.Sprintf(format, a...)) }
func (l logger) Errorf(format string, a ...any) { l.Error(fmt.Sprintf(format, a...)) }
func (l logger) Fatalf(format string, a ...any) { l.fatal(fmt.Errorf("state tables: "+format, a...)) }

// background is told of a flush or a compaction that failed. Pebble tries
// again, which is in order when the disk is full, and never ends with damage.
func (l logger) background(err error) {
	if err = marked(err); errors.Is(err, ErrDamaged) {
		l.fatal(fmt.Errorf("compact state: %w", err))
		return
	}
	l.Error("work in the background failed and is tried again", "error", err)
}
