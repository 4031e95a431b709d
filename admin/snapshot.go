package admin

import (
	"bufio"
	"net/http"
	"time"
)

// TypeBackup is the media type of a backup.
const TypeBackup = "application/vnd.mailraft.backup"

// saveStall is how long a client may take for a piece of a backup: while it is
// written the space of what expires does not come back.
const saveStall = time.Minute

// save streams a backup of the state that this member has, with its content.
// An error on the way ends the connection, and the client sees a backup without
// an end, which nobody takes for a whole one.
func (s *Server) save(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", TypeBackup)
	began := time.Now()
	out := &patient{w: w, c: http.NewResponseController(w)}
	b := bufio.NewWriterSize(out, 256<<10)
	err := s.Backup.Save(r.Context(), b)
	if err == nil {
		err = b.Flush()
	}
	s.Logger.Info("backup saved", "bytes", out.n, "took", time.Since(began).String(), "error", err)
	switch {
	case err == nil:
	case out.n == 0:
		writeProblem(w, err)
	default:
		panic(http.ErrAbortHandler)
	}
}

// patient gives a client time for each piece, not for the whole.
type patient struct {
	w http.ResponseWriter
	c *http.ResponseController
	n int64
}

func (p *patient) Write(b []byte) (int, error) {
	_ = p.c.SetWriteDeadline(time.Now().Add(saveStall)) // where there is none to set the client is in this process
	n, err := p.w.Write(b)
	p.n += int64(n)
	return n, err
}
