package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"mailraft/admin"

	"github.com/BurntSushi/toml"
	"github.com/urfave/cli/v2"
)

func exportCommand() *cli.Command {
	return &cli.Command{
		Name: "export", Usage: "write the directory and the databases to a file", ArgsUsage: "FILE.json, FILE.toml, or - for JSON on standard output",
		Flags: flags(), Action: asking(0, 1, func(s *session) error {
			var d admin.ExportedDocument
			if err := s.client.Get(s.Context.Context, path("directory"), nil, &d); err != nil {
				return err
			}
			name := s.Args().First()
			if name == "" || name == "-" {
				return pretty(s.out, d.Document)
			}
			b, err := encodeDocument(name, d.Document)
			if err == nil {
				err = os.WriteFile(name, b, 0o600)
			}
			if err == nil {
				fmt.Fprintf(s.out, "%s: %d databases, %d domains, %d mailboxes, %d groups, %d next hops as of index %d\n", name,
					len(d.Databases), len(d.Domains), len(d.Mailboxes), len(d.Groups), len(d.NextHops), d.As.Index)
			}
			return err
		}),
	}
}

func importCommand() *cli.Command {
	return &cli.Command{
		Name: "import", Usage: "put what a file names: add what is missing, change what differs",
		Description: "What the file does not name is left alone. Importing the same file twice changes nothing. --dry-run shows the difference.",
		ArgsUsage:   "FILE.json, FILE.toml, or - for JSON on standard input", Flags: flags(changeFlags()),
		Action: asking(1, 1, func(s *session) error {
			d, err := readDocument(s)
			if err != nil {
				return err
			}
			return s.change(path("import"), nil, admin.ImportOrder{Order: s.order(), Document: d})
		}),
	}
}

func isTOML(name string) bool { return strings.EqualFold(filepath.Ext(name), ".toml") }

// TOML has the names and forms of JSON: it is read into plain values and goes
// through the JSON decoder, so that there is one definition of a document.

func readDocument(s *session) (d admin.Document, err error) {
	name := s.Args().First()
	var b []byte
	if name == "-" {
		b, err = io.ReadAll(s.App.Reader)
	} else {
		b, err = os.ReadFile(name)
	}
	if err != nil {
		return d, err
	}
	if isTOML(name) {
		var plain map[string]any
		if _, err := toml.Decode(string(b), &plain); err != nil {
			return d, exit{exitConfig, fmt.Errorf("%s: %w", name, err)}
		}
		if b, err = json.Marshal(plain); err != nil {
			return d, fmt.Errorf("%s: %w", name, err)
		}
	}
	j := json.NewDecoder(bytes.NewReader(b))
	j.DisallowUnknownFields()
	if err := j.Decode(&d); err != nil {
		return d, exit{exitConfig, fmt.Errorf("%s: %w", name, err)}
	}
	return d, nil
}

func encodeDocument(name string, d admin.Document) ([]byte, error) {
	var out bytes.Buffer
	if !isTOML(name) {
		err := pretty(&out, d)
		return out.Bytes(), err
	}
	b, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encode directory: %w", err)
	}
	var plain map[string]any
	if err := json.Unmarshal(b, &plain); err != nil {
		return nil, fmt.Errorf("encode directory: %w", err)
	}
	e := toml.NewEncoder(&out)
	e.Indent = ""
	if err := e.Encode(plain); err != nil {
		return nil, fmt.Errorf("encode directory: %w", err)
	}
	return out.Bytes(), nil
}
