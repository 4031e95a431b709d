package member

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"mailraft/cluster/enroll"
)

// ErrUnusable is about a data directory that its boundary has no place for: it
// has less than it had promised to have, so that its vote could undo what was
// committed, or it belongs to a member that is none any more.
var ErrUnusable = errors.New("this data directory must not be used")

// fileUnusable notes that, with the reason. Without it every start would count
// the start counter up, until it looked as if nothing had been set back.
const fileUnusable = "unusable"

// disown stops a member whose data directory must not be used, for good.
func (m *Engine) disown(why error) {
	if m.id.dir != "" {
		if err := enroll.WriteFile(filepath.Join(m.id.dir, fileUnusable), []byte(why.Error()+"\n")); err != nil {
			why = errors.Join(why, err)
		}
	}
	m.fatal(why)
}

// usable refuses a directory that was disowned.
func usable(identity string) error {
	why, err := os.ReadFile(filepath.Join(identity, fileUnusable))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read identity: %w", err)
	}
	text, _ := strings.CutSuffix(strings.TrimSpace(string(why)), ": "+ErrUnusable.Error())
	return fmt.Errorf("%s: %w", text, ErrUnusable)
}

// ExitCode is what a process ends with that cannot go on: 78 where starting it
// again will not help, since somebody has to do something about its directory
// (EX_CONFIG of sysexits.h; a service manager can be told not to restart it).
func ExitCode(err error) int {
	if errors.Is(err, ErrUnusable) {
		return 78
	}
	return 1
}
