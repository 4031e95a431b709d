package milter

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"mailraft/mail"
)

// Whatever a filter asks for: what comes of it can be laid over the header, has
// the length that was announced, and brings no line that ends the header.
func FuzzChanges(f *testing.F) {
	f.Add("Subject: x\r\nTo: y\r\n\r\nbody\r\n", []byte("m\x00\x00\x00\x01Subject\x00new\x00"), []byte("i\x00\x00\x00\x02A\x00b\n\tc\x00"))
	f.Add("no header", []byte("hA\x00b\nEvil: x\x00"), []byte("m\x00\x00\x00\x00To\x00\x00"))
	f.Add("a: b\r\n", []byte("+<a@b.c>\x00"), []byte("e<>\x00"))
	f.Add("", []byte("qwhy\x00"), []byte("-x\x00"))
	f.Fuzz(func(t *testing.T, text string, one, two []byte) {
		text = strings.ReplaceAll(strings.ReplaceAll(text, "\r", ""), "\n", "\r\n")
		if text != "" && !strings.HasSuffix(text, "\r\n") {
			text += "\r\n" // as messages do that come in
		}
		if len(one) == 0 || len(two) == 0 {
			return
		}
		var s Session
		a, b := &peer{f: &Filter{cfg: Config{Name: "a"}, counts: counts{verdicts: map[string]int64{}}}}, &peer{f: &Filter{cfg: Config{Name: "b"}, counts: counts{verdicts: map[string]int64{}}}}
		if _, err := s.Write(nil); err != nil {
			t.Fatal(err)
		}
		for rest := []byte(text); len(rest) > 0; {
			var kind mail.FieldPart
			var part []byte
			kind, part, rest = s.scan.Next(rest)
			if err := s.part(kind, part); err != nil {
				return // too large
			}
		}
		if err := s.part(s.scan.End()); err != nil || s.endField() != nil {
			return
		}
		for _, p := range []*peer{a, b, a} {
			_ = s.apply(p, []change{{one[0], one[1:]}, {two[0], two[1:]}}) // or all of it is refused
		}
		r := s.result
		if s.edited != nil {
			r.Overlay = s.edited.overlay(s.bare)
		}
		if err := r.Overlay.Check(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r.Overlay.Over(strings.NewReader(text)))
		if want := r.Overlay.Size(int64(len(text))); err != nil || int64(len(got)) != want {
			t.Fatalf("%q: %d bytes, %d were announced: %v", got, len(got), want, err)
		}
		body := text
		if !s.bare {
			_, body, _ = strings.Cut("\r\n"+text, "\r\n\r\n")
		} else {
			body = text[s.header:]
		}
		if s.edited != nil && !bytes.HasSuffix(got, []byte(body)) {
			t.Fatalf("%q has not the body of %q", got, text)
		}
	})
}

// Whatever comes as a reply, what is passed on is one line of a 4xx or 5xx.
func FuzzReply(f *testing.F) {
	f.Add([]byte("550 5.7.1 text\x00"))
	f.Add([]byte("451-4.7.1 one\r\n451 4.7.1 two"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := parseReply(data)
		if r == nil {
			return
		}
		if r.Code < 400 || r.Code > 599 || r.Text == "" || strings.ContainsAny(r.String(), "\r\n\x00") || r.Enhanced[0] != byte('0'+r.Code/100) {
			t.Fatalf("%q became %q", data, r.String())
		}
	})
}
