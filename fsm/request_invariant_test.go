package fsm

// checkRequests: an index finds each request by whether it is open, its shadow
// requests belong to it, and it has the number of none to come.
func checkRequests(t Tables, bad func(string, ...any)) {
	b, _ := t.Boundary()
	want := map[string]bool{}
	for r := range t.Requests(0) {
		for _, k := range r.indexes() {
			want[string(k)] = true
		}
		p, ok := t.Request(r.Parent)
		switch {
		case r.ID > b.Requests || r.ID == 0:
			bad("request %d: the last number given is %d", r.ID, b.Requests)
		case r.Open() == (r.Ended != 0):
			bad("request %d: %s, and ended at %v", r.ID, r.State, r.Ended)
		case r.Parent != 0 && r.Open() && (!ok || !p.Open()):
			bad("request %d: open, and request %d that it belongs to is not", r.ID, r.Parent)
		case r.Auto && r.State != RequestSuspended:
			bad("request %d: suspended by pressure, and %s", r.ID, r.State)
		}
	}
	for _, table := range []byte{tabRequestOpen, tabRequestEnded} {
		for k := range t.Scan(tab(table), tab(table).end()) {
			if !want[string(k)] {
				bad("index key %q without a request that makes it", k)
			}
			delete(want, string(k))
		}
	}
	for k := range want {
		bad("index key %q of a request is missing", k)
	}
}
