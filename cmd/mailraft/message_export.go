package main

import (
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"

	"mailraft/admin"

	"github.com/urfave/cli/v2"
)

func messageExport() *cli.Command {
	return &cli.Command{
		Name: "export", Usage: "write messages to files: ID.eml as it is delivered, ID.json with its envelope and what became of it",
		ArgsUsage: "ID…|-, a filter, or --all",
		Flags: flags([]cli.Flag{&cli.BoolFlag{Name: "all", Usage: "every active message"},
			&cli.StringFlag{Name: "dir", Value: ".", Usage: "`DIRECTORY` to write to; made if it is not there"}}, filterFlags()),
		Action: asking(0, -1, exportMessages),
	}
}

// exportMessages writes what a filter selects. Nothing is removed from the
// queue; who wants a message to stay as it is suspends it first.
func exportMessages(s *session) error {
	q, err := s.filter()
	if err != nil {
		return err
	}
	if err := s.selection(len(q) > 1 || len(q) == 1 && !q.Has("limit")); err != nil {
		return err
	}
	dir := s.String("dir")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	q.Set("detail", "true")
	n := 0
	err = admin.Each(s.Context.Context, s.client, path("messages"), q, func(m admin.Message) error {
		n++
		if err := exportMessage(s, dir, m); err != nil {
			return fmt.Errorf("export %s: %w", m.ID, err)
		}
		if s.output == "table" {
			return nil
		}
		_, err := fmt.Fprintln(s.out, m.ID)
		return err
	})
	if err == nil && s.output == "table" {
		fmt.Fprintf(s.out, "%d exported to %s\n", n, dir)
	}
	return err
}

// exportMessage writes the content first: where there is an ID.json, there is
// the whole message beside it.
func exportMessage(s *session, dir string, m admin.Message) error {
	body, err := s.client.Open(s.Context.Context, path("messages", m.ID.String(), "content"), url.Values{}, "*/*")
	if err != nil {
		return err
	}
	defer body.Close()
	base := filepath.Join(dir, m.ID.String())
	if err := writeWhole(base+".eml", func(w io.Writer) error {
		_, err := io.Copy(w, body)
		return err
	}); err != nil {
		return err
	}
	return writeWhole(base+".json", func(w io.Writer) error { return pretty(w, m) })
}

// writeWhole writes a file that is there whole or not at all, for its owner's
// eyes only.
func writeWhole(name string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = write(f)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
