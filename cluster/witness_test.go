package cluster

import (
	"io"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"mailraft/mail"
)

// answering is a transport whose peers answer under a term.
type answering struct {
	*raft.InmemTransport
	term uint64
}

func (a *answering) AppendEntries(_ raft.ServerID, _ raft.ServerAddress, _ *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	resp.Term = a.term
	return nil
}

func TestWitness(t *testing.T) {
	type beat struct {
		peer           mail.MemberID
		term, answered uint64
		at             time.Duration
	}
	three := []mail.MemberID{1, 2, 3}
	for _, test := range []struct {
		name   string
		beats  []beat
		voters []mail.MemberID
		want   bool
	}{
		{"alone", nil, three[:1], true},
		{"nobody answered", nil, three, false},
		{"one of two", []beat{{2, 5, 5, 10}}, three, true},
		{"sent before the question", []beat{{2, 5, 5, 9}}, three, false},
		{"sent before and after", []beat{{2, 5, 5, 9}, {3, 5, 5, 10}}, three, true},
		{"answered late, another sent later", []beat{{2, 5, 5, 11}, {2, 5, 5, 9}}, three, true},
		{"a non-voter", []beat{{4, 5, 5, 10}}, three, false},
		{"answered under a later term", []beat{{2, 5, 6, 10}}, three, false},
		{"of an earlier term of ours", []beat{{2, 4, 4, 10}}, three, false},
		{"of a later term of ours", []beat{{2, 6, 6, 10}}, three, false},
		{"one of four", []beat{{2, 5, 5, 10}}, []mail.MemberID{1, 2, 3, 4, 5}, false},
		{"one of three with self: half is no majority", []beat{{2, 5, 5, 10}}, []mail.MemberID{1, 2, 3, 4}, false},
		{"two of four", []beat{{2, 5, 5, 10}, {5, 5, 5, 12}}, []mail.MemberID{1, 2, 3, 4, 5}, true},
		{"leads, but votes no more", []beat{{2, 5, 5, 10}}, []mail.MemberID{2, 3}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, inmem := raft.NewInmemTransport("")
			clock, peers := &handClock{}, &answering{InmemTransport: inmem}
			w := newWitness(peers, clock)
			for _, b := range test.beats {
				clock.boot, peers.term = b.at, b.answered
				var resp raft.AppendEntriesResponse
				if err := w.AppendEntries(raft.ServerID(b.peer.String()), "", &raft.AppendEntriesRequest{Term: b.term}, &resp); err != nil {
					t.Fatal(err)
				}
			}
			if got, _ := w.confirmed(5, 10, 1, test.voters); got != test.want {
				t.Errorf("confirmed %v", got)
			}
		})
	}
}

// snapshotTransport counts snapshots.
type snapshotTransport struct {
	*raft.InmemTransport
	sent int
}

func (s *snapshotTransport) InstallSnapshot(raft.ServerID, raft.ServerAddress, *raft.InstallSnapshotRequest, *raft.InstallSnapshotResponse, io.Reader) error {
	s.sent++
	return nil
}

// A leader that was deposed while it sends has a state of a later term.
func TestSnapshotOfALaterTermStaysHere(t *testing.T) {
	_, mem := raft.NewInmemTransport("a")
	s := &snapshotTransport{InmemTransport: mem}
	w := newWitness(s, nil)
	for _, c := range []struct{ term, state uint64 }{{4, 3}, {4, 4}, {4, 5}} {
		err := w.InstallSnapshot("b", "b", &raft.InstallSnapshotRequest{Term: c.term, LastLogTerm: c.state}, nil, nil)
		if (err == nil) != (c.state <= c.term) {
			t.Errorf("leader of term %d, state of term %d: %v", c.term, c.state, err)
		}
	}
	if s.sent != 2 {
		t.Errorf("%d were sent", s.sent)
	}
}
