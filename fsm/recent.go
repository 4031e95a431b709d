package fsm

import (
	"bytes"

	"mailraft/mail"
)

// recentMax bounds the ids that are remembered: a minute of mail at 500 a
// second, and one megabyte.
const recentMax = 32 << 10

// recent knows of new content ids that no row names them, without looking for
// them in the tables: each submission brings an id that was never seen, and a
// look-up of what is not there asks every level. Ids begin with the time at
// which they were made, so one above all that were there at first and were
// forgotten since is in ids, or nowhere.
//
// It holds back no promise: what it does not know is looked up. Where one
// member's clock is far ahead, its ids are the highest and those of the others
// are looked up.
//
// Only applying uses it, in one goroutine. The zero value has seen nothing yet.
type recent struct {
	begun bool
	top   mail.ContentID // ids in the tables up to this one are not remembered
	high  mail.ContentID // highest in ids
	ids   map[mail.ContentID]struct{}
}

// absent reports that neither the contents nor the submissions have this id.
// False says nothing.
func (r *recent) absent(t Tables, id mail.ContentID) bool {
	if !r.begun {
		r.begin(t)
	}
	if _, noted := r.ids[id]; noted {
		return false
	}
	return bytes.Compare(id[:], r.top[:]) > 0
}

// begin finds the highest id in the tables.
func (r *recent) begin(t Tables) {
	*r = recent{begun: true, ids: map[mail.ContentID]struct{}{}}
	for _, tb := range []byte{tabContent, tabSubmission} {
		k := tab(tb)
		for last := range t.ScanBack(k, k.end()) {
			id := mail.ContentID(last[len(k):])
			if bytes.Compare(id[:], r.top[:]) > 0 {
				r.top = id
			}
			break
		}
	}
}

// note is told of every id before a row is written that names it.
func (r *recent) note(id mail.ContentID) {
	if !r.begun || bytes.Compare(id[:], r.top[:]) <= 0 {
		return
	}
	if len(r.ids) == recentMax {
		r.top = r.high
		clear(r.ids)
		r.note(id)
		return
	}
	r.ids[id] = struct{}{}
	if bytes.Compare(id[:], r.high[:]) > 0 {
		r.high = id
	}
}
