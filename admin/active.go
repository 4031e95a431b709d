package admin

import (
	"net/http"
	"strconv"
	"time"

	"mailraft/fsm"
	"mailraft/mail"
)

// ActiveCopy is the answer of GET /v1/databases/{name}/active: where the
// database is now. It is what the side that reads mail follows.
type ActiveCopy struct {
	As
	Database   string    `json:"database"`
	Activation uint64    `json:"activation"` // goes up with every activation, and never back
	Copy       string    `json:"copy,omitempty"`
	Address    string    `json:"address,omitempty"`
	Site       string    `json:"site,omitempty"`
	Since      mail.Time `json:"since,omitzero"` // of this activation
}

const (
	waitMax   = 5 * time.Minute
	pollPause = 100 * time.Millisecond // between two looks: the state moves on all the time
)

// activeCopy answers at once if the activation number is above the query's
// "after", else when it is, or with what there is when "wait" is over.
func (s *Server) activeCopy(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	after, wait, err := pollOf(q.Get("after"), q.Get("wait"))
	if err != nil {
		writeProblem(w, err)
		return
	}
	over := time.NewTimer(wait)
	defer over.Stop()
	for last := wait == 0; ; {
		changed := s.State.Changed() // before the look: nothing is missed in between
		a, err := s.lookActive(r.PathValue("name"))
		if err != nil || a.Activation > after || last {
			answer(w, a, err)
			return
		}
		select {
		case <-changed:
			last = s.pause(r, over.C)
		case <-over.C:
			last = true
		case <-s.stopped:
			last = true
		case <-r.Context().Done():
			return
		}
	}
}

// pause lets a moment go by; true: there is no time for another.
func (s *Server) pause(r *http.Request, over <-chan time.Time) bool {
	t := time.NewTimer(pollPause)
	defer t.Stop()
	select {
	case <-t.C:
		return false
	case <-over:
	case <-s.stopped:
	case <-r.Context().Done():
	}
	return true
}

func pollOf(after, wait string) (number uint64, d time.Duration, err error) {
	if after != "" {
		if number, err = strconv.ParseUint(after, 10, 64); err != nil {
			return 0, 0, malformed("after: %q is no activation number", after)
		}
	}
	if wait != "" {
		d, err = mail.ParseDuration(wait)
	}
	if err != nil || d > waitMax {
		return 0, 0, malformed("wait: %q is no time up to %s", wait, mail.FormatDuration(waitMax))
	}
	return number, d, nil
}

func (s *Server) lookActive(name string) (a ActiveCopy, err error) {
	v, as := s.view()
	defer v.Close()
	d, ok := v.Database(name)
	if !ok {
		return a, missing("there is no database %q", name)
	}
	return activeOf(d, as), nil
}

func activeOf(d fsm.Database, as As) ActiveCopy {
	a := ActiveCopy{As: as, Database: d.Name, Activation: d.Activation, Copy: d.Active, Since: d.Since}
	if c := d.ActiveCopy(); c != nil {
		a.Address, a.Site = c.Addr, c.Site
	}
	return a
}
