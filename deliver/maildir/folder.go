package maildir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"mailraft/mail"
)

// Files of ours inside a mailbox folder, and in the copy's directory.
const (
	markFile = ".mailraft-mailbox" // whose folder it is; its presence says that the folder is whole and durable
	seenFile = ".mailraft-seen"    // see record.go
	lockFile = ".mailraft-lock"
)

var errTaken = errors.New("folder of another mailbox")

// folder returns the mailbox's folder, made if need be. The short name goes
// to the first mailbox that asks for it; an existing Maildir without a mark
// is adopted.
func (s *Store) folder(a mail.Address) (string, error) {
	who := identity(a)
	for _, name := range []string{shortName(a), longName(a)} {
		dir := filepath.Join(s.dir, name)
		err := marked(dir, who)
		if errors.Is(err, fs.ErrNotExist) {
			err = s.claim(dir, who)
		}
		if errors.Is(err, errTaken) {
			continue
		}
		return dir, err
	}
	return "", fmt.Errorf("mailbox %s: both folders belong to other mailboxes", who)
}

func marked(dir, who string) error {
	b, err := os.ReadFile(filepath.Join(dir, markFile))
	if err != nil {
		return err
	}
	if string(b) != who+"\n" {
		return errTaken
	}
	return nil
}

// claim makes the folder under the copy's lock. Everything is synced before
// the mark appears: whoever sees the mark may rely on the folder.
func (s *Store) claim(dir, who string) error {
	unlock, err := s.lock(s.dir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := marked(dir, who); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, d := range []string{dir, filepath.Join(dir, "tmp"), filepath.Join(dir, "new"), filepath.Join(dir, "cur")} {
		if err := os.Mkdir(d, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err := errors.Join(syncDir(dir), syncDir(s.dir)); err != nil {
		return err
	}
	tmp := filepath.Join(dir, "tmp", unique(s.host, 0))
	if err := writeSynced(tmp, []byte(who+"\n")); err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(dir, markFile)); err != nil {
		return err
	}
	return syncDir(dir)
}

func writeSynced(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(name)
	}
	return err
}

// syncDir makes names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
