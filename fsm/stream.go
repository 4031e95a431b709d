package fsm

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"iter"
)

// ErrSnapshot reports a stream that is no whole snapshot.
var ErrSnapshot = errors.New("malformed or damaged snapshot")

// streamReader reads what writeStream wrote. Its checksum is known only after
// the last row, so rows must not be used before fault has returned nil.
type streamReader struct {
	r        io.Reader
	position func(v []byte) error // looks at the row of the position, which must be there; an error ends the reading
	err      error
}

func (s *streamReader) fault() error { return s.err }

func (s *streamReader) rows() iter.Seq2[[]byte, []byte] {
	return func(yield func(k, v []byte) bool) {
		b := bufio.NewReaderSize(s.r, 256<<10)
		sum := crc32.New(castagnoli)
		in := io.TeeReader(b, sum)
		magic := make([]byte, len(streamMagic))
		if _, err := io.ReadFull(in, magic); err != nil || string(magic) != streamMagic {
			s.err = ErrSnapshot
			return
		}
		var last []byte
		look := s.position
		for {
			k, v, err := readRow(in)
			if err != nil {
				s.err = fmt.Errorf("%w: %w", ErrSnapshot, err)
				return
			}
			if len(k) == 0 {
				break
			}
			if string(k) <= string(last) || k[0] != 'r' {
				s.err = fmt.Errorf("%w: row out of order", ErrSnapshot)
				return
			}
			if look != nil && bytes.Equal(k, tab(tabApplied)) {
				if s.err = look(v); s.err != nil {
					return
				}
				look = nil
			}
			last = k
			if !yield(k, v) {
				return
			}
		}
		if s.err = checkSum(b, sum); s.err == nil && look != nil {
			s.err = fmt.Errorf("%w: it has no position", ErrSnapshot)
		}
	}
}

func readRow(r io.Reader) (k, v []byte, err error) {
	var n [8]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return nil, nil, err
	}
	kl, vl := binary.BigEndian.Uint32(n[:]), binary.BigEndian.Uint32(n[4:])
	if kl > keyMax || vl > valueMax {
		return nil, nil, fmt.Errorf("row of %d and %d bytes", kl, vl)
	}
	b := make([]byte, kl+vl)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, nil, err
	}
	return b[:kl:kl], b[kl:], nil
}

func checkSum(r io.Reader, sum hash.Hash32) error {
	var c [4]byte
	if _, err := io.ReadFull(r, c[:]); err != nil || binary.BigEndian.Uint32(c[:]) != sum.Sum32() {
		return fmt.Errorf("%w: checksum", ErrSnapshot)
	}
	return nil
}
