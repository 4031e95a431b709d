package member

import (
	"bufio"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"mailraft/backup"
	"mailraft/cluster/replica"
	"mailraft/fsm"
	"mailraft/mail"
)

// Save writes a backup: the state as this member has it now, and the content
// that this state names. Mail goes on meanwhile. Content that is not here is
// fetched from another member.
//
// What this state names is not swept here until the backup is written, though
// its messages may expire meanwhile. What had to be fetched, and expired
// everywhere before, is left out and counted: nobody would have had it a moment
// later either.
func (m *Engine) Save(ctx context.Context, out io.Writer) error {
	v, unpin := m.pins.pin(m.fsm.View)
	defer unpin()
	b, ok := v.Boundary()
	if !ok || b.Boundary == "" {
		return errors.New("this member has nothing of the boundary's state yet: save on another one")
	}
	at := v.Tables.Applied()
	head := backup.Head{Boundary: b.Boundary, Name: b.Name, Generation: b.Generation, Member: m.id.Name, Version: Version, Index: at.Index, Term: at.Term, Time: at.Time}
	for c := range v.Contents(mail.ContentID{}) {
		head.Contents++
		head.Bytes += c.Size
	}
	w := backup.NewWriter(out, head)
	rows := bufio.NewWriterSize(w, 256<<10)
	if err := errors.Join(v.WriteBackup(rows), rows.Flush()); err != nil {
		return err
	}
	for c := range v.Contents(mail.ContentID{}) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := m.saveContent(ctx, w, c); err != nil {
			return err
		}
	}
	if w.Err() != nil {
		return w.Err()
	}
	return w.Close(countsOf(v))
}

// saveTries is how often a content is read; a copy that is found damaged is
// fetched again from another member.
const saveTries = 2

// saveContent writes one content, or notes that nobody can give it. An error is
// of the backup.
func (m *Engine) saveContent(ctx context.Context, w *backup.Writer, c mail.Content) error {
	for range saveTries {
		r, err := m.openWanted(ctx, c)
		if err == nil {
			err = w.Content(c, r)
			_ = r.Close()
		}
		switch {
		case w.Err() != nil:
			return w.Err()
		case err == nil:
			return nil
		case errors.Is(err, replica.ErrDamaged):
			m.damaged(err)
		}
		m.log.Debug("content is not saved yet", "content", c.ID.String(), "error", err)
	}
	v := m.fsm.View()
	defer v.Close()
	if _, wanted := v.HasContent(c.ID); wanted {
		m.log.Warn("content is named by the state that is saved, and no member that is up has it", "content", c.ID.String())
		w.Absent(c.ID)
	} else {
		w.Expired()
	}
	return w.Err()
}

// saveFetchTime bounds the fetching of one content for a backup.
const saveFetchTime = time.Minute

// openWanted opens a content that a state names, whether or not the present one
// does.
func (m *Engine) openWanted(ctx context.Context, c mail.Content) (io.ReadCloser, error) {
	r, err := m.content.Open(c.ID)
	if err == nil || !errors.Is(err, replica.ErrNotFound) {
		return r, err
	}
	ctx, cancel := context.WithTimeout(ctx, saveFetchTime)
	defer cancel()
	if err := m.replica.Pull(ctx, c); err != nil {
		return nil, err
	}
	return m.content.Open(c.ID)
}

// pins are the states that are being saved: what they name is not swept.
type pins struct {
	mu    sync.RWMutex // held for reading while somebody asks
	views map[*fsm.View]struct{}
}

// pin opens a view and keeps what it names until the end is called, which waits
// for a sweep that is under way.
func (p *pins) pin(open func() *fsm.View) (v *fsm.View, unpin func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v = open()
	if p.views == nil {
		p.views = map[*fsm.View]struct{}{}
	}
	p.views[v] = struct{}{}
	return v, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.views, v)
		v.Close()
	}
}

// names reports whether a state that is being saved names a content. The caller
// holds mu for reading.
func (p *pins) names(id mail.ContentID) bool {
	for v := range p.views { // any of them
		if _, ok := v.HasContent(id); ok {
			return true
		}
	}
	return false
}

// countsOf counts the messages of a state.
func countsOf(v *fsm.View) backup.Counts {
	var c backup.Counts
	all := map[string]*backup.Database{}
	of := func(name string) *backup.Database {
		if all[name] == nil {
			all[name] = &backup.Database{Name: name}
		}
		return all[name]
	}
	for d := range v.Databases() {
		of(d.Name)
	}
	for m := range v.Messages(mail.ID{}) {
		if c.Messages++; c.Messages == 1 {
			c.Oldest = m.Accepted
		}
		c.Newest = m.Accepted
		if m.Active() {
			c.Active++
		} else {
			c.Finished++
		}
		if m.Lost() {
			c.Lost++
		}
		for i := range m.Recipients {
			if r := &m.Recipients[i]; r.Database != "" {
				countRecipient(of(r.Database), r, m.Content.Size)
			}
		}
	}
	for _, d := range all { // sorted below
		c.Databases = append(c.Databases, *d)
	}
	slices.SortFunc(c.Databases, func(a, b backup.Database) int { return strings.Compare(a.Name, b.Name) })
	return c
}

func countRecipient(d *backup.Database, r *fsm.Recipient, size int64) {
	switch {
	case r.State == fsm.Pending:
		d.Pending++
	case r.State == fsm.Delivered && !r.Gone:
		d.Delivered++
		if d.Oldest == 0 || r.Done < d.Oldest {
			d.Oldest = r.Done
		}
		d.Newest = max(d.Newest, r.Done)
	default:
		return
	}
	d.Bytes += size
}
