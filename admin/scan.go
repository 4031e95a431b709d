package admin

import (
	"sync"
	"time"

	"mailraft/fsm"
	"mailraft/mail"
)

// A scan costs microseconds a row and is asked for by whoever scrapes: it is
// bounded, and kept for a while. What is beyond the bound is said, not guessed.
const (
	scanRowsMax  = 50_000
	scanKept     = 10 * time.Second
	netScanKept  = time.Minute
	netScanMax   = 500_000 // keys only
	noneDatabase = "none"
)

// scans keeps the latest scan of the queue and of the Safety Net.
type scans struct {
	mu    sync.Mutex
	q     *queueScan // guarded by mu
	qAt   time.Time  // guarded by mu
	net   *netScan   // guarded by mu
	netAt time.Time  // guarded by mu
}

// cell is a label pair of the metrics.
type cell struct{ state, database string }

// sum is what is counted of a cell.
type sum struct {
	messages int
	bytes    int64
	oldest   mail.Time
}

// queueScan sums up the active messages. A message with recipients in several
// databases counts in each.
type queueScan struct {
	cells map[cell]*sum
	now   mail.Time
	total QueueTotals
}

// queue is the scan of v, or of a view a few seconds older.
func (s *scans) queue(v *fsm.View) *queueScan {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.q == nil || time.Since(s.qAt) > scanKept {
		s.q, s.qAt = scanQueue(v, scanRowsMax), time.Now()
	}
	return s.q
}

func scanQueue(v *fsm.View, rowsMax int) *queueScan {
	q := &queueScan{cells: map[cell]*sum{}, now: v.Tables.Applied().Time}
	for member := range v.Members() {
		for m := range v.Active(member.ID) {
			if q.total.Messages == rowsMax {
				q.total.Truncated = true
				return q
			}
			q.add(m)
		}
	}
	return q
}

func (q *queueScan) add(m *fsm.Message) {
	state := stateOf(m, q.now)
	q.total.Messages++
	q.total.Bytes += m.Content.Size
	switch {
	case state == StateDeferred:
		q.total.Deferred++
	case state == StateWaiting:
		q.total.Waiting++
	case state == StatePoison:
		q.total.Poison++
	}
	if m.Shadow == 0 {
		q.total.NoShadow++
	}
	if m.Marked {
		q.total.Fewer++
	}
	if q.total.Oldest == 0 || m.Accepted < q.total.Oldest {
		q.total.Oldest = m.Accepted
	}
	seen := map[string]bool{}
	for i := range m.Recipients {
		r := &m.Recipients[i]
		name := r.Database
		if name == "" {
			name = noneDatabase
		}
		if r.State != fsm.Pending || seen[name] {
			continue
		}
		seen[name] = true
		c := cell{state, name}
		if q.cells[c] == nil {
			q.cells[c] = &sum{}
		}
		q.cells[c].add(m)
	}
}

func (s *sum) add(m *fsm.Message) {
	s.messages++
	s.bytes += m.Content.Size
	if s.oldest == 0 || m.Accepted < s.oldest {
		s.oldest = m.Accepted
	}
}

// netScan counts the resubmittable deliveries of each database.
type netScan struct {
	deliveries map[string]int
	oldest     map[string]mail.Time
	now        mail.Time
	truncated  bool
}

func (s *scans) safetyNet(v *fsm.View) *netScan {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.net == nil || time.Since(s.netAt) > netScanKept {
		s.net, s.netAt = scanNet(v, netScanMax), time.Now()
	}
	return s.net
}

func scanNet(v *fsm.View, keysMax int) *netScan {
	n := &netScan{deliveries: map[string]int{}, oldest: map[string]mail.Time{}, now: v.Tables.Applied().Time}
	left := keysMax
	for d := range v.Databases() {
		n.deliveries[d.Name] = 0
		for x := range v.SafetyNet(d.Name, 0, 0) {
			if left--; left < 0 {
				n.truncated = true
				return n
			}
			if n.deliveries[d.Name]++; n.deliveries[d.Name] == 1 {
				n.oldest[d.Name] = x.At
			}
		}
	}
	return n
}
