package wire

import "bytes"

// cleaner finds, and by policy mends, CR and LF outside a CRLF pair, and NUL,
// wherever the pieces of the text are cut. NUL has no place in mail (RFC 5321
// §2.3.8, RFC 6152 §3), and a server that drops it may see the end of a message
// where we see CRLF NUL "." CRLF.
type cleaner struct {
	policy Bare
	bare   bool // found some
	cr     bool // the text so far ends with a CR that is held back
	open   bool // the text so far does not end with CRLF
	tmp    []byte
}

// text returns what the next piece becomes; it is valid until the next call.
func (k *cleaner) text(p []byte) []byte {
	if len(p) == 0 {
		return p
	}
	if !k.cr {
		whole, cr := bytes.CutSuffix(p, crlf[:1])
		if !hasBare(whole) {
			k.cr = cr
			return k.out(whole)
		}
	}
	k.tmp = k.tmp[:0]
	for _, b := range p {
		k.add(b)
	}
	return k.out(k.tmp)
}

func (k *cleaner) add(b byte) {
	if k.cr {
		k.cr = false
		if b == '\n' {
			k.tmp = append(k.tmp, '\r', '\n')
			return
		}
		k.loneCR()
	}
	switch b {
	case '\r':
		k.cr = true
	case '\n':
		k.bare = true
		k.tmp = append(k.tmp, '\r', '\n')
	case 0:
		k.bare = true
		k.tmp = append(k.tmp, ' ')
	default:
		k.tmp = append(k.tmp, b)
	}
}

func (k *cleaner) loneCR() {
	k.bare = true
	k.tmp = append(k.tmp, ' ')
}

func (k *cleaner) out(p []byte) []byte {
	if len(p) > 0 {
		k.open = !bytes.HasSuffix(p, crlf)
	}
	return p
}

// end returns what the text lacks: a last CRLF, which BDAT does not enforce,
// and without which no server can pass it on by DATA.
func (k *cleaner) end() []byte {
	k.tmp = k.tmp[:0]
	if k.cr {
		k.cr = false
		k.loneCR()
		k.open = true
	}
	if k.open {
		k.open = false
		k.tmp = append(k.tmp, '\r', '\n')
	}
	return k.tmp
}

// hasBare judges a piece that neither starts nor ends within a CRLF.
func hasBare(p []byte) bool {
	if bytes.IndexByte(p, 0) >= 0 {
		return true
	}
	crs := bytes.Count(p, crlf[:1])
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			break
		}
		if i == 0 || p[i-1] != '\r' {
			return true
		}
		crs--
		p = p[i+1:]
	}
	return crs != 0
}
