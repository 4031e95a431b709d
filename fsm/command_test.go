package fsm

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"time"

	"mailraft/directory"
	"mailraft/mail"
)

// commands are what a script line may begin with.
var commands map[string]func(*script, args) string

func init() {
	commands = map[string]func(*script, args) string{
		// Entries of the log, in the order of their kinds.
		"crashes": func(s *script, a args) string {
			c := Crashes{Member: s.member(a.word(0)), Starts: uint64(s.int(a.word(1))), IDs: s.idList(a.words[2:])}
			if last := a.get("last", ""); last != "" {
				c.Last = s.id(last)
			}
			return s.apply(KindCrashes, c)
		},
		"delays":        func(s *script, a args) string { return s.apply(KindDelays, Delays{IDs: s.idList(a.words)}) },
		"tell":          (*script).tell,
		"term-start":    (*script).termStart,
		"tick":          (*script).tick,
		"accept":        (*script).accept,
		"withdraw":      (*script).withdraw,
		"report":        (*script).report,
		"discard":       (*script).discard,
		"expire":        func(s *script, a args) string { return s.apply(KindExpire, s.limit(a)) },
		"member-add":    (*script).memberAdd,
		"member-down":   func(s *script, a args) string { return s.apply(KindMemberDown, s.change(a)) },
		"member-up":     func(s *script, a args) string { return s.apply(KindMemberUp, s.change(a)) },
		"takeover":      func(s *script, a args) string { return s.apply(KindTakeover, s.change(a)) },
		"protect":       func(s *script, a args) string { return s.apply(KindProtect, s.limit(a)) },
		"expand":        func(s *script, a args) string { return s.apply(KindExpand, Expand{ID: s.id(a.word(0))}) },
		"configure":     (*script).configure,
		"directory":     (*script).directory,
		"next-hop":      (*script).nextHop,
		"group-of":      (*script).groupOf,
		"database":      (*script).database,
		"token":         (*script).token,
		"queue":         (*script).queue,
		"message":       (*script).message,
		"mark":          (*script).mark,
		"found":         (*script).found,
		"voters-change": (*script).votersChange,
		"voters-abort":  (*script).votersAbort,
		"member-remove": (*script).memberRemove,
		"drain":         (*script).drain,
		"hand-over":     (*script).handOver,
		"member-cert": func(s *script, a args) string {
			return s.apply(KindMemberCert, MemberCert{Member: s.member(a.word(0)), Serial: a.word(1), Signer: a.get("signer", ""), Believes: a.get("believes", "")})
		},
		"recover":      (*script).recovered,
		"refound":      (*script).refounded,
		"content-lost": (*script).contentLost,
		"ca":           (*script).changeCA,
		"frontend":     (*script).changeFrontend,
		"member-set": func(s *script, a args) string {
			c := MemberSet{Member: s.member(a.word(0)), Addr: a.get("address", "")}
			if site := a.get("site", ""); site != "" {
				c.Says = &Says{SMTP: a.get("smtp", ""), Host: a.get("host", ""), Site: site}
			}
			return s.apply(KindMemberSet, c)
		},
		"request":       (*script).request,
		"activate":      (*script).activate,
		"health":        (*script).health,
		"flap":          (*script).flap,
		"resubmit":      (*script).resubmit,
		"configuration": (*script).configuration,
		// The world around.
		"boundary": (*script).three,
		"upload":   (*script).upload,
		"advance":  (*script).advance,
		"until":    (*script).until,
		"restart":  (*script).restart,
		"crash":    (*script).crashed,
		"install":  (*script).installed,
		"dump":     (*script).dump,
	}
}

func (s *script) apply(k Kind, body any) string { return s.show(s.do(k, body)) }

// until repeats a command until it says that there is no more.
func (s *script) until(a args) string {
	line := strings.Join(a.words, " ")
	for _, p := range a.pairs {
		line += " " + p[0] + "=" + p[1]
	}
	n := 1
	for ; strings.Contains(s.command(line), "more"); n++ {
		if n > 1000 {
			s.fail("no end")
		}
	}
	return fmt.Sprintf("done in %d", n)
}

func (s *script) show(a Answer) string {
	var out []string
	if a.Refused != nil {
		out = append(out, a.Refused.String())
	}
	if a.Count > 0 {
		out = append(out, strconv.Itoa(a.Count))
	}
	for i, r := range a.Items {
		if r != nil {
			out = append(out, fmt.Sprintf("%d: %s", i, r))
		}
	}
	if a.More {
		out = append(out, "more")
	}
	if len(out) == 0 {
		out = append(out, "ok")
	}
	text := ""
	if a.Text != "" {
		text = "\n" + strings.TrimSuffix(s.clocks(a.Text), "\n")
	}
	return strings.Join(out, ", ") + text
}

// clocks shows times in a text as dumps do.
func (s *script) clocks(text string) string {
	return rfc3339.ReplaceAllStringFunc(text, func(w string) string {
		at, err := time.Parse(time.RFC3339, w)
		if err != nil {
			s.fail("%v", err)
		}
		return clock(mail.At(at))
	})
}

var rfc3339 = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`)

func (s *script) limit(a args) Limit { return Limit{Rows: s.int(a.get("rows", "100"))} }

func (s *script) change(a args) MemberChange {
	return MemberChange{Member: s.member(a.word(0)), Rows: s.int(a.get("rows", "100")), Term: uint64(s.int(a.get("term", "0"))),
		Addr: a.get("addr", ""), Site: a.get("site", "")}
}

// found m1 boundary=b1 NAME=VALUE: other pairs are parameters.
func (s *script) found(a args) string {
	id := s.member(a.word(0))
	f := Found{Boundary: a.get("boundary", "b1"), Name: "test", First: Member{ID: id, Name: a.word(0), Addr: "a"}, Set: map[string]string{}}
	for _, p := range a.pairs {
		if p[0] != "boundary" {
			f.Set[p[0]] = p[1]
		}
	}
	return s.apply(KindFound, f)
}

func (s *script) configuration(a args) string {
	s.voters(s.memberList(a.get("voters", "")), s.memberList(a.get("learners", "")))
	return ""
}

// three is a boundary of three members, with sites if told so.
func (s *script) three(a args) string {
	s.boundary()
	for i := range 3 {
		if site := a.get("m"+strconv.Itoa(i+1), ""); site != "" {
			s.must(KindMemberUp, MemberChange{Member: mail.MemberID(i + 1), Addr: "a", Site: site})
		}
	}
	return ""
}

func (s *script) termStart(a args) string {
	return s.apply(KindTermStart, TermStart{Term: uint64(s.int(a.word(0))), Leader: s.member(a.word(1))})
}

// tick m2=now m3=17: content is complete up to there.
func (s *script) tick(a args) string {
	var t Tick
	for _, p := range a.pairs {
		who, active := strings.CutSuffix(p[0], "-active")
		c := Complete{Member: s.member(who), Index: uint64(len(s.log))}
		if p[1] != "now" {
			c.Index = uint64(s.int(p[1]))
		}
		if active {
			c.Index, c.Active = 0, c.Index
		}
		t.Complete = append(t.Complete, c)
	}
	return s.apply(KindTick, t)
}

// advance 2d; advance 2d silent: without a quorum.
func (s *script) advance(a args) string {
	if a.word(1) == "silent" {
		s.silent(s.span(a.word(0)))
		return ""
	}
	s.now = s.now.Add(s.span(a.word(0)))
	return ""
}

// upload A closes an upload: from here its not-after counts.
func (s *script) upload(a args) string {
	name := a.word(0)
	sub := s.submission(byte(len(s.subs)+1), s.member(a.get("primary", "m1")), s.memberList(a.get("holders", "m1,m2,m3"))...)
	sub.Content.NotAfter = s.now.Add(s.span(a.get("not-after", "10m")))
	sub.Envelope = mail.Envelope{ReversePath: a.get("from", "s@example.org"), Recipients: strings.Split(a.get("to", "alice@example.test"), ",")}
	if sub.Envelope.Recipients[0] == "" {
		sub.Envelope.Recipients = nil
	}
	sub.Envelope.Relay = a.get("relay", "false") == "true"
	sub.Trace.User = a.get("user", "")
	sub.Fields.MessageID = a.get("message-id", "")
	if add := a.get("add-field", ""); add != "" {
		sub.Overlay = &mail.Overlay{Edits: []mail.Edit{{Text: add + "\r\n"}, {At: 2, Drop: true}}}
	}
	sub.Quarantine = a.get("quarantine", "")
	if f := a.get("filtered", ""); f != "" {
		sub.Filtered = strings.Split(f, ";")
	}
	sub.Envelope.EnvelopeID = a.get("envid", "")
	for _, p := range a.pairs { // ask=0:SUCCESS+DELAY:rfc822;bob@example.org
		if p[0] == "ask" {
			sub.Envelope.Asked = append(sub.Envelope.Asked, make([]mail.Asked, len(sub.Envelope.Recipients)-len(sub.Envelope.Asked))...)
			f := strings.SplitN(p[1], ":", 3)
			ask := &sub.Envelope.Asked[s.int(f[0])]
			if f[1] != "" {
				ask.Notify, _ = mail.ParseNotify(strings.Split(f[1], "+"))
			}
			if len(f) == 3 {
				ask.Original = f[2]
			}
		}
	}
	s.subs[name] = sub
	return ""
}

// accept A …: the upload of that name, closed now if it was not before.
func (s *script) accept(a args) string {
	name := a.word(0)
	if _, ok := s.subs[name]; !ok {
		s.upload(a)
	}
	answer := s.do(KindAccept, Accept{Submission: s.subs[name]})
	return s.named(name, answer)
}

func (s *script) named(name string, a Answer) string {
	if a.ID.IsZero() {
		return s.show(a)
	}
	if known := s.names[a.ID]; known != "" {
		return "accepted as " + known + " before"
	}
	s.ids[name], s.names[a.ID] = a.ID, name
	return "accepted"
}

func (s *script) withdraw(a args) string {
	name := a.word(0)
	if _, ok := s.subs[name]; !ok {
		s.upload(a)
	}
	return s.named(name, s.do(KindWithdraw, Withdraw{Content: s.subs[name].Content.ID}))
}

// report m1 A 0=delivered@a/1 1=deferred+5m 2=failed dsn=D: D is an upload of
// the reporter's, closed now if it was not before.
func (s *script) report(a args) string {
	r := mail.Report{ID: s.id(a.word(1))}
	for _, p := range a.pairs {
		if i, err := strconv.Atoi(p[0]); err == nil {
			r.Outcomes = append(r.Outcomes, s.outcome(i, p[1]))
		}
	}
	if d := a.get("dsn", ""); d != "" {
		if _, ok := s.subs[d]; !ok {
			s.upload(args{words: []string{d}, pairs: append(a.pairs, [2]string{"from", ""}, [2]string{"primary", a.word(0)})})
		}
		sub := s.subs[d]
		r.DSN = &sub
	}
	return s.apply(KindReport, Report{Member: s.member(a.word(0)), Reports: []mail.Report{r}})
}

// tell m1 A D success=0,1 delay=2 expanded=0: D is the notice, "-" is none.
func (s *script) tell(a args) string {
	r := mail.Report{ID: s.id(a.word(1))}
	for _, p := range a.pairs {
		event, ok := map[string]mail.Notify{"success": mail.NotifySuccess, "delay": mail.NotifyDelay, "expanded": 0}[p[0]]
		for n := range strings.SplitSeq(p[1], ",") {
			if ok {
				r.Told = append(r.Told, mail.Told{Recipient: s.int(n), Event: event})
			}
		}
	}
	if d := a.word(2); d != "-" {
		if _, ok := s.subs[d]; !ok {
			s.upload(args{words: []string{d}, pairs: append(a.pairs, [2]string{"from", ""}, [2]string{"primary", a.word(0)})})
		}
		sub := s.subs[d]
		r.Notice = &sub
	}
	return s.apply(KindReport, Report{Member: s.member(a.word(0)), Reports: []mail.Report{r}})
}

var results = map[string]mail.Result{"delivered": mail.Delivered, "relayed": mail.Relayed, "deferred": mail.Deferred,
	"failed": mail.Failed, "expired": mail.Expired, "nonsense": 77}

func (s *script) outcome(i int, text string) mail.Outcome {
	o := mail.Outcome{Recipient: i, Activation: 1, Copy: "a", Remote: "host"}
	text, duplicate := strings.CutSuffix(text, "!")
	text, passed := strings.CutSuffix(text, "^")
	text, at, ok := strings.Cut(text, "@")
	if ok {
		name, n, _ := strings.Cut(at, "/")
		o.Copy, o.Activation = name, uint64(s.int(n))
	}
	text, next, ok := strings.Cut(text, "+")
	if ok {
		o.Next = s.now.Add(s.span(next))
	}
	text, o.Fault = strings.CutSuffix(text, "#")
	o.Result, ok = results[text]
	if !ok {
		s.fail("there is no result %q", text)
	}
	o.Duplicate, o.Passed = duplicate, passed
	o.Reply = mail.Reply{Code: map[mail.Result]int{mail.Delivered: 250, mail.Relayed: 250, mail.Deferred: 451}[o.Result], Text: text}
	if o.Reply.Code == 0 {
		o.Reply.Code = 550
	}
	return o
}

// discard m2 A B; without names, all that wait for the member.
func (s *script) discard(a args) string {
	d := Discard{Member: s.member(a.word(0)), IDs: s.idList(a.words[1:])}
	if d.IDs == nil {
		v := s.f.View()
		defer v.Close()
		for id := range v.Discards(d.Member) {
			d.IDs = append(d.IDs, id)
		}
	}
	return s.apply(KindDiscard, d)
}

func (s *script) token(a args) string {
	return s.apply(KindToken, TokenAdd{Hash: [32]byte{1: a.word(0)[0]}, Role: a.get("role", "member"),
		Until: s.now.Add(s.span(a.get("life", "1h"))), Uses: s.int(a.get("uses", "1")), Replace: a.get("replace", "")})
}

func (s *script) memberAdd(a args) string {
	m := Member{ID: s.member(a.word(0)), Name: a.get("name", a.word(0)), Addr: "a", Site: a.get("site", "")}
	return s.apply(KindMemberAdd, MemberAdd{Member: m, Token: [32]byte{1: a.get("token", "x")[0]}})
}

// votersChange m1,m2,m3 prev=17: prev is the present configuration's unless given.
func (s *script) votersChange(a args) string {
	v := s.f.View()
	b, _ := v.Boundary()
	v.Close()
	c := VotersChange{Voters: s.memberList(a.word(0)), Prev: b.ConfigAt}
	if a.has("prev") {
		c.Prev = uint64(s.int(a.get("prev", "")))
	}
	return s.apply(KindVotersChange, c)
}

// votersAbort calls off what is under way, or what at says.
func (s *script) votersAbort(a args) string {
	v := s.f.View()
	b, _ := v.Boundary()
	v.Close()
	c := VotersAbort{At: b.NextAt, Term: uint64(s.int(a.get("term", "1")))}
	if a.has("at") {
		c.At = uint64(s.int(a.get("at", "")))
	}
	return s.apply(KindVotersAbort, c)
}

func (s *script) memberRemove(a args) string {
	return s.apply(KindMemberRemove, MemberRemove{Member: s.member(a.word(0)), Now: a.word(1) == "now", Reason: a.get("reason", "")})
}

func (s *script) drain(a args) string {
	return s.apply(KindDrain, Drain{Member: s.member(a.word(0)), Stop: a.word(1) == "stop"})
}

// handOver m2 A B after=3: after is what the state says unless given.
func (s *script) handOver(a args) string {
	v := s.f.View()
	m, _ := v.Member(s.member(a.word(0)))
	v.Close()
	h := HandOver{Member: s.member(a.word(0)), IDs: s.idList(a.words[1:]), After: m.Handed}
	if a.has("after") {
		h.After = uint64(s.int(a.get("after", "")))
	}
	return s.apply(KindHandOver, h)
}

// recovered m3 generation=2: the configuration comes before it.
func (s *script) recovered(a args) string {
	return s.apply(KindRecover, Recover{Survivor: s.member(a.word(0)), Generation: uint64(s.int(a.get("generation", "2"))),
		Certain: uint64(s.int(a.get("certain", "7"))), Reason: a.get("reason", "")})
}

// refounded m7 id=b2 at=20: the configuration comes before it.
func (s *script) refounded(a args) string {
	return s.apply(KindRefound, Refound{Boundary: a.get("id", "b2"), Name: a.get("called", ""), CA: []byte("ca"), CAKey: []byte("key"),
		First: Member{ID: s.member(a.word(0)), Name: a.word(0), Addr: "a"}, Index: uint64(s.int(a.get("at", "20"))), By: "op", Reason: a.get("reason", "")})
}

// contentLost A B; with found=m2, m2 has it after all.
func (s *script) contentLost(a args) string {
	c := ContentLost{IDs: s.idList(a.words), Reason: a.get("reason", "")}
	if a.has("found") {
		c.Found = s.member(a.get("found", ""))
	}
	return s.apply(KindContentLost, c)
}

// changeCA rotate new was=old; use new; finish new now.
func (s *script) changeCA(a args) string {
	c := CAChange{Op: a.word(0), Pin: a.word(1), WasPin: a.get("was", ""), Now: a.word(2) == "now"}
	if c.Op == CARotate && c.Pin != "" {
		c.CA, c.CAKey = []byte("ca "+c.Pin), []byte("key "+c.Pin)
	}
	return s.apply(KindCA, c)
}

// changeFrontend join fe1 01 token=secret; renew fe1 02 was=01; remove fe1.
func (s *script) changeFrontend(a args) string {
	c := FrontendChange{Op: a.word(0), Name: a.word(1), Serial: a.word(2), Was: a.get("was", ""), Site: a.get("site", "")}
	c.Token[1] = a.get("token", "x")[0]
	return s.apply(KindFrontend, c)
}

func (s *script) configure(a args) string {
	set := map[string]string{}
	for _, p := range a.pairs {
		set[p[0]] = p[1]
	}
	return s.apply(KindConfigure, Configure{Set: set})
}

// directory domain NAME … ; mailbox ADDRESS … ; group … ; remove KIND NAME: one entry.
func (s *script) directory(a args) string {
	var d Directory
	word := func(i int) string { return a.word(i) }
	list := func(k string) []string {
		if a.get(k, "") == "" {
			return nil
		}
		return strings.Split(a.get(k, ""), ",")
	}
	switch word(0) {
	case "domain":
		x := directory.Domain{Name: word(1), Kind: directory.Accepted, Database: a.get("database", ""), AnyMailbox: a.get("any", "") == "true"}
		if x.NextHop = a.get("next-hop", ""); x.NextHop != "" {
			x.Kind = directory.Relay
		}
		d.Domains = append(d.Domains, x)
	case "mailbox":
		for _, address := range a.words[1:] {
			d.Mailboxes = append(d.Mailboxes, directory.Mailbox{Address: address, Database: a.get("database", "DB1"), Aliases: list("aliases")})
		}
	case "group":
		d.Groups = append(d.Groups, directory.Group{Address: word(1), Members: list("members")})
	case "remove":
		d.Remove = append(d.Remove, ObjectName{Kind: word(1), Name: word(2)})
	default:
		s.fail("directory knows no %q", word(0))
	}
	return s.apply(KindDirectory, d)
}

// next-hop ADDRESS tls=verified credential=isp … ; next-hop remove ADDRESS.
func (s *script) nextHop(a args) string {
	if a.word(0) == "remove" {
		return s.apply(KindNextHop, NextHops{Remove: a.words[1:]})
	}
	h := directory.NextHop{Address: a.word(0), Credential: a.get("credential", ""), CA: a.get("ca", ""), TLSName: a.get("tls-name", "")}
	if err := h.TLS.UnmarshalText([]byte(a.get("tls", ""))); err != nil {
		s.fail("%v", err)
	}
	return s.apply(KindNextHop, NextHops{Put: []directory.NextHop{h}})
}

// groupOf big@example.test from=1 to=2500 also=x@y: members u1@ to u2500@.
func (s *script) groupOf(a args) string {
	g := directory.Group{Address: a.word(0)}
	for n := s.int(a.get("from", "1")); n <= s.int(a.get("to", "1")); n++ {
		g.Members = append(g.Members, fmt.Sprintf("u%d@example.test", n))
	}
	if also := a.get("also", ""); also != "" {
		g.Members = append(g.Members, strings.Split(also, ",")...)
	}
	return s.apply(KindDirectory, Directory{Groups: []directory.Group{g}})
}

// database add DB2 a=maildir:/x b=lmtp://host:24 lag=2h: copies by name, and
// what is true of all of them. Reports are "database report DB2 b=-1h", times
// from now; copies to suspend are words.
func (s *script) database(a args) string {
	c := DatabaseChange{Op: a.word(0), Name: a.word(1), By: a.get("by", ""), Reason: a.get("reason", "")}
	all := Copy{Lag: s.millis(a, "lag"), Slack: s.millis(a, "slack"), Site: a.get("site", ""), Live: a.has("live"), Preference: s.int(a.get("preference", "0"))}
	if a.has("data-through") {
		all.DataThrough = s.now.Add(s.span(a.get("data-through", "")))
	}
	for _, w := range a.words[min(2, len(a.words)):] {
		c.Copies = append(c.Copies, Copy{Name: w})
	}
	for _, p := range a.pairs {
		x := all
		switch p[0] {
		case "lag", "slack", "site", "live", "preference", "data-through", "by", "reason":
			continue
		}
		if x.Name, x.Addr = p[0], p[1]; c.Op == "report" {
			x.DataThrough, x.Addr = s.now.Add(s.span(p[1])), ""
		}
		c.Copies = append(c.Copies, x)
	}
	return s.apply(KindDatabase, c)
}

// request add DB1 start=-1h end=0s …: times from now; without a database "-".
// request suspend 7: by its number.
func (s *script) request(a args) string {
	if a.word(0) != "add" {
		return s.apply(KindRequestChange, RequestChange{Op: a.word(0), Request: uint64(s.int(a.word(1))), Auto: a.word(2) == "auto", Reason: a.get("reason", ""), By: a.get("by", "")})
	}
	c := RequestAdd{Database: strings.TrimPrefix(a.word(1), "-"), Recipient: a.get("recipient", ""), Sender: a.get("sender", ""), MessageID: a.get("message-id", ""),
		ResubmitTo: a.get("to", ""), Unresponsive: a.get("unresponsive", ""), Correlation: a.get("correlation", ""), Rate: s.int(a.get("rate", "0")),
		Again: a.word(2) == "again", Reason: a.get("reason", ""), By: a.get("by", "")}
	if a.has("start") {
		c.Start = s.now.Add(s.span(a.get("start", "")))
	}
	if a.has("end") {
		c.End = s.now.Add(s.span(a.get("end", "")))
	}
	answer := s.do(KindRequestAdd, c)
	if answer.Refused != nil {
		return s.show(answer)
	}
	return "request " + answer.Text
}

func (s *script) millis(a args, name string) mail.Duration {
	return mail.Duration(s.span(a.get(name, "0")).Milliseconds())
}

// activate DB1 b auto from=a/1 through=-1h term=1: from is what the state says
// unless given.
func (s *script) activate(a args) string {
	v := s.f.View()
	d, _ := v.Database(a.word(0))
	v.Close()
	from, n, _ := strings.Cut(a.get("from", fmt.Sprintf("%s/%d", d.Active, d.Activation)), "/")
	c := Activate{Database: a.word(0), Copy: a.word(1), From: from, Activation: uint64(s.int(n)), Auto: a.word(2) == "auto",
		Term: uint64(s.int(a.get("term", fmt.Sprint(s.term)))), Reason: a.get("reason", ""), By: a.get("by", "")}
	if a.has("through") {
		c.Through = s.now.Add(s.span(a.get("through", "")))
	}
	return s.apply(KindActivate, c)
}

// health DB1 a=healthy b=dead text=… term=1 addr=…: the address is the copy's
// and the term the present one unless given.
func (s *script) health(a args) string {
	v := s.f.View()
	d, _ := v.Database(a.word(0))
	v.Close()
	h := Health{Term: uint64(s.int(a.get("term", fmt.Sprint(s.term))))}
	for _, p := range a.pairs {
		if p[1] != "healthy" && p[1] != "dead" {
			continue
		}
		x := CopyHealth{Database: a.word(0), Copy: p[0], Addr: a.get("addr", ""), Healthy: p[1] == "healthy", Text: a.get("text", "")}
		if c := d.copy(p[0]); c != nil && x.Addr == "" {
			x.Addr = c.Addr
		}
		h.Copies = append(h.Copies, x)
	}
	return s.apply(KindHealth, h)
}

// flap DB1 b times=9: it goes up and down.
func (s *script) flap(a args) string {
	for i := range s.int(a.get("times", "1")) {
		s.now = s.now.Add(time.Second)
		word := []string{"healthy", "dead"}[i%2]
		s.health(args{words: a.words, pairs: [][2]string{{a.word(1), word}}})
	}
	return ""
}

// resubmit 7 rows=10: a piece of a request, by its number.
func (s *script) resubmit(a args) string {
	return s.apply(KindAdvance, Advance{Request: uint64(s.int(a.word(0))), Rows: s.int(a.get("rows", "64"))})
}

func (s *script) queue(a args) string {
	return s.apply(KindQueue, QueueChange{Key: a.word(1), Suspend: a.word(0) == "suspend", Reason: a.get("reason", ""), By: a.get("by", "")})
}

func (s *script) message(a args) string {
	return s.apply(KindMessage, MessageChange{Op: a.word(0), IDs: s.idList(a.words[1:]), Reason: a.get("reason", ""), By: a.get("by", ""),
		Database: a.get("database", ""), To: a.get("to", ""), Queue: a.get("queue", "")})
}

// mark compares the hash that the machine computes with that of its tables.
func (s *script) mark(args) string {
	a := s.must(KindMark, Mark{})
	_, wait, ok := s.f.HashAt(a.Index)
	if !ok {
		return "no hash"
	}
	<-wait
	if sum, _, _ := s.f.HashAt(a.Index); sum != s.hash() {
		return "another hash"
	}
	return "hash of the state"
}

func (s *script) restart(args) string {
	s.close()
	s.open(s.fs)
	return ""
}

// crashed loses what was not synced, and replays it.
func (s *script) crashed(args) string {
	rng := rand.New(rand.NewPCG(2, uint64(len(s.log))))
	want := s.hash()
	s.replay(s.log[s.crash(rng):], 3, rng)
	if s.hash() != want {
		return "another state"
	}
	return "same state"
}

// installed goes on with a second machine that got the state as a snapshot.
func (s *script) installed(args) string {
	want := s.hash()
	to := newMachine(s.t)
	s.install(to)
	if to.hash() != want {
		return "another state"
	}
	to.log, to.now = s.log, s.now
	s.machine = to
	return "same state"
}
