package firewall

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// Names stay within 15 characters, the limit of kernels before 4.14.
const (
	tableName   = "sekisho"
	chainName   = "raw" // the base chain of bans
	inputName   = "input"
	forwardName = "forward"
	rawOutName  = "rawout"
	fragName    = "frag"
	portsName   = "ports"
)

// MaxGeneration is the highest generation of a Ruleset: the names of its chains have
// room for no more.
const MaxGeneration = 9_999_999

// builder makes a layout.
type builder struct {
	layout
	f features
}

// rule adds a rule to a chain. Its comment is for people and holds the rule's
// figures: equal comments mean equal rules, but for the elements of sets.
func (b *builder) rule(chain, comment string, parts ...match) {
	c := b.chain(chain)
	c.rules = append(c.rules, &nftables.Rule{
		Table: b.table, Chain: c.Chain, Exprs: slices.Concat(parts...),
		UserData: userdata.AppendString(nil, userdata.TypeComment, comment),
	})
}

// comment is what r's rule says of itself; "" where it says nothing.
func comment(r *nftables.Rule) string {
	s, _ := userdata.GetString(r.UserData, userdata.TypeComment)
	return s
}

func (b *builder) addChain(name string) {
	b.chains = append(b.chains, chain{Chain: &nftables.Chain{Name: name, Table: b.table}})
}

func (b *builder) addBase(name string, hook *nftables.ChainHook, priority nftables.ChainPriority) {
	policy := nftables.ChainPolicyAccept
	b.chains = append(b.chains, chain{Chain: &nftables.Chain{
		Name: name, Table: b.table, Type: nftables.ChainTypeFilter, Policy: &policy, Hooknum: hook, Priority: &priority,
	}})
}

// addSet adds s unless there is one of its name, which holds the same then.
func (b *builder) addSet(s set) {
	if b.set(s.Name) == nil {
		b.sets = append(b.sets, s)
	}
}

// desired is the layout that s asks for, with staged loaded beside s.Ruleset unless
// it is nil.
func desired(s State, staged *Ruleset, f features) layout {
	b := &builder{f: f}
	b.table = &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
	b.sets = lasting(b.table, f)
	// Before conntrack (-200): a banned packet costs half as much there, and never
	// gets an entry.
	b.addBase(chainName, nftables.ChainHookPrerouting, *nftables.ChainPriorityRaw)

	sets := []Ruleset{}
	bannedPorts := slices.Clone(s.Ports)
	if s.Ruleset.Generation != 0 {
		sets = append(sets, s.Ruleset)
	}
	if staged != nil {
		sets = append(sets, *staged)
	}
	for _, r := range sets {
		// A ban holds on each port that is SSH's, or may be.
		bannedPorts = append(bannedPorts, r.Rules.Ports...)
	}
	b.bans(s.SSHOnly, bannedPorts)
	if len(sets) > 0 {
		b.addBase(inputName, nftables.ChainHookInput, -10) // before most others, which see then what is left
	}
	for _, r := range sets {
		if r.forwards() && b.chain(forwardName) == nil {
			b.addBase(forwardName, nftables.ChainHookForward, -10)
		}
		if r.Rules.NoTrack && b.chain(rawOutName) == nil {
			b.addBase(rawOutName, nftables.ChainHookOutput, *nftables.ChainPriorityRaw)
		}
	}
	for _, r := range sets {
		b.ruleset(r)
	}
	for _, base := range []string{chainName, inputName, forwardName, rawOutName} {
		b.gate(base, s.Ruleset, staged)
	}
	return b.layout
}

// bans drops what is banned.
func (b *builder) bans(sshOnly bool, ports []uint16) {
	b.addSet(portSet(b.table, portsName, ports))
	b.rule(chainName, "loopback is never banned", loIn(), accept())
	if sshOnly {
		b.rule(chainName, "a ban is for SSH: not TCP", notProto(unix.IPPROTO_TCP), accept())
		b.rule(chainName, "a ban is for SSH: not its ports", to.portNotIn(portsName), accept())
	}
	for id, comment := range [setCount]string{
		"banned IPv4 hosts", "banned IPv6 hosts", "banned IPv6 /64s", "banned IPv4 prefixes", "banned IPv6 prefixes",
	} {
		id := setID(id)
		b.rule(chainName, comment, from.in(id.String(), id.v6(), id.halves()), drop())
	}
}

// gate ends a base chain: packets go to the rule set on trial while it is armed,
// otherwise to the one in force. Where the one on trial has nothing to say here it
// still keeps the other from saying it.
func (b *builder) gate(base string, now Ruleset, staged *Ruleset) {
	inForce := now.Generation != 0 && b.chain(now.name(base)) != nil
	if staged != nil {
		if name := staged.name(base); b.chain(name) != nil {
			b.rule(base, fmt.Sprintf("rule set %d, while it is on trial", staged.Generation), armed(), goTo(name))
		} else if inForce {
			b.rule(base, fmt.Sprintf("rule set %d, while it is on trial: nothing here", staged.Generation), armed(), accept())
		}
	}
	if inForce {
		b.rule(base, fmt.Sprintf("rule set %d, in force", now.Generation), goTo(now.name(base)))
	}
}

// name is r's own name for one of its chains and sets.
func (r Ruleset) name(base string) string { return fmt.Sprintf("%s_%d", base, r.Generation) }

// forwards reports whether r judges what is forwarded.
func (r Ruleset) forwards() bool { return r.Rules.Mode == ModeLockdown && !r.Rules.Forward }

// ruleset adds r's own sets and chains. No packet comes by before a gate leads
// there.
func (b *builder) ruleset(r Ruleset) {
	b.addSet(portSet(b.table, r.name(portsName), r.Rules.Ports))
	for _, base := range r.chains() {
		b.addChain(r.name(base))
	}
	if r.Rules.NoTrack {
		b.noTrack(r)
	}
	b.input(r)
	b.fragments(r)
	b.ssh(r)
	if r.Rules.Mode == ModeLockdown {
		b.lockdown(r)
	}
	if r.forwards() {
		b.rule(r.name(forwardName), "nothing is forwarded", drop())
	}
}

// chains are the chains that r has, in the order in which packets meet them.
func (r Ruleset) chains() (names []string) {
	if r.Rules.NoTrack {
		names = append(names, chainName)
	}
	names = append(names, inputName, fragName, sshName, passName)
	if r.forwards() {
		names = append(names, forwardName)
	}
	if r.Rules.NoTrack {
		names = append(names, rawOutName)
	}
	return names
}

// noTrack keeps SSH out of conntrack, both ways, so that a full table stops no
// administrator. Not over loopback: a connection of this host to itself leaves by
// one hook and comes back by the other, which must agree.
func (b *builder) noTrack(r Ruleset) {
	const comment = "SSH, since the table of conntrack may be full"
	name := r.name(portsName)
	b.rule(r.name(chainName), comment, to.portIn(name), notrack())
	b.rule(r.name(rawOutName), comment, notLoOut(), from.portIn(name), notrack())
}

// input begins the judgement of what is for this host; in guard mode that is new
// connections to SSH only.
func (b *builder) input(r Ruleset) {
	chain, ports := r.name(inputName), r.name(portsName)
	b.rule(chain, "loopback", loIn(), accept())
	b.rule(chain, "IPv6 fragments", fragment(), jump(r.name(fragName)))
	// The flags that a listening socket takes, and no others: whatever else a SYN
	// carries (ECN, URG, PSH, data), it is one.
	b.rule(chain, "new connections to SSH; the rest of it is not touched",
		to.portIn(ports), flagged(opening, expr.CmpOpEq, flagSYN), goTo(r.name(sshName)))
	if b.f.socketWildcard {
		// It can hold a SYN cookie, guessed or older than these rules, that opens a
		// connection without a SYN.
		b.rule(chain, "SSH: an ACK of no connection is judged as a new one",
			to.portIn(ports), flagged(flagSYN|flagRST|flagACK, expr.CmpOpEq, flagACK), listening(), goTo(r.name(sshName)))
	}
}

// fragments drops those in which a SYN could hide. No rule sees what IPv6
// fragments make up (IPv4 is reassembled before it comes here): the flags of TCP,
// or all of its header, could be in the second one. RFC 7112 forbids the latter;
// kernels take it before 5.11.
func (b *builder) fragments(r Ruleset) {
	chain := r.name(fragName)
	b.rule(chain, "fragments of SSH: a SYN could hide behind them", to.portIn(r.name(portsName)), drop())
	for _, h := range [][2]byte{
		{unix.IPPROTO_HOPOPTS, unix.IPPROTO_HOPOPTS}, {unix.IPPROTO_ROUTING, unix.IPPROTO_FRAGMENT}, {unix.IPPROTO_DSTOPTS, unix.IPPROTO_DSTOPTS},
	} {
		b.rule(chain, "fragments whose TCP header could be in the next one", fragmentOf(h[0], h[1]), drop())
	}
}
