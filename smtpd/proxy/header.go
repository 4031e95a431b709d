package proxy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

// Header is what a proxy says of a connection.
type Header struct {
	// Own is a connection of the proxy itself, such as a health check: LOCAL. Its
	// client is the other end of the connection.
	Own bool
	// Client and Server are the ends of the connection that the proxy passes on.
	// They are not valid where it cannot say: UNKNOWN, AF_UNSPEC, a Unix socket.
	Client, Server netip.AddrPort
}

// ErrMalformed is a header that is none, or is cut short. Nothing behind it is
// to be believed.
var ErrMalformed = errors.New("malformed PROXY header")

const (
	signature = "\r\n\r\n\x00\r\nQUIT\n" // of version 2
	lineMax   = 107                      // version 1, with its CRLF
	bodyMax   = 4096                     // version 2: addresses and TLVs

	local, proxied     = 0x20, 0x21 // version and command
	unspec, tcp4, tcp6 = 0x00, 0x11, 0x21
	unixStream         = 0x31
	sizeTCP4, sizeTCP6 = 12, 36
)

// Read reads a header and no byte more. An error is ErrMalformed, or of the
// connection; io.EOF, as it is, if it ended before the first byte.
func Read(r io.Reader) (Header, error) {
	var start [len(signature)]byte // both versions are longer
	if _, err := io.ReadFull(r, start[:1]); err != nil {
		return Header{}, err
	}
	if err := fill(r, start[1:]); err != nil {
		return Header{}, err
	}
	if string(start[:]) == signature {
		return readBinary(r)
	}
	if !bytes.HasPrefix(start[:], []byte("PROXY ")) {
		return Header{}, fmt.Errorf("%w: begins with %q", ErrMalformed, start)
	}
	return readLine(r, start[:])
}

// fill reads all of b: a connection that ends within a header is malformed.
func fill(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: the connection ended", ErrMalformed)
	}
	return err
}

// readLine reads version 1 byte by byte: what follows is not ours.
func readLine(r io.Reader, line []byte) (Header, error) {
	for !bytes.HasSuffix(line, []byte("\r\n")) {
		if len(line) == lineMax {
			return Header{}, fmt.Errorf("%w: longer than %d octets", ErrMalformed, lineMax)
		}
		var b [1]byte
		if err := fill(r, b[:]); err != nil {
			return Header{}, err
		}
		line = append(line, b[0])
	}
	h, ok := parseLine(string(line[:len(line)-2]))
	if !ok {
		return h, fmt.Errorf("%w: %q", ErrMalformed, line)
	}
	return h, nil
}

func parseLine(line string) (h Header, ok bool) {
	if line == "PROXY UNKNOWN" || strings.HasPrefix(line, "PROXY UNKNOWN ") {
		return h, true
	}
	f := strings.Split(line, " ")
	if len(f) != 6 || f[1] != "TCP4" && f[1] != "TCP6" {
		return h, false
	}
	var good [2]bool
	h.Client, good[0] = parseEnd(f[2], f[4], f[1] == "TCP4")
	h.Server, good[1] = parseEnd(f[3], f[5], f[1] == "TCP4")
	return h, good[0] && good[1]
}

func parseEnd(addr, port string, four bool) (netip.AddrPort, bool) {
	a, err := netip.ParseAddr(addr)
	if err != nil || a.Is4() != four || a.Zone() != "" {
		return netip.AddrPort{}, false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || port != strconv.FormatUint(n, 10) {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(a, uint16(n)), true
}

// readBinary reads version 2 from behind its signature. TLVs are not looked at.
func readBinary(r io.Reader) (h Header, err error) {
	var head [4]byte
	if err := fill(r, head[:]); err != nil {
		return h, err
	}
	size := int(binary.BigEndian.Uint16(head[2:]))
	if size > bodyMax {
		return h, fmt.Errorf("%w: %d octets of addresses and TLVs", ErrMalformed, size)
	}
	body := make([]byte, size)
	if err := fill(r, body); err != nil {
		return h, err
	}
	switch family := head[1]; {
	case head[0] == local:
		return Header{Own: true}, nil
	case head[0] != proxied:
		return h, fmt.Errorf("%w: version and command %#x", ErrMalformed, head[0])
	case family == tcp4 && size >= sizeTCP4:
		h.Client = end(body[0:4], body[8:10])
		h.Server = end(body[4:8], body[10:12])
		return h, nil
	case family == tcp6 && size >= sizeTCP6:
		h.Client = end(body[0:16], body[32:34])
		h.Server = end(body[16:32], body[34:36])
		return h, nil
	case family == unspec || family == unixStream:
		return h, nil
	}
	return h, fmt.Errorf("%w: address family %#x of %d octets", ErrMalformed, head[1], size)
}

func end(addr, port []byte) netip.AddrPort {
	a, _ := netip.AddrFromSlice(addr) // of 4 or 16 octets
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(port))
}

// Append adds the header in version 2. Ends of two families are written as
// IPv6.
func (h Header) Append(b []byte) []byte {
	b = append(b, signature...)
	c, s := h.Client.Addr(), h.Server.Addr()
	switch {
	case h.Own:
		return append(b, local, unspec, 0, 0)
	case !c.IsValid() || !s.IsValid():
		return append(b, proxied, unspec, 0, 0)
	case c.Is4() && s.Is4():
		b = append(b, proxied, tcp4, 0, sizeTCP4)
		b = append(append(b, c.AsSlice()...), s.AsSlice()...)
	default:
		c16, s16 := c.As16(), s.As16()
		b = append(b, proxied, tcp6, 0, sizeTCP6)
		b = append(append(b, c16[:]...), s16[:]...)
	}
	b = binary.BigEndian.AppendUint16(b, h.Client.Port())
	return binary.BigEndian.AppendUint16(b, h.Server.Port())
}
