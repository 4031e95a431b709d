package frontend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"mailraft/admin"
	"mailraft/mail/reply"
	"mailraft/smtpd"
	"mailraft/smtpd/ingress"

	"github.com/hashicorp/go-hclog"
)

// Frontend is a running front end.
type Frontend struct {
	cfg          Config
	log          hclog.Logger
	boundaries   []*boundary
	smtp         *smtpd.Server
	certificates ingress.Certificates // that SMTP clients see
	counters     counters
	started      time.Time
	draining     atomic.Bool
	smtpAddrs    []string
	httpAddr     string

	ctx     context.Context
	cancel  context.CancelFunc
	work    sync.WaitGroup
	closers []func() // of what was opened, in that order
}

// counters are what has happened since the start.
type counters struct {
	retries      atomic.Int64 // a member gave no answer, and another was asked, unseen
	broken       atomic.Int64 // transactions given up because their member was lost
	settledTaken atomic.Int64 // lost answers that were found to be 250
	settledNot   atomic.Int64 // and those that will never be
	uncertain    atomic.Int64 // those that nobody knows: they may arrive twice
}

// Start opens everything that the configuration names.
func Start(c Config, log hclog.Logger) (_ *Frontend, err error) {
	f := &Frontend{cfg: c, log: log, started: time.Now()}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			f.cancel()
			f.close()
		}
	}()
	for _, step := range []func() error{f.lock, f.openBoundaries, f.openSMTP, f.openHTTP} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (f *Frontend) onClose(c func()) { f.closers = append(f.closers, c) }

func (f *Frontend) close() {
	for i := len(f.closers) - 1; i >= 0; i-- {
		f.closers[i]()
	}
	f.work.Wait()
}

// lock makes sure that one process renews the certificates.
func (f *Frontend) lock() error {
	if err := os.MkdirAll(f.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	l, err := os.OpenFile(filepath.Join(f.cfg.Dir, "LOCK"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock directory: %w", err)
	}
	if err := syscall.Flock(int(l.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		l.Close()
		return fmt.Errorf("directory %s is in use by another front end: stop that one, or choose another dir", f.cfg.Dir)
	}
	f.onClose(func() { l.Close() })
	return nil
}

func (f *Frontend) openBoundaries() error {
	for _, c := range f.cfg.Boundaries {
		b, err := openBoundary(c, &f.cfg, f.log.Named(c.Name))
		if err != nil {
			return err
		}
		f.boundaries = append(f.boundaries, b)
		f.work.Go(func() { b.run(f.ctx) })
	}
	return nil
}

func (f *Frontend) openSMTP() error {
	s := &f.cfg.SMTP
	log := f.log.Named("smtp")
	users, err := s.OpenUsers(log)
	if err != nil {
		return err
	}
	f.smtp = smtpd.New(smtpd.Config{Users: users, Hostname: f.cfg.Hostname, DefaultDomain: s.DefaultDomain, Gate: f, Relay: f, SizeMax: f.sizeMax,
		Limits: s.Limits.Bounds(), Logger: log})
	f.onClose(func() {
		if err := f.smtp.Close(); err != nil {
			f.log.Error("SMTP is not closed cleanly", "error", err)
		}
	})
	f.certificates.Log = log
	ports, err := s.Open(&f.certificates, nil)
	if err != nil {
		return err
	}
	for _, p := range ports {
		f.smtpAddrs = append(f.smtpAddrs, p.Addr().String())
		f.work.Go(func() { f.served("SMTP", f.smtp.Serve(p, p.Says)) })
	}
	return nil
}

func (f *Frontend) served(what string, err error) {
	if err != nil && f.ctx.Err() == nil {
		f.log.Error("stopped serving", "what", what, "error", err)
	}
}

// openHTTP opens the health listener and the command line's socket.
func (f *Frontend) openHTTP() error {
	socket, err := admin.Listen(f.cfg.Socket)
	if err != nil {
		return err
	}
	f.serveHTTP("socket", socket, f.api())
	health, err := net.Listen("tcp", f.cfg.HTTP.Listen)
	if err != nil {
		return fmt.Errorf("open health listener: %w", err)
	}
	f.httpAddr = health.Addr().String()
	f.serveHTTP("health", health, f.health())
	return nil
}

func (f *Frontend) serveHTTP(what string, l net.Listener, h http.Handler) {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, ErrorLog: f.log.Named(what).StandardLogger(nil)}
	f.work.Go(func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			f.served(what, err)
		}
	})
	f.onClose(func() { _ = srv.Close() })
}

// sizeMax is what no boundary takes more of.
func (f *Frontend) sizeMax() int64 {
	most := int64(0)
	for _, b := range f.boundaries {
		n := b.size.Load()
		if n == 0 {
			return 0 // not known yet, or no limit: the member says so
		}
		most = max(most, n)
	}
	return most
}

// Ready implements smtpd.Gate: a transaction could begin if some member of some
// boundary takes mail.
func (f *Frontend) Ready() error {
	if f.draining.Load() {
		return reply.Drained.Reply()
	}
	var err error
	for _, b := range f.boundaries {
		if _, err = b.choose(nil); err == nil {
			return nil
		}
	}
	return err
}

// stopTime is how long transactions may take when the front end stops.
const stopTime = 30 * time.Second

// Stop ends the front end in order: no new sessions, transactions finish.
func (f *Frontend) Stop() {
	f.draining.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	if err := f.smtp.Drain(ctx); err != nil {
		f.log.Warn("SMTP sessions did not end in time", "error", err)
	}
	if err := f.smtp.Close(); err != nil {
		f.log.Error("SMTP is not closed cleanly", "error", err)
	}
	f.cancel()
	f.close()
}
