package milter

import (
	"strconv"
	"strings"

	"mailraft/mail"
	"mailraft/mail/reply"
)

// replyMax bounds the text that a filter gives: it is for one reply line.
const replyMax = 400

// parseReply reads the reply that a filter wants to be given: three digits, and
// text of one or more lines, in which libmilter doubles each percent sign. What
// it may not say is not said: nil.
func parseReply(data []byte) *mail.Reply {
	text := strings.TrimSuffix(string(data), "\x00")
	if len(text) < 3 {
		return nil
	}
	code, err := strconv.Atoi(text[:3])
	if err != nil || code < 400 || code > 599 {
		return nil
	}
	enhanced := text[:1] + ".7.1"
	var lines []string
	for i, line := range strings.FieldsFunc(text, func(c rune) bool { return c == '\r' || c == '\n' }) {
		if rest, ok := strings.CutPrefix(line, text[:3]); ok {
			line = strings.TrimLeft(rest, "- ")
		}
		status, rest, _ := strings.Cut(line, " ")
		if isStatus(status, text[:1]) {
			if line = rest; i == 0 {
				enhanced = status
			}
		}
		lines = append(lines, line)
	}
	said := plain(strings.ReplaceAll(strings.Join(lines, " "), "%%", "%"), replyMax)
	switch {
	case said != "":
		return reply.OfFilter(code, enhanced, said)
	case code < 500:
		return reply.FilterTempfail.Reply()
	}
	return reply.FilterReject.Reply()
}

// isStatus reports whether s is an enhanced status code of a class (RFC 3463).
func isStatus(s, class string) bool {
	parts := strings.Split(s, ".")
	if len(parts) != 3 || parts[0] != class {
		return false
	}
	for _, p := range parts[1:] {
		if n, err := strconv.Atoi(p); err != nil || n < 0 || n > 999 || p[0] == '+' {
			return false
		}
	}
	return true
}

// plain makes what a filter says fit for a reply, a log and an entry.
func plain(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "")
	}
	return s
}
