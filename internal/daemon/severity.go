package daemon

import (
	"cmp"
	"slices"
	"strings"
)

// Severity says how soon somebody should look at a Problem.
type Severity string

const (
	Warning  Severity = "warning"  // it protects, but not as it should, or not for long
	Critical Severity = "critical" // attackers, or nobody at all, may get in
)

// severities are those of the problems' keys; what is not here is a Warning.
var severities = map[string]Severity{
	"firewall": Critical, // bans are not in force
	"snapshot": Critical, // the confirmed rule set cannot be read
	"stuck":    Critical, // what has ended still lets somebody in
	"others":   Critical, // another firewall may keep everybody out
	"sources":  Critical, // no log is read: nobody is banned
	"source":   Critical,
	"absent":   Critical,
	"off":      Critical,
	"house":    Critical, // this host is the gate, and nobody is let in by it

	"conntrack": Warning, // its finding may say more
	"country":   Warning,
	"cut":       Warning,
	"drift":     Warning,
	"dry":       Warning,
	"fill":      Warning,
	"forgeable": Warning,
	"gate":      Warning,
	"metrics":   Warning,
	"notify":    Warning,
	"reload":    Warning,
	"state":     Warning,
	"unapplied": Warning,
	"unsaved":   Warning,
	"unseen":    Warning,
	"unwritten": Warning,
}

// problemOf makes a Problem of a key, whose first word says what it is about.
func problemOf(key, what, remedy string) Problem {
	word, _, _ := strings.Cut(key, " ")
	severity, ok := severities[word]
	if !ok {
		severity = Warning
	}
	return Problem{What: what, Remedy: remedy, Severity: severity}
}

// worstFirst brings what is critical to the front, and leaves the order otherwise.
func worstFirst(problems []Problem) {
	rank := func(p Problem) int {
		if p.Severity == Critical {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(problems, func(a, b Problem) int { return cmp.Compare(rank(a), rank(b)) })
}
