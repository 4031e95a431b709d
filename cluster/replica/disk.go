package replica

import (
	"errors"
	"io"

	"mailraft/mail"
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

// What a Disk says. An adapter translates.
var (
	ErrExists   = errors.New("content exists")
	ErrFull     = errors.New("disk full")
	ErrNotFound = errors.New("content not found")
	ErrDamaged  = errors.New("content damaged")
)
