package reply

import (
	"regexp"
	"strconv"
	"strings"
	"sync"

	"mailraft/mail"
)

// Entry is one reply as the table has it.
type Entry struct {
	Code     int    // RFC 5321 §4.2
	Enhanced string // RFC 3463; empty where there is none, as in 220 and 354
	Text     string // with fmt's verbs where something is filled in
	At       Stage  // of the dialogue
	When     string // as docs/smtp.md says it

	// Limit is the setting or parameter that this reply enforces; empty if
	// none does. Each is counted by that name.
	Limit string
	// Library is how the SMTP library begins its own text where it gives this
	// reply. Clients see ours.
	Library []string
}

// Stage is where in the dialogue a reply is given.
type Stage string

// The stages, in the order of a dialogue.
const (
	Connect  Stage = "connect"
	Any      Stage = "any command"
	Hello    Stage = "EHLO, HELO"
	StartTLS Stage = "STARTTLS"
	Auth     Stage = "AUTH"
	MailFrom Stage = "MAIL"
	RcptTo   Stage = "RCPT"
	Data     Stage = "DATA"
	Chunk    Stage = "BDAT"
	Message  Stage = "end of the message"
	Other    Stage = "other commands"
)

// Stages lists them in order.
var Stages = []Stage{Connect, Any, Hello, StartTLS, Auth, MailFrom, RcptTo, Data, Chunk, Message, Other}

var table []*Entry

func define(e Entry) *Entry {
	table = append(table, &e)
	return &e
}

// All are the entries, in no order that means anything.
func All() []*Entry { return table }

// Reply is the reply itself, with what the text wants filled in.
func (e *Entry) Reply(args ...any) *mail.Reply {
	return mail.Replyf(e.Code, e.Enhanced, e.Text, args...)
}

// Find is the entry of a reply as it stands on the wire, one line without its
// CRLF. Where several would do, it is the one that says most.
func Find(line string) (*Entry, bool) {
	code, rest, _ := strings.Cut(line, " ")
	n, err := strconv.Atoi(code)
	if err != nil {
		return nil, false
	}
	var found *Entry
	for _, p := range patterns()[n] {
		if (found == nil || len(p.entry.Text) > len(found.Text)) && p.text.MatchString(rest) {
			found = p.entry
		}
	}
	return found, found != nil
}

type pattern struct {
	entry *Entry
	text  *regexp.Regexp
}

var verb = regexp.MustCompile(`%[a-z]`)

var patterns = sync.OnceValue(func() map[int][]pattern {
	all := map[int][]pattern{}
	for _, e := range table {
		text := strings.TrimPrefix(e.Enhanced+" "+e.Text, " ")
		text = verb.ReplaceAllStringFunc(regexp.QuoteMeta(text), func(v string) string {
			if v == "%d" {
				return `-?\d+`
			}
			return `.*`
		})
		all[e.Code] = append(all[e.Code], pattern{e, regexp.MustCompile(`\A` + text + `\z`)})
	}
	return all
})

// OfLibrary is the entry for a reply of the SMTP library, by its code and its
// text without the enhanced code; nil if it is none of the library's own.
func OfLibrary(code int, text string) *Entry {
	for _, l := range library()[code] {
		if strings.HasPrefix(text, l.text) {
			return l.entry
		}
	}
	return nil
}

type libraryText struct {
	text  string
	entry *Entry
}

// library is by the library's codes. Two of them are not ours: it says 502
// where a command is out of order, and 500 to an unknown parameter.
var library = sync.OnceValue(func() map[int][]libraryText {
	all := map[int][]libraryText{}
	for _, e := range table {
		for _, l := range e.Library {
			code, text := e.Code, l
			if c, rest, ok := strings.Cut(l, " "); ok && len(c) == 3 {
				if n, err := strconv.Atoi(c); err == nil {
					code, text = n, rest
				}
			}
			all[code] = append(all[code], libraryText{text, e})
		}
	}
	return all
})
