package bench

import (
	"context"
	"errors"
	"fmt"

	"mailraft/internal/postfix"
)

// ErrNoPostfix says that Postfix is not installed, or that nobody but root may
// start it.
var ErrNoPostfix = errors.New("no Postfix to compare with")

const postfixLimit = 120 // smtpd processes, and so sessions

// startPostfix runs a Postfix of its own: it takes all mail and holds it, so
// that it does what taking a message costs (cleanup writes one file and syncs
// it before the answer) and nothing else. What concerns its disk is as Postfix
// has it by default.
func startPostfix(ctx context.Context, dir string) (*system, error) {
	p, err := postfix.Start(ctx, postfix.Options{Dir: dir, Main: fmt.Sprintf(postfixMain, postfixLimit)})
	if errors.Is(err, postfix.ErrNone) {
		return nil, fmt.Errorf("%w: %w", ErrNoPostfix, err)
	}
	if err != nil {
		return nil, err
	}
	return &system{name: "Postfix", targets: []string{p.Addr}, members: 1, pids: func() []int { return family(p.PID) }, stop: p.Stop}, nil
}

const postfixMain = `mydestination = example.test
local_recipient_maps =
mynetworks = 127.0.0.0/8
smtpd_recipient_restrictions = check_recipient_access static:HOLD, permit_mynetworks, reject
smtpd_client_connection_count_limit = 0
default_process_limit = %d
message_size_limit = 0
mailbox_size_limit = 0
`
