package remote

import (
	"cmp"
	"sync"
	"time"

	"mailraft/mail"
)

// hosts is what is known of the hosts that MX records name, by address and port.
// Queues are for domains, and many domains may have one host: it gets no more
// connections than one may have, and one that is dead is tried by one delivery
// now and then, whatever the domain, while the others go to the next host.
type hosts struct {
	mu sync.Mutex
	m  map[string]*host
}

type host struct {
	open     int        // connections in use
	most     int        // less than the setting for a while, once it has refused one
	failures int        // in a row
	until    time.Time  // of the failures: not tried before; of most: not more before
	reply    mail.Reply // why
}

const (
	hostMax  = 20 // connections to one host, unless configured
	knownMax = 10_000
)

// hostWaits is how long a host that failed is left alone; as for destinations.
var hostWaits = [...]time.Duration{5 * time.Second, 15 * time.Second, time.Minute}

// entry is what a host has to say to one more delivery.
type entry int

const (
	entered entry = iota
	full          // it has as many connections as it may have
	dead          // it failed lately
)

// enter takes a place at a host. A delivery that is a message's last is let in
// where the host is thought dead: nothing is given up untried.
func (h *hosts) enter(addr string, most int, last bool) (entry, mail.Reply) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.m == nil {
		h.m = make(map[string]*host)
	}
	x := h.m[addr]
	if x == nil {
		h.forget()
		x = &host{}
		h.m[addr] = x
	}
	now := time.Now()
	if !now.Before(x.until) {
		x.most = 0
	}
	switch {
	case x.failures > 0 && now.Before(x.until) && !last:
		return dead, x.reply
	case x.open >= cmp.Or(x.most, most, hostMax):
		return full, x.reply
	case x.failures > 0: // this one tries, the others wait for what comes of it
		x.until = now.Add(hostWaits[min(x.failures, len(hostWaits))-1])
	}
	x.open++
	return entered, mail.Reply{}
}

// leave gives the place back, with what became of it: the host could be used, or
// why not. One that refused a connection while others are open is not dead, but
// has enough for now.
func (h *hosts) leave(addr string, down *mail.Reply, busy bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.m[addr]
	x.open--
	switch {
	case down == nil:
		x.failures, x.reply = 0, mail.Reply{}
	case busy && x.open > 0:
		x.most, x.until = x.open, time.Now().Add(hostWaits[len(hostWaits)-1])
	default:
		x.failures++
		x.reply, x.until = *down, time.Now().Add(hostWaits[min(x.failures, len(hostWaits))-1])
	}
}

// forget makes room for one more: by hosts of which nothing matters, or any that
// is not in use. The caller holds mu.
func (h *hosts) forget() {
	if len(h.m) < knownMax {
		return
	}
	for addr, x := range h.m {
		if x.open == 0 {
			delete(h.m, addr)
			return
		}
	}
}
