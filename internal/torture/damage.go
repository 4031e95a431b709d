package torture

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"mailraft/internal/loopback"
)

// harm damages the disk of a member that does not run, and starts it. One whose
// log or state is damaged must refuse to, and joins anew.
func (r *run) harm(s Step) {
	m := r.b.Members[s.Member]
	r.kill(s.Member)
	if s.Fault == Wipe {
		r.replace(s.Member, m)
		return
	}
	r.harmed[s.Member] = time.Now()
	rng := rand.New(rand.NewPCG(s.Draw, 1))
	pattern := map[Fault]string{FlipMail: "content/*.seg", CutMail: "content/*.seg", FlipLog: "raft/raft.*", FlipRows: "state/[0-9]*"}[s.Fault]
	files, err := filepath.Glob(filepath.Join(m.Dir, pattern))
	if err == nil && len(files) == 0 {
		r.say("%s has no %s yet", m.Name, pattern)
	}
	if r.do(err); len(files) > 0 {
		r.do(spoil(files[rng.IntN(len(files))], s.Fault == CutMail, rng))
	}
	out, err := exec.CommandContext(r.ctx, r.Exe, "verify", "--dir", m.Dir).CombinedOutput()
	beyond := bytes.Contains(out, []byte("DAMAGED log")) || bytes.Contains(out, []byte("DAMAGED state"))
	if err != nil && !beyond && !bytes.Contains(out, []byte("DAMAGED content")) {
		r.violation("verify of %s says neither that it is whole nor what is damaged: %v: %s", m.Name, err, out)
	}
	r.say("verify: %.200s", strings.Join(strings.Fields(string(out)), " "))
	r.do(m.Start())
	if !beyond {
		return
	}
	r.pause(aliveTime)
	if m.Running() { // what is damaged may be read later: it must end then
		r.say("%s runs although its disk is damaged; it is replaced", m.Name)
	} else if !strings.Contains(m.LastWords(), "boundary token --replace") {
		r.violation("%s does not name the remedy: %s", m.Name, m.LastWords())
	}
	r.replace(s.Member, m)
}

// spoil flips bits of a file in a few places, or cuts it.
func spoil(file string, cut bool, rng *rand.Rand) error {
	info, err := os.Stat(file)
	if err != nil || info.Size() < 2 {
		return err
	}
	if cut {
		return os.Truncate(file, info.Size()/2+rng.Int64N(info.Size()/2))
	}
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	for range 1 + rng.IntN(3) {
		var b [1]byte
		at := rng.Int64N(info.Size())
		if _, err = f.ReadAt(b[:], at); err == nil {
			b[0] ^= 1 << rng.IntN(8)
			_, err = f.WriteAt(b[:], at)
		}
		if err != nil {
			break
		}
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// wholeTime is how long it may take until all members have everything again.
const wholeTime = 90 * time.Second

// whole waits until all members are up and vote, have all content, and have
// read through what was damaged.
func (r *run) whole() error {
	end, upTo := time.Now().Add(wholeTime), uint64(0)
	for {
		err := r.notWhole(&upTo)
		if err == nil || time.Now().After(end) || r.ctx.Err() != nil {
			if err == nil {
				clear(r.harmed)
			}
			return err
		}
		r.pause(200 * time.Millisecond)
	}
}

func (r *run) notWhole(upTo *uint64) error {
	lead, err := r.b.Leader(r.ctx)
	if err != nil {
		return err
	}
	of, err := r.b.Status(r.ctx, lead)
	if err != nil {
		return err
	}
	if of.Boundary.Voters != members || of.Boundary.VotersUp != members || len(of.Members) != members {
		return fmt.Errorf("%d of %d voters are up, %d members", of.Boundary.VotersUp, of.Boundary.Voters, len(of.Members))
	}
	if *upTo == 0 { // everything that was committed by now
		*upTo = of.Member.CommitIndex
	}
	for i, m := range r.b.Members {
		if err := r.lacking(i, m, *upTo); err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
	}
	return nil
}

func (r *run) lacking(i int, m *loopback.Member, upTo uint64) error {
	s, err := r.b.Status(r.ctx, m)
	if err != nil {
		return err
	}
	at, harmed := r.harmed[i]
	switch {
	case s.Member.AppliedIndex < upTo:
		return fmt.Errorf("applied %d of %d", s.Member.AppliedIndex, upTo)
	case s.Member.ContentMissing > 0 || s.Member.Refill.Counting:
		return fmt.Errorf("%d contents are missing", s.Member.ContentMissing)
	case harmed && !s.Member.Scrub.Done.Std().After(at):
		return errors.New("its disk was not read through since it was damaged")
	}
	for _, x := range s.Members {
		if x.ID == s.Member.ID && (x.Seen == nil || x.Seen.Complete < upTo) {
			return errors.New("its content is not known to be complete")
		}
	}
	return nil
}
