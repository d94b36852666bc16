package access

import (
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
	At     time.Time
	For    time.Duration // 0: as long as is usual, an hour at most
	Prefix netip.Prefix  // whom it would let in; the zero value: not known yet
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
}

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
// no such person.
func (a *Access) Decide(door Door, q Request) (Decision, error) {
	person, ok := a.Config.People[q.Person]
	if !ok {
		return Decision{}, unknown("person", q.Person, slices.Sorted(maps.Keys(a.Config.People)))
	}
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
	if d.Always = append(d.Always, person.Fixed...); len(d.Always) > 0 {
		yes("%s is always let in from %s", q.Person, prefixes(person.Fixed))
	}
	if door.Exposure == config.ExposureFixed {
		return no("it lets fixed addresses in only; `exposure: on_request` would open it on request", "%s opens for nobody on request: its exposure is fixed", door.Name)
	}
	if hint, why := door.refuses(q.Prefix); why != "" {
		return no(hint, "%s", why)
	}
	return a.span(&d, entries, q, yes, no)
}

// span finds for how long, by what of entries allows the most. yes and no write into d.
func (a *Access) span(d *Decision, entries []config.Allow, q Request, yes func(string, ...any), no func(string, string, ...any) (Decision, error)) (Decision, error) {
	var best *config.Allow
	var until time.Time
	var next time.Time // when somebody's hours begin
	for _, e := range entries {
		if !e.Hours.Allow(q.At) {
			if n := e.Hours.Next(q.At); !n.IsZero() && (next.IsZero() || n.Before(next)) {
				next = n
			}
			continue
		}
		end := q.At.Add(e.AtMost)
		if close := e.Hours.End(q.At); !close.IsZero() && close.Before(end) {
			end = close
		}
		if best == nil || end.After(until) {
			best, until = &e, end
		}
	}
	if best == nil {
		return no("ask again then, or ask whoever keeps the configuration to change `hours`", "its hours are %s; they begin next at %s", hoursText(entries), next.Format("Mon 2006-01-02 15:04 MST"))
	}
	d.AtMost, d.Latest = best.AtMost, until
	if q.For > best.AtMost {
		return no(fmt.Sprintf("ask for at most that: --for %s", config.FormatDuration(best.AtMost)), "it is opened for %s at most, and %s was asked for", config.FormatDuration(best.AtMost), config.FormatDuration(q.For))
	}
	length := q.For
	if length == 0 {
		length = min(usual, best.AtMost)
	}
	d.Allowed, d.Until = true, q.At.Add(length)
	yes("it is opened for %s at most", config.FormatDuration(best.AtMost))
	if len(best.Hours) > 0 {
		yes("its hours are %s", hoursText([]config.Allow{*best}))
		if until.Before(d.Until) {
			d.Until = until
			yes("it shuts at %s, when they end", until.Format("15:04 MST"))
		}
	}
	return *d, nil
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
