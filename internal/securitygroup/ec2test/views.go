package ec2test

import (
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"time"
)

// Call is one call that was answered, or met by a fault.
type Call struct {
	Place
	Action string
	Key    string // the access key
	Caller string // the ARN of whoever signed it
	When   time.Time
	Code   string // of the error; empty when there was none, "Cut" when there was no answer
	Status int
	Form   url.Values
}

// Change is what has just taken effect.
type Change struct {
	Place
	Action string   // empty for one that no call made
	Groups []string // that let in others than before, or are there no more, or bear other tags
}

// keptCalls is how many calls are remembered; the oldest are forgotten first.
const keptCalls = 1 << 17

func (s *Server) record(c Call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.calls) >= keptCalls {
		s.calls = slices.Delete(s.calls, 0, keptCalls/2)
	}
	s.calls = append(s.calls, c)
}

// Calls are those that ended, in the order in which they did.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// MaxInFlight is the most calls that there were at once.
func (s *Server) MaxInFlight() int { return int(s.highest.Load()) }

// ForgetCalls begins a new log, and a new MaxInFlight.
func (s *Server) ForgetCalls() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = nil
	s.highest.Store(s.inFlight.Load())
}

// OnChange has f be told of each change after it took effect and before its call is
// answered, of one after the other. f may look at the server, and may not change it.
func (s *Server) OnChange(f func(Change)) (remove func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	watcher := &f
	s.watchers = append(s.watchers, watcher)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.watchers = slices.DeleteFunc(s.watchers, func(w *func(Change)) bool { return w == watcher })
	}
}

func (s *Server) tell(c Change) {
	s.mu.Lock()
	watchers := slices.Clone(s.watchers)
	s.mu.Unlock()
	if len(watchers) == 0 {
		return
	}
	s.notifying.Lock()
	defer s.notifying.Unlock()
	for _, f := range watchers {
		(*f)(c)
	}
}

// Places are those that something was asked of or put at.
func (s *Server) Places() []Place {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Keys(s.states), func(a, b Place) int {
		return slices.Compare([]string{a.Account, a.Region}, []string{b.Account, b.Region})
	})
}

// Groups are a place's, in the order in which they were made.
func (s *Server) Groups(p Place) []Group {
	var groups []Group
	for _, g := range s.state(p).current().ordered() {
		out := g.Group
		out.Tags = maps.Clone(g.Tags)
		groups = append(groups, out)
	}
	return groups
}

// Rules are a place's, or those of some groups of it, in the order in which they were
// made: those for what goes out too.
func (s *Server) Rules(p Place, groups ...string) []Rule {
	var rules []Rule
	for _, g := range s.state(p).current().ordered() {
		if len(groups) > 0 && !slices.Contains(groups, g.ID) {
			continue
		}
		for _, r := range g.rules {
			out := r.Rule
			out.Tags = maps.Clone(r.Tags)
			rules = append(rules, out)
		}
	}
	return rules
}

// seed makes a change that no call made.
func (s *Server) seed(p Place, f func(*state, *snapshot) []string) {
	p = p.full()
	st := s.state(p)
	var groups []string
	_ = st.change(s.clock(), func(sn *snapshot) error { groups = f(st, sn); return nil }) // f does not fail
	if len(groups) > 0 {
		s.tell(Change{Place: p, Groups: groups})
	}
}

// addGroup puts a new group into sn, with the rule that lets all out.
func (s *Server) addGroup(st *state, sn *snapshot, g *group) {
	g.seq = s.counter.Add(1)
	out := &rule{Rule: Rule{Group: g.ID, Egress: true, Protocol: "-1", From: -1, To: -1, Prefix: netip.PrefixFrom(netip.IPv4Unspecified(), 0)}}
	g.rules = append(g.rules, out)
	s.addRules(st, g.rules)
	sn.groups[g.ID] = g
}

// addRules gives rules what makes them rules; the caller holds the state's lock.
func (s *Server) addRules(st *state, rules []*rule) {
	for _, r := range rules {
		if r.ID == "" {
			r.ID = s.id("sgr")
		}
		r.seq = s.counter.Add(1)
		st.homes[r.ID] = r.Group
	}
}

// seeded makes of a rule that a test gives one as AWS keeps it.
func seeded(r Rule, group string) *rule {
	r.Group = group
	if r.Protocol == "" {
		r.Protocol = "tcp"
	}
	if r.To == 0 {
		r.To = r.From
	}
	if r.Protocol == "-1" {
		r.From, r.To = -1, -1
	}
	if r.Prefix.IsValid() {
		r.Prefix = r.Prefix.Masked()
	}
	r.Tags = maps.Clone(r.Tags)
	return &rule{Rule: r}
}

// AddGroup puts a group, with the rules that are given and the one that lets all out, and
// the VPC, if it is not there. It is much faster than AddRule for many rules.
func (s *Server) AddGroup(p Place, g Group, rules ...Rule) (id string) {
	if g.ID == "" {
		g.ID = s.id("sg")
	}
	if g.Name == "" {
		g.Name = "group " + g.ID
	}
	if g.VPC == "" {
		g.VPC = DefaultVPC
	}
	g.Tags = maps.Clone(g.Tags)
	s.seed(p, func(st *state, sn *snapshot) []string {
		if sn.vpcs[g.VPC] == nil {
			sn.vpcs[g.VPC] = &vpc{id: g.VPC, cidr: "10.0.0.0/16", seq: s.counter.Add(1)}
		}
		made := &group{Group: g}
		for _, r := range rules {
			made.rules = append(made.rules, seeded(r, g.ID))
		}
		s.addGroup(st, sn, made)
		return []string{g.ID}
	})
	return g.ID
}

// AddRule puts a rule into a group; it panics where there is no such group.
func (s *Server) AddRule(p Place, r Rule) (id string) {
	made := seeded(r, r.Group)
	s.seed(p, func(st *state, sn *snapshot) []string {
		g := sn.groups[r.Group]
		if g == nil {
			panic("ec2test: no group " + r.Group)
		}
		s.addRules(st, []*rule{made})
		sn.put(g, slices.Concat(g.rules, []*rule{made}))
		return []string{g.ID}
	})
	return made.ID
}

// RemoveRule takes a rule away, as somebody else would; false where it is not there.
func (s *Server) RemoveRule(p Place, id string) bool {
	var groups []string
	s.seed(p, func(st *state, sn *snapshot) []string {
		if g := sn.groups[st.homes[id]]; g != nil {
			kept := slices.DeleteFunc(slices.Clone(g.rules), func(r *rule) bool { return r.ID == id })
			if len(kept) < len(g.rules) {
				sn.put(g, kept)
				groups = []string{g.ID}
			}
		}
		return groups
	})
	return groups != nil
}

// AddVPC puts a VPC that is not the default one.
func (s *Server) AddVPC(p Place, id string) {
	s.seed(p, func(_ *state, sn *snapshot) []string {
		sn.vpcs[id] = &vpc{id: id, cidr: "10.0.0.0/16", seq: s.counter.Add(1)}
		return nil
	})
}
