package bench

import (
	"errors"
	"fmt"
	"os/exec"
	"time"
)

// ErrNoStrace says that syncs cannot be slowed down here.
var ErrNoStrace = errors.New("strace is not installed, which slows down the syncs")

// slowSyncs are the words before a command that let each of its syncs, and of
// its children's, wait for d: as a disk far away does, or one that spins.
// strace looks at no other system call, and is no parent of what it starts.
func slowSyncs(d time.Duration) ([]string, error) {
	if d <= 0 {
		return nil, nil
	}
	path, err := exec.LookPath("strace")
	if err != nil {
		return nil, ErrNoStrace
	}
	return []string{path, "-D", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=fsync,fdatasync",
		"-e", fmt.Sprintf("inject=fsync,fdatasync:delay_enter=%d", d.Microseconds())}, nil
}

// command is a command with words before it.
func command(wrap []string, name string, args ...string) *exec.Cmd {
	all := append(append(append([]string{}, wrap...), name), args...)
	return exec.Command(all[0], all[1:]...)
}
