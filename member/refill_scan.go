package member

import (
	"cmp"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"mailraft/fsm"
	"mailraft/mail"
	"mailraft/store/content"
)

// scan is which rows are still to be looked at. Ids sort by time and then
// index, and time never goes back, so new rows are behind old ones: they are
// looked at as they come. What is older, after a start or when the state was
// replaced, is a list of ranges, looked at from the newest row down.
type scan struct {
	next   mail.ID // rows before it are looked at, or in todo
	seen   uint64  // index of the view in which there was no row behind next
	todo   []span  // ascending
	active activeScan
	holes  int64 // damaged places that the content store has told of

	saved   string // the row as it was written last
	savedAt time.Time
}

// span is the rows Low <= id < High.
type span struct{ Low, High mail.ID }

const (
	scanMax  = 20_000 // rows looked at in one view, which pins disk space
	spansMax = 64     // in the saved row
)

// keyRefill is the row of this member's own.
const keyRefill = "refill"

// refillRow is what outlives the process: what was not looked at, and what was
// found damaged and is not replaced.
type refillRow struct {
	Next mail.ID          `json:"next"`
	Todo []span           `json:"todo,omitempty"`
	Lost []mail.ContentID `json:"lost,omitempty"`
}

// load goes on from where the process before this one was. If the content
// store found anything torn or damaged when it was opened, what was here then
// may not be here now, and all rows are looked at.
func (r *refill) load() {
	var row refillRow
	b, ok := r.m.fsm.Own(keyRefill)
	if ok && json.Unmarshal(b, &row) != nil {
		ok, row = false, refillRow{}
	}
	for _, id := range row.Lost {
		if err := r.m.content.Verify(id); errors.Is(err, content.ErrNotFound) {
			r.lost(id)
		} else if err != nil { // else it was fetched again just before the end
			r.m.damaged(err)
		}
	}
	s := r.m.content.Stats()
	r.scan.holes = s.Damages
	if ok && s.Damages+s.Torn == 0 {
		r.scan.todo, r.scan.next = row.Todo, row.Next
	}
	r.older()
}

// older makes what is there now, and was not looked at, a range.
func (r *refill) older() {
	v := r.m.fsm.View()
	defer v.Close()
	for m := range v.MessagesBack(r.scan.next, mail.ID{}) {
		end := after(m.ID)
		r.scan.todo = append(r.scan.todo, span{r.scan.next, end})
		r.scan.next = end
		break
	}
	if r.scan.active.done = len(r.scan.todo) == 0; !r.scan.active.done {
		r.surveyAnew(slices.Clone(r.scan.todo))
	}
}

// look looks at some rows; true: there is more to look at now.
func (r *refill) look() (more bool) {
	if n := r.m.content.Stats().Damages; n > r.scan.holes {
		r.scan.holes = n
		r.restored()
	}
	if r.reset.Swap(false) { // before the view, which is then at least as new
		r.scan = scan{holes: r.scan.holes, saved: r.scan.saved, savedAt: r.scan.savedAt}
		r.older()
	}
	if r.full(2 * windowMax) {
		return false
	}
	if r.lookAtNew() {
		return true
	}
	if r.full(windowMax) {
		return false // new rows are looked at all the same: only then the marks move
	}
	if !r.scan.active.done {
		r.lookAtActive()
		return true
	}
	return r.lookBack()
}

// lookAtNew looks at rows as they come.
func (r *refill) lookAtNew() (more bool) {
	v := r.m.fsm.View()
	defer v.Close()
	at := v.Tables.Applied().Index
	if at == r.scan.seen {
		return false
	}
	n := 0
	for id, c := range v.MessageContents(r.scan.next) { // most are here: the rest of the row is not decoded
		if n++; n > scanMax {
			return true
		}
		r.scan.next = after(id)
		if _, ok := r.m.content.Stat(c.ID); ok {
			continue
		}
		m, ok := v.Message(id)
		if !ok {
			continue
		}
		if a := r.absent(m); a != nil {
			a.since = time.Now()
			r.add([]*absent{a})
		}
	}
	r.scan.seen = at
	return false
}

// lookBack looks at the newest rows that were not looked at.
func (r *refill) lookBack() (more bool) {
	if len(r.scan.todo) == 0 {
		return false
	}
	last := &r.scan.todo[len(r.scan.todo)-1]
	v := r.m.fsm.View()
	defer v.Close()
	var found []*absent
	n := 0
	for m := range v.MessagesBack(last.Low, last.High) {
		if n++; n > scanMax || len(found) >= windowMax {
			r.add(found)
			return !r.full(windowMax)
		}
		last.High = m.ID
		if a := r.absent(m); a != nil {
			found = append(found, a)
		}
	}
	r.scan.todo = r.scan.todo[:len(r.scan.todo)-1]
	r.add(found)
	return len(r.scan.todo) > 0 && !r.full(windowMax)
}

// absent is the content of a row, if it is not here. What was given up is not
// waited for: see lostRows.
func (r *refill) absent(m *fsm.Message) *absent {
	r.looked.Add(1)
	if _, ok := r.m.content.Stat(m.Content.ID); ok || m.GivenUp {
		return nil
	}
	return &absent{content: m.Content, row: m.ID, active: m.Active(), copies: len(m.Holders)}
}

// add puts what was found into the queues: of what need not be delivered,
// fewest copies first, then the newest.
func (r *refill) add(found []*absent) {
	if len(found) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range found {
		switch old := r.missing[a.content.ID]; {
		case old == nil:
			r.want(a)
		default: // messages may share a content
			if a.row.Index() < old.row.Index() {
				old.row = a.row
			}
			old.active = old.active || a.active
			if i := slices.Index(r.idle, old); i >= 0 && old.active { // else it is being fetched
				r.idle = slices.Delete(r.idle, i, i+1)
				r.due = append(r.due, old)
			}
		}
	}
	slices.SortStableFunc(r.idle, func(a, b *absent) int {
		return cmp.Or(cmp.Compare(a.copies, b.copies), -slices.Compare(a.row[:], b.row[:]))
	})
}

// save writes where the next start goes on: at what was not looked at, and at
// what was found missing and is not here yet.
func (r *refill) save() {
	row := refillRow{Next: r.scan.next, Todo: slices.Clone(r.scan.todo)}
	r.mu.Lock()
	for _, a := range r.missing {
		if a.row.IsZero() {
			row.Lost = append(row.Lost, a.content.ID)
		} else {
			row.Todo = append(row.Todo, span{a.row, after(a.row)})
		}
	}
	r.mu.Unlock()
	row.Todo = merge(row.Todo)
	slices.SortFunc(row.Lost, func(a, b mail.ContentID) int { return slices.Compare(a[:], b[:]) })
	r.scan.savedAt = time.Now()
	b, err := json.Marshal(row)
	if err != nil {
		r.m.fatal(err)
		return
	}
	if string(b) != r.scan.saved {
		r.m.fsm.SetOwn(keyRefill, b)
		r.scan.saved = string(b)
	}
}

// merge sorts ranges and joins those that touch; too many become fewer that
// cover more.
func merge(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return slices.Compare(a.Low[:], b.Low[:]) })
	var out []span
	for _, s := range spans {
		if n := len(out); n > 0 && (slices.Compare(s.Low[:], out[n-1].High[:]) <= 0 || n == spansMax) {
			if slices.Compare(s.High[:], out[n-1].High[:]) > 0 {
				out[n-1].High = s.High
			}
			continue
		}
		out = append(out, s)
	}
	return out
}

func after(id mail.ID) mail.ID {
	for i := len(id) - 1; i >= 0; i-- {
		if id[i]++; id[i] != 0 {
			break
		}
	}
	return id
}
