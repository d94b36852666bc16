package guard

import (
	"net/netip"
	"time"

	"sekisho/internal/lease"
	"sekisho/internal/sshlog"
)

// Why is everything that the guard knows of an address, for people.
type Why struct {
	Addr     netip.Addr   `json:"addr"`
	Source   netip.Prefix `json:"source"`             // what it is counted under
	Attempts []Attempt    `json:"attempts,omitempty"` // in the window, newest first, at most 50
	Weight   int          `json:"weight"`             // of all in the window
	Bar      int          `json:"bar"`                // the weight that brings a ban
	BarCause string       `json:"bar_cause"`          // why the bar is where it is
	Total    int          `json:"total"`              // attempts since the source was first seen, as far as remembered
	Ban      *lease.Lease `json:"ban,omitempty"`
	Never    string       `json:"never,omitempty"` // why it is never banned
	Login    *Login       `json:"login,omitempty"` // the last from this source
	Sessions []Session    `json:"sessions,omitempty"`
	Bans     int          `json:"bans"` // how often its source was banned
	LastBan  *time.Time   `json:"last_ban,omitempty"`
}

// Attempt is one entry of a window.
type Attempt struct {
	Time    time.Time `json:"time"`
	Kind    string    `json:"kind"`
	User    string    `json:"user,omitempty"` // escaped
	Invalid bool      `json:"invalid,omitempty"`
	Weight  int       `json:"weight"`
}

// Login is somebody who logged in.
type Login struct {
	Addr netip.Addr `json:"addr"`
	User string     `json:"user"` // escaped
	Time time.Time  `json:"time"`
}

// Session is a connection on which somebody is logged in.
type Session struct {
	Peer  netip.AddrPort `json:"peer"`
	User  string         `json:"user"` // escaped
	Since time.Time      `json:"since"`
}

const maxShown = 50

// Why tells all about an address as of now. It changes nothing.
func (e *Engine) Why(a netip.Addr, now time.Time) Why {
	a = plain(a)
	why := Why{Addr: a}
	if !a.IsValid() {
		return why
	}
	ns := now.UnixNano()
	ms := ns / 1e6
	source := e.judge.source(a)
	why.Source = source
	k := addrKey(source.Addr())

	ban, r, settled := e.bans.cover(addrOf(a), ns, false)
	if r.cause != ended {
		l := e.bans.lease(ban, r)
		why.Ban = &l
	}
	if r, ok := e.bans.get(keyOf(source)); ok && r.count > 0 {
		at := time.Unix(0, r.from).UTC()
		why.Bans, why.LastBan = int(r.count), &at
	}

	width, bar, cause := e.judge.find, e.judge.MaxRetry, "max_retry"
	f := e.friends.get(k)
	w := e.sources.get(k)
	if f != nil {
		w = &f.window
		why.Login = &Login{Addr: f.addr, User: f.user, Time: time.UnixMilli(f.last).UTC()}
		if e.lately(f, ms) {
			bar, cause = e.judge.Known.MaxRetry, "known: logged in lately"
		}
	}
	if w != nil {
		why.Total = int(w.total)
		if f == nil && e.aimed(w, ms-e.judge.dist, ms) > 0 && len(e.names.fire) > 0 {
			width, bar, cause = e.judge.dist, e.judge.Distributed.MaxRetry, "distributed: it tries user names that many sources try, or that do not exist"
		}
		since := ms - width
		if ns >= settled {
			since = max(since, settled/1e6-1)
		}
		e.nodes.each(w, func(at attempt) bool {
			if at.ms() <= since || at.ms() > ms {
				return true
			}
			why.Weight += at.weight()
			if len(why.Attempts) < maxShown {
				why.Attempts = append(why.Attempts, Attempt{
					Time: time.UnixMilli(at.ms()).UTC(), Kind: at.kind().String(), User: e.names.textAt(at.name(), at.ms()),
					Invalid: at.invalid(), Weight: at.weight(),
				})
			}
			return true
		})
	}
	why.Bar, why.BarCause = bar, cause
	if by, ok := e.judge.never(netip.PrefixFrom(a, a.BitLen())); ok {
		why.Never = "within " + by.String()
	}
	for peer, s := range e.sessions.by {
		if peer.Addr() == a && s.ended == 0 && len(why.Sessions) < maxShown {
			why.Sessions = append(why.Sessions, Session{Peer: peer, User: s.user, Since: time.UnixMilli(s.since).UTC()})
		}
	}
	return why
}

// counters are what Stats sums up, but for sizes.
type counters struct {
	kinds              [64]uint64
	Attempts           uint64
	BansBegun          uint64
	SourcesEvicted     uint64
	ConnectionsEvicted uint64
	NoticesDropped     uint64
}

// Stats is what the engine holds and has seen.
type Stats struct {
	Sources     int `json:"sources"`     // hostile sources tracked
	Known       int `json:"known"`       // sources that have logged in
	Connections int `json:"connections"` // open or lately closed
	Sessions    int `json:"sessions"`    // authenticated connections
	Bans        int `json:"bans"`        // in force
	Remembered  int `json:"remembered"`  // earlier bans
	Names       int `json:"names"`       // user names tracked

	Attempts           uint64            `json:"attempts"`
	BansBegun          uint64            `json:"bans_begun"`
	SourcesEvicted     uint64            `json:"sources_evicted"`
	ConnectionsEvicted uint64            `json:"connections_evicted"`
	NoticesDropped     uint64            `json:"notices_dropped"`
	Events             map[string]uint64 `json:"events"`                 // by kind
	UnderAttack        []string          `json:"under_attack,omitempty"` // user names that many sources try
}

// Stats sums up. It takes time in proportion to the bans.
func (e *Engine) Stats() Stats {
	s := Stats{
		Sources: e.sources.n, Known: e.friends.n, Connections: e.conns.n, Names: len(e.names.list),
		Attempts: e.stats.Attempts, BansBegun: e.stats.BansBegun, SourcesEvicted: e.stats.SourcesEvicted,
		ConnectionsEvicted: e.stats.ConnectionsEvicted, NoticesDropped: e.stats.NoticesDropped,
		Events: map[string]uint64{},
	}
	for kind, n := range e.stats.kinds {
		if n > 0 && kind != int(sshlog.None) {
			s.Events[sshlog.Kind(kind).String()] = n
		}
	}
	for _, session := range e.sessions.by {
		if session.ended == 0 {
			s.Sessions++
		}
	}
	e.bans.each(func(_ prefixKey, r record) bool {
		if r.cause > forgiven && e.now < r.until {
			s.Bans++
		} else {
			s.Remembered++
		}
		return true
	})
	for _, i := range e.names.fire {
		s.UnderAttack = append(s.UnderAttack, e.names.textAt(i, e.names.at(i).last))
	}
	return s
}
