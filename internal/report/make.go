package report

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sekisho/internal/lease"
	"sekisho/internal/printable"
	"sekisho/internal/sshlog"
	"sekisho/internal/store"
)

// Keeper is what a report is made from; *store.Store is one.
type Keeper interface {
	Counts(ctx context.Context, sinceDay string, yield func(store.Count) error) error
	Bans(ctx context.Context, since time.Time, yield func(lease.Lease) error) error
	Onsets(ctx context.Context, since time.Time, yield func(store.Onset) error) error
	Unbans(ctx context.Context, since time.Time, yield func(store.Unban) error) error
	Logins(ctx context.Context, since time.Time, yield func(sshlog.Login) error) error
	Rules(ctx context.Context, sinceDay string, yield func(store.RuleCount) error) error
	Skipped() int
}

// Options are Make's.
type Options struct {
	Days   int       // 1 to MaxDays, today included
	Now    time.Time // its zone is the host's
	Host   string
	Places *Places // whose country addresses are; nil: known of rows that say it alone
	Top    int     // rows of a table, 10 unless set

	distinct int // the bound of what is told apart, 32768 unless set
}

const (
	mostKinds  = 256
	mostCauses = 64
	mostLogins = 4096 // persons and places that are told apart
)

// Make makes the report of the last days. Memory is bounded, whatever the store
// holds; an error is the store's or ctx's.
func Make(ctx context.Context, from Keeper, o Options) (Report, error) {
	if o.Days < 1 || o.Days > MaxDays {
		return Report{}, fmt.Errorf("a report of %d days: 1 to %d", o.Days, MaxDays)
	}
	if o.Top <= 0 {
		o.Top = 10
	}
	if o.distinct <= 0 {
		o.distinct = 1 << 15
	}
	m := newMaker(o)
	skipped := from.Skipped()
	first := m.r.ByDay[0].Day
	for _, read := range []func() error{
		func() error { return from.Counts(ctx, first, m.count) },
		func() error { m.rank(); return nil },
		func() error { return from.Bans(ctx, m.r.From, m.ban) },
		func() error { return from.Onsets(ctx, m.r.From, m.onset) },
		func() error { return from.Unbans(ctx, m.r.From, m.unban) },
		func() error { return from.Logins(ctx, m.r.From, m.login) },
		func() error { return from.Rules(ctx, first, m.rule) },
	} {
		if err := read(); err != nil {
			return Report{}, fmt.Errorf("make the report: %w", err)
		}
	}
	m.finish()
	m.r.Damaged = max(0, from.Skipped()-skipped)
	return m.r, nil
}

// maker is a report in the making.
type maker struct {
	o    Options
	r    Report
	days map[string]*Day

	sources   tops[netip.Addr]
	networks  tops[netip.Prefix]
	names     tops[string]
	countries map[string]*Country
	kinds     map[string]*Kind
	logins    map[place]*Login
	otherIn   int // logins past the bound

	inCountry map[string]int // distinct sources
	bySource  map[netip.Addr]*Source
	byNetwork map[netip.Prefix]*Network

	causes    map[string]int
	banned    Banned // the prefix whose bans come now
	reactions []time.Duration
	drops     map[string]*Drops
}

// place is a person and where from.
type place struct{ user, country string }

func newMaker(o Options) *maker {
	m := &maker{
		o: o, days: map[string]*Day{}, sources: newTops[netip.Addr](o.distinct), networks: newTops[netip.Prefix](o.distinct), names: newTops[string](o.distinct),
		countries: map[string]*Country{}, kinds: map[string]*Kind{}, logins: map[place]*Login{}, causes: map[string]int{}, drops: map[string]*Drops{},
		inCountry: map[string]int{}, bySource: map[netip.Addr]*Source{}, byNetwork: map[netip.Prefix]*Network{},
	}
	midnight := func(back int) time.Time {
		return time.Date(o.Now.Year(), o.Now.Month(), o.Now.Day()-back, 0, 0, 0, 0, o.Now.Location())
	}
	m.r = Report{Host: printable.Text(o.Host), From: midnight(o.Days - 1), To: o.Now.Truncate(time.Second), Days: o.Days, ByDay: make([]Day, o.Days)}
	for i := range m.r.ByDay {
		d := &m.r.ByDay[i]
		d.Day = midnight(o.Days - 1 - i).Format(time.DateOnly)
		m.days[d.Day] = d
	}
	return m
}

// dayOf is the day of a moment, nil where that is not in the report.
func (m *maker) dayOf(t time.Time) *Day {
	return m.days[t.In(m.o.Now.Location()).Format(time.DateOnly)]
}

// country is whose a is by today's data, so that all tables say the same of it; else
// the code that the store has: it alone knows of rows that were summed without source.
func (m *maker) country(code string, a netip.Addr) string {
	if today := m.o.Places.Country(a); today != "" {
		return today
	}
	if len(code) == 2 && 'A' <= code[0] && code[0] <= 'Z' && 'A' <= code[1] && code[1] <= 'Z' {
		return code
	}
	return ""
}

func (m *maker) count(c store.Count) error {
	day := m.days[c.Day]
	if day == nil {
		return nil // of a future that a clock set back has undone
	}
	m.r.Lines += c.Lines
	m.r.Attempts += c.Attempts
	day.Attempts += c.Attempts
	word := printable.Text(c.Kind)
	kind := m.kinds[word]
	if kind == nil {
		if len(m.kinds) >= mostKinds {
			word = sshlog.Unknown.String()
		}
		if kind = m.kinds[word]; kind == nil {
			kind = &Kind{Kind: word}
			m.kinds[word] = kind
		}
	}
	kind.Lines += c.Lines
	kind.Attempts += c.Attempts
	code := m.country(c.Country, c.Source)
	if c.Kind == sshlog.Accepted.String() {
		day.Logins += c.Lines
		m.r.Logins.Count += c.Lines
		var row *Login
		if c.User != "" {
			row = m.loginOf(place{printable.Text(c.User), code})
		}
		if row != nil {
			row.Logins += c.Lines
		} else {
			m.otherIn += c.Lines
		}
	}
	if c.Attempts <= 0 {
		return nil
	}
	m.names.add(printable.Text(c.User), c.Attempts)
	country := m.countries[code] // at most 26*26, and ""
	if country == nil {
		country = &Country{Country: code}
		m.countries[code] = country
	}
	country.Attempts += c.Attempts
	if c.Source.IsValid() {
		m.sources.add(c.Source, c.Attempts)
		m.networks.add(networkOf(c.Source), c.Attempts)
	}
	return nil
}

// networkOf is what is looked at as one network.
func networkOf(a netip.Addr) netip.Prefix {
	bits := 48
	if a.Is4() {
		bits = 24
	}
	p, _ := a.Prefix(bits)
	return p
}

// sourceOf is a source as it is written: the store keeps the first address of the /64
// that the guard counts as one.
func sourceOf(a netip.Addr) netip.Prefix {
	if p, err := a.Prefix(64); err == nil && a.Is6() && p.Addr() == a {
		return p
	}
	return netip.PrefixFrom(a, a.BitLen())
}

// rank makes the tables of what was counted.
func (m *maker) rank() {
	m.r.Sources, m.r.Networks, m.r.Names = len(m.sources.by), len(m.networks.by), len(m.names.by)
	if _, unnamed := m.names.by[""]; unnamed {
		m.r.Names--
	}
	m.r.Crowded = m.sources.folded || m.networks.folded || m.names.folded
	inNetwork := map[netip.Prefix]int{}
	top := m.networks.greatest(m.o.Top, netip.Prefix.Compare)
	for _, p := range top {
		inNetwork[p] = 0
	}
	for a := range m.sources.by {
		m.inCountry[m.country("", a)]++
		if p := networkOf(a); len(top) > 0 {
			if _, ok := inNetwork[p]; ok {
				inNetwork[p]++
			}
		}
	}
	m.r.BySource.Rows, m.r.BySource.Rest = []Source{}, m.r.Attempts
	for _, a := range m.sources.greatest(m.o.Top, netip.Addr.Compare) {
		n := m.sources.by[a]
		m.r.BySource.Rows = append(m.r.BySource.Rows, Source{Prefix: sourceOf(a), Country: m.country("", a), Attempts: n})
		m.r.BySource.Rest -= n
	}
	m.r.ByNetwork.Rows, m.r.ByNetwork.Rest = []Network{}, m.r.Attempts
	for _, p := range top {
		n := m.networks.by[p]
		m.r.ByNetwork.Rows = append(m.r.ByNetwork.Rows, Network{Prefix: p, Country: m.country("", p.Addr()), Attempts: n, Sources: inNetwork[p]})
		m.r.ByNetwork.Rest -= n
	}
	m.r.ByName.Rows, m.r.ByName.Rest = []NameRow{}, m.r.Attempts
	for _, name := range m.names.greatest(m.o.Top, strings.Compare) {
		n := m.names.by[name]
		m.r.ByName.Rows = append(m.r.ByName.Rows, NameRow{name, n})
		m.r.ByName.Rest -= n
	}
	// Looked up when bans come; the tables do not grow any more.
	for i := range m.r.BySource.Rows {
		m.bySource[m.r.BySource.Rows[i].Prefix.Addr()] = &m.r.BySource.Rows[i]
	}
	for i := range m.r.ByNetwork.Rows {
		m.byNetwork[m.r.ByNetwork.Rows[i].Prefix] = &m.r.ByNetwork.Rows[i]
	}
	m.sources, m.networks, m.names = tops[netip.Addr]{}, tops[netip.Prefix]{}, tops[string]{}
}

// ban takes the bans in the order of their prefixes.
func (m *maker) ban(l lease.Lease) error {
	day := m.dayOf(l.From)
	if day == nil {
		return nil
	}
	day.Bans++
	b := &m.r.Bans
	b.Count++
	if l.Count > 1 {
		b.Repeated++
	}
	if l.Until.IsZero() {
		b.WithoutEnd++
	}
	cause := printable.Text(l.Cause)
	if _, ok := m.causes[cause]; !ok && len(m.causes) >= mostCauses {
		cause = ""
	}
	m.causes[cause]++
	if l.Prefix != m.banned.Prefix {
		m.settle()
		m.banned = Banned{Prefix: l.Prefix, Country: m.country("", l.Prefix.Addr())}
		b.Prefixes++
	}
	m.banned.Bans++
	m.banned.Attempts += l.Attempts
	if m.banned.Last.Before(l.From) {
		m.banned.Last = l.From
	}
	if c := m.countries[m.banned.Country]; c != nil {
		c.Bans++
	}
	if s := m.bySource[l.Prefix.Addr()]; s != nil && s.Prefix == l.Prefix {
		s.Bans++
	}
	network := networkOf(l.Prefix.Addr())
	if n := m.byNetwork[network]; n != nil && l.Prefix.Bits() >= network.Bits() {
		n.Bans++
	}
	return nil
}

// settle gives the prefix whose bans have all come its place among the top.
func (m *maker) settle() {
	if m.banned.Bans == 0 {
		return
	}
	order := func(a, b Banned) int {
		return cmp.Or(cmp.Compare(b.Bans, a.Bans), cmp.Compare(b.Attempts, a.Attempts), b.Last.Compare(a.Last), a.Prefix.Compare(b.Prefix))
	}
	top := m.r.Bans.Top
	if len(top) == m.o.Top && order(m.banned, top[len(top)-1]) > 0 {
		return
	}
	at, _ := slices.BinarySearchFunc(top, m.banned, order)
	top = slices.Insert(top, at, m.banned)
	m.r.Bans.Top = top[:min(len(top), m.o.Top)]
}

func (m *maker) onset(o store.Onset) error {
	if d := o.Begun.Sub(o.First); d >= 0 && m.dayOf(o.Begun) != nil {
		m.reactions = append(m.reactions, d) // the store bounds how many there are
	}
	return nil
}

func (m *maker) unban(u store.Unban) error {
	if m.dayOf(u.At) != nil {
		m.r.Bans.Lifted++
	}
	return nil
}

// loginOf is the row of a person at a place, nil past the bound.
func (m *maker) loginOf(p place) *Login {
	l := m.logins[p]
	if l == nil && len(m.logins) < mostLogins {
		l = &Login{User: p.user, Country: p.country}
		m.logins[p] = l
	}
	return l
}

// login adds what the counts of logins do not tell.
func (m *maker) login(l sshlog.Login) error {
	if m.dayOf(l.Time) == nil {
		return nil
	}
	user := l.User
	if len(user) > maxUser {
		user = user[:maxUser]
	}
	user = printable.Text(user)
	if len(user) > maxUser {
		return nil // the counts have no such name either
	}
	row := m.loginOf(place{user, m.country("", l.Addr)})
	if row == nil {
		return nil
	}
	row.Addresses++
	if row.Last == nil || row.Last.Before(l.Time) {
		at := l.Time
		row.Last = &at
	}
	return nil
}

// maxUser is how many bytes of a name are counted by.
const maxUser = 64

func (m *maker) rule(c store.RuleCount) error {
	day := m.days[c.Day]
	by, drops := keptOutBy(c)
	switch {
	case day == nil:
	case !drops:
		m.r.LetIn += c.Packets
	default:
		day.Dropped += c.Packets
		d := m.drops[by]
		if d == nil {
			d = &Drops{By: by}
			m.drops[by] = d
		}
		d.Packets += c.Packets
		d.Bytes += c.Bytes
	}
	return nil
}

// keptOutBy says which part of the rules a rule is of, by the words that package
// firewall gives it; drops is false where it lets in.
func keptOutBy(c store.RuleCount) (by string, drops bool) {
	switch {
	case !c.Drops:
		return "", false
	case c.Chain == "raw":
		return ByBans, true
	case strings.HasPrefix(c.Rule, "not in "), strings.HasPrefix(c.Rule, "in "):
		return ByCountry, true
	case strings.HasPrefix(c.Rule, "more than ") && strings.Contains(c.Rule, " new connections a minute "):
		return ByRate, true
	case strings.HasPrefix(c.Rule, "only admins"), c.Rule == "SSH is not reached over IPv6":
		return ByExposure, true
	}
	return ByOther, true
}

func (m *maker) finish() {
	m.settle()
	b := &m.r.Bans
	if b.Top == nil {
		b.Top = []Banned{}
	}
	b.ByCause = []Cause{}
	for cause, n := range m.causes {
		b.ByCause = append(b.ByCause, Cause{cause, n})
	}
	slices.SortFunc(b.ByCause, func(x, y Cause) int { return cmp.Or(cmp.Compare(y.Bans, x.Bans), strings.Compare(x.Cause, y.Cause)) })
	if n := len(m.reactions); n > 0 {
		slices.Sort(m.reactions)
		b.Reaction = Reaction{Bans: n, Median: m.reactions[(n-1)/2], P90: m.reactions[(9*n+9)/10-1]}
	}

	all := make([]Country, 0, len(m.countries))
	for code, c := range m.countries {
		c.Sources = m.inCountry[code]
		all = append(all, *c)
	}
	slices.SortFunc(all, func(x, y Country) int {
		return cmp.Or(cmp.Compare(y.Attempts, x.Attempts), strings.Compare(x.Country, y.Country))
	})
	m.r.ByCountry = Table[Country]{Rows: all[:min(len(all), m.o.Top)]}
	for _, c := range all[len(m.r.ByCountry.Rows):] {
		m.r.ByCountry.Rest += c.Attempts
	}

	m.r.ByKind = []Kind{}
	for _, k := range m.kinds {
		m.r.ByKind = append(m.r.ByKind, *k)
	}
	slices.SortFunc(m.r.ByKind, func(x, y Kind) int {
		return cmp.Or(cmp.Compare(y.Attempts, x.Attempts), cmp.Compare(y.Lines, x.Lines), strings.Compare(x.Kind, y.Kind))
	})

	m.r.Dropped = []Drops{}
	for _, by := range []string{ByBans, ByCountry, ByRate, ByExposure, ByOther} {
		if d := m.drops[by]; d != nil {
			m.r.Dropped = append(m.r.Dropped, *d)
		}
	}

	rows := make([]Login, 0, len(m.logins))
	for _, l := range m.logins {
		rows = append(rows, *l)
	}
	last := func(l Login) time.Time {
		if l.Last == nil {
			return time.Time{}
		}
		return *l.Last
	}
	slices.SortFunc(rows, func(x, y Login) int {
		return cmp.Or(cmp.Compare(y.Logins, x.Logins), last(y).Compare(last(x)), strings.Compare(x.User, y.User), strings.Compare(x.Country, y.Country))
	})
	m.r.Logins.Rows = rows[:min(len(rows), 2*m.o.Top)]
	m.r.Logins.Rest = m.otherIn
	for _, l := range rows[len(m.r.Logins.Rows):] {
		m.r.Logins.Rest += l.Logins
	}
}
