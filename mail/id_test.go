package mail

import (
	"bytes"
	"slices"
	"testing"
)

func TestIDOrderIsTimeOrder(t *testing.T) {
	var ids []ID
	for _, at := range []Time{1, 255, 256, 1_767_225_600_000, 1<<48 - 1} {
		for _, index := range []uint64{0, 1, 255, 256, 1<<56 - 1} {
			for _, n := range []int{0, 1, 65535} {
				id := NewID(at, index, n)
				if id.Time() != at || id.Index() != index {
					t.Errorf("NewID(%d, %d, %d): time %d, index %d", at, index, n, id.Time(), id.Index())
				}
				ids = append(ids, id)
			}
		}
	}
	if !slices.IsSortedFunc(ids, func(a, b ID) int { return bytes.Compare(a[:], b[:]) }) {
		t.Error("bytes are not in time order")
	}
	if !slices.IsSortedFunc(ids, func(a, b ID) int { return bytes.Compare([]byte(a.String()), []byte(b.String())) }) {
		t.Error("texts are not in time order")
	}
	for _, id := range ids {
		if got, err := ParseID(id.String()); err != nil || got != id {
			t.Errorf("ParseID(%s): %v, %v", id, got, err)
		}
	}
}

func TestMalformedIDs(t *testing.T) {
	for _, s := range []string{"", "x", "06h00t3w78000000001k800", "06h00t3w78000000001k80000", "06h00t3w78000000001k800i", "06H00T3W78000000001K8000"} {
		if _, err := ParseID(s); err == nil {
			t.Errorf("queue id %q was taken", s)
		}
		if _, err := ParseContentID(s); err == nil {
			t.Errorf("content id %q was taken", s)
		}
		if _, err := ParseMemberID(s); err == nil {
			t.Errorf("queue database id %q was taken", s)
		}
	}
}

func TestContentAndMemberIDs(t *testing.T) {
	rand := bytes.NewReader(append(make([]byte, 8), "0123456789abcdefghijklmnop"...))
	m, err := NewMemberID(rand) // eight zero bytes are no member
	if err != nil || m == 0 {
		t.Fatalf("member id %v, %v", m, err)
	}
	if got, err := ParseMemberID(m.String()); err != nil || got != m {
		t.Errorf("ParseMemberID(%s): %v, %v", m, got, err)
	}
	c, err := NewContentID(1_767_225_600_000, rand)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseContentID(c.String()); err != nil || got != c {
		t.Errorf("ParseContentID(%s): %v, %v", c, got, err)
	}
	if _, err := NewContentID(0, bytes.NewReader(nil)); err == nil {
		t.Error("a content id without chance")
	}
}
