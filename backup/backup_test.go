package backup

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"mailraft/mail"

	"github.com/cespare/xxhash/v2"
)

func contentOf(n byte, b []byte) mail.Content {
	return mail.Content{ID: mail.ContentID{15: n}, Size: int64(len(b)), Sum: xxhash.Sum64(b), NotAfter: 7}
}

// chance is bytes that nothing makes smaller.
func chance(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n)})
	_, _ = r.Read(b)
	return b
}

var sizes = []int{0, 1, 1000, pieceMax, pieceMax + 1, 3*pieceMax + 17}

// broken reads some bytes and then fails.
type broken struct{ r io.Reader }

var errBroken = errors.New("broken")

func (b *broken) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if errors.Is(err, io.EOF) {
		err = errBroken
	}
	return n, err
}

func sample(t testing.TB) []byte {
	t.Helper()
	var out bytes.Buffer
	w := NewWriter(&out, Head{Boundary: "b", Name: "test", Index: 7, Time: 12})
	if _, err := w.Write(chance(2*pieceMax + 5)); err != nil {
		t.Fatal(err)
	}
	for i, n := range sizes {
		b := chance(n)
		if i == 3 {
			if err := w.Content(contentOf(byte(i), b), &broken{bytes.NewReader(b[:n/2])}); !errors.Is(err, errBroken) {
				t.Fatal(err)
			}
		}
		if err := w.Content(contentOf(byte(i), b), bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
	}
	w.Absent(mail.ContentID{1})
	if err := w.Close(Counts{Messages: 9, Databases: []Database{{Name: "DB1", Pending: 3}}}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// What was written is read; what could not be read to its end is not taken.
func TestRoundTrip(t *testing.T) {
	r, err := NewReader(bytes.NewReader(sample(t)))
	if err != nil {
		t.Fatal(err)
	}
	if r.Head.Index != 7 || r.Head.Boundary != "b" {
		t.Errorf("head %+v", r.Head)
	}
	if state, err := io.ReadAll(r.State()); err != nil || !bytes.Equal(state, chance(2*pieceMax+5)) {
		t.Errorf("state of %d bytes, %v", len(state), err)
	}
	got := map[mail.ContentID][]byte{}
	dropped := 0
	err = r.Contents(func(c mail.Content, p []byte) error {
		got[c.ID] = append(got[c.ID], p...)
		return nil
	}, func(c mail.Content, whole bool) error {
		if !whole {
			dropped++
			delete(got, c.ID)
		} else if c != contentOf(c.ID[15], got[c.ID]) {
			t.Errorf("content %+v", c)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for i, n := range sizes {
		if !bytes.Equal(got[mail.ContentID{15: byte(i)}], chance(n)) {
			t.Errorf("content of %d bytes differs", n)
		}
	}
	if dropped != 1 || r.Tail.Contents != int64(len(sizes)) || r.Tail.Absent != 1 || r.Tail.Counts.Databases[0].Pending != 3 {
		t.Errorf("%d dropped, tail %+v", dropped, r.Tail)
	}
}

// A file that is cut anywhere, or has any byte changed, is refused.
func TestDamageIsRefused(t *testing.T) {
	whole := sample(t)
	refused := func(what string, at int, b []byte) {
		t.Helper()
		if _, _, err := Check(bytes.NewReader(b), nil); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s at %d of %d: %v", what, at, len(whole), err)
		}
	}
	if _, _, err := Check(bytes.NewReader(whole), nil); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range 60 {
		at := rng.IntN(len(whole))
		if n < 20 {
			at = n // magic and head
		} else if n < 40 {
			at = len(whole) - 1 - (n-20)*9 // tail
		}
		refused("cut", at, whole[:at])
		changed := bytes.Clone(whole)
		changed[at] ^= 1 << rng.IntN(8)
		refused("changed", at, changed)
	}
	refused("more", len(whole), append(bytes.Clone(whole), 0))
}

// Whole records that are left out, doubled or exchanged are seen by the sum of
// all, and by the counts.
func TestRecordsBelongTogether(t *testing.T) {
	whole := sample(t)
	var starts []int
	for at := len(magic); at < len(whole); {
		starts = append(starts, at)
		n := int(whole[at+1])<<24 | int(whole[at+2])<<16 | int(whole[at+3])<<8 | int(whole[at+4])
		at += 5 + n + 4
	}
	starts = append(starts, len(whole))
	for i := range len(starts) - 1 {
		without := append(bytes.Clone(whole[:starts[i]]), whole[starts[i+1]:]...)
		doubled := append(bytes.Clone(whole[:starts[i+1]]), whole[starts[i]:]...)
		for what, b := range map[string][]byte{"without": without, "doubled": doubled} {
			if _, _, err := Check(bytes.NewReader(b), nil); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s record %d of kind %c: %v", what, i, whole[starts[i]], err)
			}
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add(sample(f))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, _, err := Check(bytes.NewReader(b), nil); err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("%v", err)
		}
	})
}
