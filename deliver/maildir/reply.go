package maildir

import (
	"errors"
	"io/fs"
	"syscall"

	"mailraft/mail"
)

// downError says that the copy as a whole cannot take mail.
type downError struct{ error }

func (e *downError) Unwrap() error { return e.error }

// Reply turns an error of Deliver into an answer. All are temporary: a disk
// is emptied, a mount comes back, a permission is put right. Down says that
// no other mailbox of the copy would fare better.
func (s *Store) Reply(err error) (r mail.Reply, down bool) {
	var reply *mail.Reply
	if errors.As(err, &reply) {
		return *reply, false
	}
	var d *downError
	down = errors.As(err, &d)
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EROFS):
		return *mail.Replyf(452, "4.3.1", "no space in %s: %v", s.dir, err), true
	case down, errors.Is(err, syscall.EIO), errors.Is(err, syscall.ESTALE):
		return *mail.Replyf(451, "4.3.0", "%s cannot be used: %v", s.dir, err), true
	case errors.Is(err, fs.ErrPermission):
		return *mail.Replyf(451, "4.3.0", "not allowed to write in %s: %v", s.dir, err), false
	}
	return *mail.Replyf(451, "4.3.0", "cannot deliver in %s: %v", s.dir, err), false
}
