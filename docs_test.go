package mailraft_test

import (
	"cmp"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	rfcInCode  = regexp.MustCompile(`RFC ?(\d{3,5})\b`)
	rfcInTable = regexp.MustCompile(`(?m)^\| (\d{3,5}) \|`)
)

// Every RFC that the code names has a row in docs/rfc.md that says how much of
// it is kept.
func TestRFCsAreListed(t *testing.T) {
	known := map[string]bool{}
	standards, _, _ := strings.Cut(read(t, "docs/rfc.md"), whereMark)
	for _, m := range rfcInTable.FindAllStringSubmatch(standards, -1) {
		known[m[1]] = true
	}
	for _, f := range readTree(t) {
		for _, m := range rfcInCode.FindAllStringSubmatch(f.text, -1) {
			if !known[m[1]] {
				t.Errorf("%s names RFC %s, which docs/rfc.md does not list", f.path, m[1])
				known[m[1]] = true
			}
		}
	}
}

const whereMark = "<!-- made by go test . -run TestRFCsHaveAPlace -rewrite -->\n"

var whereLine = regexp.MustCompile(`(?m)^\| (\d{3,5}) \| (.*) \|$`)

// The last part of docs/rfc.md says which packages name an RFC: each RFC that
// one names is there, and no package that does not name it.
func TestRFCsHaveAPlace(t *testing.T) {
	const path = "docs/rfc.md"
	places := map[string][]string{}
	for _, f := range readTree(t) {
		if f.test {
			continue
		}
		for _, m := range rfcInCode.FindAllStringSubmatch(f.text, -1) {
			if !slices.Contains(places[m[1]], f.dir) {
				places[m[1]] = append(places[m[1]], f.dir)
			}
		}
	}
	head, listed, ok := strings.Cut(read(t, path), whereMark)
	if !ok {
		t.Fatalf("%s: no line %s", path, whereMark)
	}
	if *rewrite {
		text := head + whereMark + "\n| RFC | packages |\n|---|---|\n"
		numbers := slices.SortedFunc(maps.Keys(places), func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) })
		for _, n := range numbers {
			slices.Sort(places[n])
			text += "| " + n + " | `" + strings.Join(places[n], "`, `") + "` |\n"
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, m := range whereLine.FindAllStringSubmatch(listed, -1) {
		for _, dir := range strings.Split(m[2], ", ") {
			if dir = strings.Trim(dir, "`"); !slices.Contains(places[m[1]], dir) {
				t.Errorf("%s: %s does not name RFC %s", path, dir, m[1])
			}
		}
		delete(places, m[1])
	}
	for n, dirs := range places {
		t.Errorf("%s: no line for RFC %s, which %q name: go test . -run TestRFCsHaveAPlace -rewrite", path, n, dirs)
	}
}

var (
	requirement = regexp.MustCompile(`(?m)^(?:require)?\s+(\S+) v\S+( // indirect)?$`)
	tool        = regexp.MustCompile(`(?m)^(?:tool)?\s+([a-z]\S*/\S*)$`)
	listed      = regexp.MustCompile("(?m)^\\| `([^`]+)` \\|")
)

// Every module that the code imports, or go.mod requires for itself, and every
// tool has its reason in docs/dependencies.md, and nothing else has.
func TestDependenciesAreListed(t *testing.T) {
	text := read(t, "go.mod")
	var modules []string
	need := map[string]bool{}
	for _, m := range requirement.FindAllStringSubmatch(text, -1) {
		modules = append(modules, m[1])
		if m[2] == "" {
			need[m[1]] = true
		}
	}
	if len(modules) < 10 {
		t.Fatalf("read only %q from go.mod", modules)
	}
	owner := func(imp string) string {
		best := ""
		for _, m := range modules {
			if within(imp, m) && len(m) > len(best) {
				best = m
			}
		}
		return best
	}
	for _, m := range tool.FindAllStringSubmatch(text, -1) {
		need[owner(m[1])] = true
	}
	for _, f := range readTree(t) {
		for _, imp := range f.imports {
			if o := owner(imp); o != "" {
				need[o] = true
			}
		}
	}
	have := map[string]bool{}
	for _, m := range listed.FindAllStringSubmatch(read(t, "docs/dependencies.md"), -1) {
		have[m[1]] = true
	}
	for m := range need {
		if !have[m] {
			t.Errorf("docs/dependencies.md has no reason for %s", m)
		}
	}
	for m := range have {
		if !need[m] {
			t.Errorf("docs/dependencies.md gives a reason for %s, which is not used", m)
		}
	}
}

var (
	fence = regexp.MustCompile("(?s)```.*?```")
	link  = regexp.MustCompile(`\]\(([^)#\s]+)(?:#[^)]*)?\)`)
)

// Links from one document to another file of the repository lead somewhere.
func TestLinks(t *testing.T) {
	for _, p := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(read(t, p), ""), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(p), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", p, m[1], err)
			}
		}
	}
}

var goPath = regexp.MustCompile("`((?:cmd|member|smtpd|deliver|resubmit|admin|cluster|fsm|store|directory|mail|internal)(?:/[a-z0-9]+)*)`")

// The rooms that README and docs/flow.md name are there.
func TestNamedPackagesExist(t *testing.T) {
	for _, p := range []string{"README.md", "CONTRIBUTING.md", "docs/flow.md"} {
		var named []string
		for _, m := range goPath.FindAllStringSubmatch(read(t, p), -1) {
			named = append(named, m[1])
		}
		slices.Sort(named)
		for _, dir := range slices.Compact(named) {
			if _, err := os.Stat(dir); err != nil {
				t.Errorf("%s names the package %s: %v", p, dir, err)
			}
		}
	}
}

// Mail is CRLF on the wire, so the samples are too, whatever git is told.
func TestSampleMail(t *testing.T) {
	samples, err := filepath.Glob("testdata/mail/*.eml")
	if err != nil || len(samples) < 12 {
		t.Fatalf("%d samples (%v)", len(samples), err)
	}
	for _, p := range samples {
		text := read(t, p)
		if bare := strings.ReplaceAll(text, "\r\n", ""); strings.ContainsAny(bare, "\r\n\x00") {
			t.Errorf("%s has a bare CR or LF, or a NUL", p)
		}
		if !strings.HasSuffix(text, "\r\n") {
			t.Errorf("%s does not end with CRLF", p)
		}
	}
}

func documents(t *testing.T) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && p != "." && strings.HasPrefix(d.Name(), ".") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(p, ".md") {
			all = append(all, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func read(t *testing.T, p string) string {
	t.Helper()
	b, err := os.ReadFile(p)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
