package member

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailraft/cluster/replica"
	"mailraft/deliver"
	"mailraft/fsm"
	"mailraft/mail"
	"mailraft/store/raftlog"
	"mailraft/store/state"

	"github.com/hashicorp/go-hclog"
)

// files are those of a member that match.
func (h *house) files(i int, pattern ...string) []string {
	h.t.Helper()
	list, err := filepath.Glob(filepath.Join(append([]string{h.configs[i].Dir}, pattern...)...))
	if err != nil || len(list) == 0 {
		h.t.Fatalf("%v: %v, %v", pattern, list, err)
	}
	return list
}

func flip(t *testing.T, path string, at ...int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range at {
		b[i] ^= 1
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// digest is of all files below a directory, with names and times.
func digest(t *testing.T, dir string) string {
	t.Helper()
	h := sha256.New()
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() || info.Mode()&os.ModeSocket != 0 {
			return err
		}
		b, err := os.ReadFile(path)
		fmt.Fprintln(h, path, info.Size(), info.ModTime(), info.Mode())
		h.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// verify runs Verify, which must not change anything.
func (h *house) verify(i int) (found int, text string) {
	h.t.Helper()
	dir := h.configs[i].Dir
	before := digest(h.t, dir)
	var out bytes.Buffer
	found, err := Verify(dir, &out)
	if err != nil {
		h.t.Fatal(err)
	}
	if digest(h.t, dir) != before {
		h.t.Error("verify changed the directory")
	}
	return found, out.String()
}

// Flipped bits and a cut file in the segments of one member are found by the
// scrub, and made good from the others; what is delivered is whole.
func TestDamagedContentIsRepaired(t *testing.T) {
	h := newHouse(t, 3, func(c *Config) { c.Content.ScrubRate, c.Content.ScrubEvery = "1GiB", "100ms" })
	h.send(40)
	h.stop(1)
	if found, text := h.verify(1); found > 0 {
		t.Fatalf("found in a whole directory:\n%s", text)
	}
	segments := h.files(1, "content", "*.seg")
	info, err := os.Stat(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	flip(t, segments[0], int(info.Size()/3), int(info.Size()/2))
	if err := os.Truncate(segments[0], info.Size()-100_000); err != nil {
		t.Fatal(err)
	}
	if found, text := h.verify(1); found < 3 || !strings.Contains(text, "DAMAGED content") {
		t.Fatalf("found %d:\n%s", found, text)
	}
	h.start(1)
	h.ready()
	h.until("what was damaged is found and fetched again", func() bool {
		s := h.members[1].refill.status()
		return s.Missing == 0 && h.members[1].content.Stats().Damages > 0 && h.members[1].scrub.status().Pass > 2 && h.members[1].refill.upTo.Load() > 0
	})
	h.wholeContent(1, 40)
	h.send(10)
	h.sameState()
	h.hasAllContent(1, 50) // a majority had it when it was accepted
	h.stop(1)
	if _, text := h.verify(1); strings.Contains(text, "more are named") {
		t.Errorf("something is still missing:\n%s", text)
	}
}

// wholeContent reads every content of a member's own store.
func (h *house) wholeContent(i, n int) {
	h.t.Helper()
	m := h.members[i]
	v := m.fsm.View()
	defer v.Close()
	found := 0
	for c := range v.Contents(mail.ContentID{}) {
		r, err := m.content.Open(c.ID)
		if err != nil {
			h.t.Errorf("%s: %v", c.ID, err)
			continue
		}
		if size, err := io.Copy(io.Discard, struct{ io.Reader }{r}); err != nil || size != c.Size {
			h.t.Errorf("%s: %d of %d bytes, %v", c.ID, size, c.Size, err)
		}
		r.Close()
		found++
	}
	if found != n {
		h.t.Errorf("%d contents, want %d", found, n)
	}
}

// A damaged log or state: the member refuses to start, with the remedy in the
// text, and verify says where it is.
func TestDamagedLogAndStateAreRefused(t *testing.T) {
	h := newHouse(t, 1)
	h.propose(fsm.KindMark, fsm.Mark{})
	h.stop(0)
	dir := h.configs[0].Dir
	for name, c := range map[string]struct {
		damage func()
		want   error
		what   string
	}{
		"page of the log": {func() { flip(t, filepath.Join(dir, "raft", "raft.db"), 4096*3, 4096*3+8, 4096*2+8, 4096*4+8) }, raftlog.ErrDamaged, "log"},
		"meta page":       {func() { flip(t, filepath.Join(dir, "raft", "raft.db"), 4096+20) }, raftlog.ErrDamaged, "log"},
		"log cut": {func() {
			if err := os.Truncate(filepath.Join(dir, "raft", "raft.db"), 8192); err != nil {
				t.Fatal(err)
			}
		}, raftlog.ErrDamaged, "log"},
		"log put back empty": {func() {
			if err := os.Remove(filepath.Join(dir, "raft", "raft.db")); err != nil {
				t.Fatal(err)
			}
		}, raftlog.ErrApart, "log"},
		"manifest": {func() {
			for _, f := range h.files(0, "state", "MANIFEST-*") {
				flip(t, f, 30)
			}
		}, state.ErrDamaged, "state"},
	} {
		t.Run(name, func(t *testing.T) {
			whole := filepath.Join(t.TempDir(), "whole")
			if err := os.CopyFS(whole, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			c.damage()
			m, err := Start(h.configs[0], hclog.NewNullLogger(), func(err error) { t.Errorf("fatal: %v", err) })
			if err == nil {
				m.Stop()
				t.Fatal("started")
			}
			for _, word := range []string{"boundary token --replace m1", "boundary join", dir} {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q is not in: %v", word, err)
				}
			}
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if found, text := h.verify(0); found == 0 || !strings.Contains(text, "DAMAGED "+c.what) {
				t.Errorf("verify found %d:\n%s", found, text)
			}
			if err := errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(whole))); err != nil {
				t.Fatal(err)
			}
		})
	}
	h.start(0)
	h.ready()
}

// Damage of the own copy alone is no fault of a message: another member mends
// it, and two destinations that meet it at once must not set the message aside.
func TestOwnDamageIsNoFault(t *testing.T) {
	r := &checkedReader{ReadSeekCloser: damagedReader{}, m: &Engine{}}
	_, err := r.Read(make([]byte, 1))
	if !errors.Is(err, replica.ErrDamaged) || errors.Is(err, deliver.ErrDamaged) {
		t.Errorf("%v", err)
	}
}

type damagedReader struct{ io.ReadSeekCloser }

func (damagedReader) Read([]byte) (int, error) {
	return 0, fmt.Errorf("record 7: %w", replica.ErrDamaged)
}
