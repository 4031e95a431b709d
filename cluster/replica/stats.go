package replica

import (
	"cmp"
	"slices"
	"sync/atomic"

	"mailraft/mail"
)

type counters struct {
	sent, received, acks, nacks, acksSent, nacksSent atomic.Int64
	uploads, leftOut, waits, resends, redials        atomic.Int64
	pulls, pullsFailed, served                       atomic.Int64
}

// Stats are counts since New, and what is queued now.
type Stats struct {
	SentBytes, ReceivedBytes int64 // frames with content, on all connections
	Uploads                  int64 // begun here
	Acks, Nacks              int64 // heard from peers
	AcksSent, NacksSent      int64 // said to peers
	LeftOut                  int64 // a peer fell out of an upload
	Waits                    int64 // an upload waited for peers
	Resends                  int64 // a whole content was sent again
	Redials                  int64
	Pulls, PullsFailed       int64
	Served                   int64 // pulls answered with content
	Receiving                int   // uploads from peers that are open
	Peers                    []PeerStats
}

// PeerStats is the state of the connection to one peer.
type PeerStats struct {
	ID          mail.MemberID
	Connected   bool
	QueuedBytes int64
	Waiting     int // uploads that wait for its answer
}

// Stats returns the present figures.
func (r *Replica) Stats() Stats {
	c := &r.count
	s := Stats{
		SentBytes: c.sent.Load(), ReceivedBytes: c.received.Load(),
		Uploads: c.uploads.Load(), Acks: c.acks.Load(), Nacks: c.nacks.Load(),
		AcksSent: c.acksSent.Load(), NacksSent: c.nacksSent.Load(),
		LeftOut: c.leftOut.Load(), Waits: c.waits.Load(), Resends: c.resends.Load(), Redials: c.redials.Load(),
		Pulls: c.pulls.Load(), PullsFailed: c.pullsFailed.Load(), Served: c.served.Load(),
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Receiving = r.opened
	for id, l := range r.links {
		p := PeerStats{ID: id}
		if sess := l.session(); sess != nil {
			p.Connected = true
			sess.mu.Lock()
			p.QueuedBytes, p.Waiting = sess.bytes, len(sess.waiting)
			sess.mu.Unlock()
		}
		s.Peers = append(s.Peers, p)
	}
	slices.SortFunc(s.Peers, func(a, b PeerStats) int { return cmp.Compare(a.ID, b.ID) })
	return s
}
