package deliver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"mailraft/mail"
)

// world is a queue in memory with all that a Deliverer needs around it.
type world struct {
	mu       sync.Mutex
	keys     []string
	rows     map[string][]*Job // by destination key
	next     map[*Job]mail.Time
	changed  chan struct{}
	reports  []mail.Report
	calls    int // of Report
	attempts map[string]int
	texts    []string // uploaded
	lease    bool
	runs     atomic.Uint64
	moved    map[Destination]bool // is not current
	deaf     bool                 // reports are accepted and change nothing
	report   func([]mail.Report) error
	upload   error
	damaged  bool // the content
	absent   bool
	deliver  func(context.Context, *Attempt) []Answer
	seq      uint64
}

func newWorld() *world {
	w := &world{
		rows: make(map[string][]*Job), next: make(map[*Job]mail.Time), changed: make(chan struct{}), attempts: make(map[string]int), moved: make(map[Destination]bool),
		lease: true, deliver: func(_ context.Context, a *Attempt) []Answer { return reply(a, 250, "2.0.0") },
	}
	w.runs.Store(1)
	return w
}

func (w *world) config() Config {
	return Config{
		Self: 7, Host: "m1.example.test", Queue: w, Source: w, Reporter: w, Uploader: w, Lease: w,
		Transports: map[string]Transport{"lmtp": w}, Now: now, Logger: hclog.NewNullLogger(),
	}
}

// rest lets virtual time go on, until nothing moves.
func rest(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func now() mail.Time { return mail.At(time.Now()) }

// start runs a Deliverer until the test ends.
func (w *world) start(t *testing.T) *Deliverer {
	d := Start(w.config())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		d.Stop(ctx)
	})
	return d
}

func reply(a *Attempt, code int, enhanced string) []Answer {
	return same(&a.Job, mail.Reply{Code: code, Enhanced: enhanced, Text: "so it is"})
}

func down(a *Attempt) []Answer {
	answers := reply(a, 451, "4.4.1")
	for i := range answers {
		answers[i].Down = true
	}
	return answers
}

// add queues a message with n recipients, due now.
func (w *world) add(key string, n int, change ...func(*Job)) *Job {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seq++
	t := now()
	j := &Job{
		ID: mail.NewID(t, w.seq, 0), ReversePath: "sender@example.org", Accepted: t, Expires: t.Add(48 * time.Hour),
		Destination: Destination{Key: key, Addr: "lmtp://" + key, Database: key, Copy: "c1", Activation: 1},
		Fields:      mail.Fields{MessageID: "<1@example.org>", Subject: "hello"},
	}
	for i := range n {
		j.Recipients = append(j.Recipients, Recipient{Index: i, Address: fmt.Sprintf("r%d@example.test", i)})
	}
	for _, c := range change {
		c(j)
	}
	if _, ok := w.rows[key]; !ok {
		w.keys = append(w.keys, key)
	}
	w.rows[key] = append(w.rows[key], j)
	w.next[j] = t
	w.poke()
	return j
}

func (w *world) poke() { close(w.changed); w.changed = make(chan struct{}) }

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	w.poke()
}

func (w *world) Due(now mail.Time, room func(Destination) int, taken func(mail.ID, Destination) bool, limit int) (jobs []Job, next mail.Time, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, key := range w.keys {
		free := -1
		for _, j := range w.rows[key] {
			if at := w.next[j]; at > now {
				if next == 0 || at < next {
					next = at
				}
				continue
			}
			if free < 0 {
				free = room(j.Destination)
			}
			if free > 0 && len(jobs) < limit && !taken(j.ID, j.Destination) {
				free--
				c := *j
				c.Recipients = slices.Clone(j.Recipients)
				jobs = append(jobs, c)
			}
		}
	}
	return jobs, next, nil
}

func (w *world) Changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

func (w *world) Current(to Destination) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.moved[to]
}

func (w *world) Run() uint64 {
	if w.Valid() {
		return w.runs.Load()
	}
	return 0
}

func (w *world) Valid() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lease
}

func (w *world) Report(ctx context.Context, reports []mail.Report) error {
	time.Sleep(5 * time.Millisecond) // a commit
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls++
	if w.report != nil {
		if err := w.report(reports); err != nil {
			return err
		}
	}
	for _, r := range reports {
		w.reports = append(w.reports, r)
		if !w.deaf {
			w.apply(r)
		}
	}
	w.poke()
	return nil
}

func (w *world) apply(r mail.Report) {
	for _, key := range w.keys {
		for n, j := range w.rows[key] {
			if j.ID != r.ID {
				continue
			}
			if len(r.Told) > 0 {
				w.rows[key] = slices.Delete(w.rows[key], n, n+1)
				delete(w.next, j)
				break
			}
			for _, o := range r.Outcomes {
				if o.Activation != j.Destination.Activation {
					continue // it was activated elsewhere meanwhile
				}
				i := slices.IndexFunc(j.Recipients, func(r Recipient) bool { return r.Index == o.Recipient })
				if o.Result.Final() {
					j.Recipients = slices.Delete(j.Recipients, i, i+1)
					continue
				}
				j.Recipients[i].Attempts++
				w.next[j] = o.Next
			}
			if len(j.Recipients) == 0 {
				w.rows[key] = slices.Delete(w.rows[key], n, n+1)
				delete(w.next, j)
			}
			break
		}
	}
}

func (w *world) Deliver(ctx context.Context, a *Attempt) []Answer {
	w.mu.Lock()
	w.attempts[a.Destination.Key]++
	deliver := w.deliver
	w.mu.Unlock()
	return deliver(ctx, a)
}

type stored struct{ *bytes.Reader }

func (stored) Close() error { return nil }

func (w *world) Open(mail.ContentID) (io.ReadSeekCloser, error) {
	if w.absent {
		return nil, errors.New("open: no member that is up has it")
	}
	if w.damaged {
		return nil, fmt.Errorf("open: %w", ErrDamaged)
	}
	return stored{bytes.NewReader([]byte("Subject: hello\r\nMessage-ID: <1@example.org>\r\n\r\nbody\r\n"))}, nil
}

func (w *world) Upload(_ context.Context, r io.Reader) (mail.Content, []mail.MemberID, error) {
	b, err := io.ReadAll(r)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err = errors.Join(err, w.upload); err != nil {
		return mail.Content{}, nil, err
	}
	w.texts = append(w.texts, string(b))
	return mail.Content{Size: int64(len(b))}, []mail.MemberID{7, 8}, nil
}

// results counts what was reported, by result.
func (w *world) results() map[mail.Result]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := make(map[mail.Result]int)
	for _, r := range w.reports {
		for _, o := range r.Outcomes {
			m[o.Result]++
		}
	}
	return m
}

// activate gives the queue another address, by a new activation.
func (w *world) activate(key, addr string) {
	w.set(func() {
		for _, j := range w.rows[key] {
			w.moved[j.Destination] = true
			j.Destination.Addr, j.Destination.Copy, j.Destination.Activation = addr, "c2", j.Destination.Activation+1
			w.next[j] = now()
		}
	})
}

func (w *world) waiting(key string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.rows[key])
}

func (w *world) tried(key string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.attempts[key]
}
