package torture

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"mailraft/admin"
	"mailraft/internal/ledger"
	"mailraft/internal/loopback"
)

// heal ends all that fails, and waits until everything is well and delivered.
func (r *run) heal() {
	r.say("healing: %d steps, %d messages accepted", r.report.Steps, r.ledger.Accepted())
	for _, s := range r.sinks {
		r.do(s.live())
	}
	r.revive()
	if err := r.whole(); err != nil {
		r.violation("the members do not come to have everything: %v", err)
	}
	r.eventually("nothing is queued, and no request is open", func() error {
		var l admin.List[admin.Message]
		if err := r.read(&l, "message", "list", "--limit", "5"); err != nil {
			return err
		}
		if len(l.Items) > 0 {
			return fmt.Errorf("queued, such as %s: %s", l.Items[0].ID, l.Items[0].Reason)
		}
		var q admin.List[admin.Request]
		if err := r.read(&q, "resubmit", "list"); err != nil {
			return err
		}
		if len(q.Items) > 0 {
			return fmt.Errorf("request %s is %s", q.Items[0].ID, q.Items[0].State)
		}
		return nil
	})
}

// settleTime bounds each thing that must come about by itself after the end.
const settleTime = 90 * time.Second

func (r *run) eventually(what string, f func() error) {
	end := time.Now().Add(settleTime)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(end) || r.ctx.Err() != nil {
			r.violation("not within %s: %s: %v", settleTime, what, err)
			return
		}
		r.pause(300 * time.Millisecond)
	}
}

// check holds what there is against what was promised.
func (r *run) check() {
	r.report.Accepted = r.ledger.Accepted()
	r.checkMail()
	r.eventually("all members answer with the same hash of the state", func() error {
		var h admin.Hashes
		if err := r.read(&h, "state", "hash"); err != nil {
			return err
		}
		if len(h.Items) != members || !h.Equal {
			return fmt.Errorf("%+v", h.Items)
		}
		return nil
	})
	if err := r.whole(); err != nil {
		r.violation("not all content is on all members: %v", err)
	}
	for i, was := range r.levels {
		r.eventually("what a member uses is back where it was", func() error { return r.measureOne(i).beyond(was, r.b.Members[i].Name) })
	}
	for _, m := range r.b.Members {
		r.checkLog(m)
	}
	if n := r.ledger.Refusals(); len(n) > 0 {
		r.violation("%d permanent replies to sound mail, such as %q", len(n), n[0])
	}
}

// checkMail looks for every acknowledged message where the state says that it
// is, and for whatever is there twice.
func (r *run) checkMail() {
	active, err := r.active()
	if err != nil {
		r.violation("no copy is the active one: %v", err)
		return
	}
	c := admin.NewClient(r.b.Members[0].Socket)
	defer c.Close()
	for _, e := range r.ledger.Entries() {
		if len(r.report.Violations) > 20 {
			r.say("and so on")
			return
		}
		for _, s := range r.sinks {
			for _, d := range s.deliveries(e.Marker) {
				if d.sum != e.Sum {
					r.violation("message %s (%s) is at %s with other content", e.Marker, e.QueueID, s.name)
				}
			}
			r.twice(s, e)
		}
		if e.Acked.IsZero() {
			continue
		}
		if len(active.deliveries(e.Marker)) == 0 {
			r.violation("message %s (%s), acknowledged by %s at %s, is not in the active copy %s", e.Marker, e.QueueID, e.Target, e.Acked.Format(time.TimeOnly), active.name)
		}
		r.said(c, e)
	}
}

// said compares what the state says of a message with where it is.
func (r *run) said(c *admin.Client, e ledger.Entry) {
	var one admin.OneMessage
	ctx, cancel := context.WithTimeout(r.ctx, 10*time.Second)
	defer cancel()
	if err := c.Get(ctx, "/v1/messages/"+e.QueueID, nil, &one); err != nil {
		r.violation("message %s (%s) was acknowledged, and the state has: %v", e.Marker, e.QueueID, err)
		return
	}
	m := &one.Message
	if m.Detail == nil || len(m.Detail.Recipients) != 1 {
		r.violation("message %s: the state has other recipients than one", e.QueueID)
		return
	}
	rc := m.Detail.Recipients[0]
	for _, s := range r.sinks {
		if s.name == rc.Copy && rc.State == "delivered" && len(s.deliveries(e.Marker)) > 0 {
			return
		}
	}
	r.violation("message %s is %s at copy %q by the state, and is not there", e.QueueID, rc.State, rc.Copy)
}

// slack is how long after a fault something may still come of it: a takeover,
// a lease that runs out, a retry.
const slack = 20 * time.Second

// twice counts what a mailbox server got more than once, by what explains it.
func (r *run) twice(s *sink, e ledger.Entry) {
	first := time.Time{}
	for _, d := range s.deliveries(e.Marker) {
		switch {
		case d.resent:
			r.report.Resent++
		case first.IsZero():
			first = d.at
		case e.Attempts > 1:
			r.report.Windows["the client sent it again"]++
		default:
			r.explain(s, e, first, d.at)
		}
	}
}

func (r *run) explain(s *sink, e ledger.Entry, first, again time.Time) {
	for _, v := range r.events {
		if v.at.Before(again) && v.until.Add(slack).After(first) {
			r.report.Windows["in flight at: "+string(v.fault)]++
			return
		}
	}
	r.violation("message %s (%s) came to %s at %s and again at %s, while nothing failed", e.Marker, e.QueueID, s.name, first.Format(time.TimeOnly), again.Format(time.TimeOnly))
}

// checkLog looks for the traces of a process that ended by accident.
func (r *run) checkLog(m *loopback.Member) {
	text, err := os.ReadFile(filepath.Join(m.Dir, "mailraft.log"))
	r.do(err)
	for _, trace := range []string{"\npanic: ", "\nfatal error: "} {
		// A library that is about to begin another log on a full disk ends the
		// process in a way that cannot be caught; it ends, which is what counts.
		if i := bytes.Index(text, []byte(trace)); i >= 0 && !bytes.Contains(text[i:], []byte("rotateWAL")) {
			r.violation("%s says %.300q", m.Name, text[i:])
		}
	}
}

// level is what a process uses.
type level struct{ goroutines, descriptors float64 }

func (l level) String() string {
	return fmt.Sprintf("%.0f goroutines, %.0f descriptors", l.goroutines, l.descriptors)
}

// More than before is in order to some degree: segments and tables that are
// there now, connections that are kept for a while.
const (
	moreGoroutines  = 60
	moreDescriptors = 200
)

func (l level) beyond(was level, name string) error {
	if l.goroutines == 0 || l.goroutines > was.goroutines+moreGoroutines || l.descriptors > was.descriptors+moreDescriptors {
		return fmt.Errorf("%s has %s, and had %s", name, l, was)
	}
	return nil
}

func (r *run) measure() (all []level) {
	for i := range r.b.Members {
		all = append(all, r.measureOne(i))
	}
	return all
}

// measureOne asks a member's metrics; all zero: it does not answer.
func (r *run) measureOne(i int) (l level) {
	ctx, cancel := context.WithTimeout(r.ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.b.Members[i].HTTP+"/metrics", nil)
	if err != nil {
		return l
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return l
	}
	defer resp.Body.Close()
	for in := bufio.NewScanner(resp.Body); in.Scan(); {
		name, value, _ := strings.Cut(in.Text(), " ")
		switch name {
		case "go_goroutines":
			l.goroutines, _ = strconv.ParseFloat(value, 64)
		case "process_open_fds":
			l.descriptors, _ = strconv.ParseFloat(value, 64)
		}
	}
	return l
}

// keep ends the boundary and leaves its directories: the caller removes those of
// a run that found nothing.
func (r *run) keep() (err error) {
	r.b.Stop()
	if len(r.report.Violations) > 0 {
		r.report.Kept = r.Dir
	}
	if !r.disks {
		return nil
	}
	if r.report.Kept != "" {
		r.report.Kept = filepath.Join(r.Dir, "kept")
		err = keepDisks(r.Dir, r.report.Kept)
	}
	return errors.Join(err, unmountDisks(r.Dir))
}
