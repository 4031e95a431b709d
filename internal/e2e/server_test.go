//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
)

// refuseAll is an LMTP server that knows nobody.
func refuseAll(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go refuseOne(c)
		}
	}()
	return l.Addr().String()
}

func refuseOne(c net.Conn) {
	defer c.Close()
	fmt.Fprint(c, "220 nobody.test LMTP\r\n")
	for in := bufio.NewScanner(c); in.Scan(); {
		switch verb, _, _ := strings.Cut(strings.ToUpper(in.Text()), " "); verb {
		case "LHLO":
			fmt.Fprint(c, "250-nobody.test\r\n250 ENHANCEDSTATUSCODES\r\n")
		case "RCPT":
			fmt.Fprint(c, "550 5.1.1 nobody of that name here\r\n")
		case "DATA":
			fmt.Fprint(c, "503 5.5.1 no recipients\r\n")
		case "QUIT":
			fmt.Fprint(c, "221 2.0.0 bye\r\n")
			return
		default:
			fmt.Fprint(c, "250 2.0.0 ok\r\n")
		}
	}
}
