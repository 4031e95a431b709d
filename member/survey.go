package member

import (
	"time"

	"mailraft/admin"
	"mailraft/mail"
)

// survey is how much is missing in all, counted once beside the fetching: the
// queues of refill only know the next few thousand.
type survey struct {
	round    int // the latest one counts
	done     bool
	over     bool  // every row was looked at: what is missing is in the queues
	contents int64 // left
	bytes    int64
	began    time.Time
	got      int64 // bytes fetched since
}

func (s *survey) fetched(size int64) {
	s.contents, s.bytes, s.got = s.contents-1, s.bytes-size, s.got+size
}

// surveyAnew counts what is missing in ranges of rows, in the background.
func (r *refill) surveyAnew(todo []span) {
	r.mu.Lock()
	round := r.survey.round + 1
	r.survey = survey{round: round, began: time.Now()}
	r.mu.Unlock()
	r.m.work.Go(func() {
		for _, s := range todo {
			for low := s.Low; low != s.High && r.m.ctx.Err() == nil; {
				low = r.surveySome(round, low, s.High)
			}
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.survey.round == round {
			r.survey.done = true
		}
	})
}

// surveySome counts a view's worth of rows, and returns where to go on.
func (r *refill) surveySome(round int, low, high mail.ID) mail.ID {
	v := r.m.fsm.View()
	defer v.Close()
	n, contents, bytes := 0, int64(0), int64(0)
	next := high
	for m := range v.Messages(low) {
		if n++; n > scanMax {
			next = m.ID
			break
		}
		if string(m.ID[:]) >= string(high[:]) {
			break
		}
		if r.absent(m) != nil {
			contents, bytes = contents+1, bytes+m.Content.Size
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.survey.round == round {
		r.survey.contents += contents
		r.survey.bytes += bytes
	}
	return next
}

// status is the progress, for people. What was fetched while it was counted
// may be in both figures; what is known to be missing is the least.
func (r *refill) status() admin.Refill {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := int64(0)
	for _, a := range r.missing {
		known += a.content.Size
	}
	s := admin.Refill{Missing: int64(len(r.missing)), MissingBytes: known, Unavailable: int64(r.parked),
		Fetched: r.counts.Fetched, FetchedBytes: r.counts.FetchedBytes, Damaged: r.counts.Damaged, Repaired: r.counts.Repaired}
	if r.survey.over {
		return s
	}
	s.Missing, s.MissingBytes = max(s.Missing, r.survey.contents), max(s.MissingBytes, r.survey.bytes)
	s.Counting = !r.survey.done
	if took := time.Since(r.survey.began); r.survey.got > 0 && s.MissingBytes > 0 && !s.Counting {
		s.Left = mail.Duration(float64(s.MissingBytes) / float64(r.survey.got) * float64(took.Milliseconds()))
	}
	return s
}
