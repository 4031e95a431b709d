package main

import (
	"fmt"
	"io"

	"mailraft/admin"
)

func activate(s *session) error {
	o := admin.ActivateOrder{Order: s.order(), Copy: s.String("copy")}
	var err error
	if o.DataThrough, err = s.moment("data-through"); err != nil {
		return err
	}
	var a admin.Activation
	if err := s.client.Post(s.Context.Context, path("databases", s.Args().First(), "activate"), nil, o, &a); err != nil {
		return err
	}
	s.warn(a.Warnings)
	return show(s, a, a.Request, func(w io.Writer) { printActivation(w, &a) })
}

func printActivation(w io.Writer, a *admin.Activation) {
	fmt.Fprintf(w, "%s: copy %s, activation %d, replaces copy %s, activation %d\n", a.Database, a.Copy, a.Activation, orDash(a.From), a.FromActivation)
	fmt.Fprintf(w, "what was delivered from %s to %s is sent again: %s\n", a.Start, a.End, a.StartReason)
	if !a.DryRun {
		fmt.Fprintf(w, "request %s was added at index %d; see how it goes: mailraft resubmit show %s --watch\n", a.Request, a.Index, a.Request)
		return
	}
	if a.Plan != nil {
		fmt.Fprintln(w)
		printNeed(w, a.Plan)
	}
	fmt.Fprintf(w, "dry run as of index %d: nothing was activated\n", a.As.Index)
}
