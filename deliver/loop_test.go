package deliver

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailraft/mail"
)

func TestDeliversOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		var mu sync.Mutex
		running, most, got := map[string]int{}, map[string]int{}, map[mail.ID]int{}
		w.deliver = func(_ context.Context, a *Attempt) []Answer {
			key := a.Destination.Key
			mu.Lock()
			running[key]++
			running[""]++
			most[key], most[""] = max(most[key], running[key]), max(most[""], running[""])
			got[a.ID]++
			mu.Unlock()
			time.Sleep(100 * time.Millisecond)
			mu.Lock()
			running[key]--
			running[""]--
			mu.Unlock()
			return reply(a, 250, "2.0.0")
		}
		for range 300 {
			for _, key := range []string{"a", "b", "c", "d", "e", "f", "g"} {
				w.add(key, 2)
			}
		}
		d := w.start(t)
		rest(time.Minute)
		if n := w.results()[mail.Delivered]; n != 7*300*2 {
			t.Fatalf("%d delivered", n)
		}
		for id, n := range got {
			if n != 1 {
				t.Fatalf("%s was delivered %d times", id, n)
			}
		}
		if most["a"] != widthMax || most[""] != runningMax {
			t.Errorf("at once: %v", most)
		}
		o := w.reports[0].Outcomes[0]
		if o.Copy != "c1" || o.Activation != 1 {
			t.Errorf("outcome %+v", o)
		}
		if s := d.Status(); s.Counts.Delivered != 7*300*2 || s.Running != 0 || s.Open != 0 || len(s.Destinations) != 7 {
			t.Errorf("status %+v", s)
		}
	})
}

// Ten thousand messages for a dead server: it is probed, nothing more; a live
// one is not slowed down; and when it comes back all are delivered soon.
func TestCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		dead := true
		w.deliver = func(_ context.Context, a *Attempt) []Answer {
			w.mu.Lock()
			defer w.mu.Unlock()
			if a.Destination.Key == "dead" && dead {
				return down(a)
			}
			return reply(a, 250, "2.0.0")
		}
		for range 10_000 {
			w.add("dead", 1)
		}
		for range 200 {
			w.add("live", 1)
		}
		w.start(t)
		rest(time.Second)
		if n := w.results()[mail.Delivered]; n != 200 {
			t.Fatalf("%d delivered to the live server in the first second", n)
		}
		rest(10 * time.Minute)
		if n := w.tried("dead"); n < 8 || n > 16 {
			t.Fatalf("%d probes in ten minutes", n)
		}
		w.set(func() { dead = false })
		rest(2 * time.Minute)
		if n := w.results()[mail.Delivered]; n != 10_200 {
			t.Fatalf("%d delivered two minutes after it came back", n)
		}
	})
}

// A database that is activated elsewhere does not wait for the probe of its old copy.
func TestNewAddressBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.deliver = func(_ context.Context, a *Attempt) []Answer {
			if a.Destination.Addr == "lmtp://db" {
				return down(a)
			}
			return reply(a, 250, "2.0.0")
		}
		for range 50 {
			w.add("db", 1)
		}
		w.start(t)
		rest(5 * time.Minute)
		w.set(func() {
			for _, j := range w.rows["db"] {
				j.Destination.Addr, j.Destination.Activation = "lmtp://other", 2
				w.next[j] = now()
			}
		})
		rest(time.Second)
		if n := w.results()[mail.Delivered]; n != 50 {
			t.Fatalf("%d delivered", n)
		}
	})
}

func TestDefersAndRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.deliver = func(_ context.Context, a *Attempt) []Answer {
			answers := reply(a, 250, "2.0.0")
			if answers[0].Reply = (mail.Reply{Code: 452, Enhanced: "4.2.2", Text: "full"}); a.Recipients[0].Attempts == 3 {
				answers[0].Reply = mail.Reply{Code: 250}
			}
			return answers
		}
		w.add("db", 2)
		w.start(t)
		rest(10 * time.Minute)
		r := w.results()
		if r[mail.Delivered] != 2 || r[mail.Deferred] != 3 || len(w.texts) != 0 {
			t.Fatalf("%v", r)
		}
	})
}

func TestFailureTellsSender(t *testing.T) {
	refuse := func(_ context.Context, a *Attempt) []Answer {
		answers := reply(a, 250, "2.0.0")
		answers[0].Reply = mail.Reply{Code: 550, Enhanced: "5.1.1", Text: "no such user"}
		return answers
	}
	for name, c := range map[string]struct {
		change  func(*Job)
		notices int
		failed  int
		tried   int
	}{
		"refused":      {func(*Job) {}, 1, 1, 1},
		"bounce":       {func(j *Job) { j.Bounce = true }, 0, 1, 1},
		"null sender":  {func(j *Job) { j.ReversePath = "" }, 0, 1, 1},
		"resubmission": {func(j *Job) { j.Quiet = true }, 0, 1, 1},
		"silent":       {func(j *Job) { j.Recipients[0].Asked.Notify = mail.NotifyNever }, 0, 1, 1},
		"odd sender":   {func(j *Job) { j.ReversePath = "x y> @z" }, 0, 1, 1},
		"unresolved": {func(j *Job) {
			j.Destination = Destination{Key: "none"}
			j.Recipients[0].Refused = mail.Reply{Code: 550, Enhanced: "5.1.1", Text: "gone"}
			j.Recipients[1].Refused = j.Recipients[0].Refused
		}, 1, 2, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.deliver = refuse
				w.add("db", 2, c.change)
				w.start(t)
				rest(time.Second)
				if n := w.results()[mail.Failed]; n != c.failed || len(w.texts) != c.notices || w.tried("db") != c.tried {
					t.Fatalf("%d failed, %d notices, %d tried", n, len(w.texts), w.tried("db"))
				}
				if c.notices == 0 {
					return
				}
				s := w.reports[0].DSN
				if s == nil || s.Envelope.ReversePath != "" || s.Envelope.Recipients[0] != "sender@example.org" || s.Primary != 7 || len(s.Holders) != 2 {
					t.Fatalf("submission %+v", s)
				}
				if !strings.Contains(w.texts[0], "Status: 5.1.1") || !strings.Contains(w.texts[0], s.Fields.MessageID) {
					t.Fatalf("text %s", w.texts[0])
				}
			})
		})
	}
}

// What filters changed in a header is in what is delivered and in what the
// sender gets back; the transport learns how long the message is with it.
func TestOverlayIsDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		var got []byte
		w.deliver = func(_ context.Context, a *Attempt) []Answer {
			r, err := a.Open()
			if err != nil {
				t.Error(err)
				return nil
			}
			defer r.Close()
			got, _ = io.ReadAll(r)
			if want := a.Overlay.Size(int64(len("Subject: hello\r\nMessage-ID: <1@example.org>\r\n\r\nbody\r\n"))); int64(len(got)) != want {
				t.Errorf("%d bytes, %d were announced", len(got), want)
			}
			return reply(a, 550, "5.1.1")
		}
		w.add("db", 1, func(j *Job) {
			j.Overlay = &mail.Overlay{Edits: []mail.Edit{{Drop: true, Text: "Subject: [spam] hello\r\n"}}, Grown: 7}
		})
		w.start(t)
		rest(time.Second)
		if string(got) != "Subject: [spam] hello\r\nMessage-ID: <1@example.org>\r\n\r\nbody\r\n" {
			t.Errorf("delivered %q", got)
		}
		if len(w.texts) != 1 || !strings.Contains(w.texts[0], "Subject: [spam] hello\r\nMessage-ID") {
			t.Errorf("reported %q", w.texts)
		}
	})
}

// A recipient is not given up while its sender cannot be told.
func TestNoticeNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.upload = errors.New("no quorum")
		w.deliver = func(_ context.Context, a *Attempt) []Answer { return reply(a, 550, "5.1.1") }
		w.add("db", 1)
		w.start(t)
		rest(30 * time.Second)
		if r := w.results(); r[mail.Failed] != 0 || r[mail.Deferred] < 2 {
			t.Fatalf("%v", r)
		}
		w.set(func() { w.upload = nil })
		rest(5 * time.Minute)
		if r := w.results(); r[mail.Failed] != 1 || len(w.texts) != 1 {
			t.Fatalf("%v", r)
		}
	})
}

// Past its time a message gets one more attempt, and is given up if that
// fails for now; never without one.
func TestExpiry(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(*Attempt) []Answer
		want   mail.Result
	}{
		"delivered at last": {func(a *Attempt) []Answer { return reply(a, 250, "") }, mail.Delivered},
		"still deferred":    {func(a *Attempt) []Answer { return reply(a, 451, "4.2.0") }, mail.Expired},
		"server is dead":    {down, mail.Expired},
		"refused":           {func(a *Attempt) []Answer { return reply(a, 550, "5.0.0") }, mail.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.deliver = func(_ context.Context, a *Attempt) []Answer { return c.answer(a) }
				for range 300 {
					w.add("db", 1, func(j *Job) { j.Expires = now().Add(-time.Hour) })
				}
				w.start(t)
				rest(time.Minute)
				if r := w.results(); r[c.want] != 300 || w.tried("db") != 300 {
					t.Fatalf("%v after %d attempts", r, w.tried("db"))
				}
				if o := w.reports[0].Outcomes[0]; c.want == mail.Expired && !strings.HasPrefix(o.Reply.Text, "delivery time expired") {
					t.Errorf("reply %v", o.Reply)
				}
			})
		})
	}
}

func TestLastAttemptIsAtExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.deliver = func(_ context.Context, a *Attempt) []Answer { return down(a) }
		w.add("db", 1, func(j *Job) { j.Expires = now().Add(20 * time.Minute) })
		w.start(t)
		rest(20*time.Minute - time.Second)
		if r := w.results(); r[mail.Expired] != 0 {
			t.Fatalf("%v", r)
		}
		rest(2 * time.Minute)
		if r := w.results(); r[mail.Expired] != 1 {
			t.Fatalf("%v", r)
		}
	})
}

func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		passed := 0
		w.deliver = func(_ context.Context, a *Attempt) []Answer {
			time.Sleep(10 * time.Second)
			if a.Final() != nil {
				return make([]Answer, len(a.Recipients))
			}
			w.mu.Lock()
			passed++
			w.mu.Unlock()
			return reply(a, 250, "")
		}
		w.add("db", 1)
		d := w.start(t)
		rest(5 * time.Second)
		w.set(func() { w.lease = false })
		rest(time.Hour)
		if w.tried("db") != 1 || passed != 0 || len(w.reports) != 0 {
			t.Fatalf("without a lease: %d tried, %d passed, %d reports", w.tried("db"), passed, len(w.reports))
		}
		if n := d.Status().Counts.Aborted; n != 1 {
			t.Errorf("%d aborted", n)
		}
		w.set(func() { w.lease = true })
		rest(time.Minute)
		if w.tried("db") != 2 || passed != 1 || w.results()[mail.Delivered] != 1 {
			t.Fatalf("with a lease: %d tried, %d passed", w.tried("db"), passed)
		}
	})
}

// While outcomes cannot be reported nothing is delivered twice, and no more
// than the limit is delivered at all.
func TestReporterFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.report = func([]mail.Report) error { return errors.New("no quorum") }
		for range 3000 {
			w.add("db", 1)
		}
		d := w.start(t)
		rest(10 * time.Minute)
		if n := w.tried("db"); n != openMax {
			t.Fatalf("%d deliveries while nothing can be reported", n)
		}
		if s := d.Status(); s.Open != openMax || s.Running != 0 {
			t.Fatalf("status %+v", s)
		}
		w.set(func() { w.report = nil })
		rest(time.Minute)
		if n := w.results()[mail.Delivered]; n != 3000 || w.tried("db") != 3000 {
			t.Fatalf("%d delivered in %d attempts", n, w.tried("db"))
		}
	})
}

// One report that is refused for ever does not keep the others back.
func TestPoisonReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		bad := w.add("db", 1).ID
		for range 500 {
			w.add("db", 1)
		}
		w.report = func(rs []mail.Report) error {
			for _, r := range rs {
				if r.ID == bad {
					return errors.New("cannot encode")
				}
			}
			return nil
		}
		w.start(t)
		rest(5 * time.Minute)
		if n := w.results()[mail.Delivered]; n != 500 || w.tried("db") != 501 {
			t.Fatalf("%d delivered in %d attempts", n, w.tried("db"))
		}
	})
}

func TestOutcomesAreBatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for range 1000 {
			w.add("db", 1)
		}
		w.start(t)
		rest(time.Minute)
		if len(w.reports) != 1000 || w.calls > 200 {
			t.Fatalf("%d reports in %d calls", len(w.reports), w.calls)
		}
	})
}

func TestPanicIsNoLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		odd := w.add("db", 1).ID
		w.add("db", 1)
		w.deliver = func(_ context.Context, a *Attempt) []Answer {
			if a.ID == odd {
				panic("odd message")
			}
			return reply(a, 250, "")
		}
		w.start(t)
		rest(time.Hour)
		if n := w.tried("db"); n < 5 || n > 16 || w.results()[mail.Delivered] != 1 {
			t.Fatalf("%d attempts, %v", n, w.results())
		}
	})
}

// A row that does not change by its report is not delivered over and over.
func TestUnchangedRowIsNoLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.deaf = true
		w.add("db", 1)
		w.start(t)
		rest(time.Hour)
		if n := w.tried("db"); n < 5 || n > 12 {
			t.Fatalf("%d deliveries", n)
		}
		w.set(func() { w.rows["db"][0].Destination.Activation = 2 })
		before := w.tried("db")
		w.mu.Lock()
		w.deaf = false
		w.mu.Unlock()
		rest(20 * time.Minute)
		if w.tried("db") != before+1 {
			t.Fatal("not delivered to the new copy")
		}
	})
}

func TestManyRecipients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.add("db", 2500)
		d := Start(w.config())
		rest(time.Second)
		if n := w.results()[mail.Delivered]; n != 2500 || w.tried("db") != 25 {
			t.Fatalf("%d delivered in %d", n, w.tried("db"))
		}
		d.Stop(context.Background())
	})
}

func TestStop(t *testing.T) {
	for name, c := range map[string]struct {
		takes   time.Duration
		within  time.Duration
		reports int
	}{
		"finishes": {5 * time.Second, 10 * time.Second, 1},
		"cut off":  {time.Hour, 10 * time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.deliver = func(ctx context.Context, a *Attempt) []Answer {
					select {
					case <-time.After(c.takes):
						return reply(a, 250, "")
					case <-ctx.Done():
						return down(a) // what a closed connection looks like
					}
				}
				w.add("db", 1)
				w.add("db", 1)
				d := Start(w.config())
				rest(time.Second)
				ctx, cancel := context.WithTimeout(context.Background(), c.within)
				defer cancel()
				d.Stop(ctx)
				if len(w.reports) != c.reports || w.tried("db") != 1 {
					t.Fatalf("%d reports, %d tried", len(w.reports), w.tried("db"))
				}
			})
		})
	}
}

func TestStopWhileReportsFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.report = func([]mail.Report) error { return errors.New("no quorum") }
		w.add("db", 1)
		d := Start(w.config())
		rest(time.Second)
		begin := time.Now()
		d.Stop(context.Background())
		if took := time.Since(begin); took > flushTime+time.Second {
			t.Fatalf("stopped after %v", took)
		}
	})
}

func TestNext(t *testing.T) {
	id := mail.NewID(1e12, 5, 0)
	for _, c := range []struct {
		attempt int
		age     time.Duration
		about   time.Duration
	}{
		{0, 0, 5 * time.Second}, {1, 0, 5 * time.Second}, {2, time.Hour, 15 * time.Second}, {2, 8 * time.Second, 8 * time.Second},
		{3, time.Hour, time.Minute}, {4, time.Hour, 5 * time.Minute}, {5, time.Hour, 15 * time.Minute}, {1000, 47 * time.Hour, 15 * time.Minute},
		{9, time.Minute, time.Minute},
	} {
		got := Next(nil, c.attempt, c.age, id)
		if got < c.about*4/5 || got > c.about*6/5 || got != Next(nil, c.attempt, c.age, id) {
			t.Errorf("Next(%d, %v) = %v, want about %v", c.attempt, c.age, got, c.about)
		}
	}
	for attempt, about := range []time.Duration{time.Hour, time.Hour, 2 * time.Minute, 2 * time.Minute} {
		if got := Next([]time.Duration{time.Hour, 2 * time.Minute}, attempt, 0, id); got < about*4/5 || got > about*6/5 {
			t.Errorf("attempt %d waits %v, not about %v as it was told to", attempt, got, about)
		}
	}
	low, high := time.Hour, time.Duration(0)
	for n := range 1000 {
		d := Next(nil, 3, time.Hour, mail.NewID(1e12, uint64(n), 0))
		low, high = min(low, d), max(high, d)
	}
	if low > 50*time.Second || high < 70*time.Second {
		t.Errorf("spread from %v to %v only", low, high)
	}
}
