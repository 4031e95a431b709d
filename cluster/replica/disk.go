package replica

import (
	"io"

	"mailraft/mail"
	"mailraft/store/content"
)

// Disk is the content store of this member.
type Disk interface {
	Create(mail.ContentID) (Sink, error) // ErrExists, ErrFull
	Open(mail.ContentID) (Reader, error) // ErrNotFound
	// Stat reports a content that is complete. While a Commit of this package
	// is on its way Stat is not trusted for that id, so it may tell early.
	Stat(mail.ContentID) (mail.Content, bool)
}

// Sink takes the bytes of one content. Write does not keep p.
type Sink interface {
	io.Writer
	Size() int64
	Sum() uint64
	// Commit runs done once, when the content is synced or has failed; done
	// does not block. The Sink is unusable afterwards.
	Commit(notAfter mail.Time, done func(error))
	Abort()
}

// Reader gives the bytes of one content, checked record by record: ErrDamaged.
type Reader interface {
	io.ReadCloser
	Content() mail.Content
}

// What a Disk says.
var (
	ErrExists   = content.ErrExists
	ErrFull     = content.ErrFull
	ErrNotFound = content.ErrNotFound
	ErrDamaged  = content.ErrDamaged
)

// OnStore is the Disk of a member's content store.
func OnStore(s *content.Store) Disk { return onStore{s} }

type onStore struct{ *content.Store }

// Create must not wrap a nil pointer in an interface.
func (s onStore) Create(id mail.ContentID) (Sink, error) {
	w, err := s.Store.Create(id)
	if err != nil {
		return nil, err
	}
	return w, nil
}

func (s onStore) Open(id mail.ContentID) (Reader, error) {
	r, err := s.Store.Open(id)
	if err != nil {
		return nil, err
	}
	return r, nil
}
