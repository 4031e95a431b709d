package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"
)

// A frame of the journal is one append: a header, then its entries, filled up
// with zeroes to whole pages, so that no append writes a page of another. The
// values are on disk: never change them. All are little endian.
//
//	 0  uint32  CRC-32C of what follows, up to the length
//	 4  uint32  length of header and entries
//	 8  uint64  turn
//	16  uint64  salt
//	24  uint32  offset in the half
//	28  uint32  number of entries; none in the first frame of a turn
//
// An entry is index, term (uint64 each), time (int64, nanoseconds since 1970),
// type (a byte), the lengths of data and extensions (uint32 each), and these.
//
// What lies behind the last frame of a turn is left from earlier ones, and
// parts of it were chosen by senders of mail. It does not pass for a frame: it
// would need the salt, which is another one in every process.
const (
	framePage = 4 << 10
	frameHead = 32
	entryHead = 33
)

// frameLen is how long the frame of these entries is, filled up.
func frameLen(logs []*raft.Log) int {
	n := frameHead
	for _, l := range logs {
		n += entryHead + len(l.Data) + len(l.Extensions)
	}
	return (n + framePage - 1) &^ (framePage - 1)
}

// appendFrame writes a frame behind b, which is empty, without its seal.
func appendFrame(b []byte, logs []*raft.Log) []byte {
	le := binary.LittleEndian
	b = append(b, make([]byte, frameHead)...)
	for _, l := range logs {
		var at int64
		if !l.AppendedAt.IsZero() {
			at = l.AppendedAt.UnixNano()
		}
		b = le.AppendUint64(le.AppendUint64(le.AppendUint64(b, l.Index), l.Term), uint64(at))
		b = append(b, byte(l.Type))
		b = le.AppendUint32(le.AppendUint32(b, uint32(len(l.Data))), uint32(len(l.Extensions)))
		b = append(append(b, l.Data...), l.Extensions...)
	}
	le.PutUint32(b[4:], uint32(len(b)))
	le.PutUint32(b[28:], uint32(len(logs)))
	return append(b, make([]byte, -len(b)&(framePage-1))...)
}

// sealFrame says where and when a frame is written.
func sealFrame(b []byte, turn, salt uint64, off int64) {
	le := binary.LittleEndian
	le.PutUint64(b[8:], turn)
	le.PutUint64(b[16:], salt)
	le.PutUint32(b[24:], uint32(off))
	le.PutUint32(b, crc32.Checksum(b[4:le.Uint32(b[4:])], castagnoli))
}

// journalFrame is one that was read.
type journalFrame struct {
	turn, salt uint64
	size       int // whole pages
	logs       []*raft.Log
}

// parseFrame reads the frame at off of one half; nil if there is none.
func parseFrame(half []byte, off int) *journalFrame {
	le := binary.LittleEndian
	b := half[off:]
	if len(b) < frameHead {
		return nil
	}
	n := int(le.Uint32(b[4:]))
	if n < frameHead || n > len(b) || le.Uint32(b[24:]) != uint32(off) || le.Uint32(b) != crc32.Checksum(b[4:n], castagnoli) {
		return nil
	}
	f := &journalFrame{turn: le.Uint64(b[8:]), salt: le.Uint64(b[16:]), size: (n + framePage - 1) &^ (framePage - 1)}
	b, n = b[frameHead:n], int(le.Uint32(b[28:]))
	for range n {
		l, rest, ok := parseEntry(b)
		if !ok {
			return nil
		}
		f.logs, b = append(f.logs, l), rest
	}
	if len(b) > 0 {
		return nil
	}
	return f
}

func parseEntry(b []byte) (l *raft.Log, rest []byte, ok bool) {
	le := binary.LittleEndian
	if len(b) < entryHead {
		return nil, nil, false
	}
	l = &raft.Log{Index: le.Uint64(b), Term: le.Uint64(b[8:]), Type: raft.LogType(b[24])}
	if at := int64(le.Uint64(b[16:])); at != 0 {
		l.AppendedAt = time.Unix(0, at)
	}
	data, ext := uint64(le.Uint32(b[25:])), uint64(le.Uint32(b[29:]))
	if b = b[entryHead:]; data+ext > uint64(len(b)) {
		return nil, nil, false
	}
	l.Data, l.Extensions = b[:data:data], b[data:data+ext:data+ext]
	return l, b[data+ext:], true
}

// readJournal reads the frames of the present turn. Where one half is not
// whole, it is damaged or a write was under way, and the other one counts.
func readJournal(f vfs.File) (turn uint64, logs []*raft.Log, err error) {
	if fd := f.Fd(); fd != vfs.InvalidFd { // as in makeJournal: not to be read in large pieces
		_ = unix.Fadvise(int(fd), 0, 0, unix.FADV_RANDOM)
	}
	b := make([]byte, 2*journalHalf+1)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, nil, err
	}
	if n != 2*journalHalf {
		return 0, nil, damaged("the journal has %d bytes", n)
	}
	first := whole(b, 0)
	if first == nil {
		return 0, nil, damaged("the journal has no beginning")
	}
	for off := first.size; off < journalHalf; {
		f := whole(b, off)
		if f == nil || f.turn != first.turn || f.salt != first.salt {
			break
		}
		for _, l := range f.logs {
			if n := len(logs); n > 0 && l.Index != logs[n-1].Index+1 {
				logs = nil // bbolt took what came between, and with it all before
			}
			logs = append(logs, l)
		}
		off += f.size
	}
	return first.turn, logs, nil
}

// whole is the frame at off, of the first half in which it is whole: that one
// is never older, being written first.
func whole(b []byte, off int) *journalFrame {
	if f := parseFrame(b[:journalHalf], off); f != nil {
		return f
	}
	return parseFrame(b[journalHalf:2*journalHalf], off)
}

// emptyJournal is a journal before its first turn.
func emptyJournal() []byte {
	b, mark := make([]byte, 2*journalHalf), appendFrame(nil, nil)
	sealFrame(mark, 0, 0, 0)
	copy(b, mark)
	copy(b[journalHalf:], mark)
	return b
}

// makeJournal makes the file, whole or not at all. It is written to its full
// length, so that no later write changes anything but bytes; and page by page,
// since the kernel keeps what is written at once in one piece of its cache, and
// takes all of that for changed when one page is.
func makeJournal(fs vfs.FS, path string) error {
	name := path + ".new"
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	for b := emptyJournal(); len(b) > 0 && err == nil; b = b[framePage:] {
		_, err = f.Write(b[:framePage])
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = fs.Rename(name, path)
	}
	if err != nil {
		return err
	}
	d, err := fs.OpenDir(fs.PathDir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
