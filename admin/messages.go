package admin

import (
	"bytes"
	"fmt"
	"io"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"mailraft/fsm"
	"mailraft/mail"
)

func (s *Server) routeMessages(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/messages", listing(s, s.listMessages))
	mux.HandleFunc("GET /v1/messages/{id}", s.reading(s.showMessage))
	mux.HandleFunc("GET /v1/messages/{id}/content", s.getContent)
	mux.HandleFunc("POST /v1/messages/{op}", changing(s, "messages",
		func(o *MessageOrder) *Order { return &o.Order }, s.changeMessages))
	mux.HandleFunc("GET /v1/track", listing(s, s.track))
}

func hex64(v uint64) string { return fmt.Sprintf("%016x", v) }

func (s *Server) listMessages(r *http.Request, v *fsm.View, as As) (iter.Seq[Message], error) {
	f, err := ParseFilter(r.URL.Query())
	if err == nil {
		err = missingID(v, &f)
	}
	if err != nil {
		return nil, err
	}
	n, detail := namesOf(v), flag(r.URL.Query(), "detail")
	return func(yield func(Message) bool) {
		for m := range selected(v, &f, n, as.Time) {
			view := viewMessage(m, n, as.Time)
			if detail {
				view.Detail = viewDetail(v, m, n)
			}
			if !yield(view) {
				return
			}
		}
	}, nil
}

// OneMessage is the answer for one message.
type OneMessage struct {
	As
	Message
}

func (s *Server) showMessage(r *http.Request, v *fsm.View, as As) (any, error) {
	m, err := pathMessage(r, v)
	if err != nil {
		return nil, err
	}
	n := namesOf(v)
	view := viewMessage(m, n, as.Time)
	view.Detail = viewDetail(v, m, n)
	return OneMessage{as, view}, nil
}

func pathMessage(r *http.Request, v *fsm.View) (*fsm.Message, error) {
	id, err := mail.ParseID(r.PathValue("id"))
	if err != nil {
		return nil, malformed("%v", err)
	}
	m, ok := v.Message(id)
	if !ok {
		return nil, missingID(v, &Filter{ids: []mail.ID{id}})
	}
	return m, nil
}

// getContent is the content as it is delivered, with what filters changed in
// the header and our Received field laid over; raw=true gives the bytes as they
// were received.
func (s *Server) getContent(w http.ResponseWriter, r *http.Request) {
	v, as := s.view()
	m, err := pathMessage(r, v)
	v.Close()
	if err != nil {
		writeProblem(w, err)
		return
	}
	c, err := s.Contents.Open(r.Context(), m.Content.ID)
	if err != nil {
		writeProblem(w, problem(http.StatusServiceUnavailable, "the content of %s cannot be read here now: %v", m.ID, err))
		return
	}
	defer c.Close()
	top := m.Top()
	o := m.Overlay
	if flag(r.URL.Query(), "raw") {
		top, o = nil, nil
	}
	w.Header().Set(HeaderIndex, strconv.FormatUint(as.Index, 10))
	w.Header().Set("Content-Type", "message/rfc822")
	w.Header().Set("Content-Length", strconv.FormatInt(int64(len(top))+o.Size(m.Content.Size), 10))
	if _, err := io.Copy(w, io.MultiReader(bytes.NewReader(top), o.Over(c))); err != nil {
		s.Logger.Warn("content was not sent whole", "id", m.ID, "error", err)
		panic(http.ErrAbortHandler)
	}
}

// track is the history of a message and of what was made of it from the Safety
// Net, or of all with one Message-ID, in the order of time.
func (s *Server) track(r *http.Request, v *fsm.View, as As) (iter.Seq[Event], error) {
	f, err := ParseFilter(r.URL.Query())
	if err == nil {
		err = missingID(v, &f)
	}
	if err == nil && len(f.ids) == 0 && f.messageID == "" {
		err = malformed("track: an id or a message_id is needed")
	}
	if err != nil {
		return nil, err
	}
	n := namesOf(v)
	var events []Event
	for m := range selected(v, &f, n, as.Time) {
		events = append(events, viewEvents(m, n)...)
		if f.messageID != "" {
			continue // resubmissions have the same
		}
		for x := range v.Resubmissions(m.ID) {
			events = append(events, viewEvents(x, n)...)
		}
	}
	if len(events) == 0 {
		return nil, missing("no message with that Message-ID is held here")
	}
	slices.SortStableFunc(events, func(a, b Event) int { return int(a.Time - b.Time) })
	return slices.Values(events), nil
}

// word cuts a text to what fits in a line of a table.
func word(s string, max int) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > max {
		return string(r[:max-1]) + "…"
	}
	return s
}
