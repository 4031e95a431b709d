package raftlog

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"slices"

	"github.com/hashicorp/raft"
)

// bbolt has no checksums, so entries, term and vote bring their own.
//
// An entry carries it in its Extensions, which Raft leaves to the layers below
// it and nobody else uses here: added when it is stored, checked and taken off
// when it is read, never sent. An entry without one is from an older build.
const sumLen = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func entrySum(l *raft.Log) uint32 {
	var head [17]byte
	binary.BigEndian.PutUint64(head[:], l.Index)
	binary.BigEndian.PutUint64(head[8:], l.Term)
	head[16] = byte(l.Type)
	return crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, l.Data)
}

// sealed are copies of entries with their checksums.
func sealed(logs []*raft.Log) []*raft.Log {
	copies, sums := make([]raft.Log, len(logs)), make([]byte, 0, sumLen*len(logs))
	out := make([]*raft.Log, len(logs))
	for i, l := range logs {
		sums = binary.BigEndian.AppendUint32(sums, entrySum(l))
		copies[i] = *l
		copies[i].Extensions = sums[sumLen*i : sumLen*(i+1) : sumLen*(i+1)]
		out[i] = &copies[i]
	}
	return out
}

// unseal checks an entry that was read, and takes its checksum off.
func unseal(index uint64, l *raft.Log) error {
	sum := l.Extensions
	l.Extensions = nil
	if l.Index != index || len(sum) > 0 && (len(sum) != sumLen || binary.BigEndian.Uint32(sum) != entrySum(l)) {
		return damaged("entry %d does not pass its checksum", index)
	}
	return nil
}

// sum of a small record under a key.
func recordSum(key, val []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, val)
}

// sealNumber appends its checksum to a number of 8 bytes; one without is from
// an older build.
func sealNumber(key, val []byte) []byte {
	return binary.BigEndian.AppendUint32(slices.Clone(val), recordSum(key, val))
}

func unsealNumber(key, rec []byte) ([]byte, error) {
	switch {
	case len(rec) == 8:
		return rec, nil
	case len(rec) == 8+sumLen && binary.BigEndian.Uint32(rec[8:]) == recordSum(key, rec[:8]):
		return rec[:8], nil
	}
	return nil, damaged("%q does not pass its checksum", key)
}

// voteSealed begins a vote with a checksum. An older build wrote the term
// first, and no term begins with this byte.
const voteSealed = 1

func sealVote(vote []byte) []byte {
	rec := binary.BigEndian.AppendUint32([]byte{voteSealed}, recordSum(keyVote, vote))
	return append(rec, vote...)
}

func unsealVote(rec []byte) ([]byte, error) {
	if len(rec) > 0 && rec[0] == 0 && len(rec) >= 8 {
		return rec, nil
	}
	if len(rec) < 1+sumLen+8 || rec[0] != voteSealed || binary.BigEndian.Uint32(rec[1:]) != recordSum(keyVote, rec[1+sumLen:]) {
		return nil, damaged("the vote does not pass its checksum")
	}
	return rec[1+sumLen:], nil
}

// checkRecord checks what the file has under a key beside the log.
func checkRecord(key, rec []byte) error {
	if bytes.Equal(key, keyVote) {
		_, err := unsealVote(rec)
		return err
	}
	_, err := unsealNumber(key, rec)
	return err
}
