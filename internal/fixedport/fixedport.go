// Package fixedport hands out addresses of this host on which a process may
// listen, end, and listen again: a member that is restarted, or a server that
// is told its port in a file.
//
// A port that the system picks is none of those. While nobody listens on it,
// the system gives it to the next outgoing connection of anybody. So these lie
// outside the range from which the system picks, and no two processes that ask
// here, nor one that asks twice, are given the same.
//
// It knows nothing of what listens there.
package fixedport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// rangeFile holds the lowest and the highest port that the system picks itself
// (ip(7)). Each network namespace has its own.
const rangeFile = "/proc/sys/net/ipv4/ip_local_port_range"

// tries is how many ports are looked at: if all of these are in use, something
// else is wrong.
const tries = 1000

// Addr returns an address on 127.0.0.1, for as long as this process lives.
func Addr() (string, error) {
	text, err := os.ReadFile(rangeFile)
	if err != nil {
		return "", fmt.Errorf("find a port: %w", err)
	}
	low, high := outside(string(text))
	for range tries {
		port := low + rand.IntN(high-low+1)
		ok, err := reserve(port)
		if err != nil {
			return "", fmt.Errorf("reserve port %d: %w", port, err)
		}
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		if ok && unused(addr) {
			return addr, nil
		}
	}
	return "", fmt.Errorf("find a port: %d of those from %d to %d are in use", tries, low, high)
}

// outside is the longer of the two ranges that the system does not pick from;
// all ports that need no privilege if it picks from almost all of them.
func outside(text string) (low, high int) {
	const first, last, enough = 5000, 65535, 1000
	var from, to int
	if _, err := fmt.Sscan(text, &from, &to); err != nil {
		return first, last
	}
	low, high = first, from-1
	if last-to > high-low {
		low, high = to+1, last
	}
	if high-low < enough {
		return first, last
	}
	return low, high
}

// reserve marks a port as ours, and is false if it is somebody's already. The
// mark is a name in the abstract namespace of Unix sockets: the system gives it
// to one, and takes it back when the process ends, however it ends. It is as
// wide as the network namespace, as the port is.
func reserve(port int) (bool, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	err = unix.Bind(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("@mailraft-port-%d", port)})
	if err == nil {
		return true, nil // never closed: it is the mark
	}
	if cerr := unix.Close(fd); cerr != nil {
		return false, cerr
	}
	if errors.Is(err, unix.EADDRINUSE) {
		return false, nil
	}
	return false, err
}

// unused reports whether nobody listens there who did not ask here.
func unused(addr string) bool {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	return l.Close() == nil
}
