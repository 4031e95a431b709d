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

// Sink takes any mail and keeps none: where a relay delivers to, and what our
// SMTP costs with nothing behind it.
type Sink struct{ messages atomic.Int64 }

// Serve listens on addr until in ends, and answers every line of it with the
// number of messages that came.
func (s *Sink) Serve(addr string, in io.Reader, out io.Writer) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen for mail: %w", err)
	}
	server := smtpd.New(smtpd.Config{Hostname: "sink.invalid", Queue: s, Directory: s, Gate: s})
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
func (s *Sink) Ready() error { return nil }

// Verify implements smtpd.Directory.
func (s *Sink) Verify(context.Context, mail.Address, bool) error { return nil }

// Begin implements smtpd.Queue.
func (s *Sink) Begin(context.Context) (smtpd.Upload, error) { return sinkUpload{s}, nil }

type sinkUpload struct{ *Sink }

func (sinkUpload) Write(p []byte) (int, error) { return len(p), nil }

func (u sinkUpload) Commit(context.Context, mail.Submission) (mail.ID, error) {
	return mail.NewID(0, uint64(u.messages.Add(1)), 0), nil
}

func (sinkUpload) Abort() {}
