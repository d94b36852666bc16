package ec2test

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Group is a security group.
type Group struct {
	ID          string // made, when empty
	Name        string // the id, when empty
	Description string
	VPC         string // DefaultVPC, when empty
	Tags        map[string]string
}

// Rule is a security group's rule: who may come in (or go out) to which ports. It has
// one of Prefix, PrefixList and Source.
type Rule struct {
	ID            string // made, when empty
	Group         string
	Egress        bool
	Protocol      string // tcp (also when empty), udp, icmp, icmpv6, a number, or -1 for all
	From, To      int    // ports; To is From's, when 0; -1 where there are none
	Prefix        netip.Prefix
	PrefixList    string
	Source        string // another group's id
	SourceAccount string // whose group Source is, when not the same account's
	Description   string
	Tags          map[string]string
}

// snapshot is what there is at one moment. Whatever it leads to is never changed: a
// change makes a new snapshot.
type snapshot struct {
	groups     map[string]*group
	lists      map[string]*managed
	vpcs       map[string]*vpc
	instances  map[string]*instance
	interfaces map[string]*netInterface
}

type group struct {
	Group
	seq   uint64
	rules []*rule // in the order in which they were made
}

type rule struct {
	Rule
	seq uint64
}

// key is what two rules of a group must not have in common.
type key struct {
	egress   bool
	protocol string
	from, to int
	source   string
}

func (r *Rule) key() key {
	return key{r.Egress, r.Protocol, r.From, r.To, r.source()}
}

// source is where a rule lets in from, in its canonical form.
func (r *Rule) source() string {
	switch {
	case r.PrefixList != "":
		return r.PrefixList
	case r.Source != "":
		return r.SourceAccount + "/" + r.Source
	}
	return r.Prefix.String()
}

// kind is what sort of source r has.
func (r *Rule) kind() string {
	switch {
	case r.PrefixList != "":
		return "pl"
	case r.Source != "":
		return "sg"
	case r.Prefix.Addr().Is4():
		return "v4"
	}
	return "v6"
}

// state is one place's.
type state struct {
	place     Place
	mu        sync.RWMutex
	now       *snapshot
	past      []version // the last is now's
	staleness time.Duration
	homes     map[string]string // a rule's group, also when it is there no more
}

// version is a snapshot that held from a time on.
type version struct {
	from time.Time
	snap *snapshot
}

func newState(p Place) *state {
	now := &snapshot{
		groups: map[string]*group{}, lists: map[string]*managed{}, instances: map[string]*instance{}, interfaces: map[string]*netInterface{},
		vpcs: map[string]*vpc{DefaultVPC: {id: DefaultVPC, cidr: "172.31.0.0/16"}},
	}
	return &state{place: p, now: now, past: []version{{snap: now}}, homes: map[string]string{}}
}

// current is the true state.
func (st *state) current() *snapshot {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return st.now
}

// seen is the state that a describe shows.
func (st *state) seen(now time.Time) *snapshot {
	st.mu.RLock()
	defer st.mu.RUnlock()
	if st.staleness == 0 {
		return st.now
	}
	return st.past[st.shown(now)].snap
}

// shown is the index of the version that is shown; the caller holds mu.
func (st *state) shown(now time.Time) int {
	at := now.Add(-st.staleness)
	i := len(st.past) - 1
	for i > 0 && st.past[i].from.After(at) {
		i--
	}
	return i
}

// change makes a change, whole or not at all.
func (st *state) change(now time.Time, f func(*snapshot) error) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	next := &snapshot{
		groups: maps.Clone(st.now.groups), lists: maps.Clone(st.now.lists), vpcs: maps.Clone(st.now.vpcs),
		instances: maps.Clone(st.now.instances), interfaces: maps.Clone(st.now.interfaces),
	}
	if err := f(next); err != nil {
		return err
	}
	st.now = next
	if st.staleness == 0 {
		st.past = append(st.past[:0], version{now, next})
		return nil
	}
	st.past = slices.Delete(st.past, 0, st.shown(now))
	st.past = append(st.past, version{now, next})
	return nil
}

// setStaleness has describes show what was there d ago; what was before that is not known.
func (st *state) setStaleness(d time.Duration, now time.Time) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if d == 0 {
		st.past = []version{{now, st.now}}
	}
	st.staleness = d
}

// home is the group that a rule is or was in.
func (st *state) home(rule string) string {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return st.homes[rule]
}

// ordered are the groups in the order in which they were made.
func (sn *snapshot) ordered() []*group {
	return slices.SortedFunc(maps.Values(sn.groups), func(a, b *group) int { return cmp.Compare(a.seq, b.seq) })
}

// put puts a group's rules in the place of those that are there.
func (sn *snapshot) put(g *group, rules []*rule) {
	changed := *g
	changed.rules = rules
	sn.groups[g.ID] = &changed
}

// uses tells which groups have a rule that refers to a group or a prefix list.
func (sn *snapshot) uses(refers func(*Rule) bool) []string {
	var users []string
	for _, g := range sn.ordered() {
		if slices.ContainsFunc(g.rules, func(r *rule) bool { return refers(&r.Rule) }) {
			users = append(users, g.ID)
		}
	}
	return users
}
