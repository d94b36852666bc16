package trial

import (
	"fmt"
	"slices"
	"strings"

	"sekisho/internal/firewall"
	"sekisho/internal/prefixset"
)

// Change is one line of a plan.
type Change struct {
	Op    Op     `json:"op"`
	Chain string `json:"chain,omitempty"` // of a rule, without the generation; "" of a setting
	Text  string `json:"text"`            // for people: a rule's comment; "exposure: public -> fixed"
}

// Op is what happens to a line.
type Op string

// The operations.
const (
	Add    Op = "add"
	Remove Op = "remove"
	Modify Op = "modify" // of settings and addresses, never of a rule
)

// Diff is what changes when next takes the place of now, in the order of the
// rules: chain by chain, the fewest lines. Where only the addresses of countries
// differ, it is one line. Pure.
func Diff(now, next firewall.State) []Change {
	names, was, will := chains(now.Lines(), next.Lines())
	var changes []Change
	for _, name := range names {
		changes = append(changes, compare(name, was[name], will[name])...)
	}
	if len(changes) > 0 {
		return changes
	}
	return countries(now.Ruleset, next.Ruleset)
}

// chains sorts lines by chain. The names are in the order of next's; one that only
// now has comes after those that it follows there.
func chains(now, next []firewall.Line) (names []string, was, will map[string][]string) {
	was, will = make(map[string][]string), make(map[string][]string)
	for _, l := range next {
		if _, ok := will[l.Chain]; !ok {
			names = append(names, l.Chain)
		}
		will[l.Chain] = append(will[l.Chain], l.Text)
	}
	at := 0
	for _, l := range now {
		if _, ok := was[l.Chain]; !ok {
			if i := slices.Index(names, l.Chain); i >= 0 {
				at = i + 1
			} else {
				names = slices.Insert(names, at, l.Chain)
				at++
			}
		}
		was[l.Chain] = append(was[l.Chain], l.Text)
	}
	return names, was, will
}

// compare is what makes b of a: all but their longest common subsequence, what
// goes before what comes.
func compare(chain string, a, b []string) []Change {
	// length[i][j] is of the longest one of a[i:] and b[j:]. Chains are short: a line
	// a setting, and one an open port.
	length := make([][]int, len(a)+1)
	for i := range length {
		length[i] = make([]int, len(b)+1)
	}
	for i, was := range slices.Backward(a) {
		for j, will := range slices.Backward(b) {
			if was == will {
				length[i][j] = length[i+1][j+1] + 1
			} else {
				length[i][j] = max(length[i+1][j], length[i][j+1])
			}
		}
	}
	var changes []Change
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			i, j = i+1, j+1
		case j == len(b), i < len(a) && length[i+1][j] >= length[i][j+1]:
			changes = append(changes, Change{Remove, chain, a[i]})
			i++
		default:
			changes = append(changes, Change{Add, chain, b[j]})
			j++
		}
	}
	return changes
}

// countries is the change of the countries' addresses alone.
func countries(now, next firewall.Ruleset) []Change {
	if next.Generation == 0 || next.Rules.Countries.None() || now.Countries.Equal(next.Countries) {
		return nil
	}
	codes := slices.Concat(next.Rules.Countries.Allow, next.Rules.Countries.Deny)
	return []Change{{Op: Modify, Text: fmt.Sprintf("addresses of %s: %s; %s", strings.Join(codes, ", "),
		amount("more", next.Countries.Difference(now.Countries)), amount("fewer", now.Countries.Difference(next.Countries)))}}
}

func amount(word string, s prefixset.Set) string {
	v4, v6 := s.Size()
	return fmt.Sprintf("%d IPv4 addresses and %d IPv6 networks (/64) %s", v4, v6, word)
}
