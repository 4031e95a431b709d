package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
)

func ends(client, server string) Header {
	return Header{Client: netip.MustParseAddrPort(client), Server: netip.MustParseAddrPort(server)}
}

func v2(head string, size int, body string) string {
	return signature + head + string([]byte{byte(size >> 8), byte(size)}) + body
}

func TestRead(t *testing.T) {
	four := ends("192.0.2.1:1025", "198.51.100.2:25")
	six := ends("[2001:db8::1]:65535", "[2001:db8::2]:25")
	for _, tt := range []struct {
		name, in string
		want     Header
	}{
		{"v1 TCP4", "PROXY TCP4 192.0.2.1 198.51.100.2 1025 25\r\n", four},
		{"v1 TCP6", "PROXY TCP6 2001:db8::1 2001:db8::2 65535 25\r\n", six},
		{"v1 longest", "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
			ends("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535")},
		{"v1 unknown", "PROXY UNKNOWN\r\n", Header{}},
		{"v1 unknown, with what is to be ignored", "PROXY UNKNOWN ff:: x 1 2\r\n", Header{}},
		{"v2 TCP4", v2("\x21\x11", 12, "\xc0\x00\x02\x01\xc6\x33\x64\x02\x04\x01\x00\x19"), four},
		{"v2 TCP4 with TLVs", v2("\x21\x11", 16, "\xc0\x00\x02\x01\xc6\x33\x64\x02\x04\x01\x00\x19\x04\x00\x01x"), four},
		{"v2 TCP6", string(six.Append(nil)), six},
		{"v2 local", v2("\x20\x00", 0, ""), Header{Own: true}},
		{"v2 local with addresses", v2("\x20\x11", 12, "123456789012"), Header{Own: true}},
		{"v2 unspecified", v2("\x21\x00", 3, "abc"), Header{}},
		{"v2 Unix", v2("\x21\x31", 216, strings.Repeat("x", 216)), Header{}},
	} {
		for _, cut := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.OneByteReader} {
			r := strings.NewReader(tt.in + "EHLO")
			h, err := Read(cut(r))
			rest, _ := io.ReadAll(r)
			if err != nil || h != tt.want || string(rest) != "EHLO" {
				t.Errorf("%s: %+v %v, left %q", tt.name, h, err, rest)
			}
		}
		if _, err := Read(strings.NewReader("")); err != io.EOF {
			t.Errorf("nothing: %v", err)
		}
		for n := 1; n < len(tt.in); n++ { // cut short
			if h, err := Read(strings.NewReader(tt.in[:n])); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s cut at %d: %+v %v", tt.name, n, h, err)
			}
		}
	}
}

func TestMalformed(t *testing.T) {
	for _, in := range []string{
		"EHLO client.example\r\n",
		"PROXY \r\n123456",
		"PROXY TCP4 192.0.2.1 198.51.100.2 1025\r\n",
		"PROXY TCP4 192.0.2.1 198.51.100.2 1025 25 x\r\n",
		"PROXY TCP4  192.0.2.1 198.51.100.2 1025 25\r\n",
		"PROXY TCP4 2001:db8::1 2001:db8::2 1025 25\r\n",
		"PROXY TCP6 192.0.2.1 198.51.100.2 1025 25\r\n",
		"PROXY TCP6 fe80::1%eth0 2001:db8::2 1025 25\r\n",
		"PROXY TCP4 192.0.2.1 198.51.100.2 65536 25\r\n",
		"PROXY TCP4 192.0.2.1 198.51.100.2 +25 25\r\n",
		"PROXY TCP4 192.0.2.1 198.51.100.2 025 25\r\n",
		"PROXY TCP4 192.0.2.1 198.51.100.2 -1 25\r\n",
		"PROXY UDP4 192.0.2.1 198.51.100.2 1 25\r\n",
		"PROXY UNKNOWNX\r\n",
		"PROXY UNKNOWN " + strings.Repeat("x", 100) + "\r\n",
		"PROXY TCP4 192.0.2.1 198.51.100.2 1025 25\n" + strings.Repeat("x", 100),
		"proxy tcp4 192.0.2.1 198.51.100.2 1025 25\r\n",
		v2("\x11\x11", 12, "123456789012"),
		v2("\x22\x11", 12, "123456789012"),
		v2("\x21\x11", 11, "12345678901"),
		v2("\x21\x21", 35, strings.Repeat("x", 35)),
		v2("\x21\x12", 12, "123456789012"),
		v2("\x21\x41", 12, "123456789012"),
		v2("\x21\x00", 4097, strings.Repeat("x", 4097)),
		v2("\x20\x00", 65535, strings.Repeat("x", 65535)),
	} {
		if h, err := Read(strings.NewReader(in)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%.80q: %+v %v", in, h, err)
		}
	}
	if _, err := Read(iotest.ErrReader(io.ErrClosedPipe)); !errors.Is(err, io.ErrClosedPipe) || errors.Is(err, ErrMalformed) {
		t.Errorf("an error of the connection: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	for _, s := range []string{"PROXY TCP4 192.0.2.1 198.51.100.2 1025 25\r\nx", "PROXY UNKNOWN\r\n", "PROXY TCP6 ::1 ::2 1 2\r\n", v2("\x20\x00", 0, ""), v2("\x21\x11", 13, "1234567890123"), v2("\x21\x21", 36, strings.Repeat("x", 36))} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		h, err := Read(r)
		if err != nil {
			return
		}
		if used := len(in) - r.Len(); used > len(signature)+4+bodyMax {
			t.Fatalf("%q: read %d octets", in, used)
		}
		if h.Own && h.Client.IsValid() || h.Client.IsValid() != h.Server.IsValid() {
			t.Fatalf("%q: %+v", in, h)
		}
		again, err := Read(bytes.NewReader(h.Append(nil)))
		if err != nil || again != h {
			t.Fatalf("%+v was written as %q and read as %+v: %v", h, h.Append(nil), again, err)
		}
	})
}
