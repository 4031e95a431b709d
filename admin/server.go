package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"sync"
	"time"

	"mailraft/fsm"
	"mailraft/mail"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
)

// Config is what a Server needs.
type Config struct {
	State    State
	Proposer Proposer
	Contents Contents
	Host     Host
	Boundary Boundary
	CA       CA
	Backup   Backup
	// Fresh returns when this member's state contains everything that was
	// committed when it was called, by the word of a leader whose leadership a
	// quorum has confirmed since. What decides something (a change, a dry run)
	// is read after it. Nil: the state is taken as it is.
	Fresh func(ctx context.Context) error
	// Metrics are further series for /metrics: those of SMTP, delivery, Raft.
	Metrics []prometheus.Collector
	// ProposeTime bounds a change whose client sets no bound; 0 is 30 s.
	ProposeTime time.Duration
	Logger      hclog.Logger
}

// Server answers the API and the health listener of one member.
type Server struct {
	Config
	scans   scans
	stop    sync.Once
	stopped chan struct{} // closed by Stop
}

// New makes a server. It listens nowhere: API and Health are handlers.
func New(c Config) *Server {
	if c.ProposeTime == 0 {
		c.ProposeTime = 30 * time.Second
	}
	return &Server{Config: c, stopped: make(chan struct{})}
}

// Stop has everybody answered who waits for something to happen, so that the
// HTTP server which asks us can end soon.
func (s *Server) Stop() { s.stop.Do(func() { close(s.stopped) }) }

// API is the handler of everything below /v1/. Who may reach it may do
// everything: it is for the Unix socket and for clients with a certificate.
func (s *Server) API() http.Handler {
	mux := http.NewServeMux()
	s.routeMessages(mux)
	s.routeQueues(mux)
	s.routeObjects(mux)
	s.routeRequests(mux)
	s.routeBoundary(mux)
	mux.HandleFunc("POST /v1/snapshot", s.save) // changes nothing, but shows all mail: not for who may only read
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, missing("there is no %s %s", r.Method, r.URL.Path))
	})
	return mux
}

// As says which state an answer was read from.
type As struct {
	Index uint64    `json:"as_of_index"`
	Time  mail.Time `json:"as_of_time"`
}

// List is the answer to a listing.
type List[T any] struct {
	As
	Items []T  `json:"items"`
	More  bool `json:"more,omitempty"` // the limit was reached
}

// HeaderIndex carries the index of answers that are no JSON document.
const HeaderIndex = "Mailraft-As-Of-Index"

// view opens the state and says at which index. The view must be closed.
func (s *Server) view() (*fsm.View, As) {
	v := s.State.View()
	at := v.Tables.Applied()
	return v, As{Index: at.Index, Time: at.Time}
}

// reading wraps a handler that answers from one view with one document.
func (s *Server) reading(f func(r *http.Request, v *fsm.View, as As) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, as := s.view()
		defer v.Close()
		doc, err := f(r, v, as)
		answer(w, doc, err)
	}
}

func answer(w http.ResponseWriter, doc any, err error) {
	if err != nil {
		writeProblem(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = encoder(w).Encode(doc)
}

// encoder writes JSON for programs, not for web pages: "<" stays "<".
func encoder(w io.Writer) *json.Encoder {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e
}

// listing wraps a handler that answers from one view with items, which are
// written as they are found: a list of any length needs no memory.
func listing[T any](s *Server, f func(r *http.Request, v *fsm.View, as As) (iter.Seq[T], error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, as := s.view()
		defer v.Close()
		limit, err := limitOf(r.URL.Query())
		if err != nil {
			writeProblem(w, err)
			return
		}
		items, err := f(r, v, as)
		if err != nil {
			writeProblem(w, err)
			return
		}
		w.Header().Set(HeaderIndex, fmt.Sprint(as.Index))
		if r.Header.Get("Accept") == TypeLines {
			writeLines(w, r, items, limit)
		} else {
			writeList(w, r, as, items, limit)
		}
	}
}

// TypeLines is the media type to accept for one JSON object a line.
const TypeLines = "application/jsonl"

func writeLines[T any](w http.ResponseWriter, r *http.Request, items iter.Seq[T], limit int) {
	w.Header().Set("Content-Type", TypeLines)
	e := encoder(w)
	n := 0
	for item := range items {
		if n == limit {
			break
		}
		n++
		write(r, e, item)
	}
}

func writeList[T any](w http.ResponseWriter, r *http.Request, as As, items iter.Seq[T], limit int) {
	w.Header().Set("Content-Type", "application/json")
	e := encoder(w)
	fmt.Fprintf(w, `{"as_of_index":%d,"as_of_time":"%s","items":[`, as.Index, as.Time)
	n, more := 0, ""
	for item := range items {
		if n == limit {
			more = `,"more":true`
			break
		}
		if n++; n > 1 {
			_, _ = io.WriteString(w, ",")
		}
		write(r, e, item)
	}
	fmt.Fprintf(w, "]%s}\n", more)
}

// write ends the connection without an end of the document when the client is
// gone or the item cannot be written, so that half a list never looks whole.
func write(r *http.Request, e *json.Encoder, item any) {
	if r.Context().Err() != nil || e.Encode(item) != nil {
		panic(http.ErrAbortHandler)
	}
}

// bodyMax bounds the body of a request; a directory to import is the largest.
const bodyMax = 64 << 20

// read decodes the body of a request. Unknown fields are errors: a misspelt
// one must not be taken for its absence.
func read(w http.ResponseWriter, r *http.Request, into any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, bodyMax))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return malformed("body: %v", err)
	}
	return nil
}

// deciding opens the state for a read that decides something.
func (s *Server) deciding(ctx context.Context) (*fsm.View, As, error) {
	if s.Fresh != nil {
		ctx, cancel := context.WithTimeout(ctx, s.ProposeTime)
		defer cancel()
		if err := s.Fresh(ctx); err != nil {
			return nil, As{}, fmt.Errorf("%w: %w", ErrNoQuorum, err)
		}
	}
	v, as := s.view()
	return v, as, nil
}

// propose is one command of a change; a refusal is an error.
func (s *Server) propose(ctx context.Context, kind fsm.Kind, body any) (fsm.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, s.ProposeTime)
	defer cancel()
	a, err := s.Proposer.Propose(ctx, kind, body)
	if err == nil && a.Refused != nil {
		err = refusal(a.Refused)
	}
	return a, err
}

func flag(q url.Values, name string) bool { return q.Get(name) == "true" }
