package mail

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestOverlay(t *testing.T) {
	const content = "Received: a\r\n\tb\r\nSubject: one\r\nSubject: two\r\n\r\nbody: x\r\n y\r\n"
	for _, c := range []struct {
		what    string
		content string
		edits   []Edit
		want    string
	}{
		{"nothing", content, nil, content},
		{"first", content, []Edit{{At: 0, Text: "A: 1\r\nB: 2\r\n\tb\r\n"}}, "A: 1\r\nB: 2\r\n\tb\r\n" + content},
		{"last", content, []Edit{{At: 3, Text: "A: 1\r\n"}},
			"Received: a\r\n\tb\r\nSubject: one\r\nSubject: two\r\nA: 1\r\n\r\nbody: x\r\n y\r\n"},
		{"far behind the last", content, []Edit{{At: 99, Text: "A: 1\r\n"}},
			"Received: a\r\n\tb\r\nSubject: one\r\nSubject: two\r\nA: 1\r\n\r\nbody: x\r\n y\r\n"},
		{"a folded field goes whole", content, []Edit{{At: 0, Drop: true}}, "Subject: one\r\nSubject: two\r\n\r\nbody: x\r\n y\r\n"},
		{"one of two in its place", content, []Edit{{At: 2, Drop: true, Text: "Subject: 2\r\n"}},
			"Received: a\r\n\tb\r\nSubject: one\r\nSubject: 2\r\n\r\nbody: x\r\n y\r\n"},
		{"all", content, []Edit{{At: 0, Drop: true}, {At: 1, Drop: true}, {At: 2, Drop: true}}, "\r\nbody: x\r\n y\r\n"},
		{"no header, empty line", "\r\nbody\r\n", []Edit{{At: 0, Text: "A: 1\r\n"}}, "A: 1\r\n\r\nbody\r\n"},
		{"no header at all", "body\r\n", []Edit{{At: 0, Text: "A: 1\r\n"}}, "A: 1\r\n\r\nbody\r\n"},
		{"no header but what looks like a continuation", " body: x\r\n", []Edit{{At: 0, Text: "A: 1\r\n"}}, "A: 1\r\n\r\n body: x\r\n"},
		{"header without an empty line", "Subject: x\r\nno field\r\nTo: y\r\n", []Edit{{At: 1, Text: "A: 1\r\n"}}, "Subject: x\r\nA: 1\r\n\r\nno field\r\nTo: y\r\n"},
		{"header and no body", "Subject: x\r\n", []Edit{{At: 1, Text: "A: 1\r\n"}}, "Subject: x\r\nA: 1\r\n"},
		{"header that ends within a line", "Subject: x", []Edit{{At: 1, Text: "A: 1\r\n"}}, "Subject: x\r\nA: 1\r\n"},
		{"and that is dropped", "Subject: x", []Edit{{At: 0, Drop: true, Text: "A: 1\r\n"}}, "A: 1\r\n"},
		{"nothing at all", "", []Edit{{At: 0, Text: "A: 1\r\n"}}, "A: 1\r\n"},
		{"space before the colon", "Subject : x\r\n\r\nb\r\n", []Edit{{At: 0, Drop: true}}, "\r\nb\r\n"},
		{"no value", "Subject:\r\n\r\nb\r\n", []Edit{{At: 1, Text: "A: 1\r\n"}}, "Subject:\r\nA: 1\r\n\r\nb\r\n"},
		{"a line of spaces goes on", "Subject: x\r\n  \r\n\r\nb\r\n", []Edit{{At: 1, Text: "A: 1\r\n"}}, "Subject: x\r\n  \r\nA: 1\r\n\r\nb\r\n"},
		{"a name that is too long", strings.Repeat("n", 300) + ": x\r\n\r\n", []Edit{{At: 0, Text: "A: 1\r\n"}}, "A: 1\r\n\r\n" + strings.Repeat("n", 300) + ": x\r\n\r\n"},
		{"a long line", "S: " + strings.Repeat("x", 20000) + "\r\n\r\nb", []Edit{{At: 0, Drop: true}, {At: 1, Text: "A: 1\r\n"}}, "A: 1\r\n\r\nb"},
	} {
		o := &Overlay{Edits: c.edits}
		if err := o.Check(); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		for name, slow := range map[string]func(io.Reader) io.Reader{"whole": func(r io.Reader) io.Reader { return r },
			"by bytes": iotest.OneByteReader, "with its end": iotest.DataErrReader} {
			r := o.Over(seeker{slow(strings.NewReader(c.content)), nil})
			if got, err := io.ReadAll(r); err != nil || string(got) != c.want {
				t.Errorf("%s, read %s: got\n%q %v, want\n%q", c.what, name, got, err, c.want)
			}
		}
	}
}

// seeker makes a reader one that could be read again.
type seeker struct {
	io.Reader
	io.Seeker
}

func TestOverlayIsReadAgain(t *testing.T) {
	o := &Overlay{Edits: []Edit{{At: 1, Text: "A: 1\r\n"}}}
	r := o.Over(strings.NewReader("Subject: x\r\n\r\n" + strings.Repeat("body\r\n", 5000)))
	first, _ := io.ReadAll(r)
	if _, err := io.CopyN(io.Discard, r, 1); err != io.EOF {
		t.Fatal(err)
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if again, err := io.ReadAll(r); err != nil || !bytes.Equal(first, again) || len(first) != 14+6+30000 {
		t.Errorf("%d bytes, then %d, %v", len(first), len(again), err)
	}
	if _, err := r.Seek(3, io.SeekStart); err == nil {
		t.Error("it was read from the middle")
	}
}

// What is damaged below is damaged above.
func TestOverlayPassesErrorsOn(t *testing.T) {
	bad := errors.New("damaged")
	for _, n := range []int{0, 3, 14, 20} {
		content := "Subject: x\r\n\r\nbody body body"[:n]
		r := (&Overlay{Edits: []Edit{{Text: "A: 1\r\n"}}}).Over(seeker{io.MultiReader(strings.NewReader(content), iotest.ErrReader(bad)), nil})
		if _, err := io.ReadAll(r); err != bad {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

func TestOverlayCheck(t *testing.T) {
	for what, edits := range map[string][]Edit{
		"no end":           {{Text: "A: 1"}},
		"bare LF":          {{Text: "A: 1\n"}},
		"bare CR":          {{Text: "A: 1\rB: 2\r\n"}},
		"an empty line":    {{Text: "A: 1\r\n\r\nbody\r\n"}},
		"a blank line":     {{Text: "A: 1\r\n \r\n"}},
		"a continuation":   {{Text: "\tmore\r\n"}},
		"no field":         {{Text: "text\r\n"}},
		"NUL":              {{Text: "A: \x00\r\n"}},
		"a line too long":  {{Text: "A: " + strings.Repeat("x", 996) + "\r\n"}},
		"order":            {{At: 1, Drop: true}, {At: 0, Drop: true}},
		"the same twice":   {{At: 1, Drop: true}, {At: 1, Drop: true}},
		"before the first": {{At: -1, Text: "A: 1\r\n"}},
		"too much":         {{Text: strings.Repeat("A: "+strings.Repeat("x", 900)+"\r\n", 80)}},
	} {
		if err := (&Overlay{Edits: edits}).Check(); !errors.Is(err, ErrOverlay) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := (*Overlay)(nil).Check(); err != nil {
		t.Error(err)
	}
}

func TestField(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"X-Spam", " yes", "X-Spam: yes\r\n"},
		{"X-Spam", " yes\n\tand no", "X-Spam: yes\r\n\tand no\r\n"},
		{"X-Spam", " yes\r\n and no\r\n", "X-Spam: yes\r\n and no\r\n"},
		{"X-Spam", "", "X-Spam:\r\n"},
		{"X-Spam", " yes\nEvil: x", ""},
		{"X-Spam", " yes\n\nbody", ""},
		{"X-Spam", " yes\n \nbody", ""},
		{"X-Spam", " yes\rEvil: x", ""},
		{"X-Spam", " \x00", ""},
		{"X Spam", " yes", ""},
		{"X-Spam ", " yes", ""},
		{"X-Spam: a\r\nY", " yes", ""},
		{"Ü", " yes", ""},
		{"", " yes", ""},
		{strings.Repeat("n", 200), " yes", ""},
	} {
		got, err := Field(c.name, c.value)
		if got != c.want || (err == nil) != (c.want != "") || err != nil && !errors.Is(err, ErrField) {
			t.Errorf("%q, %q: got %q, %v", c.name, c.value, got, err)
		}
	}
}

// However a message is cut into pieces, its fields are the same, and what is
// laid over it is what was asked for, whole.
func FuzzOverlay(f *testing.F) {
	f.Add("Received: a\r\n\tb\r\nSubject: x\r\n\r\nbody\r\n", 1, "A", " 1\n\t2", 0, uint8(3))
	f.Add("Subject: x\r\nno field\r\n", 1, "A", "x", 1, uint8(1))
	f.Add("\r\n", 0, "A", "x", 7, uint8(2))
	f.Add(" x", 0, "A", "", 7, uint8(1))
	f.Add("a:b", 0, "A", "", 0, uint8(1))
	f.Fuzz(func(t *testing.T, content string, at int, name, value string, drop int, n uint8) {
		text, err := Field(name, value)
		if err != nil {
			return
		}
		o := &Overlay{Edits: []Edit{{At: at, Text: text}}}
		if drop > at {
			o.Edits = append(o.Edits, Edit{At: drop, Drop: true})
		}
		if o.Check() != nil {
			return
		}
		whole := splitFields(content, len(content)+1)
		if cut := splitFields(content, int(n)+1); strings.Join(cut.fields, "|") != strings.Join(whole.fields, "|") || cut.rest != whole.rest {
			t.Fatalf("in pieces %+v, whole %+v", cut, whole)
		}
		if got := strings.Join(whole.fields, "") + whole.rest; got != content {
			t.Fatalf("%q became %q", content, got)
		}
		got, err := io.ReadAll(o.Over(seeker{&pieces{content, int(n) + 1}, nil}))
		if want := whole.with(o.Edits); err != nil || string(got) != want {
			t.Fatalf("got\n%q %v, want\n%q", got, err, want)
		}
		if again := splitFields(string(got), 5); len(again.fields) != len(whole.fields)+1-whole.dropped(o.Edits) {
			t.Fatalf("%q has the fields %q", got, again.fields)
		}
	})
}

// parsed is a message taken apart.
type parsed struct {
	fields []string
	rest   string // from the empty line on, or what stands in its place
}

func splitFields(content string, n int) (p parsed) {
	var s FieldScanner
	add := func(kind FieldPart, part []byte) {
		switch kind {
		case PartField:
			p.fields = append(p.fields, string(part))
		case PartMore:
			p.fields[len(p.fields)-1] += string(part)
		default:
			p.rest += string(part)
		}
	}
	for len(content) > 0 {
		piece := []byte(content[:min(n, len(content))])
		content = content[len(piece):]
		for len(piece) > 0 {
			kind, part, rest := s.Next(piece)
			add(kind, part)
			piece = rest
		}
	}
	add(s.End())
	return p
}

// with lays edits over it, the simple way.
func (p parsed) with(edits []Edit) string {
	var b strings.Builder
	for i := 0; i <= len(p.fields); i++ {
		drop := false
		for _, e := range edits {
			if e.At == i || i == len(p.fields) && e.At > i {
				b.WriteString(e.Text)
				drop = e.Drop
			}
		}
		if i == len(p.fields) || drop {
			continue
		}
		b.WriteString(p.fields[i])
		if i == len(p.fields)-1 && !strings.HasSuffix(p.fields[i], "\n") {
			b.WriteString("\r\n")
		}
	}
	if p.rest != "" && !strings.HasPrefix(p.rest, "\r\n") && !strings.HasPrefix(p.rest, "\n") {
		b.WriteString("\r\n")
	}
	return b.String() + p.rest
}

func (p parsed) dropped(edits []Edit) (n int) {
	for _, e := range edits {
		if e.Drop && e.At < len(p.fields) {
			n++
		}
	}
	return n
}

// pieces is a reader that gives n bytes at a time.
type pieces struct {
	left string
	n    int
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.left == "" {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.n)], p.left)
	p.left = p.left[n:]
	return n, nil
}
