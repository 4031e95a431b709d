package fsm

import (
	"fmt"
	"slices"
	"strings"

	"mailraft/mail"
)

// dump shows a part of the state: a message by name, or a table.
func (s *script) dump(a args) string {
	v := s.f.View()
	defer v.Close()
	show, ok := map[string]func(*View, args) string{
		"members": s.dumpMembers, "boundary": s.dumpBoundary, "due": s.dumpDue, "discards": s.dumpDiscards,
		"safetynet": s.dumpSafetyNet, "contents": s.dumpContents, "all": s.dumpAll, "events": s.dumpEvents,
		"ca": s.dumpCA, "frontends": s.dumpFrontends, "lost": s.dumpLost, "formers": s.dumpFormers, "gaps": s.dumpGaps, "suspended": s.dumpSuspended, "databases": s.dumpDatabases, "history": s.dumpHistory, "health": s.dumpHealth,
		"since": s.dumpSince, "held": s.dumpHeld, "params": s.dumpParams, "requests": s.dumpRequests, "directory": s.dumpDirectory,
	}[a.word(0)]
	if ok {
		out := show(v, a)
		if out == "" {
			return "none"
		}
		return out
	}
	m, ok := v.Message(s.id(a.word(0)))
	if !ok {
		return "gone"
	}
	return s.line(m) + s.recipients(m)
}

// clock is a time of a script: of day, with the days since it began.
func clock(t mail.Time) string {
	if t == 0 {
		return "-"
	}
	out := strings.TrimSuffix(t.Std().Format("15:04:05.000"), ".000")
	if d := int(t.Std().YearDay()) - 1; d > 0 {
		out = fmt.Sprintf("%dd+%s", d, out)
	}
	return out
}

func name(id mail.MemberID) string {
	if id == 0 {
		return "-"
	}
	return fmt.Sprintf("m%d", uint64(id))
}

func namesOf(ids []mail.MemberID) string {
	var out []string
	for _, id := range ids {
		out = append(out, name(id))
	}
	return strings.Join(out, ",")
}

func (s *script) line(m *Message) string {
	out := fmt.Sprintf("%s: active primary=%s shadow=%s", s.names[m.ID], name(m.Primary), name(m.Shadow))
	if !m.Active() {
		out = fmt.Sprintf("%s: finished=%s primary=%s shadow=%s", s.names[m.ID], clock(m.Finished), name(m.Primary), name(m.Shadow))
	}
	for _, f := range []struct {
		word string
		set  bool
	}{{"acked", m.Acked}, {"marked", m.Marked}, {"waiting", m.Waiting}, {"given-up", m.GivenUp}, {"suspended", m.Suspended}, {fmt.Sprintf("quarantine=%q", m.Quarantine), m.Quarantine != ""}, {"overlay=" + overlay(m), m.Overlay != nil}, {"held", m.Held},
		{"expanding", m.Expanding}, {"primary-end=" + clock(m.PrimaryEnd), m.PrimaryEnd != 0},
		{fmt.Sprintf("faults=%d", m.Faults), m.Faults > 0}, {"poison", m.Poison != nil}, {fmt.Sprintf("owes-expanded=%v", m.Expanded), len(m.Expanded) > 0}, {fmt.Sprintf("request=%d", m.Request), m.Request != 0}, {"lost-by=" + name(m.LostBy), m.LostBy != 0}, {fmt.Sprintf("pinned=%d", m.Pinned), m.Pinned != 0},
		{"recategorized", m.Recategorized}, {"of=" + s.names[m.Origin], !m.Origin.IsZero()}, {"piece-of=" + s.names[m.Parent], !m.Parent.IsZero()}} {
		if f.set {
			out += " " + f.word
		}
	}
	return out + "\n"
}

// overlay shows header changes: field numbers, "-" where one is dropped, text.
func overlay(m *Message) string {
	var edits []string
	if m.Overlay == nil {
		return ""
	}
	for _, e := range m.Overlay.Edits {
		drop := ""
		if e.Drop {
			drop = "-"
		}
		edits = append(edits, fmt.Sprintf("%s%d:%s", drop, e.At, strings.TrimSpace(e.Text)))
	}
	return strings.Join(edits, ",")
}

// recipients shows up to eight of them, and counts the others.
func (s *script) recipients(m *Message) string {
	var b strings.Builder
	for i := range m.Recipients[:min(len(m.Recipients), 8)] {
		r := &m.Recipients[i]
		fmt.Fprintf(&b, "  %d %s %s %s", i, r.Address, r.Destination(), r.State)
		if r.State == Pending {
			fmt.Fprintf(&b, " next=%s", clock(r.Next))
		} else {
			fmt.Fprintf(&b, " at=%s", clock(r.Done))
		}
		if r.Attempts > 0 {
			fmt.Fprintf(&b, " attempts=%d", r.Attempts)
		}
		if r.Activation > 0 {
			fmt.Fprintf(&b, " copy=%s/%d", r.Copy, r.Activation)
		}
		if r.Gone {
			b.WriteString(" gone")
		}
		if r.Original != "" {
			b.WriteString(" from=" + r.Original)
		}
		if r.Owes != 0 {
			b.WriteString(" owes=" + r.Owes.String())
		}
		if a := m.Asked(r); !a.IsZero() {
			b.WriteString(strings.TrimRight(" asked="+a.Notify.String()+":"+a.Original, ":"))
		}
		if r.Reply != nil {
			b.WriteString(" (" + r.Reply.String() + ")")
		}
		b.WriteByte('\n')
	}
	if n := len(m.Recipients) - 8; n > 0 {
		fmt.Fprintf(&b, "  and %d more\n", n)
	}
	return b.String()
}

func (s *script) dumpFrontends(v *View, _ args) (out string) {
	for f := range v.Frontends() {
		out += fmt.Sprintf("%s site=%s serial=%s was=%s joined=%s renewed=%s\n", f.Name, f.Site, f.Serial, f.Was, clock(f.Joined), clock(f.Renewed))
	}
	return out
}

func (s *script) dumpAll(v *View, _ args) (out string) {
	for m := range v.Messages(mail.ID{}) {
		out += s.line(m)
	}
	return out
}

func (s *script) dumpEvents(v *View, a args) (out string) {
	m, ok := v.Message(s.id(a.word(1)))
	if !ok {
		return "gone"
	}
	for _, e := range m.Events {
		out += fmt.Sprintf("%s %s %s %s", clock(e.At), e.Kind, name(e.Member), e.Recipient)
		text := e.Text
		for n, id := range s.ids {
			text = strings.ReplaceAll(text, id.String(), n)
		}
		if out = strings.TrimRight(out, " "); text != "" {
			out += " (" + text + ")"
		}
		if e.Times > 0 {
			out += fmt.Sprintf(" %d times", e.Times)
		}
		out += "\n"
	}
	return out
}

func (s *script) dumpMembers(v *View, _ args) (out string) {
	for m := range v.Members() {
		out += fmt.Sprintf("%s %s up=%v since=%s complete=%d phase=%d", name(m.ID), m.Name, m.Up, clock(m.Since), m.Complete, m.Phase)
		if m.CompleteActive > 0 {
			out += fmt.Sprintf(" active=%d", m.CompleteActive)
		}
		if m.Site != "" {
			out += " site=" + m.Site
		}
		for _, f := range []struct {
			word string
			set  bool
		}{{"draining", m.Draining}, {"leaving", m.Leaving}, {"drained=" + clock(m.Drained), m.Drained != 0}, {"retired=" + clock(m.Retired), m.Retired != 0},
			{fmt.Sprintf("left=%d", m.Left), m.Left != 0}} {
			if f.set {
				out += " " + f.word
			}
		}
		out += "\n"
	}
	return out
}

func (s *script) dumpFormers(v *View, _ args) (out string) {
	for f := range v.Formers() {
		out += strings.Join(strings.Fields(fmt.Sprintf("%s %s %s at=%s heir=%s %s %s", name(f.ID), f.Name, f.How, clock(f.At), name(f.Heir), f.Serial, f.Reason)), " ") + "\n"
	}
	return out
}

func (s *script) dumpGaps(v *View, _ args) (out string) {
	for f := range v.Gaps() {
		out += fmt.Sprintf("%s of %s until %s\n", f.Name, name(f.ID), clock(f.At))
	}
	return out
}

func (s *script) dumpBoundary(v *View, _ args) string {
	b, _ := v.Boundary()
	next := ""
	if b.NextAt != 0 {
		next = fmt.Sprintf(" next=%s at=%d prev=%d", namesOf(b.Next), b.NextAt, b.NextPrev)
	}
	return fmt.Sprintf("%s opened=%v voters=%s learners=%s term=%d leader=%s", b.Boundary, b.Opened, namesOf(b.Voters), namesOf(b.Learners), b.Term, name(b.Leader)) + next + generation(b)
}

// generation is what a boundary has that was recovered.
func generation(b Boundary) string {
	if r := b.Restored; r != nil {
		return fmt.Sprintf(" restored from %s of %s at=%d resumed=%s (%s)", r.Was, clock(r.Cut), r.Index, clock(r.Resumed), r.Reason)
	}
	if b.Recovery == nil {
		return ""
	}
	return fmt.Sprintf(" generation=%d since %s by %s certain=%d (%s)", b.Generation, clock(b.Recovery.At), name(b.Recovery.Survivor), b.Recovery.Certain, b.Recovery.Reason)
}

func (s *script) dumpCA(v *View, _ args) string {
	b, _ := v.Boundary()
	out := fmt.Sprintf("signs=%q sealed=%q", b.CA, b.CAKey)
	if r := b.Rotation; r != nil {
		out += fmt.Sprintf(" pin=%s was=%s other=%q sealed=%q used=%v since=%s", r.Pin, r.WasPin, r.CA, r.CAKey, r.Used, clock(r.Since))
	}
	for m := range v.Members() {
		out += fmt.Sprintf("\n%s believes=%s signer=%s", name(m.ID), m.Believes, m.Signer)
	}
	return out
}

func (s *script) dumpLost(v *View, _ args) (out string) {
	for m := range v.Lost() {
		out += fmt.Sprintf("%s at %s\n", s.names[m.ID], namesOf(m.Holders))
	}
	return out
}

func (s *script) dumpDue(v *View, a args) (out string) {
	for d := range v.Destinations(s.member(a.word(1))) {
		out += d + ":"
		n := 0
		for w := range v.Due(s.member(a.word(1)), d) {
			if n++; n <= 10 {
				out += fmt.Sprintf(" %s at %s", s.names[w.ID], clock(w.Next))
			}
		}
		if n > 10 {
			out += fmt.Sprintf(" and %d more", n-10)
		}
		out += "\n"
	}
	return out
}

func (s *script) dumpDiscards(v *View, a args) (out string) {
	for id := range v.Discards(s.member(a.word(1))) {
		out += s.names[id] + "\n"
	}
	return out
}

// dumpSafetyNet DB1 start=-1h end=0s: times from now.
func (s *script) dumpSafetyNet(v *View, a args) (out string) {
	start, end := mail.Time(0), mail.Time(0)
	if a.has("start") {
		start = s.now.Add(s.span(a.get("start", "")))
	}
	if a.has("end") {
		end = s.now.Add(s.span(a.get("end", "")))
	}
	for d := range v.SafetyNet(a.word(1), start, end) {
		out += fmt.Sprintf("%s %s recipient %d\n", clock(d.At), s.names[d.ID], d.Recipient)
	}
	return out
}

func (s *script) dumpContents(v *View, _ args) (out string) {
	for row := range rows[contentRow](v.Tables, tab(tabContent)) {
		n := "?"
		for name, sub := range s.subs {
			if sub.Content.ID == row.Content.ID {
				n = name
			}
		}
		out += fmt.Sprintf("%s %d\n", n, row.Refs)
	}
	return out
}

func (s *script) dumpSuspended(v *View, _ args) (out string) {
	for x := range v.Suspensions() {
		out += fmt.Sprintf("%q %s by=%s reason=%s\n", x.Key, clock(x.At), x.By, x.Reason)
	}
	return out
}

func (s *script) dumpDatabases(v *View, _ args) (out string) {
	for d := range v.Databases() {
		out += fmt.Sprintf("%s active=%s/%d since=%s", d.Name, d.Active, d.Activation, clock(d.Since))
		if d.Suspended != nil {
			out += " suspended"
		}
		for _, c := range d.Copies {
			out += fmt.Sprintf(" %s=%s", c.Name, c.Addr)
			if c.DataThrough != 0 {
				out += " through=" + clock(c.DataThrough)
			}
			if c.Suspended != nil {
				out += " suspended"
			}
		}
		out += "\n"
	}
	return out
}

func (s *script) dumpHistory(v *View, a args) (out string) {
	h, ok := v.History(a.word(1))
	if !ok {
		return ""
	}
	out = fmt.Sprintf("%s activation=%d, %d events\n", h.Name, h.Activation, len(h.Events))
	last := s.int(a.get("last", "1000"))
	for i, e := range h.Events {
		if i >= 3 && i < len(h.Events)-last { // how it began, and the last
			continue
		}
		out += fmt.Sprintf("  %s %s %s", clock(e.At), e.Kind, e.Copy)
		for _, f := range []struct {
			word string
			set  bool
		}{{"from=" + e.From, e.From != ""}, {fmt.Sprintf("activation=%d", e.Activation), e.Activation != 0}, {fmt.Sprintf("request=%d", e.Request), e.Request != 0},
			{"by=" + e.By, e.By != ""}, {"reason=" + e.Reason, e.Reason != ""}, {"(" + s.clocks(e.Text) + ")", e.Text != ""}, {fmt.Sprintf("%d times", e.Times), e.Times > 0}} {
			if f.set {
				out = strings.TrimRight(out, " ") + " " + f.word
			}
		}
		out = strings.TrimRight(out, " ") + "\n"
	}
	return out
}

func (s *script) dumpHealth(v *View, a args) (out string) {
	for _, r := range v.Health(a.word(1)) {
		out += fmt.Sprintf("%s %s healthy=%v since=%s seen=%s %s", r.Copy, r.Addr, r.Healthy, clock(r.Since), clock(r.Seen), r.Text)
		out = strings.TrimRight(out, " ") + "\n"
	}
	return out
}

// dumpSince DB1 b through=-1h: what would be sent if b were activated now.
func (s *script) dumpSince(v *View, a args) string {
	d, _ := v.Database(a.word(1))
	through := mail.Time(0)
	if a.has("through") {
		through = s.now.Add(s.span(a.get("through", "")))
	}
	x := v.Since(d, a.word(2), through, s.now)
	return fmt.Sprintf("%s: %s", clock(x.At), s.clocks(x.Text))
}

func (s *script) dumpHeld(v *View, _ args) string {
	out := "all since " + clock(v.HeldSince(s.now))
	if h, ok := v.Held(s.now); ok {
		out += fmt.Sprintf("; no quorum from %s to %s: nothing expires before %s, for %s", clock(h.From), clock(h.Since), clock(h.Until), strings.Join(h.Databases, ","))
	}
	return out
}

// dumpParams shows those that differ from their defaults.
func (s *script) dumpParams(v *View, _ args) (out string) {
	p := v.Params()
	for _, d := range Parameters {
		if t := d.Text(p); t != d.Text(Defaults()) {
			out += d.Name + " " + t + "\n"
		}
	}
	return out + fmt.Sprintf("longest span %s\n", mail.FormatDuration(v.LongestSpan()))
}

func (s *script) dumpDirectory(v *View, _ args) (out string) {
	for d := range v.Domains() {
		out += fmt.Sprintf("domain %s %s database=%s any=%v next-hop=%s\n", d.Name, d.Kind, d.Database, d.AnyMailbox, d.NextHop)
	}
	var boxes []string
	for m := range v.Mailboxes() {
		boxes = append(boxes, fmt.Sprintf("mailbox %s database=%s aliases=%s\n", m.Address, m.Database, strings.Join(m.Aliases, ",")))
	}
	for _, b := range slices.Compact(boxes) {
		out += b
	}
	for g := range v.Groups() {
		out += fmt.Sprintf("group %s version=%d members=%d\n", g.Address, g.Version, len(g.Members))
	}
	for h := range v.NextHops() {
		out += fmt.Sprintf("next-hop %s tls=%s credential=%s tls-name=%s ca=%d\n", h.Address, h.Policy(), h.Credential, h.TLSName, len(h.CA))
	}
	return out
}
