package member

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"mailraft/fsm"
	"mailraft/store/content"
	"mailraft/store/raftlog"
	"mailraft/store/state"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// The stores below the data directory.
const (
	dirState   = "state"
	dirContent = "content"
	dirLog     = "raft"
	fileLog    = "raft.db"
)

func (c *Config) path(names ...string) string {
	return filepath.Join(append([]string{c.Dir}, names...)...)
}

// joinAnew is the way back for a directory that must not be used.
func (c *Config) joinAnew() string {
	return fmt.Sprintf("This member joins anew, as a new one:"+
		" on another member run \"mailraft boundary token --replace %s\"; here move %s away (what is below %s may stay, it is used again),"+
		" run \"mailraft boundary join\" with that token, and start it.", c.Name, c.Dir, c.path(dirContent))
}

// remedy says what to do about a directory that cannot be used any more. The
// others have everything that this member promised; what it must not do is to
// come back with less than it promised, under the same identity.
func (c *Config) remedy(err error) error {
	if errors.Is(err, ErrUnusable) {
		return fmt.Errorf("%w\n%s", err, c.joinAnew())
	}
	for _, e := range []error{state.ErrDamaged, raftlog.ErrDamaged, raftlog.ErrApart} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w\nThis data directory must not be used again; the other members have what was in it. %s \"mailraft verify --dir %s\" shows what is damaged", err, c.joinAnew(), c.Dir)
		}
	}
	return err
}

func (m *Member) openStores() error {
	// Mail and addresses are nobody else's: what makes files below leaves them
	// readable, and whoever packages this may have made the data directory so.
	for _, dir := range []string{dirState, dirContent, dirLog} {
		path := m.cfg.path(dir)
		if err := errors.Join(os.MkdirAll(path, 0o700), os.Chmod(path, 0o700)); err != nil {
			return fmt.Errorf("make %s private: %w", path, err)
		}
	}
	if err := m.openTables(disk()); err != nil {
		return err
	}
	if err := m.openLog(); err != nil {
		return err
	}
	m.onClose(m.work.Wait) // whoever reads the stores, and was started after this, has ended
	return nil
}

// openTables opens state and content below the data directory in fs.
func (m *Engine) openTables(fs vfs.FS) (err error) {
	m.state, err = state.Open(state.Options{FS: fs, Dir: m.cfg.path(dirState), Fatal: m.fatal, Logger: m.log})
	if err != nil {
		return err
	}
	m.onClose(func() { m.closed("state", m.state.Close()) })
	m.fsm = fsm.New(m.state, m.fatal, m.log.Named("fsm"))
	m.onClose(m.fsm.Close)
	m.content, err = content.Open(content.Options{FS: fs, Dir: m.cfg.path(dirContent), Fatal: m.fatal,
		SpaceMin: m.cfg.Disk.spaceMin, Logger: m.log.Named("content")})
	if err != nil {
		return err
	}
	m.onClose(func() { m.closed("content", m.content.Close()) })
	return nil
}

// openLog opens the log and brings it in line with the state.
func (m *Member) openLog() error {
	log, err := m.openLogFile()
	if err != nil {
		return err
	}
	return m.useLog(log)
}

func (m *Member) openLogFile() (*raftlog.Store, error) {
	if err := os.MkdirAll(m.cfg.path(dirLog), 0o700); err != nil {
		return nil, fmt.Errorf("make log directory: %w", err)
	}
	var salt [8]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return raftlog.Open(raftlog.Options{Path: m.cfg.path(dirLog, fileLog), Salt: binary.NativeEndian.Uint64(salt[:]), Hang: hang, Fatal: m.fatal, Logger: m.log.Named("log")})
}

// useLog brings the log in line with the state: what a crash while a snapshot
// was installed, or a boundary recovered, left to do is done here.
func (m *Engine) useLog(log *raftlog.Store) error {
	m.raftLog = log
	m.onClose(func() { m.closed("log", m.raftLog.Close()) })
	v := m.fsm.View()
	at := v.Tables.Applied()
	v.Close()
	if _, err := m.settle(m.raftLog, at.Index, at.Term, m.fsm.Installing()); err != nil {
		return err
	}
	return m.finishRecovery()
}

// settle empties the log if the state of a snapshot says that it must be.
// behind: a Raft that runs has to be started anew.
func (m *Engine) settle(l raft.LogStore, index, term uint64, installing bool) (behind bool, err error) {
	stale, behind, err := m.raftLog.Settle(index, term, installing)
	if err != nil {
		return false, err
	}
	if stale {
		m.log.Warn("the log does not have the last entry of the installed snapshot, and is emptied", "index", index, "term", term)
		if err := raftlog.Empty(l); err != nil {
			return false, fmt.Errorf("empty the log: %w", err)
		}
	}
	if installing {
		m.fsm.Settled()
	}
	return behind, nil
}

// installed is called when a snapshot was installed, while Raft waits for it.
// Where Raft counts on entries that are gone now it must not go on: nothing is
// answered until the member has been started anew.
func (m *Engine) installed(l raft.LogStore, index, term uint64) error {
	m.refill.restored()
	behind, err := m.settle(l, index, term, true)
	if err != nil {
		m.fatal(err)
		return err
	}
	if !behind {
		return nil
	}
	err = errors.New("an installed snapshot conflicts with the log: this member starts anew")
	select {
	case m.restart <- err:
	default:
	}
	<-m.ctx.Done()
	return err
}

// Restart tells that the member has to be stopped and started anew, in the
// same process or another, and why. Until then it answers nobody.
func (m *Engine) Restart() <-chan error { return m.restart }

// logFit is how much of the log is kept when it is over its size.
func (m *Engine) logFit() (entries uint64, over bool) {
	sizeMax := m.cfg.Log.sizeMax
	return m.raftLog.Newest(sizeMax - sizeMax/4), m.raftLog.Bytes() > sizeMax
}
