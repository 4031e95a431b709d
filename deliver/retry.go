package deliver

import (
	"hash/fnv"
	"time"

	"mailraft/mail"
)

// schedule stands where a job has none, and is what circuits go by. It is for
// mailbox servers nearby: the first tries are soon, since
// most trouble there is a restart, and the last wait is not long.
var schedule = [...]time.Duration{5 * time.Second, 15 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute}

// Next is how long to wait after the given number of attempts (1 after the
// first) by a list of waits, of which the last stands for all that follow; an
// empty one is the default. It depends on nothing else, so that every member and
// every test comes to the same answer. A message waits no longer than it is old, so a
// burst of quick failures does not put a young message far back; and up to a
// fifth is added or taken by the id, so that messages that failed together do
// not come back together.
func Next(waits []time.Duration, attempt int, age time.Duration, id mail.ID) time.Duration {
	if len(waits) == 0 {
		waits = schedule[:]
	}
	wait := waits[min(max(attempt, 1), len(waits))-1]
	wait = min(wait, max(age, waits[0]))
	return spread(wait, id[:], attempt)
}

// spread moves d by up to a fifth, decided by seed and n.
func spread(d time.Duration, seed []byte, n int) time.Duration {
	h := fnv.New64a()
	h.Write(seed)
	h.Write([]byte{byte(n), byte(n >> 8), byte(n >> 16)})
	const steps = 4096
	at := int64((h.Sum64()*0x9e3779b97f4a7c15)>>32) % (2*steps + 1) // 0 … 2*steps
	return d + d/5*time.Duration(at-steps)/steps
}
