package fsm

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"mailraft/mail"
	"mailraft/store/state"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// tx is the applying of entries to one batch. It reads its own changes.
type tx struct {
	Tables
	rows  *state.Batch
	at    Applied // of the entry being applied
	made  int     // messages that this entry has created
	freed int64   // contents that lost their last reference in this batch
	log   hclog.Logger

	recent   *recent
	requests map[uint64]*requestEdit // that this entry has asked for
}

// applyLog applies one entry of the Raft log; mark says that the state is to
// be hashed here.
func (t *tx) applyLog(l *raft.Log) (a Answer, mark bool) {
	switch l.Type {
	case raft.LogConfiguration:
		t.configuration(raft.DecodeConfiguration(l.Data), l.Index, l.Data)
		return Answer{}, false
	case raft.LogCommand:
	default:
		return Answer{}, false
	}
	kind, at, body, err := header(l.Data)
	if err != nil {
		t.fatal(fmt.Errorf("apply entry %d: %w", l.Index, err))
		return refuse(451, "4.3.0", "unknown entry"), false
	}
	t.pass(at)
	t.made = 0
	t.known = t.Settings()
	handle, ok := handlers[kind]
	switch {
	case ok:
		a = handle(t, body)
		t.saveRequests()
	case kind&kindSkippable == 0:
		err = fmt.Errorf("kind %d: %w: this member runs an older version than its boundary", kind, ErrEntry)
	}
	if err != nil {
		t.fatal(fmt.Errorf("apply entry %d: %w", l.Index, err))
	}
	if a.Refused != nil {
		t.log.Trace("entry refused", "index", l.Index, "kind", kind, "reason", a.Refused.String())
	}
	return a, kind == KindMark
}

// handlers has one line for each command.
var handlers map[Kind]func(*tx, []byte) Answer

func init() {
	handlers = map[Kind]func(*tx, []byte) Answer{
		KindFound:         handler((*tx).found),
		KindTermStart:     handler((*tx).termStart),
		KindTick:          handler((*tx).tick),
		KindAccept:        handler((*tx).accept),
		KindWithdraw:      handler((*tx).withdraw),
		KindReport:        handler((*tx).report),
		KindDiscard:       handler((*tx).discard),
		KindExpire:        handler((*tx).expire),
		KindMemberAdd:     handler((*tx).memberAdd),
		KindMemberDown:    handler((*tx).memberDown),
		KindMemberUp:      handler((*tx).memberUp),
		KindTakeover:      handler((*tx).takeover),
		KindProtect:       handler((*tx).protect),
		KindExpand:        handler((*tx).expand),
		KindConfigure:     handler((*tx).configure),
		KindDirectory:     handler((*tx).directory),
		KindNextHop:       handler((*tx).nextHops),
		KindDatabase:      handler((*tx).database),
		KindToken:         handler((*tx).token),
		KindQueue:         handler((*tx).queue),
		KindMessage:       handler((*tx).message),
		KindVotersChange:  handler((*tx).votersChange),
		KindVotersAbort:   handler((*tx).votersAbort),
		KindMemberRemove:  handler((*tx).memberRemove),
		KindDrain:         handler((*tx).drain),
		KindMemberCert:    handler((*tx).memberCert),
		KindMemberSet:     handler((*tx).memberSet),
		KindHandOver:      handler((*tx).handOverOwn),
		KindActivate:      handler((*tx).activate),
		KindHealth:        handler((*tx).health),
		KindRequestAdd:    handler((*tx).requestAdd),
		KindAdvance:       handler((*tx).advance),
		KindCrashes:       handler((*tx).crashes),
		KindDelays:        handler((*tx).delays),
		KindRequestChange: handler((*tx).requestChange),
		KindRecover:       handler((*tx).recover),
		KindRefound:       handler((*tx).refound),
		KindContentLost:   handler((*tx).contentLost),
		KindCA:            handler((*tx).changeCA),
		KindFrontend:      handler((*tx).changeFrontend),
		KindMark:          handler(func(t *tx, _ Mark) Answer { return Answer{} }),
	}
}

// handler decodes the body of a known kind and version. One that does not
// decode is refused, on every member alike: to stop would stop them all, and
// again at every restart.
func handler[T any](f func(*tx, T) Answer) func(*tx, []byte) Answer {
	return func(t *tx, body []byte) Answer {
		var c T
		if err := dec.Unmarshal(body, &c); err != nil {
			t.log.Error("an entry is malformed and changes nothing", "index", t.at.Index, "error", err)
			return refuse(451, "4.3.0", "malformed entry")
		}
		return f(t, c)
	}
}

func (t *tx) put(k key, v any) {
	b, err := enc.Marshal(v)
	if err != nil {
		t.fatal(fmt.Errorf("encode state row %q: %w", k, err))
		return
	}
	t.set(k, b)
}

func (t *tx) now() mail.Time { return t.at.Time }

// ago is the moment d before now. Never before zero: as part of a key a
// negative time would lie behind all others.
func (t *tx) ago(d time.Duration) mail.Time { return max(t.now().Add(-d), 0) }

// piece bounds the rows that one entry of a command in pieces works on,
// whatever it asks for.
func piece(rows int) int { return min(max(rows, 1), pieceMax) }

const pieceMax = 1000

// edit is a row being changed, with the index keys it had.
type edit struct {
	*Message
	before []key
	sums   sums // as they were
}

// open reads a row to change it; nil if there is none.
func (t *tx) open(id mail.ID) *edit {
	m, ok := t.Message(id)
	if !ok {
		return nil
	}
	return &edit{m, m.indexes(), m.sums()}
}

// create begins a row, and counts its reference to the content.
func (t *tx) create(c mail.Content) *edit {
	id := mail.NewID(t.now(), t.at.Index, t.made)
	t.made++
	k := tab(tabContent).bytes(c.ID[:])
	row := contentRow{Content: c}
	if !t.recent.absent(t.Tables, c.ID) {
		t.get(k, &row)
	}
	t.recent.note(c.ID)
	row.Refs++
	t.put(k, row)
	return &edit{Message: &Message{ID: id, Content: c, Accepted: t.now()}}
}

// save writes a row and moves its index keys.
func (t *tx) save(e *edit) {
	after := e.indexes()
	for _, k := range e.before {
		if !hasKey(after, k) {
			t.delete(k)
		}
	}
	for _, k := range after {
		if !hasKey(e.before, k) {
			t.set(k, nil)
		}
	}
	e.before = after
	t.tally(e.Message, e.sums)
	e.sums = e.Message.sums()
	t.put(tab(tabMessage).id(e.ID), e.Message)
}

// drop removes a row, its index keys and its reference to the content.
func (t *tx) drop(e *edit) {
	for _, k := range e.before {
		t.delete(k)
	}
	t.delete(tab(tabMessage).id(e.ID))
	k := tab(tabContent).bytes(e.Content.ID[:])
	var row contentRow
	if !t.get(k, &row) {
		t.fatal(fmt.Errorf("drop %s: its content %s is not counted", e.ID, e.Content.ID))
		return
	}
	if row.Refs--; row.Refs > 0 {
		t.put(k, row)
	} else {
		t.delete(k)
		t.freed++
	}
}

func hasKey(ks []key, k key) bool {
	_, ok := slices.BinarySearchFunc(ks, k, func(a, b key) int { return bytes.Compare(a, b) })
	return ok
}
