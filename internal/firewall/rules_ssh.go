package firewall

import (
	"fmt"
	"strings"

	"github.com/google/nftables/expr"
	"go4.org/netipx"
)

// The chains and sets of SSH, but for the generation.
const (
	sshName    = "ssh"
	passName   = "pass"
	admin4Name = "admin4"
	admin6Name = "admin6"
	rate4Name  = "rate4"
	rate6Name  = "rate6"
	cc4Name    = "cc4"
	cc6Name    = "cc6"
	knock4Name = "knock4" // without a generation: all rule sets share these four
	knock6Name = "knock6"
	came4Name  = "came4"
	came6Name  = "came6"
)

// noGrant is the rule that turns away whoever holds no grant.
const noGrant = "only admins, and whoever holds a grant"

// ssh judges a new connection to SSH. Whoever is not let in gets no answer: a
// reset would tell a prober that somebody is at home, and fill conntrack's table.
func (b *builder) ssh(r Ruleset) {
	chain, pass, rules := r.name(sshName), r.name(passName), r.Rules
	if rules.NoIPv6 {
		b.rule(chain, "SSH is not reached over IPv6", family(familyOf(true)), drop())
	}
	admins4, admins6 := rangesOf(rules.Admins)
	for _, a := range []struct {
		name   string
		v6     bool
		ranges []netipx.IPRange
	}{{admin4Name, false, admins4}, {admin6Name, true, admins6}} {
		if len(a.ranges) > 0 {
			b.addSet(rangeSet(b.table, r.name(a.name), a.v6, a.ranges))
			b.rule(chain, "admins", from.in(r.name(a.name), a.v6, false), goTo(pass))
		}
	}
	if rules.Exposure == ExposureOnRequest || rules.Exposure == ExposurePublic {
		for _, id := range []setID{grant4, grant6, grant6n} {
			b.rule(chain, "whoever holds a grant", from.in(id.String(), id.v6(), id.halves()), goTo(pass))
		}
	}
	switch rules.Exposure {
	case ExposurePublic:
		b.countries(r)
		b.rate(r)
		b.rule(chain, "everyone else", goTo(pass))
	case ExposureOnRequest:
		b.remember(chain, "remember who is turned away: it may be open for another address of theirs", knock4Name, knock6Name)
		b.remember(pass, "remember who comes in: it is open for the right address", came4Name, came6Name)
		b.rule(chain, noGrant, drop())
	default:
		b.rule(chain, "only admins", drop())
	}

	// For the trial's proof: who was let in while it was armed.
	if !b.f.noDynamic {
		b.rule(pass, "while on trial: remember who came in", armed(), remember(seen4Name, false))
		b.rule(pass, "while on trial: remember who came in", armed(), remember(seen6Name, true))
	}
	b.rule(pass, "let in to SSH", count(), accept())
}

// remember puts whoever comes by into bounded sets, for Knocks.
func (b *builder) remember(chain, comment, v4, v6 string) {
	if b.f.noDynamic {
		return
	}
	for name, v6 := range both(v4, v6) {
		b.addSet(knockSet(b.table, name, v6))
		b.rule(chain, comment, note(name, v6))
	}
}

// countries drops whom the countries keep out.
func (b *builder) countries(r Ruleset) {
	c := r.Rules.Countries
	if c.None() {
		return
	}
	v4, v6 := split(r.Countries.Ranges())
	for _, s := range []struct {
		kind   string
		v6     bool
		ranges []netipx.IPRange
	}{{cc4Name, false, v4}, {cc6Name, true, v6}} {
		name := countryName(s.kind, s.ranges)
		b.addSet(rangeSet(b.table, name, s.v6, s.ranges))
		if len(c.Allow) > 0 {
			b.rule(r.name(sshName), "not in "+some(c.Allow), from.notIn(name, s.v6), drop())
		} else {
			b.rule(r.name(sshName), "in "+some(c.Deny), from.in(name, s.v6, false), drop())
		}
	}
}

// some is the first of codes: a comment has room for 127 characters.
func some(codes []string) string {
	const most = 20
	if n := len(codes); n > most {
		return fmt.Sprintf("%s and %d more", strings.Join(codes[:most], ", "), n-most)
	}
	return strings.Join(codes, ", ")
}

// rate drops what comes too often.
func (b *builder) rate(r Ruleset) {
	rate := r.Rules.Rate
	if rate == (Rate{}) {
		return
	}
	for name, v6 := range both(r.name(rate4Name), r.name(rate6Name)) {
		whom := "address"
		if v6 {
			whom = "/64"
		}
		b.addSet(rateSet(b.table, name, v6))
		b.rule(r.name(sshName),
			fmt.Sprintf("more than %d new connections a minute (burst %d) from one %s", rate.PerMinute, rate.Burst, whom),
			flags(flagACK, expr.CmpOpEq, 0), above(name, v6, rate), drop()) // an ACK is no second attempt
	}
}
