package wire

import "bytes"

// dots undoes the transparency of DATA (RFC 5321 §4.5.2). A line starts after
// CRLF and nowhere else.
type dots struct {
	mid bool // not at the start of a line
}

var crlf = []byte("\r\n")
var crlfDot = []byte("\r\n.")

// step looks at p, the unread bytes: how many of them it has used, which of
// those are text, and whether the line that ends the message was reached.
// Nothing used means that more bytes are needed. Text never ends between CR
// and LF.
func (d *dots) step(p []byte) (text []byte, used int, end bool) {
	start := 0
	if !d.mid && len(p) > 0 && p[0] == '.' {
		switch {
		case bytes.HasPrefix(p, []byte(".\r\n")):
			return nil, 3, true
		case len(p) == 1 || len(p) == 2 && p[1] == '\r':
			return nil, 0, false
		}
		start = 1
	}
	n := len(p)
	if i := bytes.Index(p[start:], crlfDot); i >= 0 {
		n = start + i + len(crlf)
	} else if n > start && p[n-1] == '\r' {
		n--
	}
	if n == start {
		return nil, 0, false
	}
	text = p[start:n]
	d.mid = !bytes.HasSuffix(text, crlf)
	return text, n, false
}
