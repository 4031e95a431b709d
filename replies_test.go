package mailraft_test

import (
	"cmp"
	"flag"
	"fmt"
	"go/ast"
	"go/build"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"mailraft/mail/reply"
)

var rewrite = flag.Bool("rewrite", false, "write docs/smtp.md anew")

// docs/smtp.md is the table of replies, and nothing else.
func TestRepliesDocument(t *testing.T) {
	const path = "docs/smtp.md"
	const mark = "<!-- made by go test . -run TestRepliesDocument -rewrite -->\n"
	head, _, ok := strings.Cut(read(t, path), mark)
	if !ok {
		t.Fatalf("%s: no line %s", path, mark)
	}
	var b strings.Builder
	b.WriteString(head + mark)
	for _, stage := range reply.Stages {
		fmt.Fprintf(&b, "\n## %s\n\n| reply | text | when | limit |\n|---|---|---|---|\n", stage)
		var rows []*reply.Entry
		for _, e := range reply.All() {
			if e.At == stage {
				rows = append(rows, e)
			}
		}
		slices.SortFunc(rows, func(x, y *reply.Entry) int {
			return cmp.Or(cmp.Compare(x.Code, y.Code), cmp.Compare(x.Enhanced, y.Enhanced), cmp.Compare(x.Text, y.Text))
		})
		for _, e := range rows {
			limit := ""
			if e.Limit != "" {
				limit = "`" + e.Limit + "`"
			}
			text := strings.NewReplacer("%s", "…", "%v", "…", "%d", "n", "<", "&lt;", "|", `\|`).Replace(e.Text)
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", strings.TrimSpace(fmt.Sprint(e.Code, " ", e.Enhanced)), text, e.When, limit)
		}
	}
	if b.String() == read(t, path) {
		return
	}
	if !*rewrite {
		t.Fatalf("%s is not what mail/reply says: go test . -run TestRepliesDocument -rewrite", path)
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestRepliesAreWhole(t *testing.T) {
	said := map[string]bool{}
	for _, e := range reply.All() {
		line := e.Reply(make([]any, strings.Count(e.Text, "%"))...).String()
		switch {
		case e.Text == "" || e.When == "" || !slices.Contains(reply.Stages, e.At):
			t.Errorf("%s: without a text, a stage or a when", line)
		case e.Enhanced == "" && e.Code >= 400, e.Enhanced != "" && e.Enhanced[0] != line[0]:
			t.Errorf("%s: the enhanced code does not fit (RFC 3463 §2)", line)
		case len(line) > 400 || strings.ContainsAny(e.Text, "\r\n"):
			t.Errorf("%s: too long for a line (RFC 5321 §4.5.3.1.5)", line)
		case said[e.Text] && e.Text != "%s":
			t.Errorf("%s: said in two places, so that nobody knows which", line)
		}
		said[e.Text] = true
	}
}

// answering are the packages and files that answer SMTP clients, by themselves
// or through others.
var answering = []string{"smtpd", "member/queue.go", "member/fresh.go", "fsm/accept.go", "directory/verify.go"}

// Nobody who answers a client makes a reply of his own: it would be missing in
// the table.
func TestRepliesComeFromTheTable(t *testing.T) {
	for _, f := range readTree(t) {
		if f.test || !withinAny(f.path, answering) {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			var made ast.Expr
			switch n := n.(type) {
			case *ast.CallExpr:
				made = n.Fun
			case *ast.CompositeLit:
				made = n.Type
			}
			sel, ok := made.(*ast.SelectorExpr)
			if !ok || sel.Sel.Name != "Replyf" && sel.Sel.Name != "Reply" {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && f.names[x.Name] == "mailraft/mail" && !outside[f.path] {
				t.Errorf("%s: a reply that is not in mail/reply", f.at(n))
			}
			return true
		})
	}
}

// outside are files that make replies which no client of ours hears as such.
var outside = map[string]bool{
	"member/fresh.go": true, // answers between members
}

// Every reply is produced by a test: expected by a dialogue in testdata/smtp
// (what a script lets the queue say is no proof), answered by the state machine
// in testdata/fsm, or named by a test.
func TestRepliesAreProven(t *testing.T) {
	proven := map[*reply.Entry]bool{}
	provenByScripts(t, proven)
	named := map[string]bool{}
	use := regexp.MustCompile(`\breply\.([A-Z]\w*)\b`)
	names := map[string]string{} // by code and text
	for _, f := range readTree(t) {
		if f.test {
			for _, m := range use.FindAllStringSubmatch(f.text, -1) {
				named[m[1]] = true
			}
		}
		if f.dir == "mail/reply" {
			entryNames(f.ast, names)
		}
	}
	if len(names) < len(reply.All()) {
		t.Errorf("%d names for %d replies", len(names), len(reply.All()))
	}
	for _, e := range reply.All() {
		if name := names[e.Text+e.Enhanced]; !proven[e] && !named[name] {
			t.Errorf("no test produces %s: %d %s %s", name, e.Code, e.Enhanced, e.Text)
		}
	}
}

func provenByScripts(t *testing.T, proven map[*reply.Entry]bool) {
	for _, pattern := range []string{"testdata/smtp/*.txt", "testdata/fsm/*.txt"} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, p := range paths {
			said := ""
			for line := range strings.Lines(read(t, p)) {
				line = strings.TrimRight(line, "\n")
				if strings.HasPrefix(line, "Q: ") {
					said += line + "\n"
				}
				text, expected := strings.CutPrefix(line, "S: ")
				if !expected && !strings.Contains(p, "fsm") || strings.Contains(said, text) {
					continue
				}
				if e := onlyOne(text); e != nil {
					proven[e] = true
				}
			}
		}
	}
}

// onlyOne is the entry that begins with text, if one alone does.
func onlyOne(text string) (one *reply.Entry) {
	if e, ok := reply.Find(text); ok {
		return e
	}
	for _, e := range reply.All() {
		line := strings.TrimSpace(fmt.Sprint(e.Code, " ", e.Enhanced))
		head, _, _ := strings.Cut(line+" "+e.Text, "%")
		if len(text) < len(line)+5 || !strings.HasPrefix(head, text) && !strings.HasPrefix(text, head) {
			continue
		}
		if one != nil {
			return nil
		}
		one = e
	}
	return one
}

// entryNames finds the variables of mail/reply.
func entryNames(f *ast.File, names map[string]string) {
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || len(v.Values) != 1 {
			return true
		}
		call, ok := v.Values[0].(*ast.CallExpr)
		if !ok || len(call.Args) != 1 {
			return true
		}
		lit, ok := call.Args[0].(*ast.CompositeLit)
		if !ok {
			return true
		}
		fields := map[string]string{}
		for _, el := range lit.Elts {
			if kv, ok := el.(*ast.KeyValueExpr); ok {
				if s, ok := kv.Value.(*ast.BasicLit); ok && s.Kind == token.STRING {
					fields[kv.Key.(*ast.Ident).Name], _ = strconv.Unquote(s.Value)
				}
			}
		}
		names[fields["Text"]+fields["Enhanced"]] = v.Names[0].Name
		return true
	})
}

var librarySays = regexp.MustCompile(`(?:writeResponse|protocolError)\((\d{3}), (?:EnhancedCode\{[\d, ]+\}|NoEnhancedCode), (?:fmt\.Sprintf\()?"([^"]+)"`)

// neverSaid is what the SMTP library would say where it never comes to be,
// with the reason.
var neverSaid = map[string]string{
	"Error: bad syntax":                        "empty lines and unknown commands are answered by smtpd/wire",
	"Bad command":                              "as before",
	"Syntax errors, %v command unrecognized":   "as before",
	"%v command not implemented":               "listed as EXPN and HELP; the others are unknown to smtpd/wire",
	"Too many errors. Quiting now":             "follows those",
	"This is a LMTP server, use LHLO":          "it is not",
	"This is not a LMTP server":                "LHLO is unknown to smtpd/wire",
	"Hello %s":                                 "smtpd/wire answers EHLO and HELO in its own words",
	"Please introduce yourself first.":         "smtpd/wire asks for EHLO first",
	"MAIL not allowed during message transfer": "BDAT never reaches the library",
	"RCPT not allowed during message transfer": "as before",
	"DATA not allowed during message transfer": "as before",
	"DATA not allowed for BINARYMIME messages": "BINARYMIME is not offered",
	"Missing chunk size argument":              "BDAT never reaches the library",
	"Too many arguments":                       "as before",
	"Unknown BDAT argument":                    "as before",
	"Malformed size argument":                  "as before",
	"Continue":                                 "as before",
	"Max message size exceeded":                "the limit is ours",
	"Maximum limit of %v recipients reached":   "the limit is ours",
	"SMTPUTF8 is not implemented":              "it is offered",
	"RET is not implemented":                   "DSN is offered",
	"ENVID is not implemented":                 "as before",
	"NOTIFY is not implemented":                "as before",
	"ORCPT is not implemented":                 "as before",
	"Malformed RRVS parameter value":           "RRVS is not offered",
	"Malformed BY parameter value":             "DELIVERBY is not offered",
	"BY parameter is below server minimum":     "as before",
	"Malformed MT-PRIORITY parameter value":    "MT-PRIORITY is not offered",
	"MT-PRIORITY is outside valid range":       "as before",
	"Already running in TLS":                   "STARTTLS never reaches the library",
	"TLS not supported":                        "as before",
	"Ready to start TLS":                       "as before",
	"Handshake error":                          "as before",
	"Too long line, closing connection":        "lines are bounded by smtpd/wire",
	"Connection error, sorry":                  "the library sees an end of file instead",
	"Too busy. Try again later.":               "connections are counted by smtpd",
	"%v %s Service Ready":                      "the greeting, which is listed as it is",
	"Already authenticated":                    "AUTH is not offered",
	"Missing parameter":                        "as before",
	"TLS is required":                          "as before",
	"Invalid base64 data":                      "as before",
	"Negotiation cancelled":                    "as before",
	"Authentication succeeded":                 "as before",
}

// Whatever the SMTP library can say is in the table under our own words, or
// never comes to be.
func TestLibraryReplies(t *testing.T) {
	p, err := build.Import("github.com/emersion/go-smtp", ".", build.FindOnly)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, file := range []string{"conn.go", "server.go"} {
		for _, m := range librarySays.FindAllStringSubmatch(read(t, filepath.Join(p.Dir, file)), -1) {
			seen++
			code, _ := strconv.Atoi(m[1])
			if listed := reply.OfLibrary(code, m[2]) != nil; listed == (neverSaid[m[2]] != "") {
				t.Errorf("the library says %d %s: listed in mail/reply %t, never said %q", code, m[2], listed, neverSaid[m[2]])
			}
		}
	}
	if seen < 80 {
		t.Errorf("found only %d replies of the library", seen)
	}
}
