// Package mailraft_test holds the house together: who may import whom, what
// must stay deterministic, how large a function may grow. It reads the source
// with go/parser and runs no tool, so that it is quick.
package mailraft_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// importTable says what a package, with all below it, may not import outside
// its tests. A name covers what lies below it; "only" turns the list around
// for imports of our own.
var importTable = []struct {
	pkg  string
	but  string // below pkg: has a line of its own
	not  []string
	only []string
	why  string
}{
	{pkg: "mail", not: []string{"net", "os", "github.com", "golang.org", "go.etcd.io"}, only: []string{"mail"}, why: "a leaf: everybody speaks of its nouns"},
	{pkg: "directory", not: []string{"net/http", "net/smtp", "os", "time", "sync"}, only: []string{"mail"}, why: "pure: runs while an entry is applied"},
	{pkg: "store", not: []string{"net", "math/rand"}, only: []string{"store", "mail"}, why: "one member's disk, inspected without consensus or network"},
	{pkg: "store/state", not: []string{raft}, why: "state knows no log"},
	{pkg: "store/content", not: []string{raft}, why: "content travels beside the log"},
	{pkg: "fsm", not: []string{"net", boltdb, bbolt, goSMTP}, only: []string{"fsm", "store", "directory", "mail"}, why: "deterministic: no network"},
	{pkg: "cluster", not: []string{goSMTP}, only: []string{"cluster", "fsm", "store", "mail"}, why: "replication does not know mail delivery"},
	{pkg: "cluster/pki", not: []string{raft}, only: []string{"cluster/pki", "mail"}, why: "identities are checked before anything else is known"},
	{pkg: "cluster/port", not: []string{raft}, only: []string{"cluster/port", "cluster/pki", "mail"}, why: "the port splits connections, and reads none"},
	{pkg: "cluster/link", not: []string{raft}, only: []string{"cluster/link", "cluster/port", "cluster/pki", "mail"}, why: "requests are bytes to it"},
	{pkg: "cluster/transport", only: []string{"cluster/transport", "cluster/port", "cluster/pki", "mail"}, why: "raft's frames are bytes to it"},
	{pkg: "cluster/replica", not: []string{raft}, only: []string{"cluster/replica", "cluster/port", "cluster/pki", "store/content", "mail"}, why: "content travels beside the log"},
	{pkg: "smtpd", but: "smtpd/frontend", only: []string{"smtpd", "mail"}, why: "sees a queue that accepts, nothing else"},
	{pkg: "smtpd", not: []string{"mailraft/smtpd/frontend"}, why: "a front end uses it, not the other way"},
	{pkg: "smtpd/handover", only: []string{"mail"}, why: "words that both sides share"},
	{pkg: "smtpd/frontend", not: []string{raft, "mailraft/cluster/transport", "mailraft/cluster/replica"}, only: []string{"smtpd", "cluster/pki", "cluster/port", "cluster/link", "cluster/enroll", "admin", "mail"}, why: "stateless: it has no log and no content, and asks members over their port"},
	{pkg: "smtpd/users", not: []string{goSMTP}, only: []string{}, why: "knows passwords, and not what they are for"},
	{pkg: "smtpd/wire", not: []string{goSMTP}, only: []string{"smtpd/handover", "smtpd/proxy", "mail"}, why: "stands between the network and the SMTP library"},
	{pkg: "deliver", only: []string{"deliver", "directory", "mail"}, why: "sees a queue with due work and a place to report"},
	{pkg: "resubmit", only: []string{"resubmit", "mail"}, why: "sees a boundary with requests and a way to propose"},
	{pkg: "backup", not: []string{raft}, only: []string{"mail"}, why: "a file: what is in it is bytes to it"},
	{pkg: "admin", not: []string{raft, boltdb, bbolt, pebble, goSMTP, "mailraft/store", "mailraft/cluster", "mailraft/smtpd", "mailraft/deliver", "mailraft/resubmit", "mailraft/member"}, why: "shows and changes through what member gives it"},
	{pkg: "member", not: []string{"mailraft/cmd"}, why: "commands use it, not the other way"},
	{pkg: "cmd", not: []string{raft, boltdb, bbolt, pebble, goSMTP}, only: []string{"cmd", "member", "admin", "smtpd/frontend", "smtpd/users", "deliver/maildir", "deliver/mailbox", "internal", "backup", "mail"}, why: "a command line puts nothing together itself"},
}

// onlyHere says which packages alone may import a module outside their tests.
var onlyHere = []struct {
	module string
	in     []string
	why    string
}{
	{raft, []string{"fsm", "cluster", "store/raftlog", "member", "internal"}, "the rest works with a queue, whatever orders it"},
	{boltdb, []string{"store/raftlog"}, "one guard around one file"},
	{bbolt, []string{"store/raftlog"}, "one guard around one file"},
	{pebble, []string{"store", "fsm", "member", "internal"}, "tables are behind store/state"},
	{goSMTP, []string{"smtpd", "deliver", "internal"}, "its errors become replies at these two doors"},
	{"log", nil, "logging is an hclog.Logger that is passed in"},
	{"log/slog", nil, "logging is an hclog.Logger that is passed in"},
}

const (
	raft   = "github.com/hashicorp/raft"
	boltdb = "github.com/hashicorp/raft-boltdb"
	bbolt  = "go.etcd.io/bbolt"
	pebble = "github.com/cockroachdb/pebble"
	goSMTP = "github.com/emersion/go-smtp"
)

func TestImports(t *testing.T) {
	tree := readTree(t)
	for _, f := range tree {
		if f.test {
			continue
		}
		for _, imp := range f.imports {
			for _, rule := range importTable {
				if !within(f.dir, rule.pkg) || rule.but != "" && within(f.dir, rule.but) {
					continue
				}
				own, ours := strings.CutPrefix(imp, "mailraft/")
				if withinAny(imp, rule.not) || ours && rule.only != nil && !withinAny(own, rule.only) {
					t.Errorf("%s imports %s; %s must not: %s", f.path, imp, rule.pkg, rule.why)
				}
			}
			for _, rule := range onlyHere {
				// raft-boltdb lies beside raft, log/slog below log: exact or with a version.
				if (imp == rule.module || strings.HasPrefix(imp, rule.module+"/v")) && !withinAny(f.dir, rule.in) {
					t.Errorf("%s imports %s, which is for %q: %s", f.path, imp, rule.in, rule.why)
				}
			}
		}
	}
}

// The state machine must come to the same state on every member and at every
// replay: packages below these read no clock, draw no chance, and do not look
// at the process they run in.
var (
	deterministic = []string{"mail", "directory", "fsm", "store"}

	chanceImports = []string{"math/rand", "math/rand/v2", "crypto/rand"}
	forbidden     = map[string][]string{
		"time": {"Now", "Since", "Until", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Sleep", "Local", "LoadLocation"},
		"os":   {"Getenv", "LookupEnv", "Environ", "ExpandEnv", "Hostname", "Getpid", "Getwd"},
	}
	exempt = []struct{ pkg, use, why string }{
		{"store/raftlog", "time.NewTicker", "the watchdog counts ticks of a disk that hangs; nothing of it is stored"},
	}
)

func TestNoClockNoChance(t *testing.T) {
	used := map[string]bool{}
	for _, f := range readTree(t) {
		if f.test || !withinAny(f.dir, deterministic) {
			continue
		}
		for _, imp := range f.imports {
			if slices.Contains(chanceImports, imp) {
				t.Errorf("%s imports %s", f.path, imp)
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := sel.X.(*ast.Ident)
			if !ok || !slices.Contains(forbidden[f.names[x.Name]], sel.Sel.Name) {
				return true
			}
			use := f.names[x.Name] + "." + sel.Sel.Name
			for _, e := range exempt {
				if e.pkg == f.dir && e.use == use {
					used[e.pkg+e.use] = true
					return true
				}
			}
			t.Errorf("%s: %s", f.at(sel), use)
			return true
		})
	}
	for _, e := range exempt {
		if !used[e.pkg+e.use] {
			t.Errorf("%s is exempt for %s without using it", e.pkg, e.use)
		}
	}
}

func TestPackageDocs(t *testing.T) {
	lines := map[string]int{}
	for _, f := range readTree(t) {
		if f.test {
			continue
		}
		n := 0
		if f.ast.Doc != nil {
			n = strings.Count(f.ast.Doc.Text(), "\n")
		}
		lines[f.dir] = max(lines[f.dir], n)
	}
	for dir, n := range lines {
		if n < 3 {
			t.Errorf("%s: a package comment of %d lines; say in three to fifteen what it owns and what it does not know", dir, n)
		}
	}
}

const (
	funcMax      = 70
	fileMax      = 500
	interfaceMax = 3
)

// wide are the interfaces of ours with more methods, each with its reason.
var wide = map[string]string{
	"cluster/replica.Sink": "the writer of one content, from its first byte to its sync: cut in two it could not be passed on",
	"store/raftlog.Bolt":   "as many methods as raft's two stores ask of it",
}

func TestSizes(t *testing.T) {
	for _, f := range readTree(t) {
		if f.test {
			continue
		}
		if n := f.fset.File(f.ast.Pos()).LineCount(); n > fileMax {
			t.Errorf("%s has %d lines; %d are enough for one idea", f.path, n, fileMax)
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if l := f.fset.Position(n.End()).Line - f.fset.Position(n.Pos()).Line + 1; l > funcMax {
					t.Errorf("%s: %s has %d lines; %d fit on a screen", f.at(n), n.Name.Name, l, funcMax)
				}
			case *ast.TypeSpec:
				i, ok := n.Type.(*ast.InterfaceType)
				if ok && len(i.Methods.List) > interfaceMax && wide[f.dir+"."+n.Name.Name] == "" {
					t.Errorf("%s: interface %s has %d methods; a consumer needs one to %d", f.at(n), n.Name.Name, len(i.Methods.List), interfaceMax)
				}
			}
			return true
		})
	}
}

// everywhere is an address that is open to the world: which one that may be is
// for the operator to say.
var everywhere = regexp.MustCompile(`0\.0\.0\.0|^\[::\]:|^:\d+$`)

func TestNoOpenListener(t *testing.T) {
	for _, f := range readTree(t) {
		if f.path == "structure_test.go" {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			if s, err := strconv.Unquote(lit.Value); err == nil && everywhere.MatchString(s) {
				t.Errorf("%s: %s is an address open to everybody", f.at(lit), lit.Value)
			}
			return true
		})
	}
}

// source is one parsed file.
type source struct {
	path, dir string // with slashes, from the root
	test      bool
	text      string
	fset      *token.FileSet
	ast       *ast.File
	imports   []string
	names     map[string]string // name in the file: import path
}

func (s *source) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", s.path, s.fset.Position(n.Pos()).Line)
}

// readTree parses every Go file of the module.
func readTree(t *testing.T) []*source {
	t.Helper()
	var all []*source
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && p != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(p, ".go") {
			return nil
		}
		s, err := parse(p)
		all = append(all, s)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func parse(p string) (*source, error) {
	text, err := os.ReadFile(p)
	if err != nil {
		return nil, err
	}
	s := &source{path: filepath.ToSlash(p), text: string(text), fset: token.NewFileSet(), names: map[string]string{}}
	s.dir, s.test = path.Dir(s.path), strings.HasSuffix(p, "_test.go")
	s.ast, err = parser.ParseFile(s.fset, p, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	for _, i := range s.ast.Imports {
		imp, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			return nil, err
		}
		s.imports = append(s.imports, imp)
		name := path.Base(imp)
		if i.Name != nil {
			name = i.Name.Name
		}
		s.names[name] = imp
	}
	return s, nil
}

// within reports that p is parent or lies below it.
func within(p, parent string) bool { return p == parent || strings.HasPrefix(p, parent+"/") }

func withinAny(p string, parents []string) bool {
	return slices.ContainsFunc(parents, func(parent string) bool { return within(p, parent) })
}
