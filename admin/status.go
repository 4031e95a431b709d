package admin

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"mailraft/fsm"
	"mailraft/mail"
)

// Certificate is one that is shown to SMTP clients.
type Certificate struct {
	File      string    `json:"file"`
	NotBefore mail.Time `json:"not_before"`
	NotAfter  mail.Time `json:"not_after"`
}

// MemberStatus is what a member knows of itself at this moment.
type MemberStatus struct {
	ID              mail.MemberID `json:"id"` // queue database id
	Name            string        `json:"name"`
	Version         string        `json:"version"`
	Role            string        `json:"role"` // leader, follower, candidate, non-voter, stopped
	Leader          mail.MemberID `json:"leader_id,omitempty"`
	LeaderName      string        `json:"leader,omitempty"` // filled in from the state
	Term            uint64        `json:"term"`
	CommitIndex     uint64        `json:"commit_index"`
	AppliedIndex    uint64        `json:"applied_index"`
	Lag             uint64        `json:"lag"`           // entries
	LeaseLeft       mail.Duration `json:"lease_left"`    // 0: it may start nothing
	TimeTrusted     bool          `json:"time_trusted"`  // a majority's clocks agree
	TimeAhead       mail.Duration `json:"time_ahead"`    // of the boundary's time, to the clocks that agree
	DiskFree        int64         `json:"disk_free"`     // bytes, of the data directory
	DiskTotal       int64         `json:"disk_total"`    // bytes
	ContentBytes    int64         `json:"content_bytes"` // stored
	ContentSegments int           `json:"content_segments"`
	ContentMissing  int           `json:"content_missing"` // named by rows and not here yet
	Refill          Refill        `json:"refill"`
	Scrub           Scrub         `json:"scrub"`
	StateBytes      int64         `json:"state_bytes"`
	LogBytes        int64         `json:"log_bytes"` // Raft log
	CertNotAfter    mail.Time     `json:"cert_not_after"`
	SMTPCerts       []Certificate `json:"smtp_certificates,omitempty"`
	Sessions        int           `json:"smtp_sessions"` // open
	Uptime          mail.Duration `json:"uptime"`
	Draining        bool          `json:"draining,omitempty"`
	Pressure        Pressure      `json:"pressure"`
	Milters         []Milter      `json:"milters,omitempty"`
	Peers           []PeerStatus  `json:"peers,omitempty"` // as the leader sees them; empty where it cannot be asked

	// What the Active Manager, on the leader, says: databases that it cannot
	// activate elsewhere, and whom requests wait for.
	Stuck      []Stuck `json:"stuck_databases,omitempty"`
	WaitingWhy string  `json:"requests_wait,omitempty"` // back pressure of which member, and why

	Refills map[mail.MemberID]Refill `json:"-"` // of all members that answer
}

// Milter is a mail filter that a member asks before it takes mail. The counts
// are since the member was started.
type Milter struct {
	Name        string           `json:"name"`
	Address     string           `json:"address"`
	WhenAway    string           `json:"when_away"` // what then becomes of mail: tempfail, accept, quarantine
	Away        bool             `json:"away,omitempty"`
	AwayFor     mail.Duration    `json:"away_for,omitempty"`
	Error       string           `json:"error,omitempty"` // why it is away
	Connections int              `json:"connections"`
	Verdicts    map[string]int64 `json:"verdicts,omitempty"`
}

// consequence is what becomes of mail while it is away.
func (m *Milter) consequence() string {
	switch m.WhenAway {
	case "accept":
		return "mail is accepted without it"
	case "quarantine":
		return "mail is set aside"
	}
	return "mail is told to come again"
}

// Refill is how far a member is with fetching content that it lacks. The
// counts are since it was started.
type Refill struct {
	Missing      int64         `json:"missing"` // contents
	MissingBytes int64         `json:"missing_bytes"`
	Unavailable  int64         `json:"unavailable,omitempty"` // of these: no member that is up has them
	Counting     bool          `json:"counting,omitempty"`    // there may be more missing than was counted yet
	Left         mail.Duration `json:"left,omitempty"`        // estimate
	Fetched      int64         `json:"fetched"`
	FetchedBytes int64         `json:"fetched_bytes"`
	Damaged      int64         `json:"damaged"`  // copies found that did not pass their checksums
	Repaired     int64         `json:"repaired"` // of these, fetched again
}

// Scrub is how far a member is with reading through what it has stored.
type Scrub struct {
	Pass      int64     `json:"pass"`          // that is under way, or the last one
	Bytes     int64     `json:"bytes"`         // read in it
	Of        int64     `json:"of,omitempty"`  // about
	Done      mail.Time `json:"done,omitzero"` // when the last pass ended
	Found     int64     `json:"found"`         // damaged, since the member was started
	LastFound string    `json:"last_found,omitempty"`
	LastAt    mail.Time `json:"last_at,omitzero"`
}

// PeerStatus is a member as the leader sees it.
type PeerStatus struct {
	ID           mail.MemberID `json:"id"`
	LastLease    mail.Duration `json:"last_lease"` // since the last one was granted
	AppliedIndex uint64        `json:"applied_index"`
	Complete     uint64        `json:"complete"`     // has all content named up to this index
	ClockOffset  mail.Duration `json:"clock_offset"` // absolute
}

// The healths, as exit codes of status and check.
const (
	Healthy  = 0
	Degraded = 1
	Critical = 2
	Unknown  = 3
)

var healthNames = []string{"healthy", "degraded", "critical", "unknown"}

// HealthCode is the exit code for a health by name.
func HealthCode(name string) int {
	if i := slices.Index(healthNames, name); i >= 0 {
		return i
	}
	return Unknown
}

// Status is the answer of GET /v1/status.
type Status struct {
	As
	Health      string       `json:"health"` // of the boundary, as seen from here
	Reasons     []string     `json:"reasons"`
	Boundary    BoundaryInfo `json:"boundary"`
	Member      MemberStatus `json:"member"` // the one that was asked
	Checks      []Check      `json:"checks"` // of that member
	Members     []MemberInfo `json:"members"`
	Queue       QueueTotals  `json:"queue"`
	Suspensions []string     `json:"suspended_queues"`
	Databases   []Database   `json:"databases"`
	Requests    RequestsInfo `json:"requests"`
	SafetyNet   NetInfo      `json:"safetynet"`
}

// BoundaryInfo describes the boundary as a whole.
type BoundaryInfo struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Generation uint64    `json:"generation"`
	Created    mail.Time `json:"created,omitzero"`
	Opened     bool      `json:"opened"`    // min-voters were there once
	Protected  bool      `json:"protected"` // shadow-redundancy-enabled
	Voters     int       `json:"voters"`
	VotersUp   int       `json:"voters_up"`
	Tolerance  int       `json:"failure_tolerance"` // voters that may still fail
	Lost       int       `json:"content_lost"`      // messages whose content no member has, as far as is known
	// Recovery is how this generation began, after a majority was lost; nil: the first.
	Recovery *fsm.Recovery `json:"recovery,omitempty"`
	// Restored is the backup that the boundary was made from; nil: none.
	Restored *fsm.Restored `json:"restored,omitempty"`
}

// MemberInfo is a member as the state has it, with what the leader sees.
type MemberInfo struct {
	ID       mail.MemberID `json:"id"`
	Name     string        `json:"name"`
	Site     string        `json:"site,omitempty"`
	Address  string        `json:"address"`
	SMTP     string        `json:"smtp,omitempty"`
	State    string        `json:"state"` // up, down, draining, retired
	Role     string        `json:"role"`  // leader, voter, non-voter
	Since    mail.Time     `json:"since,omitzero"`
	Joined   mail.Time     `json:"joined,omitzero"`
	Complete uint64        `json:"complete"`
	Seen     *PeerStatus   `json:"seen,omitempty"`
	Refill   *Refill       `json:"refill,omitempty"`  // as it says itself
	Drained  mail.Time     `json:"drained,omitzero"`  // draining: since when nothing is left with it
	Leaving  bool          `json:"leaving,omitempty"` // it is removed when it is drained
	Left     int           `json:"left,omitempty"`    // draining, retired: messages that named it at the last look
	Gap      *Gap          `json:"gap,omitempty"`     // what its Primary Safety Net lost
}

// QueueTotals are the active messages in total.
type QueueTotals struct {
	Messages  int       `json:"messages"`
	Bytes     int64     `json:"bytes"`
	Deferred  int       `json:"deferred"`
	Waiting   int       `json:"waiting_for_content"`
	Poison    int       `json:"poison"` // set aside: they wait for an operator
	NoShadow  int       `json:"without_shadow"`
	Fewer     int       `json:"fewer_copies"` // content on fewer members than a majority, or not known to be
	Oldest    mail.Time `json:"oldest,omitzero"`
	Truncated bool      `json:"truncated,omitempty"` // there are more than were counted
}

func (s *Server) status(r *http.Request, v *fsm.View, as As) (any, error) {
	return s.statusOf(r.Context(), v, as, scanQueue(v, scanRowsMax)), nil
}

func (s *Server) statusOf(ctx context.Context, v *fsm.View, as As, q *queueScan) Status {
	n := namesOf(v)
	st := Status{As: as, Member: s.Host.Status(ctx), Checks: s.Host.Ready(), Queue: q.total, Suspensions: []string{}}
	st.Member.LeaderName = n.of(st.Member.Leader)
	st.Members = membersOf(v, st.Member)
	for sp := range v.Suspensions() {
		st.Suspensions = append(st.Suspensions, cmp.Or(sp.Key, AllQueues))
	}
	st.Databases = append([]Database{}, slices.Collect(databases(v))...)
	st.Requests = requestsOf(v, n, as.Time)
	st.SafetyNet = netOf(v, st.Requests.Items, as.Time)
	b, _ := v.Boundary()
	p := v.Params()
	st.Boundary = BoundaryInfo{ID: b.Boundary, Name: b.Name, Generation: b.Generation, Created: b.Created,
		Opened: b.Opened, Protected: p.ShadowRedundancyEnabled, Voters: len(b.Voters), Recovery: b.Recovery, Restored: b.Restored}
	for _, m := range st.Members {
		if m.Role != "non-voter" && m.State != "down" && m.State != "retired" {
			st.Boundary.VotersUp++
		}
	}
	st.Boundary.Tolerance = max(0, st.Boundary.VotersUp-(len(b.Voters)/2+1))
	st.Boundary.Lost = countLost(v)
	st.Health, st.Reasons = judge(&st, p.MinVoters)
	return st
}

// countLost counts messages whose content no member has, up to a bound.
func countLost(v *fsm.View) (n int) {
	looked := 0
	for m := range v.Lost() {
		if m.Lost() {
			n++
		}
		if looked++; looked == scanRowsMax {
			break
		}
	}
	return n
}

func membersOf(v *fsm.View, self MemberStatus) []MemberInfo {
	b, _ := v.Boundary()
	list := []MemberInfo{}
	gaps := map[mail.MemberID]*Gap{}
	for f := range v.Gaps() {
		gaps[f.Heir] = &Gap{Member: f.Name, ID: f.ID, Since: f.Joined, Until: f.At}
	}
	for m := range v.Members() {
		i := MemberInfo{ID: m.ID, Name: m.Name, Site: m.Site, Address: m.Addr, SMTP: m.SMTP,
			State: "up", Role: "non-voter", Since: m.Since, Joined: m.Joined, Complete: m.Complete,
			Drained: m.Drained, Leaving: m.Leaving, Left: m.Left, Gap: gaps[m.ID]}
		switch {
		case m.ID == self.Leader:
			i.Role = "leader"
		case slices.Contains(b.Voters, m.ID):
			i.Role = "voter"
		}
		switch {
		case m.Retired != 0:
			i.State = "retired"
		case !m.Up:
			i.State = "down"
		case m.Draining:
			i.State = "draining"
		}
		if k := slices.IndexFunc(self.Peers, func(p PeerStatus) bool { return p.ID == m.ID }); k >= 0 {
			i.Seen = &self.Peers[k]
		}
		if r, ok := self.Refills[m.ID]; ok {
			i.Refill = &r
		}
		list = append(list, i)
	}
	slices.SortFunc(list, func(a, b MemberInfo) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

func (s *Server) routeBoundary(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/status", s.reading(s.status))
	s.routeMembers(mux)
	s.routeCA(mux)
	s.routeFrontends(mux)
	mux.HandleFunc("POST /v1/tokens", s.newToken)
	mux.HandleFunc("POST /v1/state/hash", s.stateHash)
}

// TokenOrder is the body of POST /v1/tokens.
type TokenOrder struct {
	Order
	Role string `json:"role,omitempty"` // member
	// Replace is the name of a member that has lost its disk, and may come back.
	Replace string        `json:"replace,omitempty"`
	Uses    int           `json:"uses,omitempty"` // 1
	Life    mail.Duration `json:"life,omitempty"` // 1h
}

// Token is the answer: the text is shown once, and is nowhere else.
type Token struct {
	Token string        `json:"token"`
	Role  string        `json:"role"`
	Uses  int           `json:"uses"`
	Life  mail.Duration `json:"life"`
}

var tokenRoles = []string{"member", "frontend"}

const lifeMax = 7 * 24 * time.Hour

func (s *Server) newToken(w http.ResponseWriter, r *http.Request) {
	var o TokenOrder
	err := read(w, r, &o)
	o.Role, o.Uses, o.Life = cmp.Or(o.Role, "member"), cmp.Or(o.Uses, 1), cmp.Or(o.Life, mail.Duration(time.Hour.Milliseconds()))
	t := Token{Role: o.Role, Uses: o.Uses, Life: o.Life}
	switch {
	case err != nil:
	case !slices.Contains(tokenRoles, o.Role):
		err = malformed("role: %q is none of %s", o.Role, strings.Join(tokenRoles, ", "))
	case o.Replace != "" && o.Uses != 1:
		err = malformed("uses: a token that replaces a member can be used once")
	case o.Uses < 1 || o.Uses > 100:
		err = malformed("uses: %d is not between 1 and 100", o.Uses)
	case o.Life.Std() < time.Minute || o.Life.Std() > lifeMax:
		err = malformed("life: %s is not between 1m and 7d", mail.FormatDuration(o.Life.Std()))
	case !o.DryRun:
		t.Token, err = s.Boundary.NewToken(r.Context(), o.Role, o.Replace, o.Uses, o.Life.Std())
		s.Logger.Info("token made", "role", o.Role, "uses", o.Uses, "by", o.By, "reason", o.Reason, "error", err)
	}
	answer(w, t, err)
}

// Hashes is the answer of POST /v1/state/hash.
type Hashes struct {
	Equal bool         `json:"equal"` // all members answered, and alike
	Items []MemberHash `json:"items"`
}

func (s *Server) stateHash(w http.ResponseWriter, r *http.Request) {
	list, err := s.Boundary.StateHash(r.Context())
	slices.SortFunc(list, func(a, b MemberHash) int { return cmp.Compare(a.Member, b.Member) })
	h := Hashes{Equal: len(list) > 0, Items: list}
	for _, m := range list {
		h.Equal = h.Equal && m.Error == "" && m.Hash == list[0].Hash && m.Index == list[0].Index
	}
	answer(w, h, err)
}
