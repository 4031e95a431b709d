package member

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"mailraft/fsm"
	"mailraft/mail"
)

// hand keeps which messages are being delivered in a file, without a sync: it
// is for a process that dies, not for a machine that does. What the next process
// finds there was in hand; a process that ended in order leaves nothing.
//
// Layout: a header of one slot (text: boot id of the machine, start counter of
// the process), then slots: queue id, a byte that says suspect, and a number that
// grows with each beginning. A slot of zeros is empty.
type hand struct {
	f *os.File

	mu   sync.Mutex
	free []int  // slots
	end  int    // slots so far
	seq  uint64 // of the last beginning

	left []crash          // what is not on record yet
	wait map[mail.ID]bool // of these: not to be tried before
	fail func(what string, _ error)
}

// crash is what a process left that died.
type crash struct {
	path string
	fsm.Crashes
}

const (
	handFile   = "in-hand"
	handSlot   = 64
	handIDs    = 1000 // of one entry
	bootIDFile = "/proc/sys/kernel/random/boot_id"
)

// openHand sets apart what the last process left, and begins anew.
func openHand(dir string, member mail.MemberID, starts uint64, boot string, fail func(string, error)) (*hand, error) {
	h := &hand{fail: fail, end: 1, wait: map[mail.ID]bool{}}
	path := filepath.Join(dir, handFile)
	if err := h.readLeft(path, member, boot); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("begin anew what is in hand: %w", err)
	}
	header := make([]byte, handSlot)
	copy(header, fmt.Sprintf("%.36s %d\n", boot, starts))
	if _, err := f.WriteAt(header, 0); err != nil {
		f.Close()
		return nil, fmt.Errorf("begin anew what is in hand: %w", err)
	}
	h.f = f
	return h, nil
}

// readLeft reads what processes left that died, one file for each of them until
// it is on record.
func (h *hand) readLeft(path string, member mail.MemberID, boot string) error {
	if b, err := os.ReadFile(path); err == nil && crashOf(b, member, boot) != nil {
		c := crashOf(b, member, boot)
		if err := os.Rename(path, fmt.Sprintf("%s-%d", path, c.Starts)); err != nil {
			return fmt.Errorf("set apart what was in hand: %w", err)
		}
	}
	left, err := filepath.Glob(path + "-*")
	if err != nil {
		return err
	}
	for _, name := range left {
		b, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("read what was in hand: %w", err)
		}
		c := crashOf(b, member, boot)
		if c == nil { // of a machine that was started anew since
			if err := os.Remove(name); err != nil {
				return fmt.Errorf("forget what was in hand: %w", err)
			}
			continue
		}
		h.left = append(h.left, crash{name, *c})
		for _, id := range c.IDs {
			h.wait[id] = true
		}
	}
	return nil
}

// crashOf is what a file says of the process that left it. Nil: it had nothing in hand, or it
// ended with its machine, which is no message's doing.
func crashOf(file []byte, member mail.MemberID, boot string) *fsm.Crashes {
	if len(file) < 2*handSlot {
		return nil
	}
	line, _, _ := bytes.Cut(file[:handSlot], []byte("\n"))
	c := &fsm.Crashes{Member: member}
	var machine string
	if n, err := fmt.Sscanf(string(line), "%s %d", &machine, &c.Starts); n != 2 || err != nil || machine != boot {
		return nil
	}
	last := uint64(0)
	for at := handSlot; at+handSlot <= len(file) && len(c.IDs) < handIDs; at += handSlot {
		id, suspect, seq := mail.ID(file[at:at+15]), file[at+15] == 1, binary.BigEndian.Uint64(file[at+16:])
		if id.IsZero() {
			continue
		}
		c.IDs = append(c.IDs, id)
		if suspect && seq > last {
			c.Last, last = id, seq
		}
	}
	if len(c.IDs) == 0 {
		return nil
	}
	return c
}

// Take implements deliver.Hand. If the file cannot be written the delivery goes
// on: it is there to find a culprit, not to deliver.
func (h *hand) Take(id mail.ID, suspect bool) (done func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	slot := h.end
	if n := len(h.free); n > 0 {
		slot, h.free = h.free[n-1], h.free[:n-1]
	} else {
		h.end++
	}
	h.seq++
	b := make([]byte, handSlot)
	copy(b, id[:])
	if suspect {
		b[15] = 1
	}
	binary.BigEndian.PutUint64(b[16:], h.seq)
	h.write(b, slot)
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.write(make([]byte, handSlot), slot)
		h.free = append(h.free, slot)
	}
}

func (h *hand) write(b []byte, slot int) {
	if _, err := h.f.WriteAt(b, int64(slot)*handSlot); err != nil && !errors.Is(err, os.ErrClosed) {
		h.fail("note what is in hand", err)
	}
}

// close is the orderly end: nothing is left to be found, even of a delivery
// that hangs.
func (h *hand) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return errors.Join(h.f.Truncate(0), h.f.Close())
}

// waits reports that a message must not be tried before the crash is on record.
func (h *hand) waits(id mail.ID) bool {
	if h == nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.wait[id]
}

// settled forgets a crash that is on record.
func (h *hand) settled(c crash) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.left = slices.DeleteFunc(h.left, func(x crash) bool { return x.path == c.path })
	clear(h.wait)
	for _, x := range h.left {
		for _, id := range x.IDs {
			h.wait[id] = true
		}
	}
	return os.Remove(c.path)
}

// crashes are those that are not on record.
func (h *hand) crashes() []crash {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.left)
}

// reportCrashes puts on record what processes of this member had in hand when
// they died, before any of it is tried again.
func (m *Engine) reportCrashes() {
	for _, c := range m.hand.crashes() {
		m.log.Error("the last process died with messages in hand: each of them is handled alone until it is through", "messages", len(c.IDs), "first", c.IDs[0].String())
		for !m.reportCrash(c) {
			if !m.pause(time.Second) {
				return
			}
		}
	}
}

func (m *Engine) reportCrash(c crash) bool {
	ctx, cancel := context.WithTimeout(m.ctx, 10*time.Second)
	defer cancel()
	a, err := m.Propose(ctx, fsm.KindCrashes, c.Crashes)
	if err == nil {
		err = m.waitApplied(ctx, a.Index)
	}
	if err == nil {
		err = m.hand.settled(c)
	}
	if err != nil {
		m.log.Debug("a crash is not on record yet", "error", err)
		return false
	}
	m.deliverer.Kick()
	return true
}

// bootID tells one run of the machine from another.
func bootID() string {
	b, err := os.ReadFile(bootIDFile)
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}
