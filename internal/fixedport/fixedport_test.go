package fixedport

import (
	"fmt"
	"net"
	"os"
	"testing"
)

func TestAddr(t *testing.T) {
	text, err := os.ReadFile(rangeFile)
	if err != nil {
		t.Skip(err)
	}
	low, high := outside(string(text))
	seen := map[string]bool{}
	for range 50 {
		addr, err := Addr()
		if err != nil {
			t.Fatal(err)
		}
		a, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil || a.Port < low || a.Port > high || !a.IP.IsLoopback() {
			t.Errorf("%s lies outside of %d to %d", addr, low, high)
		}
		if seen[addr] {
			t.Errorf("%s twice", addr)
		}
		seen[addr] = true
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		if ok, err := reserve(a.Port); ok || err != nil {
			t.Errorf("%s can be reserved again: %v", addr, err)
		}
	}
}

func TestOutside(t *testing.T) {
	for _, c := range []struct {
		text      string
		low, high int
	}{
		{"32768\t60999\n", 5000, 32767},
		{"9000 20000", 20001, 65535},
		{"49152 65535", 5000, 49151},
		{"1024 65535", 5000, 65535},
		{"5500 65000", 5000, 65535},
		{"", 5000, 65535},
	} {
		low, high := outside(c.text)
		if low != c.low || high != c.high {
			t.Errorf("%q: %s; want %d to %d", c.text, fmt.Sprintf("%d to %d", low, high), c.low, c.high)
		}
	}
}
