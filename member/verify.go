package member

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"mailraft/cluster/enroll"
	"mailraft/fsm"
	"mailraft/mail"
	"mailraft/store/content"
	"mailraft/store/raftlog"
	"mailraft/store/state"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/go-hclog"
)

// verifier walks a data directory that no process uses.
type verifier struct {
	dir   string
	out   io.Writer
	found int
}

func (v *verifier) bad(what string, err error) {
	v.found++
	fmt.Fprintf(v.out, "DAMAGED %s: %v\n", what, err)
}

func (v *verifier) say(format string, a ...any) { fmt.Fprintf(v.out, format+"\n", a...) }

func (v *verifier) path(names ...string) string {
	return filepath.Join(append([]string{v.dir}, names...)...)
}

// Verify reads a data directory through and prints what is wrong: identity,
// tables and their indexes, log, every content, and what the tables name and
// is not there. It changes nothing. It returns how much was found; an error
// says that it could not be looked at.
func Verify(dir string, out io.Writer) (found int, err error) {
	v := &verifier{dir: dir, out: out}
	if _, err := os.Stat(v.path("identity")); err != nil {
		return 0, fmt.Errorf("%s is no data directory of a member: %w", dir, err)
	}
	release, err := v.lock()
	if err != nil {
		return 0, err
	}
	defer release()
	v.identity()
	wanted, at := v.state()
	v.log(at)
	if err := v.content(wanted); err != nil {
		return v.found, err
	}
	return v.found, nil
}

// lock is lockDir without making anything.
func (v *verifier) lock() (release func(), err error) {
	f, err := os.Open(v.path("LOCK"))
	if errors.Is(err, os.ErrNotExist) {
		return func() {}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("data directory %s is in use: stop its member first; a running one reads its content through by itself (mailraft status)", v.dir)
	}
	return func() { f.Close() }, nil
}

func (v *verifier) identity() {
	d := identityDir(v.dir)
	var id Identity
	b, err := os.ReadFile(filepath.Join(d, fileMember))
	if err == nil {
		err = json.Unmarshal(b, &id)
	}
	if err == nil && id.ID == 0 {
		err = errors.New("there is no queue database id")
	}
	if err == nil {
		_, err = enroll.Read(d)
	}
	if err == nil {
		_, err = os.Stat(filepath.Join(d, fileSecret))
	}
	if err != nil {
		v.bad("identity", err)
		return
	}
	v.say("identity  member %s, queue database id %s, started %d times", id.Name, id.ID, id.Starts)
}

// state checks the tables, and returns the contents that they name.
func (v *verifier) state() (wanted map[mail.ContentID]bool, at fsm.Applied) {
	wanted = map[mail.ContentID]bool{}
	bad := func(err error) { v.bad("state", err) }
	db, err := state.OpenReadOnly(state.Options{FS: vfs.Default, Dir: v.path(dirState), Fatal: bad, Logger: hclog.NewNullLogger()})
	if err != nil {
		bad(err)
		return wanted, at
	}
	defer db.Close()
	view := fsm.New(db, bad, hclog.NewNullLogger()).View()
	defer view.Close()
	at = view.Tables.Applied()
	n := view.Verify(bad)
	for c := range view.Contents(mail.ContentID{}) {
		wanted[c.ID] = true
	}
	v.say("state     applied entry %d of term %d; %d messages, %d contents named", at.Index, at.Term, n, len(wanted))
	return wanted, at
}

// log checks every entry, and that the log goes on where the state ends.
func (v *verifier) log(at fsm.Applied) {
	r, err := raftlog.Check(v.path(dirLog, fileLog))
	if err != nil {
		v.bad("log", err)
		return
	}
	if r.First > at.Index+1 {
		v.bad("log", fmt.Errorf("it begins at entry %d, and the state ends at %d", r.First, at.Index))
	}
	if r.Term < at.Term {
		v.bad("log", fmt.Errorf("it knows term %d, and the state is of term %d", r.Term, at.Term))
	}
	v.say("log       entries %d to %d, term %d", r.First, r.Last, r.Term)
}

// content checks every segment. What the tables name and is not here is no
// damage: the member fetches it.
func (v *verifier) content(wanted map[mail.ContentID]bool) error {
	r, err := content.Check(vfs.Default, v.path(dirContent), func(c mail.Content) { delete(wanted, c.ID) },
		func(err error) { v.bad("content", err) })
	if errors.Is(err, os.ErrNotExist) {
		v.bad("content", err)
		return nil
	}
	if err != nil {
		return err
	}
	v.say("content   %d contents in %d segments, %d bytes", r.Contents, r.Segments, r.Bytes)
	if len(wanted) > 0 {
		v.say("content   %d more are named by the state and not whole here: the member will fetch them from others", len(wanted))
	}
	return nil
}
