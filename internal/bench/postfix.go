package bench

import (
	"context"
	"errors"
	"fmt"
	"net"

	"mailraft/internal/postfix"
)

// ErrNoPostfix says that Postfix is not installed, or that nobody but root may
// start it.
var ErrNoPostfix = errors.New("no Postfix to compare with")

const postfixLimit = 120 // smtpd processes, and so sessions

// startPostfix runs a Postfix of its own: it takes all mail and holds it, so
// that it does what taking a message costs (cleanup writes one file and syncs
// it before the answer) and nothing else; or passes it on to the SMTP server
// relay, if that is not empty. What concerns its disk is as Postfix has it by
// default.
func startPostfix(ctx context.Context, dir, relay string, wrap []string) (*system, error) {
	o := postfix.Options{Dir: dir, Wrap: wrap, Main: fmt.Sprintf(postfixMain, postfixLimit) + "smtpd_recipient_restrictions = check_recipient_access static:HOLD, permit_mynetworks, reject\n"}
	if relay != "" {
		host, port, err := net.SplitHostPort(relay)
		if err != nil {
			return nil, err
		}
		o.Main = fmt.Sprintf(postfixMain, postfixLimit) + "smtpd_recipient_restrictions = permit_mynetworks, reject\nrelayhost = [" + host + "]:" + port + "\n"
		o.Services = "smtp unix - - n - - smtp\n"
	}
	p, err := postfix.Start(ctx, o)
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
smtpd_client_connection_count_limit = 0
default_process_limit = %d
message_size_limit = 0
mailbox_size_limit = 0
`
