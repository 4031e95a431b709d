package member

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"mailraft/cluster"
	"mailraft/cluster/replica"
	"mailraft/deliver"
	"mailraft/directory"
	"mailraft/fsm"
	"mailraft/mail"
	"mailraft/mail/reply"
	"mailraft/resubmit"
	"mailraft/smtpd"
)

// notAfterTime is how far ahead of this member's applied clock the not-after
// of an upload lies: how long an Accept may still be applied (fsm/DESIGN.md).
const notAfterTime = 10 * time.Minute

// withdrawTime is how long a submission whose client was told 4xx is tried to
// be withdrawn.
const withdrawTime = notAfterTime + time.Minute

// Ready implements smtpd.Gate.
func (m *Engine) Ready() error {
	switch {
	case m.draining.Load():
		return reply.ShuttingDown.Reply()
	case !m.node.Lease().Valid():
		return reply.NoContact.Reply()
	}
	s := m.fsm.Settings()
	if !s.Boundary.Opened {
		return reply.NoVoters.Reply()
	}
	if self := s.Member(m.id.ID); self == nil || !self.Up || self.Draining || !s.Voter(m.id.ID) {
		return reply.NotTaking.Reply()
	}
	return nil
}

// Verify implements smtpd.Directory. A 5xx rests on replicated state, so it
// needs a fresh lease: a member that was cut off may not know the mailbox yet.
func (m *Engine) Verify(_ context.Context, rcpt mail.Address, relay bool) error {
	fresh := m.node.Lease().Valid() // before the view, which is then at least as new
	v := m.fsm.View()
	defer v.Close()
	err := directory.Verify(v, rcpt, relay)
	if r := (*mail.Reply)(nil); errors.As(err, &r) && r.Permanent() && !fresh {
		return reply.Unverified.Reply()
	}
	return err
}

// Begin implements smtpd.Queue. Under high pressure no new mail is taken; what
// is ours to send, reports to senders, is.
func (m *Engine) Begin(context.Context) (smtpd.Upload, error) {
	if r, _ := m.Pressure().Worst(); r.Level >= resubmit.High {
		return nil, m.full(r.Name)
	}
	return m.begin()
}

// full is the answer for want of a resource.
func (m *Engine) full(resource string) *mail.Reply {
	what := map[string]*reply.Entry{"disk": reply.DiskFull, "memory": reply.MemoryShort, "queue": reply.QueueLong}
	return what[resource].Reply(m.cfg.Hostname)
}

func (m *Engine) begin() (*upload, error) {
	id, err := mail.NewContentID(mail.At(cluster.WallTime()), rand.Reader)
	if err != nil {
		return nil, err
	}
	u, err := m.replica.Begin(id)
	if errors.Is(err, replica.ErrFull) {
		return nil, m.full("disk")
	}
	if err != nil {
		return nil, fmt.Errorf("begin upload: %w", err)
	}
	return &upload{m: m, id: id, u: u}, nil
}

// upload is one message on its way in.
type upload struct {
	m  *Engine
	id mail.ContentID
	u  *replica.Upload
}

// Submission is what the upload's submission is known by.
func (u *upload) Submission() mail.ContentID { return u.id }

// Write implements smtpd.Upload.
func (u *upload) Write(p []byte) (int, error) {
	n, err := u.u.Write(p)
	return n, u.m.uploadError(err)
}

// Abort implements smtpd.Upload.
func (u *upload) Abort() { u.u.Abort() }

// store ends the content: it is synced on a majority when it returns.
func (u *upload) store(ctx context.Context) (mail.Content, []mail.MemberID, error) {
	_, now := u.m.fsm.Applied()
	c, holders, err := u.u.Close(ctx, now.Add(notAfterTime))
	return c, holders, u.m.uploadError(err)
}

// Commit implements smtpd.Upload: content on a majority first, then the entry
// that names it. It returns an id only if applying the entry said accepted.
func (u *upload) Commit(ctx context.Context, s mail.Submission) (mail.ID, error) {
	ctx, cancel := context.WithTimeout(ctx, u.m.params.get().CommitTimeout)
	defer cancel()
	c, holders, err := u.store(ctx)
	if err != nil {
		return mail.ID{}, err
	}
	s.Content, s.Primary, s.Holders = c, u.m.id.ID, holders
	a, err := u.m.Propose(ctx, fsm.KindAccept, fsm.Accept{Submission: s})
	if nq := new(cluster.NoQuorumError); errors.As(err, &nq) {
		if nq.Unknown {
			u.m.withdrawLater(u.id)
		}
		return mail.ID{}, reply.NoAnswer.Reply()
	}
	if err != nil {
		return mail.ID{}, fmt.Errorf("accept: %w", err)
	}
	if a.Refused != nil {
		return mail.ID{}, a.Refused
	}
	return a.ID, nil
}

// uploadError turns what content replication says into an answer.
func (m *Engine) uploadError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, replica.ErrFull):
		return m.full("disk")
	case errors.Is(err, replica.ErrNoMajority) && m.node.Lease().Valid():
		return reply.NoMajority.Reply()
	case errors.Is(err, replica.ErrNoMajority):
		return reply.NoQuorum.Reply()
	}
	return fmt.Errorf("store content: %w", err)
}

// withdrawLater forbids a submission whose client was told 4xx while its entry
// may still be applied: else the client's next try would be a duplicate.
func (m *Engine) withdrawLater(id mail.ContentID) {
	m.withdrawals.Add(1)
	m.work.Go(func() {
		ctx, cancel := context.WithTimeout(m.ctx, withdrawTime)
		defer cancel()
		a, err := m.Propose(ctx, fsm.KindWithdraw, fsm.Withdraw{Content: id})
		if err == nil && !a.ID.IsZero() {
			m.tooLate.Add(1)
			m.log.Warn("accepted although its client was told to try again: may arrive twice", "id", a.ID.String())
		}
	})
}

// Upload implements deliver.Uploader: content of our own, for DSNs.
func (m *Engine) Upload(ctx context.Context, r io.Reader) (mail.Content, []mail.MemberID, error) {
	u, err := m.begin()
	if err != nil {
		return mail.Content{}, nil, err
	}
	if _, err := io.Copy(struct{ io.Writer }{u}, r); err != nil {
		u.Abort()
		return mail.Content{}, nil, fmt.Errorf("upload: %w", err)
	}
	return u.store(ctx)
}

// Open implements deliver.Source: the own copy, or a peer's if it is missing
// or damaged here.
func (m *Engine) Open(id mail.ContentID) (io.ReadSeekCloser, error) {
	r, err := m.content.Open(id)
	if err == nil {
		return &checkedReader{ReadSeekCloser: r, m: m}, nil
	}
	if !errors.Is(err, replica.ErrNotFound) && !errors.Is(err, replica.ErrDamaged) {
		return nil, fmt.Errorf("open content: %w", err)
	}
	if errors.Is(err, replica.ErrDamaged) {
		m.damaged(err)
	}
	v := m.fsm.View()
	want, ok := v.HasContent(id)
	v.Close()
	if !ok {
		return nil, fmt.Errorf("open content %s: %w", id, replica.ErrNotFound)
	}
	ctx, cancel := context.WithTimeout(m.ctx, time.Minute)
	defer cancel()
	if err := m.replica.Pull(ctx, want); err != nil {
		if errors.Is(err, replica.ErrDamaged) {
			err = fmt.Errorf("%w: %w", deliver.ErrDamaged, err)
		}
		return nil, fmt.Errorf("fetch content %s: %w", id, err)
	}
	r, err = m.content.Open(id)
	if err != nil {
		return nil, fmt.Errorf("open fetched content: %w", err)
	}
	return &checkedReader{ReadSeekCloser: r, m: m}, nil
}

// checkedReader reports damage that reading finds, so that it is mended: that is
// no fault of the message, whose next attempt has another member's copy.
type checkedReader struct {
	io.ReadSeekCloser
	m *Engine
}

func (c *checkedReader) Read(p []byte) (int, error) {
	n, err := c.ReadSeekCloser.Read(p)
	if errors.Is(err, replica.ErrDamaged) {
		c.m.damaged(err)
	}
	return n, err
}

// Report implements deliver.Reporter. A report that is refused because its DSN
// was (its content is too old, or on too few members) is over too: the
// recipient stays active, and the next attempt makes another DSN.
func (m *Engine) Report(ctx context.Context, reports []mail.Report) error {
	ctx, cancel := context.WithTimeout(ctx, m.params.get().CommitTimeout)
	defer cancel()
	a, err := m.Propose(ctx, fsm.KindReport, fsm.Report{Member: m.id.ID, Reports: reports})
	if err != nil {
		return err
	}
	if a.Refused != nil {
		return a.Refused
	}
	for i, r := range a.Items {
		if r != nil {
			m.log.Warn("a failure was not recorded, and will be tried again", "id", reports[i].ID.String(), "reason", r.String())
		}
	}
	return m.waitApplied(ctx, a.Index)
}

// waitApplied returns when this member's own state has reached index.
func (m *Engine) waitApplied(ctx context.Context, index uint64) error {
	for {
		changed := m.fsm.Changed()
		if at, _ := m.fsm.Applied(); at >= index {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
