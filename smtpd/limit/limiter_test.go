package limit

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"
	"time"
)

func network(i uint32) netip.Prefix {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], i)
	return netip.PrefixFrom(netip.AddrFrom4(b), 32)
}

func TestParseRate(t *testing.T) {
	for text, want := range map[string]Rate{
		"none": {}, "600/1m": {600, time.Minute}, "10/s": {10, time.Second}, "5/2h": {5, 2 * time.Hour}, "1/d": {1, 24 * time.Hour},
	} {
		if got, err := ParseRate(text); err != nil || got != want {
			t.Errorf("%s: %v %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "5", "5/", "/1m", "0/1m", "-1/1m", "5/0s", "5/x", "1.5/1m", "5/1m/1m"} {
		if got, err := ParseRate(text); err == nil {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func TestAllow(t *testing.T) {
	now := time.Unix(1e9, 0)
	l := New(Rate{6, time.Minute})
	allowed := func(i uint32, n int) (got int) {
		for range n {
			if l.Allow(network(i), now) {
				got++
			}
		}
		return got
	}
	if n := allowed(1, 10); n != 6 {
		t.Errorf("%d at once", n)
	}
	if n := allowed(2, 10); n != 6 {
		t.Errorf("%d for another", n)
	}
	now = now.Add(25 * time.Second)
	if n := allowed(1, 10); n != 2 {
		t.Errorf("%d after 25 s", n)
	}
	now = now.Add(time.Hour)
	if n := allowed(1, 10); n != 6 {
		t.Errorf("%d after an hour", n)
	}
	if l.Len() != 1 {
		t.Errorf("%d are remembered after an hour", l.Len())
	}
	none := New(Rate{})
	for i := range uint32(1000) {
		if !none.Allow(network(i%2), now) || none.Len() != 0 {
			t.Fatal("no rate is a limit")
		}
	}
}

// 400,000 networks, each once: memory stays where it was with ClientsMax,
// and who comes again and again is held to its rate all the same.
func TestMillionsOfNetworks(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	begin := heap()
	now := time.Unix(1e9, 0)
	l := New(Rate{100, time.Hour})
	insistent, allowed := network(1<<31), 0
	for i := range uint32(400_000) {
		if i%1000 == 0 && l.Allow(insistent, now) {
			allowed++
		}
		l.Allow(network(i), now)
	}
	if l.Len() > ClientsMax {
		t.Errorf("%d are remembered", l.Len())
	}
	if grown := heap() - begin; grown > 600*ClientsMax {
		t.Errorf("%d bytes for %d networks", grown, ClientsMax)
	} else {
		t.Logf("%d bytes a network", grown/ClientsMax)
	}
	if allowed != 100 {
		t.Errorf("%d allowed", allowed)
	}
	now = now.Add(time.Hour)
	if l.Allow(insistent, now); l.Len() != 1 {
		t.Errorf("%d are remembered after an hour", l.Len())
	}
	runtime.KeepAlive(l)
}
