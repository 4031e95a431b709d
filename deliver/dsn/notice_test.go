package dsn

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/mail"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-message"

	queue "mailraft/mail"
)

func notice() *Notice {
	return &Notice{
		Host: "m1.example.test", To: "sender@example.org", ID: queue.NewID(1_900_000_000_000, 5, 0), EnvelopeID: "env 1",
		Arrival: 1_900_000_000_000, Now: 1_900_000_100_000, Subject: "hello\r\nBcc: x", MessageID: "<1@example.org>",
		Original: []byte("From: sender@example.org\r\nSubject: hello\r\nMessage-ID: <1@example.org>\r\n"),
		Recipients: []Recipient{
			{Action: Failed, Final: "alice@example.test", Written: "staff@example.test", Original: "rfc822;Staff+all@example.test", Reply: queue.Reply{Code: 550, Enhanced: "5.1.1", Text: "no such user\r\nAction: delivered"}, Remote: "mx.example[192.0.2.1]:24", LastAttempt: 1_900_000_090_000, Tried: true, Index: 0},
			{Action: Failed, Final: "bob@example.test", Written: "bob@example.test", Reply: queue.Reply{Code: 451, Enhanced: "4.4.7", Text: "delivery time expired, last answer: " + strings.Repeat("451 busy ", 40)}, LastAttempt: 1_900_000_090_000, Tried: true, Index: 3},
			{Action: Failed, Final: "gone@example.test", Reply: queue.Reply{Code: 550, Text: "unknown mailbox"}, Index: 4},
		},
	}
}

func write(t *testing.T, n *Notice) (string, queue.Fields, bool) {
	t.Helper()
	var b bytes.Buffer
	w, err := n.Write(&b)
	if err != nil {
		t.Fatal(err)
	}
	return b.String(), w.Fields, w.UTF8
}

// parts reads a report again: the kinds and the texts of its parts.
func parts(t *testing.T, text string) (h message.Header, kinds, bodies []string) {
	t.Helper()
	e, err := message.Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	mr := e.MultipartReader()
	for {
		p, err := mr.NextPart()
		if errors.Is(err, io.EOF) {
			return e.Header, kinds, bodies
		}
		if err != nil {
			t.Fatal(err)
		}
		kind, _, _ := p.Header.ContentType()
		b, err := io.ReadAll(p.Body)
		if err != nil {
			t.Fatal(err)
		}
		kinds, bodies = append(kinds, kind), append(bodies, string(b))
	}
}

func TestNotice(t *testing.T) {
	text, fields, utf8 := write(t, notice())
	if again, _, _ := write(t, notice()); again != text {
		t.Error("the same notice gives other bytes")
	}
	if utf8 {
		t.Error("needs SMTPUTF8")
	}
	if strings.Contains(strings.ReplaceAll(text, "\r\n", ""), "\n") || strings.ContainsFunc(text, func(r rune) bool { return r >= 0x80 }) {
		t.Error("bare line feeds or 8-bit text")
	}
	h, kinds, bodies := parts(t, text)
	for field, want := range map[string]string{
		"From": "Mail Delivery System <MAILER-DAEMON@m1.example.test>", "To": "<sender@example.org>", "Auto-Submitted": "auto-replied",
		"Message-ID": fields.MessageID, "Date": fields.Date, "Subject": fields.Subject, "In-Reply-To": "<1@example.org>",
	} {
		if got := h.Get(field); got != want {
			t.Errorf("%s: %q, want %q", field, got, want)
		}
	}
	if kind, params, _ := h.ContentType(); kind != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Errorf("type %s %v", kind, params)
	}
	if got := strings.Join(kinds, " "); got != "text/plain message/delivery-status text/rfc822-headers" {
		t.Fatal(got)
	}
	if bodies[2] != string(notice().Original) {
		t.Errorf("header %q", bodies[2])
	}
	groups := strings.Split(strings.TrimSuffix(bodies[1], "\r\n"), "\r\n\r\n")
	if len(groups) != 4 {
		t.Fatalf("%d groups: %s", len(groups), bodies[1])
	}
	for i, want := range []map[string]string{
		{"Reporting-Mta": "dns; m1.example.test", "Original-Envelope-Id": "env 1", "X-Mailraft-Queue-Id": notice().ID.String(), "Arrival-Date": "Sun, 17 Mar 2030 17:46:40 +0000"},
		{"Final-Recipient": "rfc822; alice@example.test", "Original-Recipient": "rfc822; Staff+all@example.test", "Action": "failed", "Status": "5.1.1", "Remote-Mta": "dns; mx.example[192.0.2.1]:24", "Diagnostic-Code": "smtp; 550 5.1.1 no such user??Action: delivered", "Last-Attempt-Date": "Sun, 17 Mar 2030 17:48:10 +0000"},
		{"Final-Recipient": "rfc822; bob@example.test", "Original-Recipient": "", "Action": "failed", "Status": "4.4.7", "Remote-Mta": ""},
		{"Final-Recipient": "rfc822; gone@example.test", "Status": "5.0.0", "Diagnostic-Code": "x-mailraft; 550 unknown mailbox", "Last-Attempt-Date": ""},
	} {
		m, err := mail.ReadMessage(strings.NewReader(groups[i] + "\r\n\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		for field, v := range want {
			if got := m.Header.Get(field); got != v {
				t.Errorf("group %d, %s: %q, want %q", i, field, got, v)
			}
		}
	}
}

func TestNoticesOfOneMessageDiffer(t *testing.T) {
	_, a, _ := write(t, notice())
	n := notice()
	n.Recipients = n.Recipients[1:]
	if _, b, _ := write(t, n); a.MessageID == b.MessageID {
		t.Error("two reports have one Message-ID")
	}
}

// A sender whose own address needs SMTPUTF8 gets a report in UTF-8, any other
// one in ASCII (RFC 6533 §3).
func TestInternational(t *testing.T) {
	n := notice()
	n.Recipients[0].Final = "jörg+x@example.test"
	n.Recipients[0].Original = "utf-8;ж@example.test"
	n.Recipients[0].Reply.Text = "kein Empfänger"
	text, _, utf8 := write(t, n)
	_, kinds, bodies := parts(t, text)
	if utf8 || kinds[1] != "message/delivery-status" || strings.ContainsFunc(text, func(r rune) bool { return r >= 0x80 }) {
		t.Fatalf("%v, %v", utf8, kinds)
	}
	for _, want := range []string{`Final-Recipient: utf-8; j\x{F6}rg\x{2B}x@example.test`, `Original-Recipient: utf-8; \x{436}@example.test`, "kein Empf?nger"} {
		if !strings.Contains(bodies[1], want) {
			t.Errorf("%q: no %s", bodies[1], want)
		}
	}
	n.To = "süd@example.org"
	text, _, utf8 = write(t, n)
	_, kinds, bodies = parts(t, text)
	if !utf8 || kinds[1] != "message/global-delivery-status" || kinds[2] != "message/global-headers" {
		t.Fatalf("%v, %v", utf8, kinds)
	}
	if !strings.Contains(bodies[1], "Final-Recipient: utf-8; jörg+x@example.test") || !strings.Contains(bodies[0], "kein Empfänger") {
		t.Errorf("%q", bodies)
	}
}

// What became of each recipient, and how the report is called.
func TestActions(t *testing.T) {
	all := []Recipient{
		{Action: Failed, Final: "a@x.test", Reply: queue.Reply{Code: 451, Enhanced: "2.0.0", Text: "odd"}, Tried: true},
		{Action: Delayed, Final: "b@x.test", Index: 1},
		{Action: Delivered, Final: "c@x.test", Reply: queue.Reply{Code: 250, Enhanced: "2.1.5", Text: "saved"}, Remote: "mbox", Tried: true, Index: 2},
		{Action: Relayed, Final: "d@x.test", Reply: queue.Reply{Code: 250, Text: "ok"}, Tried: true, Index: 3},
		{Action: Expanded, Final: "staff@x.test", Index: 4},
	}
	for i, want := range []struct{ subject, status string }{
		{"Undelivered mail returned to sender", "Action: failed\r\nStatus: 4.0.0\r\nDiagnostic-Code: smtp; 451 2.0.0 odd\r\n"},
		{"Delayed mail, still being tried", "Action: delayed\r\nStatus: 4.0.0\r\nWill-Retry-Until: Tue, 19 Mar 2030 17:46:40 +0000\r\n"},
		{"Successful mail delivery report", "Action: delivered\r\nStatus: 2.1.5\r\nRemote-MTA: dns; mbox\r\n"},
		{"Successful mail delivery report", "Action: relayed\r\nStatus: 2.0.0\r\n"},
		{"Successful mail delivery report", "Action: expanded\r\nStatus: 2.0.0\r\n"},
	} {
		n := notice()
		n.Recipients, n.Expires = all[i:], n.Arrival.Add(48*time.Hour)
		text, fields, _ := write(t, n)
		_, _, bodies := parts(t, text)
		if fields.Subject != want.subject || !strings.Contains(bodies[1], want.status) {
			t.Errorf("%s: %q\n%s", fields.Subject, bodies[1], want.status)
		}
	}
}

// RET=FULL: the message whole, unless it is too large or could not be sent.
func TestWhole(t *testing.T) {
	small := "Subject: x\r\n\r\nbody\r\n"
	for name, c := range map[string]struct {
		text            string
		whole, eightBit bool
	}{
		"small":     {small, true, false},
		"8-bit":     {small + "grün\r\n", true, true},
		"large":     {small + strings.Repeat("0123456789\r\n", 100_000), false, false},
		"long line": {small + strings.Repeat("x", 1200) + "\r\n", false, false},
		"bare LF":   {small + "a\nb\r\n", false, false},
		"NUL":       {small + "\x00\r\n", false, false},
		"no end":    {small + "end", false, false},
		"boundary":  {small + "--=_" + notice().mark() + "_" + notice().ID.String() + "\r\nx\r\n", true, false},
	} {
		n := notice()
		var err error
		if n.Original, n.Whole, err = WholeOf(strings.NewReader(c.text), int64(len(c.text))); err != nil || n.Whole != c.whole {
			t.Errorf("%s: whole %t, %v", name, n.Whole, err)
		}
		var b bytes.Buffer
		w, err := n.Write(&b)
		if err != nil || w.EightBit != c.eightBit {
			t.Errorf("%s: %+v, %v", name, w, err)
		}
		_, kinds, bodies := parts(t, b.String())
		if want := map[bool]string{true: "message/rfc822", false: "text/rfc822-headers"}[c.whole]; len(kinds) != 3 || kinds[2] != want {
			t.Errorf("%s: %v", name, kinds)
		} else if want := map[bool]string{true: c.text, false: "Subject: x\r\n"}[c.whole]; bodies[2] != want {
			t.Errorf("%s: %q", name, bodies[2])
		}
	}
}

// Whatever is in a notice, what is written can be read again, and says it.
func FuzzNotice(f *testing.F) {
	f.Add("a@x.test", "rfc822;b@x.test", "no such user", "5.1.1", "env", "<1@x>", "subject", []byte("A: b\r\n"), true)
	f.Add("jörg@x.test", "utf-8;ж@x.test", "a\r\n\r\nAction: delivered", "x", "e\r\n", "<\n>", "\x00", []byte("\xff\r\n\r\n--"), false)
	f.Fuzz(func(t *testing.T, final, original, answer, enhanced, envelope, id, subject string, body []byte, utf8 bool) {
		n := notice()
		n.Recipients = []Recipient{{Action: Failed, Final: final, Original: original, Remote: answer, Tried: true,
			Reply: queue.Reply{Code: 550, Enhanced: enhanced, Text: answer}}, {Action: Delivered, Final: "ok@x.test", Index: 1}}
		n.EnvelopeID, n.MessageID, n.Subject = envelope, id, subject
		if utf8 {
			n.To = "ü@x.test"
		}
		var err error
		if n.Original, n.Whole, err = WholeOf(bytes.NewReader(body), int64(len(body))); err != nil {
			t.Fatal(err)
		}
		text, _, _ := write(t, n)
		if _, err := mail.ReadMessage(strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		_, kinds, bodies := parts(t, text)
		if len(kinds) != 2 && (len(kinds) != 3 || len(n.Original) == 0) {
			t.Fatalf("%v", kinds)
		}
		groups := strings.Split(strings.TrimSuffix(bodies[1], "\r\n"), "\r\n\r\n")
		if len(groups) != 3 {
			t.Fatalf("%d groups: %q", len(groups), bodies[1])
		}
		for i, action := range []string{"", "failed", "delivered"} {
			g, err := mail.ReadMessage(strings.NewReader(groups[i] + "\r\n\r\n"))
			if err != nil || len(g.Header["Action"]) != min(i, 1) || g.Header.Get("Action") != action {
				t.Fatalf("group %d: %v, %q", i, err, groups[i])
			}
		}
	})
}

func TestOddHeader(t *testing.T) {
	n := notice()
	n.Original = []byte("Subject: \xff\xfe 8-bit\r\nX-Long: " + strings.Repeat("x", 3000) + "\r\n.\r\n=_" + n.mark() + "\r\n")
	text, _, _ := write(t, n)
	if _, _, bodies := parts(t, text); bodies[2] != string(n.Original) {
		t.Errorf("header %q", bodies[2])
	}
	for l := range strings.Lines(text) {
		if len(l) > 1000 {
			t.Errorf("a line of %d bytes", len(l))
		}
	}
	n.Original = nil
	text, _, _ = write(t, n)
	if _, kinds, _ := parts(t, text); len(kinds) != 2 {
		t.Errorf("%v", kinds)
	}
}

func TestHeaderOf(t *testing.T) {
	for in, want := range map[string]string{
		"A: b\r\nC: d\r\n\r\nbody\r\n": "A: b\r\nC: d\r\n",
		"\r\nbody\r\n":                 "",
		"A: b\r\nno end":               "A: b\r\n",
		"":                             "",
	} {
		if got, err := HeaderOf(strings.NewReader(in)); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	got, err := HeaderOf(strings.NewReader(strings.Repeat("X: 0123456789\r\n", 10_000)))
	if err != nil || len(got) > headerMax || len(got) < headerMax-20 || !bytes.HasSuffix(got, []byte("9\r\n")) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// The standard mail package of Python reads the report as what it is.
func TestPythonReads(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	text, fields, _ := write(t, notice())
	cmd := exec.Command(python, "-c", `
import sys, json, email, email.policy
m = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)
p = list(m.iter_parts())
print(json.dumps({"type": m.get_content_type(), "id": m["Message-ID"], "defects": [str(d) for x in m.walk() for d in x.defects],
  "groups": [dict(g.items()) for g in p[1].get_payload()], "kinds": [x.get_content_type() for x in p]}))`)
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var got struct {
		Type, ID       string
		Defects, Kinds []string
		Groups         []map[string]string
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got.Type != "multipart/report" || got.ID != fields.MessageID || len(got.Defects) != 0 || len(got.Groups) != 4 || got.Groups[1]["Status"] != "5.1.1" {
		t.Errorf("%s", out)
	}
}
