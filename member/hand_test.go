package member

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"mailraft/fsm"
	"mailraft/mail"
)

// What a process leaves is found by the next one: all that was in hand, and the
// suspect that was begun last; nothing after an orderly end, nor after the
// machine was started anew.
func TestInHand(t *testing.T) {
	dir := t.TempDir()
	open := func(starts uint64, boot string) *hand {
		t.Helper()
		h, err := openHand(dir, 7, starts, boot, func(what string, err error) { t.Errorf("%s: %v", what, err) })
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	die := func(h *hand) { h.f.Close() } // as far as the file is concerned
	id := func(n uint64) mail.ID { return mail.NewID(1_900_000_000_000, n, 0) }

	h := open(1, "boot-1")
	if len(h.crashes()) != 0 || h.waits(id(1)) {
		t.Fatal("a crash before the first start")
	}
	done := h.Take(id(1), false)
	h.Take(id(2), true)
	h.Take(id(3), true)
	done()
	h.Take(id(4), false) // in the slot of the first
	die(h)

	h = open(2, "boot-1")
	left := h.crashes()
	if len(left) != 1 || left[0].Starts != 1 || left[0].Member != 7 || left[0].Last != id(3) {
		t.Fatalf("left %+v", left)
	}
	ids := left[0].IDs
	slices.SortFunc(ids, func(a, b mail.ID) int { return slices.Compare(a[:], b[:]) })
	if !slices.Equal(ids, []mail.ID{id(2), id(3), id(4)}) || !h.waits(id(4)) || h.waits(id(1)) {
		t.Fatalf("in hand were %v", ids)
	}
	h.Take(id(5), false)
	die(h) // before the first crash was on record

	h = open(3, "boot-1")
	if left = h.crashes(); len(left) != 2 {
		t.Fatalf("left %+v", left)
	}
	for _, c := range left {
		if err := h.settled(c); err != nil {
			t.Fatal(err)
		}
	}
	if h.waits(id(4)) || len(h.crashes()) != 0 {
		t.Error("on record, and still waited for")
	}
	h.Take(id(6), true)
	if err := h.close(); err != nil { // an orderly end, of a delivery that hangs
		t.Fatal(err)
	}

	h = open(4, "boot-1")
	if left = h.crashes(); len(left) != 0 {
		t.Fatalf("after an orderly end: %+v", left)
	}
	h.Take(id(8), false)
	die(h)
	h = open(5, "boot-2")
	if left = h.crashes(); len(left) != 0 {
		t.Errorf("after a start of the machine: %+v", left)
	}
	die(h)
	if files, _ := filepath.Glob(filepath.Join(dir, "*")); len(files) != 1 {
		t.Errorf("left behind: %v", files)
	}
}

// Whatever is in the file, it is read or ignored.
func FuzzInHand(f *testing.F) {
	f.Add([]byte("boot 7\n"))
	whole := make([]byte, 3*handSlot)
	copy(whole, "boot 7\n")
	whole[handSlot], whole[handSlot+15], whole[2*handSlot] = 1, 1, 2
	f.Add(whole)
	f.Fuzz(func(t *testing.T, b []byte) {
		if c := crashOf(b, 7, "boot"); c != nil && (len(c.IDs) == 0 || len(c.IDs) > handIDs || !c.Last.IsZero() && !slices.Contains(c.IDs, c.Last)) {
			t.Errorf("%+v", c)
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, handFile), b, 0o600); err != nil {
			t.Fatal(err)
		}
		h, err := openHand(dir, 7, 8, "boot", func(string, error) {})
		if err != nil {
			t.Fatal(err)
		}
		h.close()
	})
}

// A process that is killed twice while it has the same message in hand, among
// others that go on, leaves exactly that one to be blamed.
func TestKilledTwice(t *testing.T) {
	if dir := os.Getenv("MAILRAFT_TEST_IN_HAND"); dir != "" {
		die(t, dir)
	}
	dir := t.TempDir()
	v := fsm.Crashes{}
	for start := range 2 {
		c := exec.Command(os.Args[0], "-test.run=^TestKilledTwice$")
		c.Env = append(os.Environ(), "MAILRAFT_TEST_IN_HAND="+dir, fmt.Sprintf("MAILRAFT_TEST_START=%d", start+1))
		if out, err := c.CombinedOutput(); c.ProcessState == nil || c.ProcessState.ExitCode() != -1 {
			t.Fatalf("ended by itself: %v\n%s", err, out)
		}
		h, err := openHand(dir, 7, uint64(start+10), bootID(), func(string, error) {})
		if err != nil {
			t.Fatal(err)
		}
		left := h.crashes()
		if len(left) != 1 || left[0].Starts != uint64(start+1) {
			t.Fatalf("left %+v", left)
		}
		v = left[0].Crashes
		if err := errors.Join(h.settled(left[0]), h.close()); err != nil {
			t.Fatal(err)
		}
	}
	if killer := mail.NewID(1_900_000_000_000, 1, 0); v.Last != killer || len(v.IDs) != 2 {
		t.Errorf("blamed is %v of %v", v.Last, v.IDs)
	}
}

// die is the process: others come and go, one stays in hand, and so does the
// killer, of which the second process knows that it is suspect.
func die(t *testing.T, dir string) {
	starts, err := strconv.ParseUint(os.Getenv("MAILRAFT_TEST_START"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	h, err := openHand(dir, 7, starts, bootID(), func(what string, err error) { t.Fatal(what, err) })
	if err != nil {
		t.Fatal(err)
	}
	for n := range uint64(50) {
		h.Take(mail.NewID(1_900_000_000_000, 100+n, 0), false)()
	}
	h.Take(mail.NewID(1_900_000_000_000, 2, 0), false)
	h.Take(mail.NewID(1_900_000_000_000, 1, 0), starts > 1)
	if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {}
}
