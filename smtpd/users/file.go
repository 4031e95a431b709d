package users

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/semaphore"
)

// entry is a line of the file: NAME:HASH, or NAME:HASH:SENDER,SENDER….
type entry struct {
	user User
	hash Hash
}

// parse reads the text of a users file. Empty lines, and those that begin with
// #, are for people. The error names the line, and nothing that is in it but
// the name.
func parse(text string) (list []entry, err error) {
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSuffix(line, "\r")
		if line == "" || line[0] == '#' {
			continue
		}
		e, err := parseEntry(line)
		if err == nil && slices.ContainsFunc(list, func(x entry) bool { return x.user.Name == e.user.Name }) {
			err = fmt.Errorf("user %q is there twice", e.user.Name)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		list = append(list, e)
	}
	return list, nil
}

func parseEntry(line string) (e entry, err error) {
	f := strings.Split(line, ":")
	if len(f) != 2 && len(f) != 3 {
		return e, errors.New("want NAME:HASH or NAME:HASH:SENDERS")
	}
	if e.user.Name = f[0]; !validName(f[0]) {
		return e, fmt.Errorf("%q cannot be a user's name", f[0])
	}
	if e.hash, err = ParseHash(f[1]); err != nil {
		return e, fmt.Errorf("user %q: %w", f[0], err)
	}
	if len(f) == 3 && f[2] != "" {
		e.user.Senders = strings.Split(f[2], ",")
	}
	return e, validSenders(e.user.Senders)
}

// validSenders: addresses, @domain and *.
func validSenders(list []string) error {
	for _, s := range list {
		local, domain, ok := strings.Cut(s, "@")
		if s != "*" && (!ok || domain == "" || strings.ContainsAny(domain, "@* ") || strings.ContainsAny(local, "*: ,")) {
			return fmt.Errorf("sender %q is none of user@domain, @domain and *", s)
		}
	}
	return nil
}

// File is the users of a file, read again when it changes. It may be used from
// any goroutine.
type File struct {
	path string
	log  hclog.Logger
	// computing bounds how many hashes are computed at once: each takes a
	// processor and the memory that its parameters say.
	computing *semaphore.Weighted

	mu   sync.Mutex
	seen os.FileInfo // when it was last read, or tried
	list []entry     // sorted by name
}

// computingMax is how many hashes are computed at once.
const computingMax = 4

// OpenFile reads a file of users.
func OpenFile(path string, log hclog.Logger) (*File, error) {
	f := &File{path: path, log: log, computing: semaphore.NewWeighted(computingMax)}
	if err := f.read(); err != nil {
		return nil, err
	}
	return f, nil
}

// read keeps what was there before if the file cannot be read.
func (f *File) read() error {
	info, err := os.Stat(f.path)
	if err != nil {
		return fmt.Errorf("read users: %w", err)
	}
	f.seen = info
	text, err := os.ReadFile(f.path)
	if err != nil {
		return fmt.Errorf("read users: %w", err)
	}
	list, err := parse(string(text))
	if err != nil {
		return fmt.Errorf("read users: %s: %w", f.path, err)
	}
	slices.SortFunc(list, func(a, b entry) int { return strings.Compare(a.user.Name, b.user.Name) })
	f.list = list
	if info.Mode().Perm()&0o007 != 0 {
		f.log.Warn("the file of users can be read by everybody on this host", "file", f.path)
	}
	return nil
}

// users are those of the file as it is now.
func (f *File) users() []entry {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if err == nil && f.seen != nil && os.SameFile(info, f.seen) && info.ModTime().Equal(f.seen.ModTime()) && info.Size() == f.seen.Size() {
		return f.list
	}
	if err != nil {
		if f.seen != nil { // told once
			f.log.Error("the file of users is gone, those read before stay", "error", err)
			f.seen = nil
		}
		return f.list
	}
	if err := f.read(); err != nil {
		f.log.Error("the file of users is no good, those read before stay", "error", err)
	} else {
		f.log.Info("users read again", "file", f.path, "users", len(f.list))
	}
	return f.list
}

// Authenticate proves a login. For a name that nobody has, the hash of somebody
// else is computed, so that the time does not tell.
func (f *File) Authenticate(ctx context.Context, l Login) (User, error) {
	if !validName(l.Name) || len(l.Password) > passwordMax {
		return User{}, ErrDenied
	}
	e, known := pick(f.users(), l.Name)
	if err := f.computing.Acquire(ctx, 1); err != nil {
		return User{}, fmt.Errorf("wait to compute a hash: %w", err)
	}
	defer f.computing.Release(1)
	if !e.hash.Matches(l.Password) || !known {
		return User{}, ErrDenied
	}
	return e.user, nil
}

// pick finds the user of a name. If nobody has it, it is the same other one
// every time.
func pick(list []entry, name string) (e entry, known bool) {
	i, known := slices.BinarySearchFunc(list, name, func(e entry, name string) int { return strings.Compare(e.user.Name, name) })
	switch {
	case known:
		return list[i], true
	case len(list) == 0:
		e.hash = standard
		e.hash.salt, e.hash.key = make([]byte, saltSize), make([]byte, keySize)
		return e, false
	}
	h := fnv.New32a()
	h.Write([]byte(name))
	return list[int(h.Sum32()%uint32(len(list)))], false
}
