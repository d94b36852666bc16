package gate

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sekisho/internal/access"
	"sekisho/internal/config"
	"sekisho/internal/gate/api"
	"sekisho/internal/ledger"
)

// where is the door that a grant was made at, as its row keeps it: a target may be edited
// or removed while something is open there.
type where struct {
	Account, Region, Group string
	Host                   string // an enrolled host; the others are "" then
	Port                   uint16
	IPv6                   int
}

func whereOf(t config.Target) where {
	if t.Agent != "" {
		return where{Host: t.Agent, Port: t.Port, IPv6: t.IPv6}
	}
	return where{Account: t.AWS.Account, Region: t.AWS.Region, Group: t.AWS.Group, Port: t.Port, IPv6: t.IPv6}
}

// String is w as a row has it: its parts with tabs between, which none of them holds.
func (w where) String() string {
	return strings.Join([]string{w.Account, w.Region, w.Group, w.Host, strconv.Itoa(int(w.Port)), strconv.Itoa(w.IPv6)}, "\t")
}

// parseWhere reads what String wrote; anything else is nowhere.
func parseWhere(s string) where {
	parts := strings.Split(s, "\t")
	if len(parts) != 6 {
		return where{}
	}
	port, err := strconv.ParseUint(parts[4], 10, 16)
	if err != nil {
		return where{}
	}
	bits, err := strconv.Atoi(parts[5])
	if err != nil {
		return where{}
	}
	return where{parts[0], parts[1], parts[2], parts[3], uint16(port), bits}
}

// door is w as package access opens and shuts it.
func (w where) door(name string) access.Door {
	return access.Door{Name: name, Target: config.Target{
		AWS:   config.TargetAWS{Account: w.Account, Region: w.Region, Group: w.Group},
		Agent: w.Host, Port: w.Port, IPv6: w.IPv6, Exposure: config.ExposureOnRequest,
	}}
}

// row is a grant with what is read out of it.
type row struct {
	ledger.Grant
	at where
}

func rowOf(g ledger.Grant) row { return row{g, parseWhere(g.Where)} }

func (r row) live() bool { return r.State != api.Ended }

// lets reports whether somebody is to be let in by r at t.
func (r row) lets(t time.Time) bool {
	return (r.State == api.Asked || r.State == api.Open) && t.Before(r.Until)
}

// live is what this gate knows of the grants that have not ended: what the ledger had when
// it was read last, and what was written here since.
type live struct {
	mu       sync.Mutex
	loaded   bool
	rows     map[string]row
	byPerson map[string]map[string]struct{} // of ids
	byTarget map[string]map[string]struct{}
	byHost   map[string]map[string]struct{}
	reading  bool
	recent   []ledger.Grant // written while it was being read
	over     memo[int64]    // the revisions of those that have ended, so that none comes back by what is heard of late
	waiters  map[string][]chan struct{}
	changed  func(old, is row) // called with mu held
}

func newLive(changed func(old, is row)) *live {
	return &live{
		rows: map[string]row{}, byPerson: map[string]map[string]struct{}{}, byTarget: map[string]map[string]struct{}{},
		byHost: map[string]map[string]struct{}{}, waiters: map[string][]chan struct{}{}, changed: changed,
	}
}

// apply takes a row as it was written or read, unless a later one is there.
func (l *live) apply(gs ...ledger.Grant) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reading {
		l.recent = append(l.recent, gs...)
	}
	for _, g := range gs {
		l.put(g)
	}
}

func (l *live) put(g ledger.Grant) {
	old, there := l.rows[g.ID]
	if there && old.Rev >= g.Rev {
		return
	}
	is := rowOf(g)
	if !is.live() {
		l.over.put(g.ID, g.Rev)
	} else if rev, ended := l.over.get(g.ID); ended && g.Rev <= rev {
		return
	}
	if !there && !is.live() {
		l.wake(g.ID)
		return
	}
	l.drop(old)
	if is.live() {
		l.rows[g.ID] = is
		index(l.byPerson, is.Person, g.ID)
		index(l.byTarget, is.Target, g.ID)
		if is.at.Host != "" {
			index(l.byHost, is.at.Host, g.ID)
		}
	}
	l.changed(old, is)
	l.wake(g.ID)
}

func index(m map[string]map[string]struct{}, key, id string) {
	if m[key] == nil {
		m[key] = map[string]struct{}{}
	}
	m[key][id] = struct{}{}
}

func unindex(m map[string]map[string]struct{}, key, id string) {
	delete(m[key], id)
	if len(m[key]) == 0 {
		delete(m, key)
	}
}

func (l *live) drop(old row) {
	if old.ID == "" {
		return
	}
	delete(l.rows, old.ID)
	unindex(l.byPerson, old.Person, old.ID)
	unindex(l.byTarget, old.Target, old.ID)
	unindex(l.byHost, old.at.Host, old.ID)
}

func (l *live) wake(id string) {
	for _, c := range l.waiters[id] {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// begin says that the ledger is about to be read, and end what it had.
func (l *live) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reading, l.recent = true, nil
}

func (l *live) end(read []ledger.Grant, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	recent := l.recent
	l.reading, l.recent = false, nil
	if err != nil {
		return
	}
	l.loaded = true
	there := make(map[string]bool, len(read))
	for _, g := range read {
		there[g.ID] = true
		l.put(g)
	}
	for _, g := range recent {
		there[g.ID] = true
		l.put(g) // it may be older in what was read
	}
	for id, old := range l.rows {
		if !there[id] { // another gate has ended it
			l.drop(old)
			gone := old
			gone.State = api.Ended
			l.changed(old, gone)
			l.wake(id)
		}
	}
}

func (l *live) get(id string) (row, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, ok := l.rows[id]
	return r, ok
}

// all are the rows that keep takes, oldest first.
func (l *live) all(keep func(row) bool) []row {
	l.mu.Lock()
	defer l.mu.Unlock()
	var res []row
	for _, r := range l.rows {
		if keep(r) {
			res = append(res, r)
		}
	}
	sortRows(res)
	return res
}

func (l *live) person(name string) []row { return l.in(l.byPerson, name) }
func (l *live) target(name string) []row { return l.in(l.byTarget, name) }
func (l *live) host(name string) []row   { return l.in(l.byHost, name) }

func (l *live) in(m map[string]map[string]struct{}, key string) []row {
	l.mu.Lock()
	defer l.mu.Unlock()
	var res []row
	for id := range m[key] {
		res = append(res, l.rows[id])
	}
	sortRows(res)
	return res
}

func sortRows(rs []row) {
	slices.SortFunc(rs, func(a, b row) int { return cmp.Or(a.Asked.Compare(b.Asked), strings.Compare(a.ID, b.ID)) })
}

// sharing are the other people who are let in at the same place from p.
func (l *live) sharing(r row, now time.Time) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	people := map[string]bool{}
	for id := range l.byTarget[r.Target] {
		o := l.rows[id]
		if o.Person != r.Person && o.lets(now) && o.at == r.at && overlaps(o.Prefix, r.Prefix) {
			people[o.Person] = true
		}
	}
	return slices.Sorted(maps.Keys(people))
}

func overlaps(a, b netip.Prefix) bool { return a.IsValid() && b.IsValid() && a.Overlaps(b) }

// wait waits until done says so of the row, or ctx ends. ok is false where the row is not
// there, or not any more.
func (l *live) wait(ctx context.Context, id string, done func(row) bool) (r row, ok bool) {
	c := make(chan struct{}, 1)
	l.mu.Lock()
	l.waiters[id] = append(l.waiters[id], c)
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		rest := slices.DeleteFunc(l.waiters[id], func(o chan struct{}) bool { return o == c })
		if len(rest) == 0 {
			delete(l.waiters, id)
		} else {
			l.waiters[id] = rest
		}
	}()
	for {
		r, ok = l.get(id)
		if !ok || done(r) {
			return r, ok
		}
		select {
		case <-ctx.Done():
			return r, true
		case <-c:
		}
	}
}
