package message

import (
	"strconv"
	"strings"
	"time"

	"sekisho/internal/notify"
	"sekisho/internal/printable"
)

// writer writes documents in one language.
type writer struct {
	words
	command string
	zone    *time.Location
}

// one is the document of one event.
func (w *writer) one(e *notify.Event) document {
	d := document{
		lang:  w.Lang(),
		level: known(e.Level),
		word:  w.Level(known(e.Level)),
		host:  clean(e.Host, 60),
		title: w.title(e),
	}
	d.foot = w.Foot(d.host, w.time(e.Time))
	switch {
	case isBan(e):
		w.ban(&d, e)
	case isAttack(e):
		w.attack(&d, e)
	case isLogin(e):
		w.login(&d, e)
	default:
		d.title, d.more = w.Headline(e.Kind, e.State, clean(string(e.Kind), 30)), clean(e.What, 160)
		w.other(&d, e)
	}
	return d
}

func isBan(e *notify.Event) bool {
	return e.Ban != nil && (e.Kind == notify.Ban || e.Kind == notify.Repeat || e.Kind == notify.Unban)
}

func isAttack(e *notify.Event) bool {
	return e.Attack != nil && (e.Kind == notify.AttackBegan || e.Kind == notify.AttackEnded)
}

func isLogin(e *notify.Event) bool {
	return e.Login != nil && (e.Kind == notify.Login || e.Kind == notify.LoginDoubt)
}

// title says in a line what happened.
func (w *writer) title(e *notify.Event) string {
	switch {
	case isBan(e):
		who := w.whose(prefix(e.Ban.Prefix), e.Owner, "")
		if e.Kind == notify.Unban {
			return w.Unbanned(who, clean(e.Ban.Holder, 40))
		}
		return w.Banned(who, e.Ban, w.names(e.Ban.Users))
	case isAttack(e) && e.Kind == notify.AttackEnded:
		return w.AttackEnded(e.Attack.Bans, e.Attack.Attempts, w.lasted(e.Attack))
	case isAttack(e):
		return w.AttackBegan(e.Attack.Bans, e.Attack.Attempts)
	case isLogin(e):
		return w.LoggedIn(e.Kind == notify.LoginDoubt, w.name(e.Login.User, 40), w.whose(bare(e.Login.Addr), e.Owner, e.Login.Country))
	}
	title := w.Headline(e.Kind, e.State, clean(string(e.Kind), 30))
	if what := clean(e.What, 160); what != "" {
		title += ": " + what
	}
	return title
}

// whose is an address with its owner and country in brackets, as far as they are known.
func (w *writer) whose(addr string, o *notify.Owner, country string) string {
	name, code := "", country
	if o != nil {
		name = owner(o, 40)
		if code == "" {
			code = o.Country
		}
	}
	var list []string
	for _, s := range []string{name, clean(code, 10)} {
		if s != "" {
			list = append(list, s)
		}
	}
	if len(list) == 0 {
		return addr
	}
	return addr + " (" + w.List(list, false) + ")"
}

// owner is the best name that there is for whose an address is.
func owner(o *notify.Owner, columns int) string {
	for _, s := range []string{o.Name, o.ASName, o.Network} {
		if s = clean(s, columns); s != "" {
			return s
		}
	}
	return ""
}

// who is the section on whose an address is.
func (w *writer) who(rows []row, o *notify.Owner, country string) section {
	s := section{title: w.Who(), rows: rows}
	put := func(label, value string) {
		if value != "" {
			s.rows = append(s.rows, row{label, value})
		}
	}
	if o == nil {
		if country != "" {
			put(w.LabelCountry(), w.country(country))
		}
		return s
	}
	put(w.LabelReverse(), clean(o.Reverse, 255))
	put(w.LabelOwner(), clean(o.Name, 160))
	var network []string
	if name := clean(o.Network, 100); name != "" {
		network = append(network, name)
	}
	if o.Prefix.IsValid() {
		network = append(network, prefix(o.Prefix))
	}
	put(w.LabelNetwork(), w.List(network, false))
	as := clean(o.ASName, 100)
	if o.ASN != 0 {
		as = strings.TrimSpace("AS" + strconv.FormatUint(uint64(o.ASN), 10) + " " + as)
	}
	put(w.LabelAS(), as)
	if country == "" {
		country = o.Country
	}
	if country != "" {
		put(w.LabelCountry(), w.country(country))
	}
	var abuse []string
	for _, a := range o.Abuse[:min(len(o.Abuse), 5)] {
		abuse = append(abuse, clean(a, 120))
	}
	put(w.LabelAbuse(), w.List(abuse, false))
	put(w.LabelSource(), clean(o.Source, 120))
	return s
}

// ban is what there is to tell of a ban.
func (w *writer) ban(d *document, e *notify.Event) {
	b := e.Ban
	lifted := e.Kind == notify.Unban
	net := prefix(b.Prefix)
	d.lead = []string{w.BanLead(b, lifted, w.until(b))}
	d.add(w.who([]row{{w.LabelAddress(), net}}, e.Owner, ""))

	what := section{title: w.What()}
	put := func(label, value string) {
		if value != "" {
			what.rows = append(what.rows, row{label, value})
		}
	}
	if !lifted {
		put(w.LabelCause(), w.Cause(b.Cause, clean(b.Cause, 40)))
	}
	if label := w.LabelAttempts(b.Cause); b.Attempts != 0 {
		put(label, printable.Grouped(b.Attempts))
	}
	put(w.LabelNames(), w.tried(b.Users))
	put(w.LabelKinds(), w.kinds(b.Kinds))
	put(w.LabelFrom(), w.time(b.From))
	if lifted {
		put(w.LabelLifted(), w.time(e.Time))
		put(w.LabelLiftedBy(), clean(b.Holder, 60))
	} else {
		put(w.LabelUntil(), w.until(b))
		if b.Holder != "guard" {
			put(w.LabelBy(), clean(b.Holder, 60))
		}
	}
	if b.Count > 0 {
		put(w.LabelCount(), w.ThisIs(b.Count))
	}
	if b.Cause != "attempts" && b.Cause != "distributed" { // theirs says again what stands above
		put(w.LabelReason(), clean(b.Reason, 400))
	}
	d.add(what)

	log := section{title: w.Log()}
	for _, line := range b.Lines[max(0, len(b.Lines)-maxLog):] {
		log.log = append(log.log, clean(line, 240))
	}
	d.add(log)

	var first command
	if lifted {
		first = command{w.DoBanAgain(), w.command + " ban " + net}
	} else {
		first = command{w.DoUnban(), w.command + " unban " + net}
	}
	see := command{w.DoWhy(), w.command + " why " + bare(b.Prefix.Addr())}
	if !b.Prefix.IsValid() {
		first, see = command{w.DoBans(), w.command + " bans"}, command{w.DoStatus(), w.command + " status"}
	}
	w.advise(d, e, []string{}, see, first)
	if !lifted {
		d.brief = append(d.brief, w.LabelUntil()+": "+w.until(b))
		if b.Count > 1 {
			d.brief = append(d.brief, w.LabelCount()+": "+w.ThisIs(b.Count))
		}
	}
	w.briefOwner(d, e.Owner)
	d.brief = append(d.brief, see.line, first.line)
}

// briefOwner is what a chat has of an owner beyond the subject's.
func (w *writer) briefOwner(d *document, o *notify.Owner) {
	if o == nil {
		return
	}
	var list []string
	if o.ASN != 0 {
		list = append(list, strings.TrimSpace("AS"+strconv.FormatUint(uint64(o.ASN), 10)+" "+clean(o.ASName, 60)))
	}
	if name := clean(o.Reverse, 100); name != "" {
		list = append(list, name)
	}
	if len(list) > 0 {
		d.brief = append(d.brief, w.List(list, false))
	}
}

// until is a ban's end.
func (w *writer) until(b *notify.BanFacts) string {
	if b.Until.IsZero() {
		return w.NoEnd()
	}
	return w.UntilFor(w.time(b.Until), w.Duration(b.Until.Sub(b.From)))
}

// lasted is how long an attack took; "" where that is not known.
func (w *writer) lasted(a *notify.AttackFacts) string {
	if a.Began.IsZero() || a.Ended.Before(a.Began) {
		return ""
	}
	return w.Duration(a.Ended.Sub(a.Began))
}

// attack is what there is to tell of many bans at once.
func (w *writer) attack(d *document, e *notify.Event) {
	a := e.Attack
	ended := e.Kind == notify.AttackEnded
	lasted := w.lasted(a)
	d.figures = []figure{{printable.Grouped(a.Bans), w.FigureBans(a.Bans)}, {printable.Grouped(a.Attempts), w.FigureAttempts(a.Attempts)}}
	if ended && lasted != "" {
		d.figures = append(d.figures, figure{lasted, w.LabelLasted()})
	}
	d.lead = []string{w.AttackLead(ended)}

	what := section{title: w.What()}
	put := func(label, value string) {
		if value != "" {
			what.rows = append(what.rows, row{label, value})
		}
	}
	put(w.LabelBegan(), w.time(a.Began))
	if ended {
		put(w.LabelEnded(), w.time(a.Ended))
	}
	put(w.LabelNames(), w.tried(a.Users))
	put(w.LabelPlaces(), w.countries(a.Places))
	d.add(what)

	sources := section{title: w.Sources()}
	var list []string
	for _, p := range a.Prefixes[:min(len(a.Prefixes), maxSources)] {
		list = append(list, prefix(p))
	}
	if len(list) > 0 {
		sources.text = []string{w.List(list, false)}
		if rest := a.Bans - len(list); rest > 0 {
			sources.text = append(sources.text, w.AndMore(rest))
		}
	}
	d.add(sources)

	bans := command{w.DoBans(), w.command + " bans"}
	w.advise(d, e, []string{w.AttackAdvice(ended)}, command{w.DoStatus(), w.command + " status"}, bans)
	if names := w.names(a.Users); names != "" {
		d.brief = append(d.brief, w.LabelNames()+": "+names)
	}
	if len(a.Places) > 0 {
		d.brief = append(d.brief, w.LabelPlaces()+": "+w.countries(a.Places[:min(len(a.Places), 5)]))
	}
	d.brief = append(d.brief, bans.line)
}

// login is what there is to tell of a login, and what to do if it was somebody else's.
func (w *writer) login(d *document, e *notify.Event) {
	l := e.Login
	doubt := e.Kind == notify.LoginDoubt
	addr := bare(l.Addr)
	d.lead = []string{w.LoginLead(doubt)}
	if doubt {
		if what := clean(e.What, 600); what != "" {
			d.add(section{title: w.Why(), text: []string{what}})
		}
	}
	rows := []row{{w.LabelUser(), w.user(l.User)}, {w.LabelTime(), w.time(e.Time)}}
	if l.Method != "" {
		rows = append(rows, row{w.LabelMethod(), w.Method(l.Method, clean(l.Method, 40))})
	}
	if before := clean(l.Before, 300); before != "" {
		rows = append(rows, row{w.LabelBefore(), before})
	}
	d.add(section{title: w.What(), rows: rows})
	d.add(w.who([]row{{w.LabelAddress(), addr}}, e.Owner, l.Country))

	var steps []command
	if l.Addr.IsValid() {
		steps = append(steps,
			command{w.DoWhyLogin(), w.command + " why " + addr},
			command{w.DoBanLogin(), w.command + " ban " + addr + " --for 24h --force"})
	}
	if typable(l.User) {
		steps = append(steps, command{w.DoEndSessions(), "loginctl terminate-user " + l.User})
		if l.User != "root" { // whom no expiry should shut out of the machine's own console
			steps = append(steps,
				command{w.DoLock(), "usermod --expiredate 1 " + l.User},
				command{w.DoUnlock(), "usermod --expiredate '' " + l.User})
		}
		steps = append(steps, command{w.DoKeys(), "less ~" + l.User + "/.ssh/authorized_keys"})
	}
	w.advise(d, e, []string{w.LoginAdvice()}, steps...)
	if before := clean(l.Before, 150); before != "" {
		d.brief = append(d.brief, w.LabelBefore()+": "+before)
	}
	if what := clean(e.What, 190); doubt && what != "" {
		d.brief = append(d.brief, what)
	}
	w.briefOwner(d, e.Owner)
	for _, c := range steps[:min(len(steps), 2)] {
		d.brief = append(d.brief, c.line)
	}
}

// other is what happened in the event's own words.
func (w *writer) other(d *document, e *notify.Event) {
	d.lead = []string{w.Lead(e.Kind)}
	if e.Kind == "" || d.lead[0] == "" {
		d.lead = nil
	}
	if what := clean(e.What, 2000); what != "" {
		d.add(section{title: w.What(), text: []string{what}})
	}
	if e.Owner != nil {
		d.add(w.who(nil, e.Owner, ""))
	}
	var steps []command
	do := func(what, args string) { steps = append(steps, command{what, w.command + " " + args}) }
	switch e.Kind {
	case notify.Ban, notify.Repeat, notify.Unban, notify.AttackBegan, notify.AttackEnded:
		do(w.DoBans(), "bans")
	case notify.Country:
		do(w.DoCountry(), "country show")
		do(w.DoStatus(), "status")
	case notify.LeaseStuck:
		do(w.DoLeases(), "leases")
		do(w.DoReap(), "reap")
	case notify.GroupFinding:
		do(w.DoWho(), "who")
		do(w.DoPlanGroups(), "plan --groups")
	case notify.Degraded:
		do(w.DoStatus(), "status")
		steps = append(steps, command{w.DoJournal(), "journalctl -u sekisho -e"})
	case notify.Test, notify.Report:
	default:
		do(w.DoStatus(), "status")
	}
	w.advise(d, e, nil, steps...)
	if e.Kind != notify.Test {
		for _, c := range steps[:min(len(steps), 1)] {
			d.brief = append(d.brief, c.line)
		}
	}
}

// remedy is the event's own, where we have no words for that in whoever's language it is.
func remedy(e *notify.Event) string {
	if isBan(e) || isAttack(e) || isLogin(e) {
		return ""
	}
	return e.Remedy
}

// advise says what to do: the event's own remedy, or ours, then the commands.
func (w *writer) advise(d *document, e *notify.Event, advice []string, steps ...command) {
	s := section{title: w.Do(), commands: steps}
	if text := clean(remedy(e), 1000); text != "" {
		s.text = []string{text}
		d.brief = append(d.brief, "→ "+clean(text, 190))
	} else {
		s.text = advice
	}
	d.add(s)
}

// digest is the document of several events: how many of what, then the worst first.
func (w *writer) digest(events []notify.Event, more int) document {
	more = max(more, 0)
	d := document{lang: w.Lang(), level: notify.Info, host: w.hosts(events)}
	counts := map[notify.Kind]int{}
	var from, to time.Time
	for i := range events {
		e := &events[i]
		counts[e.Kind]++
		if rank(e.Level) > rank(d.level) {
			d.level = known(e.Level)
		}
		if !e.Time.IsZero() && (from.IsZero() || e.Time.Before(from)) {
			from = e.Time
		}
		if e.Time.After(to) {
			to = e.Time
		}
	}
	d.word = w.Level(d.level)

	var parts []string
	others := len(events)
	for _, k := range append(notify.Kinds(), notify.Test) {
		n := counts[k]
		if n == 0 {
			continue
		}
		others -= n
		parts = append(parts, w.CountOf(k, n))
		d.figures = append(d.figures, figure{printable.Grouped(n), w.FigureOf(k, n)})
	}
	if others += more; others > 0 {
		parts = append(parts, w.OthersOf(others))
		d.figures = append(d.figures, figure{printable.Grouped(others), w.FigureOthers(others)})
	}
	d.title, d.more = w.Digest(len(events)+more), w.List(parts, false)
	if !from.IsZero() {
		d.lead = []string{w.Span(w.time(from), w.time(to))}
	}

	sorted := worstFirst(events)
	shown := sorted[:min(len(sorted), maxEvents)]
	several := manyHosts(events)
	for _, level := range []notify.Level{notify.Alarm, notify.Warning, notify.Info} {
		w.digestLevel(&d, level, shown, several)
	}
	if rest := len(events) - len(shown) + more; rest > 0 {
		d.add(section{title: w.More(), text: []string{w.NotShown(rest)}})
	}
	d.add(section{title: w.Do(), commands: []command{
		{w.DoBans(), w.command + " bans"},
		{w.DoStatus(), w.command + " status"},
	}})
	const few = 8
	for i := range shown[:min(len(shown), few)] {
		d.brief = append(d.brief, "- "+clean(w.hosted(&shown[i], several), 100))
	}
	if rest := len(events) + more - few; rest > 0 {
		d.brief = append(d.brief, w.AndMore(rest))
	}
	d.foot = w.Foot(d.host, w.time(to))
	return d
}

// digestLevel are the events of one level: each in a line or two, bans as a table.
func (w *writer) digestLevel(d *document, level notify.Level, events []notify.Event, several bool) {
	s := section{title: w.LevelTitle(level), level: level}
	t := section{title: w.BansTitle(level), level: level, head: banRow{
		from: w.LabelFrom(), until: w.LabelUntil(), prefix: w.LabelAddress(), attempts: w.LabelTries(), names: w.LabelNames(), owner: w.LabelOwner(), country: w.LabelCC(), count: w.LabelNth(),
	}}
	if several {
		t.head.host = w.LabelHost()
	}
	for i := range events {
		e := &events[i]
		switch {
		case known(e.Level) != level:
		case isBan(e) && e.Kind != notify.Unban:
			r := banRow{
				from: w.minute(e.Ban.From), until: w.minute(e.Ban.Until), prefix: prefix(e.Ban.Prefix),
				attempts: printable.Grouped(e.Ban.Attempts), names: w.names(e.Ban.Users),
			}
			if e.Ban.Until.IsZero() {
				r.until = w.NoEndShort()
			}
			if e.Ban.Attempts == 0 {
				r.attempts = ""
			}
			if e.Ban.Count > 1 {
				r.count = printable.Grouped(e.Ban.Count)
			}
			if several {
				r.host = clean(e.Host, 20)
			}
			if e.Owner != nil {
				r.owner, r.country = owner(e.Owner, 40), clean(e.Owner.Country, 4)
			}
			if r.names == "" && e.Ban.Cause != "attempts" {
				r.names = w.Cause(e.Ban.Cause, clean(e.Ban.Cause, 40))
			}
			t.bans = append(t.bans, r)
		default:
			it := item{time: w.minute(e.Time), title: w.hosted(e, several)}
			if text := clean(remedy(e), 200); text != "" {
				it.detail = "→ " + text
			} else if isLogin(e) {
				it.detail = clean(e.Login.Before, 160)
				if it.detail != "" {
					it.detail = w.LabelBefore() + ": " + it.detail
				}
			}
			s.items = append(s.items, it)
		}
	}
	d.add(s)
	d.add(t)
}

// hosted is an event's title, with its host where events are of several.
func (w *writer) hosted(e *notify.Event, several bool) string {
	if host := clean(e.Host, 40); several && host != "" {
		return "[" + host + "] " + w.title(e)
	}
	return w.title(e)
}

func manyHosts(events []notify.Event) bool {
	for i := range events {
		if events[i].Host != events[0].Host {
			return true
		}
	}
	return false
}

// hosts is whose events these are.
func (w *writer) hosts(events []notify.Event) string {
	if len(events) == 0 {
		return ""
	}
	seen := map[string]bool{}
	for i := range events {
		seen[events[i].Host] = true
	}
	first := clean(events[0].Host, 60)
	if len(seen) == 1 {
		return first
	}
	return w.HostAnd(first, len(seen)-1)
}
