package admin

import (
	"errors"
	"testing"

	"mailraft/fsm"
)

func TestActiveCopy(t *testing.T) {
	b := newBoundary(t)
	c := b.client()
	a := get[ActiveCopy](t, c, "/v1/databases/db1/active", "after", "0", "wait", "5m")
	if a.Database != "DB1" || a.Activation != 1 || a.Copy != "a" || a.Address != "lmtp://127.0.0.1:24" || a.Index != b.index {
		t.Errorf("at once: %+v", a)
	}
	if a = get[ActiveCopy](t, c, "/v1/databases/DB1/active", "after", "1"); a.Activation != 1 {
		t.Errorf("without a wait: %+v", a)
	}
	if a = get[ActiveCopy](t, c, "/v1/databases/DB1/active", "after", "1", "wait", "1ms"); a.Activation != 1 {
		t.Errorf("after the wait: %+v", a)
	}
	for _, q := range [][]string{{"after", "x"}, {"wait", "1h"}, {"wait", "soon"}, {"after", "-1"}} {
		var p *Problem
		if err := c.Get(t.Context(), "/v1/databases/DB1/active", query(q...), new(any)); !errors.As(err, &p) || p.Status != 400 {
			t.Errorf("%v: %v", q, err)
		}
	}
	var p *Problem
	if err := c.Get(t.Context(), "/v1/databases/DB9/active", query("wait", "1m"), new(any)); !errors.As(err, &p) || p.Status != 404 {
		t.Errorf("no such database: %v", err)
	}
}

// A poll ends when the database that it is about is gone, and when the member
// stops.
func TestActiveCopyIsWaitedFor(t *testing.T) {
	b := newBoundary(t)
	b.must(fsm.KindDatabase, fsm.DatabaseChange{Op: "add", Name: "DB2", Copies: []fsm.Copy{{Name: "x", Addr: "maildir:/x"}}})
	s := b.server()
	c := b.clientOf(s)
	poll := func(database string) <-chan error {
		done := make(chan error, 1)
		go func() {
			var a ActiveCopy
			err := c.Get(t.Context(), "/v1/databases/"+database+"/active", query("after", "1", "wait", "5m"), &a)
			if err == nil && a.Activation != 1 {
				err = errors.New("another activation number")
			}
			done <- err
		}()
		return done
	}
	gone, stopped := poll("DB2"), poll("DB1")
	b.must(fsm.KindDatabase, fsm.DatabaseChange{Op: "remove", Name: "DB2"})
	var p *Problem
	if err := <-gone; !errors.As(err, &p) || p.Status != 404 {
		t.Errorf("removed: %v", err)
	}
	select {
	case err := <-stopped:
		t.Errorf("answered before anything happened: %v", err)
	default:
	}
	s.Stop()
	s.Stop()
	if err := <-stopped; err != nil {
		t.Errorf("stopped: %v", err)
	}
}
