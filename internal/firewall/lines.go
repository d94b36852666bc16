package firewall

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"sekisho/internal/printable"
)

// Line is one rule for people.
type Line struct {
	Chain string // without the generation
	Text  string // what it does and with what: "drop: not in JP"
}

// Lines are the rules of s in order, for people: two States with equal Lines
// differ in nothing but the addresses of countries, and in settings that play no
// part in their rules.
func (s State) Lines() (lines []Line) {
	l := desired(s, nil, features{})
	names := []string{chainName}
	if s.Ruleset.Generation != 0 {
		for _, base := range s.Ruleset.chains() {
			names = append(names, s.Ruleset.name(base))
		}
	}
	for _, name := range names {
		base := plain(name)
		if base == passName { // the same for all, and told by the rules that lead there
			continue
		}
		c := l.chain(name)
		for _, r := range c.rules {
			if name == chainName && does(r) == "" { // a gate
				continue
			}
			for _, text := range l.texts(r, s.Ruleset.Rules) {
				// One rule for IPv4 and one for IPv6 are one for people.
				if line := (Line{base, text}); !slices.Contains(lines, line) {
					lines = append(lines, line)
				}
			}
		}
	}
	return lines
}

// texts are r in words, with all that is in its sets, if these are rules' own.
func (l layout) texts(r *nftables.Rule, rules Rules) (texts []string) {
	text := comment(r)
	prefix := does(r)
	if prefix != "" {
		prefix += ": "
	}
	for _, e := range r.Exprs {
		in, ok := e.(*expr.Lookup)
		if !ok {
			continue
		}
		s := l.set(in.SetName)
		switch kind := plain(in.SetName); kind {
		case cc4Name, cc6Name: // the comment may have no room for all of them
			c := rules.Countries
			return []string{prefix + strings.Replace(text, some(c.codes()), strings.Join(c.codes(), ", "), 1)}
		case admin4Name, admin6Name:
			for _, p := range rules.Admins {
				if p.Addr().Is6() == (kind == admin6Name) {
					texts = append(texts, fmt.Sprintf("%sadmin %v", prefix, printable.Prefix(p)))
				}
			}
			return texts
		case portsName:
			if in.SetName != portsName && prefix != "judge: " {
				break // told once
			}
			for _, p := range s.ports {
				texts = append(texts, fmt.Sprintf("%sport %d: %s", prefix, p, text))
			}
			return texts
		}
	}
	return []string{prefix + text}
}

// does is what r does in the end, in a word.
func does(r *nftables.Rule) string {
	switch e := r.Exprs[len(r.Exprs)-1].(type) {
	case *expr.Verdict:
		switch e.Kind {
		case expr.VerdictAccept:
			return "pass"
		case expr.VerdictDrop:
			return "drop"
		}
		switch plain(e.Chain) {
		case passName:
			return "pass"
		case sshName, fragName:
			return "judge"
		}
	case *expr.Reject:
		return "refuse"
	case *expr.Notrack:
		return "do not track"
	}
	return ""
}
