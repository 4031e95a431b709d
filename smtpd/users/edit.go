package users

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// ErrNoUser and ErrUser report a name that is not in the file, or is there.
var (
	ErrNoUser = errors.New("no user of this name")
	ErrUser   = errors.New("there is a user of this name already")
)

// Add puts a user into the file, which is made if it is not there.
func Add(path string, u User, password string) error {
	if !validName(u.Name) {
		return fmt.Errorf("%q cannot be a user's name: no spaces, no colon, at most %d bytes", u.Name, nameMax)
	}
	if err := errors.Join(validSenders(u.Senders), validPassword(password)); err != nil {
		return err
	}
	return edit(path, true, func(lines []string) ([]string, error) {
		if find(lines, u.Name) >= 0 {
			return nil, ErrUser
		}
		return append(lines, line(u, password)), nil
	})
}

// validPassword: one that a login could bring.
func validPassword(password string) error {
	if password == "" || len(password) > passwordMax || strings.Contains(password, "\x00") {
		return fmt.Errorf("a password has 1 to %d bytes, and no NUL", passwordMax)
	}
	return nil
}

// SetPassword gives a user another password. What it may send as stays.
func SetPassword(path, name, password string) error {
	if err := validPassword(password); err != nil {
		return err
	}
	return edit(path, false, func(lines []string) ([]string, error) {
		i := find(lines, name)
		if i < 0 {
			return nil, ErrNoUser
		}
		e, err := parseEntry(lines[i])
		if err != nil {
			return nil, err
		}
		lines[i] = line(e.user, password)
		return lines, nil
	})
}

// Remove takes a user out of the file.
func Remove(path, name string) error {
	return edit(path, false, func(lines []string) ([]string, error) {
		i := find(lines, name)
		if i < 0 {
			return nil, ErrNoUser
		}
		return append(lines[:i], lines[i+1:]...), nil
	})
}

// List are the users of a file, in its order.
func List(path string) ([]User, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read users: %w", err)
	}
	entries, err := parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("read users: %s: %w", path, err)
	}
	var list []User
	for _, e := range entries {
		list = append(list, e.user)
	}
	return list, nil
}

func line(u User, password string) string {
	s := u.Name + ":" + NewHash(password).String()
	if len(u.Senders) > 0 {
		s += ":" + strings.Join(u.Senders, ",")
	}
	return s
}

func find(lines []string, name string) int {
	for i, l := range lines {
		if strings.HasPrefix(l, name+":") {
			return i
		}
	}
	return -1
}

// edit replaces the file by what change makes of its lines: all of it or
// nothing, comments included, and one at a time. A file that cannot be read as
// it is, is not touched.
func edit(path string, create bool, change func([]string) ([]string, error)) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	// A lock on the directory: the file itself is replaced.
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("change users: %w", err)
	}
	defer dir.Close()
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("change users: lock %s: %w", dir.Name(), err)
	}
	mode := os.FileMode(0o600)
	text, err := os.ReadFile(path)
	if create && errors.Is(err, os.ErrNotExist) {
		text, err = nil, nil
	} else if info, bad := os.Stat(path); bad == nil {
		mode = info.Mode().Perm()
	}
	if err != nil {
		return fmt.Errorf("read users: %w", err)
	}
	if _, err := parse(string(text)); err != nil {
		return fmt.Errorf("read users: %s: %w", path, err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(text) == 0 {
		lines = nil
	}
	if lines, err = change(lines); err != nil {
		return err
	}
	text = nil
	for _, l := range lines {
		text = append(text, l+"\n"...)
	}
	return replace(path, text, mode)
}

// replace puts a file in place, durably, with the owner that it had.
func replace(path string, text []byte, mode os.FileMode) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // 0600
	if err != nil {
		return fmt.Errorf("write users: %w", err)
	}
	defer func() {
		if err != nil {
			os.Remove(tmp.Name())
			err = fmt.Errorf("write users: %w", err)
		}
	}()
	if info, bad := os.Stat(path); bad == nil {
		if s, ok := info.Sys().(*syscall.Stat_t); ok && int(s.Uid) != os.Geteuid() || ok && int(s.Gid) != os.Getegid() {
			err = tmp.Chown(int(s.Uid), int(s.Gid))
		}
	}
	_, werr := tmp.Write(text)
	if err = errors.Join(err, werr, tmp.Chmod(mode), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err = os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
