// Package herald decides what of all that the guard and the daemon do is worth telling
// people, and gathers what they want to know of it: who was tried, the lines of the log,
// where somebody logged in before. A flow: the daemon calls it, and hands its events to
// notify's courier. Everything it remembers is bounded.
package herald

import (
	"cmp"
	"container/list"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sekisho/internal/guard"
	"sekisho/internal/lease"
	"sekisho/internal/notify"
	"sekisho/internal/printable"
	"sekisho/internal/sshlog"
)

// Options are what a Herald needs. Only Tell is needed.
type Options struct {
	Host    string
	Tell    func(notify.Event)
	Country func(netip.Addr) string // ISO code; "": unknown
	// Exact is as Country, and may take milliseconds: it is asked of logins only. nil: Country.
	Exact func(netip.Addr) string
}

// Bounds of what is remembered.
const (
	maxSources = 2000 // that were hostile last
	maxLines   = 10   // of the log, of each
	maxLine    = 300  // bytes
	maxNames   = 20   // users and kinds, of each
	maxName    = 64

	maxPeople   = 10_000 // who logged in
	maxPlaces   = 64     // of each
	attackBans  = 10     // within attackTime begin an attack
	attackTime  = time.Minute
	attackOver  = 5 * time.Minute // without a ban
	maxPrefixes = 50
	maxTallied  = 1000 // users and countries of an attack

	manual = "manual" // the cause of a ban by hand, as leases have it
)

// Herald is one. It is not safe for concurrent use.
type Herald struct {
	o       Options
	sources map[netip.Prefix]*list.Element // of recent
	recent  *list.List                     // of *source, the last seen first
	people  map[string]*person
	window  []blow  // within attackTime
	attack  *attack // nil: there is none
}

// source is what is remembered of one. Its lines and names are as the attacker wrote them,
// and escaped where they are told.
type source struct {
	prefix netip.Prefix
	lines  []line // a ring: next is the oldest, once it is full
	next   int
	users  map[string]int
	kinds  map[sshlog.Kind]int
}

type line struct {
	time    int64
	pid     int32
	message []byte
}

// person is where somebody logged in from.
type person struct {
	countries map[string]time.Time
	networks  map[netip.Prefix]time.Time
}

// blow is a ban that may be one of an attack's.
type blow struct {
	at  time.Time
	ban *notify.BanFacts
}

type attack struct {
	facts  notify.AttackFacts
	users  map[string]int
	places map[string]int
	last   time.Time
}

// New makes a Herald.
func New(o Options) *Herald {
	if o.Country == nil {
		o.Country = func(netip.Addr) string { return "" }
	}
	if o.Exact == nil {
		o.Exact = o.Country
	}
	return &Herald{o: o, sources: map[netip.Prefix]*list.Element{}, recent: list.New(), people: map[string]*person{}}
}

func (h *Herald) tell(e notify.Event) {
	e.Host = h.o.Host
	h.o.Tell(e)
}

// Line takes in what a line of the log came to, from a source as the guard counts them.
func (h *Herald) Line(out *guard.Outcome, from netip.Prefix, l *sshlog.Line) {
	if out.Event.Kind == sshlog.None || out.Event.Kind == sshlog.Accepted || !from.IsValid() {
		return
	}
	s := h.source(from)
	if out.Attempts > 0 {
		s.kinds[out.Event.Kind] += out.Attempts
		if user := out.User[:min(len(out.User), maxName)]; len(user) > 0 {
			if _, ok := s.users[string(user)]; ok || len(s.users) < maxNames {
				s.users[string(user)] += out.Attempts
			}
		}
	}
	if len(s.lines) < min(cap(s.lines), maxLines) {
		s.lines = s.lines[:len(s.lines)+1]
	} else if len(s.lines) < maxLines {
		s.lines = append(s.lines, line{})
	}
	kept := &s.lines[s.next]
	s.next = (s.next + 1) % maxLines
	kept.time, kept.pid = l.Time, l.PID
	kept.message = append(kept.message[:0], l.Message[:min(len(l.Message), maxLine)]...)
}

// told are the lines for people, the oldest first.
func (s *source) told() []string {
	var texts []string
	for i := range s.lines {
		l := &s.lines[(s.next+i)%len(s.lines)]
		if len(s.lines) < maxLines {
			l = &s.lines[i]
		}
		texts = append(texts, l.String())
	}
	return texts
}

// String is a line of the log for people.
func (l *line) String() string {
	var b strings.Builder
	if l.time != 0 {
		b.WriteString(time.Unix(0, l.time).Format("2006-01-02 15:04:05 "))
	}
	b.WriteString("sshd")
	if l.pid != 0 {
		fmt.Fprintf(&b, "[%d]", l.pid)
	}
	b.WriteString(": " + printable.Text(string(l.message)))
	return b.String()
}

// source is what is remembered of p, the last seen of all from now on.
func (h *Herald) source(p netip.Prefix) *source {
	if e, ok := h.sources[p]; ok {
		h.recent.MoveToFront(e)
		return e.Value.(*source)
	}
	if h.recent.Len() < maxSources {
		s := &source{prefix: p, users: map[string]int{}, kinds: map[sshlog.Kind]int{}}
		h.sources[p] = h.recent.PushFront(s)
		return s
	}
	e := h.recent.Back() // the one that was seen longest ago makes room
	s := e.Value.(*source)
	delete(h.sources, s.prefix)
	s.prefix, s.next = p, 0
	clear(s.users)
	clear(s.kinds)
	s.lines = s.lines[:0] // their room is used again
	h.sources[p] = e
	h.recent.MoveToFront(e)
	return s
}

// escaped are names fit for people. Two that look the same then count as one.
func escaped(users map[string]int) map[string]int {
	m := make(map[string]int, len(users))
	for name, n := range users {
		m[printable.Text(name)] += n
	}
	return m
}

// named are the kinds by name.
func (s *source) named() map[string]int {
	m := map[string]int{}
	for k, n := range s.kinds {
		m[k.String()] = n
	}
	return m
}

// add counts name in m, which has room for some names: what comes beyond is not told.
func add(m map[string]int, name string, n, room int) {
	if _, ok := m[name]; ok || len(m) < room {
		m[name] += n
	}
}

// top are the most counted of m.
func top(m map[string]int, n int) []notify.Tried {
	all := make([]notify.Tried, 0, len(m))
	for name, count := range m {
		all = append(all, notify.Tried{Name: name, Count: count})
	}
	slices.SortFunc(all, func(a, b notify.Tried) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Name, b.Name))
	})
	return all[:min(len(all), n)]
}

// Banned tells of bans that were made.
func (h *Herald) Banned(bans []lease.Lease, enforced bool, now time.Time) {
	for _, l := range bans {
		facts := banFacts(l, enforced)
		if e, ok := h.sources[l.Prefix]; ok {
			s := e.Value.(*source)
			facts.Users, facts.Kinds, facts.Lines = top(escaped(s.users), maxNames), top(s.named(), maxNames), s.told()
			h.recent.Remove(e) // what comes after a ban is another story
			delete(h.sources, l.Prefix)
		}
		kind, word := notify.Ban, "was banned"
		if l.Count > 1 {
			kind, word = notify.Repeat, fmt.Sprintf("was banned, for the %s time", printable.Ordinal(l.Count))
		}
		if !enforced {
			word = strings.Replace(word, "was banned", "would have been banned", 1)
		}
		h.tell(notify.Event{
			Kind: kind, Level: notify.Info, Time: now, Key: l.Prefix.String(), Ban: &facts, Part: h.attack != nil && l.Cause != manual,
			What:   fmt.Sprintf("%s %s: %s", printable.Prefix(l.Prefix), word, cmp.Or(l.Reason, l.Cause)),
			Remedy: "let it in again with: sekisho unban " + printable.Prefix(l.Prefix),
		})
		if l.Cause != manual {
			h.struck(&facts, now)
		}
	}
}

func banFacts(l lease.Lease, enforced bool) notify.BanFacts {
	return notify.BanFacts{Prefix: l.Prefix, From: l.From, Until: l.Until, Cause: l.Cause, Reason: l.Reason, Holder: l.Holder, Attempts: l.Attempts, Count: l.Count, Enforced: enforced}
}

// Unbanned tells of bans that somebody lifted.
func (h *Herald) Unbanned(lifted []lease.Lease, by string, now time.Time) {
	for _, l := range lifted {
		facts := banFacts(l, true)
		facts.Holder = by
		h.tell(notify.Event{
			Kind: notify.Unban, Level: notify.Info, Time: now, Key: l.Prefix.String(), Ban: &facts,
			What: fmt.Sprintf("%s lifted the ban of %s", printable.Text(by), printable.Prefix(l.Prefix)),
		})
	}
}

// struck counts a ban towards an attack.
func (h *Herald) struck(b *notify.BanFacts, now time.Time) {
	if h.attack != nil {
		h.count(blow{now, b})
		return
	}
	h.window = slices.DeleteFunc(h.window, func(w blow) bool { return now.Sub(w.at) > attackTime })
	if h.window = append(h.window, blow{now, b}); len(h.window) < attackBans {
		return
	}
	h.attack = &attack{facts: notify.AttackFacts{Began: h.window[0].at}, users: map[string]int{}, places: map[string]int{}}
	for _, w := range h.window {
		h.count(w)
	}
	h.window = nil
	facts := h.attack.sum()
	h.tell(notify.Event{
		Kind: notify.AttackBegan, Level: notify.Warning, Time: now, Attack: &facts,
		What:   fmt.Sprintf("an attack has begun: %d sources were banned within a minute", facts.Bans),
		Remedy: "nothing has to be done: they are banned. See who: sekisho bans; who may come in at all: exposure, firewall.countries",
	})
}

// count adds a blow to the attack.
func (h *Herald) count(w blow) {
	a := h.attack
	a.last = w.at
	a.facts.Bans++
	a.facts.Attempts += w.ban.Attempts
	for _, u := range w.ban.Users {
		add(a.users, u.Name, u.Count, maxTallied)
	}
	if c := h.o.Country(w.ban.Prefix.Addr()); c != "" {
		add(a.places, c, 1, maxTallied)
	}
	if len(a.facts.Prefixes) < maxPrefixes {
		a.facts.Prefixes = append(a.facts.Prefixes, w.ban.Prefix)
	}
}

func (a *attack) sum() notify.AttackFacts {
	f := a.facts
	f.Prefixes = slices.Clone(f.Prefixes)
	f.Users, f.Places = top(a.users, maxNames), top(a.places, maxNames)
	return f
}

// Advance lets time pass: an attack ends that has gone on no longer.
func (h *Herald) Advance(now time.Time) {
	if h.attack == nil || now.Sub(h.attack.last) < attackOver {
		return
	}
	facts := h.attack.sum()
	facts.Ended = h.attack.last
	h.attack = nil
	h.tell(notify.Event{
		Kind: notify.AttackEnded, Level: notify.Info, Time: now, Attack: &facts,
		What: fmt.Sprintf("the attack is over: %d sources were banned in %s", facts.Bans, facts.Ended.Sub(facts.Began).Round(time.Second)),
	})
}

// Seen takes in a login of times before; it is not told.
func (h *Herald) Seen(l sshlog.Login) { h.see(l, h.o.Country(l.Addr)) }

// LoggedIn takes in a login, and tells of it where it comes from a country or network that
// its user was never seen to come from. Who was never seen at all is not told of: nobody
// would know what is new.
func (h *Herald) LoggedIn(l sshlog.Login) {
	before, known := h.people[l.User]
	country, network := "", networkOf(l.Addr)
	sawNetwork := false
	if known {
		_, sawNetwork = before.networks[network]
	}
	if !sawNetwork { // nothing is new in a network that was seen
		country = h.o.Exact(l.Addr)
	}
	what, where := "", ""
	if known {
		_, sawCountry := before.countries[country]
		switch {
		case country != "" && !sawCountry && len(before.countries) > 0:
			what, where = "country", strings.Join(slices.Sorted(maps.Keys(before.countries)), ", ")
		case !sawNetwork:
			what, where = "network", networks(before.networks)
		}
	}
	h.see(l, country)
	if what == "" {
		return
	}
	user := printable.Text(l.User)
	h.tell(notify.Event{
		Kind: notify.Login, Level: notify.Warning, Time: l.Time, Key: user + " " + l.Addr.String(),
		Login:  &notify.LoginFacts{User: user, Addr: l.Addr, Method: word(l.Method), Country: country, Before: where},
		What:   fmt.Sprintf("%s logged in from %s, a %s that they were not seen to come from before", user, l.Addr, what),
		Remedy: fmt.Sprintf("if that was not them: sekisho ban %s --force, end the session, and change their keys", l.Addr),
	})
}

// word is a method's, "" where it is not known.
func word(m sshlog.Method) string {
	if m == sshlog.MethodUnknown {
		return ""
	}
	return m.String()
}

// networkOf is what one provider gives to neighbours.
func networkOf(a netip.Addr) netip.Prefix {
	bits := 24
	if a.Is6() {
		bits = 48
	}
	p, _ := a.Prefix(bits) // an address has as many
	return p
}

func networks(m map[netip.Prefix]time.Time) string {
	var texts []string
	for _, p := range slices.SortedFunc(maps.Keys(m), netip.Prefix.Compare) {
		if len(texts) == 5 {
			texts = append(texts, fmt.Sprintf("%d more", len(m)-5))
			break
		}
		texts = append(texts, p.String())
	}
	return strings.Join(texts, ", ")
}

func (h *Herald) see(l sshlog.Login, country string) {
	p := h.people[l.User]
	if p == nil {
		if len(h.people) >= maxPeople {
			return // an account that was made up would be refused, not logged in
		}
		p = &person{map[string]time.Time{}, map[netip.Prefix]time.Time{}}
		h.people[l.User] = p
	}
	if country != "" {
		keep(p.countries, country, l.Time)
	}
	keep(p.networks, networkOf(l.Addr), l.Time)
}

// keep remembers k, in place of what was seen longest ago where there is no room.
func keep[K comparable](m map[K]time.Time, k K, t time.Time) {
	if _, ok := m[k]; !ok && len(m) >= maxPlaces {
		var oldest K
		var at time.Time
		for k, t := range m {
			if at.IsZero() || t.Before(at) {
				oldest, at = k, t
			}
		}
		delete(m, oldest)
	}
	m[k] = t
}

// Notice tells of what the guard noticed beside a ban.
func (h *Herald) Notice(n guard.Notice, now time.Time) {
	e := notify.Event{Time: now, What: n.Text, Key: n.Kind + " " + n.Addr.String() + " " + n.User}
	switch n.Kind {
	case guard.NoticeAccepted:
		e.Kind, e.Level = notify.LoginDoubt, notify.Alarm
		e.What = fmt.Sprintf("%s from %s %s", printable.Text(n.User), n.Addr, n.Text)
		e.Login = &notify.LoginFacts{User: n.User, Addr: n.Addr, Method: word(n.Method), Country: h.o.Exact(n.Addr)}
		e.Remedy = fmt.Sprintf("make sure that it was its owner; if not: sekisho ban %s --force, end the session, and change their keys", n.Addr)
	case guard.NoticeIneffective:
		e.Kind, e.Level, e.Remedy = notify.Degraded, notify.Alarm, "sekisho status"
	case guard.NoticeDistributed:
		// It has no bans to tell of, and its end is told nobody: it is no Attack.
		e.Kind, e.Level, e.Remedy = notify.AttackBegan, notify.Warning, "nothing has to be done: less is borne from strangers while it lasts"
	default: // who is spared is logged
		return
	}
	h.tell(e)
}
