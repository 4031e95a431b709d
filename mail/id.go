package mail

import (
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// ID is the queue id of a message: the boundary's own name for it, made by
// applying the entry that created it. It is never reused, and byte order is
// time order. It has nothing to do with the Message-ID header field.
//
// Layout, big endian: 6 bytes of state machine time in milliseconds, 7 bytes
// of log index, 2 bytes of position within the entry.
type ID [15]byte

// lower is Crockford's alphabet in lower case: its order is byte order, so
// sorting the text sorts by time, and no letter is mistaken for a digit.
var lower = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// ErrID reports text that is not a queue id, content id or member id.
var ErrID = errors.New("malformed id")

// NewID makes the id of the n-th message (from 0) that the entry at index
// created at time t.
func NewID(t Time, index uint64, n int) ID {
	var b [16]byte
	binary.BigEndian.PutUint64(b[0:], uint64(t)<<16)
	var x [8]byte
	binary.BigEndian.PutUint64(x[:], index)
	copy(b[6:13], x[1:])
	binary.BigEndian.PutUint16(b[13:], uint16(n))
	return ID(b[:15])
}

// ParseID reads the 24 characters that String writes.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 24 {
		return id, fmt.Errorf("queue id %q: %w", s, ErrID)
	}
	if _, err := lower.Decode(id[:], []byte(s)); err != nil {
		return ID{}, fmt.Errorf("queue id %q: %w", s, ErrID)
	}
	return id, nil
}

// Time is the state machine's time when the message was created.
func (id ID) Time() Time {
	var b [8]byte
	copy(b[2:], id[:6])
	return Time(binary.BigEndian.Uint64(b[:]))
}

// Index is the log index of the entry that created the message.
func (id ID) Index() uint64 {
	var b [8]byte
	copy(b[1:], id[6:13])
	return binary.BigEndian.Uint64(b[:])
}

// IsZero reports whether no id is set.
func (id ID) IsZero() bool { return id == ID{} }

// String is the id as it stands in the 250 reply, the Received field, logs,
// DSNs and every view: 24 lower-case characters.
func (id ID) String() string { return lower.EncodeToString(id[:]) }

// MarshalText implements encoding.TextMarshaler; the zero id is empty text.
func (id ID) MarshalText() ([]byte, error) {
	if id.IsZero() {
		return nil, nil
	}
	return []byte(id.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*id = ID{}
		return nil
	}
	v, err := ParseID(string(b))
	*id = v
	return err
}

// ContentID names one upload of content and, since every submission uploads
// its content once, the submission too: it is what makes a retried Accept
// idempotent. The first 6 bytes are the maker's wall clock in milliseconds,
// so that ids made together lie together in segment indexes; the rest is
// random. Nothing depends on that clock being right.
type ContentID [16]byte

// NewContentID makes an id from the maker's clock and ten bytes of rand.
func NewContentID(now Time, rand io.Reader) (ContentID, error) {
	var id ContentID
	binary.BigEndian.PutUint64(id[:], uint64(now)<<16)
	if _, err := io.ReadFull(rand, id[6:]); err != nil {
		return ContentID{}, fmt.Errorf("make content id: %w", err)
	}
	return id, nil
}

// ParseContentID reads the 26 characters that String writes.
func ParseContentID(s string) (ContentID, error) {
	var id ContentID
	if len(s) != 26 {
		return id, fmt.Errorf("content id %q: %w", s, ErrID)
	}
	if _, err := lower.Decode(id[:], []byte(s)); err != nil {
		return ContentID{}, fmt.Errorf("content id %q: %w", s, ErrID)
	}
	return id, nil
}

// IsZero reports whether no id is set.
func (id ContentID) IsZero() bool { return id == ContentID{} }

// String is the id as 26 lower-case characters.
func (id ContentID) String() string { return lower.EncodeToString(id[:]) }

// MarshalText implements encoding.TextMarshaler.
func (id ContentID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ContentID) UnmarshalText(b []byte) error {
	v, err := ParseContentID(string(b))
	*id = v
	return err
}

// MemberID is the queue database id of a member: drawn at random when its
// data directory is created, and its Raft server id. A member that lost its
// directory comes back under its name with a new id; rows name ids, not names.
// Zero is no member.
type MemberID uint64

// NewMemberID draws an id that is not zero.
func NewMemberID(rand io.Reader) (MemberID, error) {
	var b [8]byte
	for {
		if _, err := io.ReadFull(rand, b[:]); err != nil {
			return 0, fmt.Errorf("make queue database id: %w", err)
		}
		if id := MemberID(binary.BigEndian.Uint64(b[:])); id != 0 {
			return id, nil
		}
	}
}

// ParseMemberID reads the 16 hexadecimal digits that String writes.
func ParseMemberID(s string) (MemberID, error) {
	v, err := strconv.ParseUint(s, 16, 64)
	if err != nil || len(s) != 16 {
		return 0, fmt.Errorf("queue database id %q: %w", s, ErrID)
	}
	return MemberID(v), nil
}

// String is the id as 16 hexadecimal digits.
func (m MemberID) String() string { return fmt.Sprintf("%016x", uint64(m)) }

// MarshalText implements encoding.TextMarshaler; no member is empty text.
func (m MemberID) MarshalText() ([]byte, error) {
	if m == 0 {
		return nil, nil
	}
	return []byte(m.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *MemberID) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*m = 0
		return nil
	}
	v, err := ParseMemberID(string(b))
	*m = v
	return err
}
