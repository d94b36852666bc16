package access

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sekisho/internal/config"
	"sekisho/internal/printable"
)

// Request asks whether a target may be opened for somebody.
type Request struct {
	Person string
	Groups []string // that they are in beside those of the configuration, as who knows them says
	At     time.Time
	For    time.Duration // 0: as long as is usual, an hour at most
	Prefix netip.Prefix  // whom it would let in; the zero value: not known yet
	Reason string        // why; "": nobody said. It is not looked at any further
	// ApprovedBy is who said yes to this request; "": nobody. ApproverGroups are to them as
	// Groups to Person.
	ApprovedBy     string
	ApproverGroups []string
	BreakGlass     bool // it is an emergency: without approval, and outside hours
}

// usual is how long a door stays open where nobody says.
const usual = time.Hour

// Reason is one step of a decision.
type Reason struct {
	OK   bool   `json:"ok"`
	Text string `json:"text"`
}

// Decision is a yes or a no, with everything that speaks for it and against it.
type Decision struct {
	Person  string         `json:"person"`
	Target  string         `json:"target"`
	Allowed bool           `json:"allowed"`
	Until   time.Time      `json:"until,omitzero"`  // where it is allowed: when it ends at the latest
	Latest  time.Time      `json:"latest,omitzero"` // when it would end if as much was asked for as one may
	AtMost  time.Duration  `json:"at_most_ns"`      // what one request may ask for; 0: nothing
	Always  []netip.Prefix `json:"always"`          // fixed addresses that are let in without asking
	Reasons []Reason       `json:"reasons"`         // in the order in which it is decided
	Hint    string         `json:"hint,omitempty"`  // where it is not: what to do
	// Rule is which entry of allow it goes by; "": by none.
	Rule string `json:"rule,omitempty"`
	// NeedsReason and NeedsApproval are what is missing where nothing else is: that somebody
	// says why, or that one of these people or groups says yes.
	NeedsReason   bool     `json:"needs_reason,omitempty"`
	NeedsApproval []string `json:"needs_approval,omitempty"`
	// BreakGlass: it is opened as an emergency, which everybody is to be told of.
	BreakGlass bool `json:"break_glass,omitempty"`
	// MayBreakGlass: they may have it opened so.
	MayBreakGlass bool `json:"may_break_glass,omitempty"`
}

// Askable reports whether it is allowed, or would be for a reason and somebody's yes.
func (d Decision) Askable() bool { return d.Allowed || d.NeedsReason || len(d.NeedsApproval) > 0 }

// Err is the decision as an error; nil where it is allowed.
func (d Decision) Err() error {
	if d.Allowed {
		return nil
	}
	why := "it is not allowed"
	if n := len(d.Reasons); n > 0 {
		why = d.Reasons[n-1].Text
	}
	return hinted(d.Hint, "%s is not opened for %s: %s", d.Target, d.Person, why)
}

// Decide says whether door may be opened for q.Person. It is an error only where there is
// no such person. It is pure: it asks nobody, and what it was told before is forgotten.
//
// Of the entries of allow that mean the person, and whose hours it is, it goes by the one
// of which the least is missing (a reason, then an approval, then both), and of those by
// the one that lets them in the longest; but by none that does not allow the time that is
// asked for, where another does. Breaking the glass takes away approval and hours, and
// nothing else: whom allow does not mean is not let in, nobody is for longer than at_most,
// and a reason must be given.
func (a *Access) Decide(door Door, q Request) (Decision, error) {
	person, ok := a.Config.People[q.Person]
	if !ok {
		return Decision{}, unknown("person", q.Person, slices.Sorted(maps.Keys(a.Config.People)))
	}
	person.Groups = joined(person.Groups, q.Groups)
	d := Decision{Person: q.Person, Target: door.Name, Always: []netip.Prefix{}}
	yes := func(format string, args ...any) {
		d.Reasons = append(d.Reasons, Reason{true, fmt.Sprintf(format, args...)})
	}
	no := func(hint, format string, args ...any) (Decision, error) {
		d.Reasons = append(d.Reasons, Reason{false, fmt.Sprintf(format, args...)})
		d.Hint = hint
		return d, nil
	}

	entries := admits(door, q.Person, person)
	if len(entries) == 0 {
		groups := "is in no group"
		if len(person.Groups) > 0 {
			groups = "is in " + list(person.Groups)
		}
		return no(fmt.Sprintf("whoever keeps the configuration can put %s into one of those groups", q.Person), "%s is for %s, and %s %s", door.Name, list(allowed(door)), q.Person, groups)
	}
	for _, e := range entries {
		yes("%s is for %s%s", door.Name, e.Who, map[bool]string{true: "", false: ", and " + q.Person + " is one of them"}[e.Who == q.Person])
	}
	if door.Agent == "" {
		d.Always = append(d.Always, person.Fixed...)
	}
	if len(d.Always) > 0 {
		yes("%s is always let in from %s", q.Person, prefixes(person.Fixed))
	}
	if door.Exposure == config.ExposureFixed {
		return no("it lets fixed addresses in only; `exposure: on_request` would open it on request", "%s opens for nobody on request: its exposure is fixed", door.Name)
	}
	if hint, why := door.refuses(q.Prefix); why != "" {
		return no(hint, "%s", why)
	}
	if hint, why := a.ungated(door); why != "" {
		return no(hint, "%s", why)
	}
	d.MayBreakGlass = among(door.BreakGlass, q.Person, person.Groups)
	if q.BreakGlass && !d.MayBreakGlass {
		hint := "ask without breaking the glass"
		if len(door.BreakGlass) > 0 {
			hint += fmt.Sprintf("; in an emergency, ask %s", either(door.BreakGlass))
		}
		return no(hint, "%s may not break the glass of %s", q.Person, door.Name)
	}
	return a.span(&d, entries, q, yes, no)
}

// ungated says why a door opens for nobody without a gate; "" where it does, or there is one.
func (a *Access) ungated(door Door) (hint, why string) {
	if door.Agent == "" || a.Config.Gate.URL != "" {
		return "", ""
	}
	return nameGate, fmt.Sprintf("%s is the host %s, and opens through the gate only", door.Name, door.Agent)
}

const nameGate = "name the gate: gate: {url: https://gate.example.com}"

// joined is both lists.
func joined(groups, more []string) []string {
	if len(more) == 0 {
		return groups
	}
	res := slices.Clone(groups)
	for _, g := range more {
		if !slices.Contains(res, g) {
			res = append(res, g)
		}
	}
	return res
}

// among reports whether names have somebody, or a group of theirs.
func among(names []string, person string, groups []string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return n == person || slices.Contains(groups, n) })
}

// MayApprove reports whether approver, who is in groups beside those of the configuration,
// is one of names, and may say yes to what person asks for. Nobody says it to themselves.
func (a *Access) MayApprove(names []string, approver string, groups []string, person string) bool {
	p, ok := a.Config.People[approver]
	return ok && approver != person && among(names, approver, joined(p.Groups, groups))
}

// way is an entry of allow by which it may go, and what of it is missing.
type way struct {
	config.Allow
	until            time.Time
	reason, approval bool
}

// missing orders ways by what is missing.
func (w way) missing() int {
	n := 0
	if w.reason {
		n++
	}
	if w.approval {
		n += 2
	}
	return n
}

// either writes names of which one will do, at most ten of them.
func either(names []string) string {
	if n := len(names); 1 < n && n <= 10 {
		return list(names[:n-1]) + " or " + names[n-1]
	}
	return list(names)
}

// better reports whether w goes before v, of which as much is missing: it allows the time
// that is asked for, and then the most.
func better(w, v way, length time.Duration) bool {
	if fits := length <= w.AtMost; fits != (length <= v.AtMost) {
		return fits
	}
	return w.until.After(v.until)
}

// ways are the entries whose hours it is, or all in an emergency; of those of which as much
// is missing, the best; the one of which the least is missing first.
// Where there is none, next is when somebody's hours begin.
func (a *Access) ways(entries []config.Allow, q Request) (res []way, next time.Time) {
	for _, e := range entries {
		w := way{Allow: e, until: q.At.Add(e.AtMost)}
		if q.BreakGlass {
			w.Approval = nil
			w.Reason = new(true)
		} else {
			if !e.Hours.Allow(q.At) {
				if n := e.Hours.Next(q.At); !n.IsZero() && (next.IsZero() || n.Before(next)) {
					next = n
				}
				continue
			}
			if shut := e.Hours.End(q.At); !shut.IsZero() && shut.Before(w.until) {
				w.until = shut
			}
		}
		w.reason = *w.Reason && strings.TrimSpace(q.Reason) == ""
		w.approval = len(w.Approval) > 0 && !a.MayApprove(w.Approval, q.ApprovedBy, q.ApproverGroups, q.Person)
		switch i := slices.IndexFunc(res, func(o way) bool { return o.missing() == w.missing() }); {
		case i < 0:
			res = append(res, w)
		case better(w, res[i], q.For):
			res[i] = w
		}
	}
	slices.SortFunc(res, func(x, y way) int { return cmp.Compare(x.missing(), y.missing()) })
	return res, next
}

// span finds for how long, and what is missing. yes and no write into d.
func (a *Access) span(d *Decision, entries []config.Allow, q Request, yes func(string, ...any), no func(string, string, ...any) (Decision, error)) (Decision, error) {
	ways, next := a.ways(entries, q)
	if len(ways) == 0 {
		hint := "ask again then, or ask whoever keeps the configuration to change `hours`"
		if d.MayBreakGlass && a.Config.Gate.URL != "" {
			hint += "; in an emergency, break the glass"
		}
		return no(hint, "its hours are %s; they begin next at %s", hoursText(entries), next.Format("Mon 2006-01-02 15:04 MST"))
	}
	i := slices.IndexFunc(ways, func(w way) bool { return q.For <= w.AtMost })
	if i < 0 {
		most := slices.MaxFunc(ways, func(x, y way) int { return cmp.Compare(x.AtMost, y.AtMost) })
		d.AtMost, d.Latest = most.AtMost, most.until
		return no(fmt.Sprintf("ask for at most that: --for %s", config.FormatDuration(most.AtMost)), "it is opened for %s at most, and %s was asked for", config.FormatDuration(most.AtMost), config.FormatDuration(q.For))
	}
	w := ways[i]
	d.Rule, d.AtMost, d.Latest, d.BreakGlass = w.Who, w.AtMost, w.until, q.BreakGlass
	length := q.For
	if length == 0 {
		length = min(usual, w.AtMost)
	}
	until := q.At.Add(length)
	yes("it is opened for %s at most", config.FormatDuration(w.AtMost))
	switch {
	case q.BreakGlass:
		yes("%s may break the glass: neither approval nor hours are asked for, and everybody is told", q.Person)
	case len(w.Hours) > 0:
		yes("its hours are %s", hoursText([]config.Allow{w.Allow}))
		if w.until.Before(until) {
			until = w.until
			yes("it shuts at %s, when they end", until.Format("15:04 MST"))
		}
	}
	if *w.Reason && !w.reason {
		yes("it needs a reason, and one is given")
	}
	if len(w.Approval) > 0 && !w.approval {
		yes("it needs a yes of %s, and %s said it", either(w.Approval), q.ApprovedBy)
	}
	if w.missing() == 0 {
		d.Allowed, d.Until = true, until
		return *d, nil
	}
	return a.lacking(d, w, q, no)
}

// lacking says what is missing.
func (a *Access) lacking(d *Decision, w way, q Request, no func(string, string, ...any) (Decision, error)) (Decision, error) {
	var hints []string
	if w.reason {
		d.NeedsReason = true
		what := "it needs a reason, and none is given"
		if q.BreakGlass {
			what = "breaking the glass needs a reason, and none is given"
		}
		hint := "say why: --reason TEXT"
		if a.Config.Gate.URL == "" {
			hint = "reasons are kept by the gate: " + nameGate
		}
		if !w.approval {
			return no(hint, "%s", what)
		}
		if a.Config.Gate.URL != "" {
			hints = append(hints, hint)
		}
		_, _ = no("", "%s", what)
	}
	d.NeedsApproval = slices.Clone(w.Approval)
	if a.Config.Gate.URL == "" {
		hints = append(hints, "it is asked for through the gate: "+nameGate)
	} else {
		hints = append(hints, fmt.Sprintf("ask for it: it opens once they say yes at %s", a.Config.Gate.URL))
	}
	if d.MayBreakGlass && a.Config.Gate.URL != "" {
		hints = append(hints, "in an emergency, break the glass")
	}
	return no(strings.Join(hints, "; "), "it needs a yes of %s, and %s", either(w.Approval), a.unapproved(q))
}

// unapproved says why q has no approval.
func (a *Access) unapproved(q Request) string {
	switch p, known := a.Config.People[q.ApprovedBy]; {
	case q.ApprovedBy == "":
		return "nobody said it yet"
	case q.ApprovedBy == q.Person:
		return "nobody says it to themselves"
	case !known:
		return fmt.Sprintf("%q, who said it, is nobody that the configuration knows", q.ApprovedBy)
	case len(p.Groups)+len(q.ApproverGroups) == 0:
		return q.ApprovedBy + ", who said it, is none of them"
	default:
		return fmt.Sprintf("%s, who said it, is in %s", q.ApprovedBy, list(joined(p.Groups, q.ApproverGroups)))
	}
}

// admits are the entries of door that person is meant by, with what the target says
// where they say nothing.
func admits(door Door, name string, person config.Person) []config.Allow {
	var res []config.Allow
	for _, e := range door.Allow {
		if e.Who != name && !slices.Contains(person.Groups, e.Who) {
			continue
		}
		if e.AtMost == 0 {
			e.AtMost = door.AtMost
		}
		if len(e.Hours) == 0 {
			e.Hours = door.Hours
		}
		if e.Reason == nil {
			e.Reason = new(door.Reason)
		}
		if len(e.Approval) == 0 && !e.Unapproved {
			e.Approval = door.Approval
		}
		res = append(res, e)
	}
	return res
}

func allowed(door Door) []string {
	names := make([]string, len(door.Allow))
	for i, e := range door.Allow {
		names[i] = e.Who
	}
	return names
}

// refuses says why a door never lets p in on request; "" where it may.
func (d Door) refuses(p netip.Prefix) (hint, why string) {
	if !p.IsValid() {
		return "", ""
	}
	bits, family := 32, "IPv4"
	if p.Addr().Is6() {
		bits, family = max(d.IPv6, 64), "IPv6"
	}
	switch a := p.Addr(); {
	case a.Is4In6() || p != p.Masked():
		return "give an address as it is written usually", fmt.Sprintf("%s is not in its usual form", p)
	case p.Bits() == 0:
		return "give one address", fmt.Sprintf("%s is everybody", p)
	case a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast():
		return "give the address that you are seen by", fmt.Sprintf("nobody comes from %s", printable.Prefix(p))
	case p.Bits() < bits && family == "IPv6" && p.Bits() == 64:
		return "give the address itself, or set `ipv6: 64` for this target", fmt.Sprintf("%s is a whole network", p)
	case p.Bits() < bits:
		return "give one address", fmt.Sprintf("%s is wider than one address (/%d is what is let in over %s)", p, bits, family)
	}
	return "", ""
}

// Prefix is what door opens for an address.
func (d Door) Prefix(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	if a.Is6() && d.IPv6 == 64 {
		bits = 64
	}
	return netip.PrefixFrom(a, bits).Masked()
}

func prefixes(ps []netip.Prefix) string {
	texts := make([]string, len(ps))
	for i, p := range ps {
		texts[i] = printable.Prefix(p)
	}
	return list(texts)
}

func hoursText(entries []config.Allow) string {
	var texts []string
	for _, e := range entries {
		for _, s := range e.Hours {
			if t := s.String(); !slices.Contains(texts, t) {
				texts = append(texts, t)
			}
		}
	}
	return strings.Join(texts, "; ")
}
