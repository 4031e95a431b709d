package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"sync/atomic"

	"mailraft/mail"
	"mailraft/smtpd"
)

// Discard takes any mail and keeps none: where a relay delivers to, and what our
// SMTP costs with nothing behind it.
type Discard struct{ messages atomic.Int64 }

// Serve listens on addr until in ends, and answers every line of it with the
// number of messages that came.
func (s *Discard) Serve(addr string, in io.Reader, out io.Writer) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen for mail: %w", err)
	}
	server := smtpd.New(smtpd.Config{Hostname: "discard.invalid", Queue: s, Directory: s, Gate: s})
	served := make(chan error, 1)
	go func() { served <- server.Serve(l, smtpd.Listener{}) }()
	for lines := bufio.NewScanner(in); lines.Scan(); {
		if _, err := fmt.Fprintln(out, s.messages.Load()); err != nil {
			break
		}
	}
	return firstOf(server.Close(), <-served)
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Ready implements smtpd.Gate.
func (s *Discard) Ready() error { return nil }

// Verify implements smtpd.Directory.
func (s *Discard) Verify(context.Context, mail.Address, bool) error { return nil }

// Begin implements smtpd.Queue.
func (s *Discard) Begin(context.Context) (smtpd.Upload, error) { return discarding{s}, nil }

type discarding struct{ *Discard }

func (discarding) Write(p []byte) (int, error) { return len(p), nil }

func (u discarding) Commit(context.Context, mail.Submission) (mail.ID, error) {
	return mail.NewID(0, uint64(u.messages.Add(1)), 0), nil
}

func (discarding) Abort() {}
