package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"mailraft/admin"
	"mailraft/mail"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
)

// listing says how items of a kind are printed.
type listing[T any] struct {
	noun   string // one of them: "message"
	header string // columns, tab separated
	row    func(now mail.Time, item T) []string
	id     func(T) string
}

// list prints a listing of the API. JSON is passed on as it comes.
func list[T any](s *session, api string, q url.Values, l listing[T]) error {
	switch s.output {
	case "json", "jsonl":
		accept := "application/json"
		if s.output == "jsonl" {
			accept = admin.TypeLines
		}
		body, err := s.client.Open(s.Context.Context, api, q, accept)
		if err != nil {
			return err
		}
		defer body.Close()
		_, err = io.Copy(s.out, body)
		return err
	case "id":
		return admin.Each(s.Context.Context, s.client, api, q, func(item T) error {
			_, err := fmt.Fprintln(s.out, l.id(item))
			return err
		})
	}
	var doc admin.List[T]
	if err := s.client.Get(s.Context.Context, api, q, &doc); err != nil {
		return err
	}
	l.print(s.out, doc)
	return nil
}

func (l listing[T]) print(w io.Writer, doc admin.List[T]) {
	if len(doc.Items) > 0 {
		t := table(w, l.header)
		for _, item := range doc.Items {
			t.row(l.row(doc.Time, item)...)
		}
		t.Flush()
	}
	more := ""
	if doc.More {
		more = "; there are more: --limit N shows more"
	}
	fmt.Fprintf(w, "%s %s as of index %d%s\n", humanize.Comma(int64(len(doc.Items))), english.PluralWord(len(doc.Items), l.noun, ""), doc.Index, more)
}

// show prints one document.
func show(s *session, doc any, id string, people func(io.Writer)) error {
	var err error
	switch s.output {
	case "json":
		err = pretty(s.out, doc)
	case "jsonl":
		err = encoder(s.out).Encode(doc)
	case "id":
		_, err = fmt.Fprintln(s.out, id)
	default:
		people(s.out)
	}
	return err
}

func pretty(w io.Writer, doc any) error {
	e := encoder(w)
	e.SetIndent("", "  ")
	return e.Encode(doc)
}

func encoder(w io.Writer) *json.Encoder {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e
}

// tabs is a table of aligned columns.
type tabs struct{ *tabwriter.Writer }

func table(w io.Writer, header string) tabs {
	t := tabs{tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)}
	if header != "" {
		t.row(strings.Split(strings.ToUpper(header), "\t")...)
	}
	return t
}

func (t tabs) row(cells ...string) {
	for len(cells) > 0 && cells[len(cells)-1] == "" {
		cells = cells[:len(cells)-1] // no blanks at the end of a line
	}
	fmt.Fprintln(t, strings.Join(cells, "\t"))
}

// rowsShown bounds what a change prints for people.
const rowsShown = 50

// change sends a change and prints what became of it.
func (s *session) change(api string, q url.Values, body any) error {
	var c admin.Change
	if err := s.client.Post(s.Context.Context, api, q, body, &c); err != nil {
		return err
	}
	s.warn(c.Warnings)
	if err := s.printChange(c); err != nil {
		return err
	}
	for _, i := range c.Items {
		if c.Count == 0 && i.Action == "skip" {
			return exit{exitFailed, fmt.Errorf("nothing was changed: %s %s: %s", i.Kind, i.Name, i.Reason)}
		}
	}
	return nil
}

func (s *session) warn(warnings []string) {
	for _, w := range warnings {
		fmt.Fprintln(s.App.ErrWriter, "warning: "+w)
	}
}

func (s *session) printChange(c admin.Change) error {
	switch s.output {
	case "json":
		return pretty(s.out, c)
	case "jsonl", "id":
		e := encoder(s.out)
		for _, i := range c.Items {
			switch {
			case s.output == "jsonl":
				if err := e.Encode(i); err != nil {
					return err
				}
			case i.Action != "skip" && i.Action != "none":
				fmt.Fprintln(s.out, i.Name)
			}
		}
		return nil
	}
	t, rows := table(s.out, ""), 0
	for _, i := range c.Items {
		text := i.To
		if i.From != "" && i.To != "" {
			text = i.From + " -> " + i.To
		}
		if i.Action == "none" {
			continue
		}
		if rows++; rows <= rowsShown {
			t.row(i.Action, i.Kind, i.Name, cut(text+i.Reason, 100))
		}
	}
	t.Flush()
	if rows > rowsShown {
		fmt.Fprintf(s.out, "… and %s more\n", humanize.Comma(int64(rows-rowsShown)))
	}
	switch {
	case c.DryRun:
		fmt.Fprintf(s.out, "dry run as of index %d: %d would change, nothing did\n", c.As.Index, c.Count)
	case c.Index > 0:
		fmt.Fprintf(s.out, "%d changed at index %d\n", c.Count, c.Index)
	default:
		fmt.Fprintf(s.out, "nothing to change as of index %d\n", c.As.Index)
	}
	return nil
}

// since is how long before now t was, for people.
func since(now, t mail.Time) string {
	if t == 0 {
		return "-"
	}
	return brief(now.Sub(t))
}

// until is how long after now t is; what is past is due.
func until(now, t mail.Time) string {
	if t == 0 || t <= now {
		return "due"
	}
	return "in " + brief(t.Sub(now))
}

// brief is a duration in its two largest units.
func brief(d time.Duration) string {
	switch {
	case d >= 24*time.Hour:
		d = d.Round(time.Hour)
	case d >= time.Hour:
		d = d.Round(time.Minute)
	default:
		d = d.Round(time.Second)
	}
	return mail.FormatDuration(max(d, 0))
}

func size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

func itoa(n int) string { return strconv.Itoa(n) }

// cut makes one line of at most n characters.
func cut(s string, n int) string {
	r := []rune(strings.Join(strings.Fields(s), " "))
	if len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return string(r)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
