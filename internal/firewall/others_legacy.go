package firewall

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sekisho/internal/run"
)

// The rules of the old x_tables (iptables-legacy) are not nf_tables'. The kernel
// tells them in a binary form of its own; the tool that belongs to them tells them
// as text, and that is what is judged.

// legacyTable is a table of iptables-legacy.
type legacyTable struct {
	family  byte
	name    string // "filter"
	command string // "iptables-legacy"
	chains  []*legacyChain
	unread  string // why its rules could not be read; "" if they were
}

type legacyChain struct {
	name   string
	policy string // "-" for a chain that is no base
	rules  [][]string
}

func (t *legacyTable) String() string {
	command := "iptables"
	if t.family == unix.NFPROTO_IPV6 {
		command = "ip6tables"
	}
	return command + " (legacy), table " + legible(t.name)
}

func (t *legacyTable) chain(name string) *legacyChain {
	for _, c := range t.chains {
		if c.name == name {
			return c
		}
	}
	return nil
}

func (t *legacyTable) names() (names []string) {
	for _, c := range t.chains {
		names = append(names, c.name)
	}
	return names
}

// jumps are the chains that have rules and that a chain jumps to.
func (t *legacyTable) jumps(chain string) (targets []string) {
	if c := t.chain(chain); c != nil {
		for _, r := range c.rules {
			if i := slices.Index(r, "-j"); i >= 0 && i+1 < len(r) {
				if to := t.chain(r[i+1]); to != nil && len(to.rules) > 0 {
					targets = append(targets, to.name)
				}
			}
		}
	}
	return targets
}

// bases are the chains on the way in.
func (t *legacyTable) bases() (list []otherChain) {
	if t.unread != "" {
		return []otherChain{{table: otherTable{t.family, t.name}, name: "INPUT", base: true, hook: unix.NF_INET_LOCAL_IN}}
	}
	at := map[string][2]int32{ // priorities on prerouting and on input; 1: none
		"raw": {-300, 1}, "mangle": {-150, -150}, "nat": {-100, 100}, "filter": {1, 0}, "security": {1, 50},
	}
	for _, c := range t.chains {
		priority, ok := at[t.name]
		if !ok {
			continue
		}
		base := otherChain{table: otherTable{t.family, t.name}, name: c.name, base: true, drops: c.policy == "DROP"}
		switch {
		case c.name == "PREROUTING" && priority[0] != 1:
			base.hook, base.priority = unix.NF_INET_PRE_ROUTING, priority[0]
		case c.name == "INPUT" && priority[1] != 1:
			base.hook, base.priority = unix.NF_INET_LOCAL_IN, priority[1]
		default:
			continue
		}
		list = append(list, base)
	}
	return list
}

// readLegacy reads the tables of iptables-legacy that this namespace has. Where
// the tool is missing the tables are there, unread.
func readLegacy(ctx context.Context) (tables []*legacyTable, err error) {
	for _, f := range []struct {
		family        byte
		names, prefix string
	}{{unix.NFPROTO_IPV4, "ip_tables_names", "iptables"}, {unix.NFPROTO_IPV6, "ip6_tables_names", "ip6tables"}} {
		b, err := os.ReadFile("/proc/thread-self/net/" + f.names)
		if err != nil || strings.TrimSpace(string(b)) == "" {
			continue // the module is not loaded, or no table was ever asked for
		}
		saved, command, err := saveLegacy(ctx, f.prefix)
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			reason := legible(err.Error())
			if errors.Is(err, run.ErrNotFound) {
				reason = f.prefix + "-legacy-save is not installed"
			}
			for name := range strings.FieldsSeq(string(b)) {
				if name == "filter" || name == "raw" || name == "mangle" {
					tables = append(tables, &legacyTable{family: f.family, name: name, command: command, unread: reason})
					break // one is enough to say so
				}
			}
			continue
		}
		tables = append(tables, parseSaved(f.family, command, saved)...)
	}
	return tables, nil
}

// saveLegacy runs the tool, by the name that Debian and Fedora give it or, if it is
// the only one there is, by its own.
func saveLegacy(ctx context.Context, prefix string) (saved, command string, err error) {
	b, err := run.Output(ctx, prefix+"-legacy-save")
	if !errors.Is(err, run.ErrNotFound) {
		return string(b), prefix + "-legacy", err
	}
	version, verr := run.Output(ctx, prefix, "--version")
	if verr != nil || strings.Contains(string(version), "nf_tables") {
		return "", prefix + "-legacy", err
	}
	b, err = run.Output(ctx, prefix+"-save")
	return string(b), prefix, err
}

// parseSaved reads what iptables-save writes.
func parseSaved(family byte, command, saved string) (tables []*legacyTable) {
	var t *legacyTable
	for line := range strings.Lines(saved) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '*':
			t = &legacyTable{family: family, name: line[1:], command: command}
			tables = append(tables, t)
		case t == nil || line == "COMMIT":
		case line[0] == ':':
			if f := strings.Fields(line[1:]); len(f) >= 2 {
				t.chains = append(t.chains, &legacyChain{name: f[0], policy: f[1]})
			}
		default:
			words := splitSaved(line)
			for len(words) > 0 && strings.HasPrefix(words[0], "[") { // counters
				words = words[1:]
			}
			if len(words) >= 2 && words[0] == "-A" {
				if c := t.chain(words[1]); c != nil {
					c.rules = append(c.rules, words[2:])
				}
			}
		}
	}
	return tables
}

// splitSaved splits a line into words as iptables-restore does: double quotes, with
// a backslash before a quote or a backslash within them.
func splitSaved(line string) (words []string) {
	var b strings.Builder
	inWord, quoted := false, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case quoted && c == '\\' && i+1 < len(line):
			i++
			b.WriteByte(line[i])
		case c == '"':
			quoted, inWord = !quoted, true
		case (c == ' ' || c == '\t') && !quoted:
			if inWord {
				words = append(words, b.String())
				b.Reset()
				inWord = false
			}
		default:
			b.WriteByte(c)
			inWord = true
		}
	}
	if inWord {
		words = append(words, b.String())
	}
	return words
}

// runLegacy runs a base chain of iptables-legacy.
func (m *othersMachine) runLegacy(t *legacyTable, c otherChain) fates {
	m.blame, m.doubt, m.entered = nil, "", m.entered[:0]
	if t.unread != "" {
		m.doubts(t.unread)
		m.blames(otherChainName{c.table, c.name}, "its rules were not read")
		return passes | drops
	}
	f := m.legacyChain(t, c.name, true, 0)
	if f&falls != 0 {
		f &^= falls
		if c.drops {
			f |= drops
			m.blames(otherChainName{c.table, c.name}, "its policy: drop")
		} else {
			f |= passes
		}
	}
	return f
}

func (m *othersMachine) legacyChain(t *legacyTable, name string, sure bool, depth int) (f fates) {
	m.entered = append(m.entered, name)
	c := t.chain(name)
	where := otherChainName{otherTable{t.family, t.name}, name}
	if c == nil || depth > othersDepth {
		m.doubts("its chains")
		m.blames(where, "a chain that was not read")
		return passes | drops | falls
	}
	for i, words := range c.rules {
		if m.steps--; m.steps < 0 {
			m.doubts(errTooMany.Error())
			m.blames(where, "a rule that was not read")
			return f | passes | drops | falls
		}
		matched, target, isGoto := m.legacyRule(words)
		if matched == no || target == "" {
			continue
		}
		describe := func(what string) string { return fmt.Sprintf("rule %d: %s", i+1, what) }
		var got fates
		switch target {
		case "ACCEPT":
			got = passes
		case "DROP", "TARPIT":
			m.blames(where, describe("drop"))
			got = drops
		case "REJECT":
			m.blames(where, describe("reject"))
			got = rejects
		case "RETURN":
			got = falls
		case "LOG", "NFLOG", "ULOG", "AUDIT", "TRACE", "TCPMSS", "TCPOPTSTRIP", "TTL", "HL", "DSCP", "TOS", "CHECKSUM", "CLASSIFY",
			"SECMARK", "CONNSECMARK", "SET", "IDLETIMER", "LED", "RATEEST", "TEE":
			continue
		case "MARK", "CONNMARK":
			m.mark, m.ctMark = unknownField(4), unknownField(4)
			continue
		case "NOTRACK", "CT":
			if target == "NOTRACK" || slices.Contains(words, "--notrack") {
				m.setUntracked(sure && matched == yes)
			}
			continue
		default:
			if t.chain(target) == nil {
				m.doubts("iptables' target " + legible(target))
				m.blames(where, describe("a verdict that we cannot judge"))
				got = passes | drops | falls
				break
			}
			got = m.legacyChain(t, target, sure && matched == yes, depth+1)
			if !isGoto && got&falls != 0 {
				if f |= got &^ falls; got&^falls != 0 {
					sure = false
				}
				continue
			}
		}
		f |= got
		if matched == yes {
			return f
		}
		sure = false
	}
	return f | falls
}

// legacyRule judges the words of one rule.
func (m *othersMachine) legacyRule(words []string) (matched tri, target string, isGoto bool) {
	matched = yes
	for i := 0; i < len(words); {
		inverted := words[i] == "!"
		if inverted {
			if i++; i >= len(words) {
				break
			}
		}
		option := words[i]
		i++
		from := i
		for i < len(words) && words[i] != "!" && (!strings.HasPrefix(words[i], "-") || len(words[i]) < 2) {
			i++
		}
		args := words[from:i]
		arg := ""
		if len(args) > 0 {
			arg = args[0]
		}
		if option == "-j" || option == "-g" {
			return matched, arg, option == "-g" // what follows is the target's
		}
		t := flip(m.legacyOption(option, arg, args, words), inverted)
		if t == maybe {
			m.doubts("iptables' option " + legible(option))
		}
		matched = matched.and(t)
	}
	return matched, "", false
}

// legacyOption judges one option; one that only adds to another is yes, which an
// "!" is never written before.
func (m *othersMachine) legacyOption(option, arg string, args, words []string) tri {
	switch option {
	case "-m":
		switch arg {
		case "udp", "udplite", "icmp", "icmp6", "sctp", "dccp", "ah", "esp", "ipcomp", "frag", "rt", "hbh", "dst", "mh":
			return no // as xtJudge
		}
		return yes
	case "--comment", "--limit", "--limit-burst", "--name", "--rsource", "--rdest", "--mask", "--seconds", "--hitcount", "--rttl",
		"--connlimit-mask", "--connlimit-saddr", "--connlimit-daddr":
		return yes
	case "-p":
		return triOf(arg == "tcp" || arg == "6" || arg == "all" || arg == "0")
	case "-f": // later fragments
		return no
	case "-s":
		return m.inList(m.a.from, arg)
	case "-d":
		return m.inList(m.a.to, arg)
	case "-i":
		switch prefix, wild := strings.CutSuffix(arg, "+"); {
		case m.a.iface != "":
			return triOf(arg == m.a.iface || wild && strings.HasPrefix(m.a.iface, prefix))
		case arg == "lo":
			return no
		}
		return maybe
	case "--dport", "--dports", "--destination-port", "--destination-ports":
		return m.legacyPorts(arg, false)
	case "--sport", "--sports", "--source-port", "--source-ports":
		return m.legacyPorts(arg, true)
	case "--ports":
		if m.legacyPorts(arg, false) == yes {
			return yes
		}
		return m.legacyPorts(arg, true)
	case "--syn":
		return yes
	case "--tcp-flags":
		if len(args) < 2 {
			return maybe
		}
		return triOf(flagBits(args[0])&flagSYN == flagBits(args[1]))
	case "--state", "--ctstate":
		var mask uint32
		for s := range strings.SplitSeq(arg, ",") {
			switch s {
			case "NEW":
				mask |= 1 << 3
			case "UNTRACKED":
				mask |= 1 << 8
			case "SNAT", "DNAT":
				return maybe
			}
		}
		return m.inStates(mask)
	case "--dst-type":
		return triOf(slices.Contains(strings.Split(arg, ","), "LOCAL"))
	case "--src-type":
		return triOf(slices.Contains(strings.Split(arg, ","), "UNICAST"))
	case "--src-range", "--dst-range":
		a := m.a.from
		if option == "--dst-range" {
			a = m.a.to
		}
		first, last, _ := strings.Cut(arg, "-")
		lo, err1 := netip.ParseAddr(first)
		hi, err2 := netip.ParseAddr(last)
		if !a.IsValid() || err1 != nil || err2 != nil {
			return maybe
		}
		return triOf(a.Compare(lo) >= 0 && a.Compare(hi) <= 0)
	case "--pkt-type":
		return triOf(arg == "unicast")
	case "--mark":
		return m.legacyMark(arg)
	case "--hashlimit-upto", "--connlimit-upto", "--set":
		return yes
	case "--hashlimit-above", "--connlimit-above":
		return no
	case "--update", "--rcheck":
		// So many in so short a time: not yet reached.
		if i := slices.Index(words, "--hitcount"); i >= 0 && i+1 < len(words) && words[i+1] != "1" {
			return no
		}
		return maybe
	case "--icmp-type", "--icmpv6-type":
		return no
	}
	if strings.HasPrefix(option, "--hashlimit-") {
		return yes
	}
	return maybe
}

func (m *othersMachine) inList(a netip.Addr, list string) tri {
	t := no
	for item := range strings.SplitSeq(list, ",") {
		p, err := netip.ParsePrefix(item)
		if single, serr := netip.ParseAddr(item); err != nil && serr == nil {
			p, err = single.Prefix(single.BitLen())
		}
		switch {
		case err == nil && p.Bits() == 0:
			return yes
		case err != nil || !a.IsValid(): // a mask that is no prefix
			t = maybe
		case p.Contains(a):
			return yes
		}
	}
	return t
}

func (m *othersMachine) legacyPorts(list string, source bool) tri {
	var ranges [][2]uint16
	for item := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(item, ":")
		if !isRange {
			last = first
		}
		lo, err1 := strconv.ParseUint(first, 10, 16)
		hi, err2 := strconv.ParseUint(last, 10, 16)
		if err1 != nil || err2 != nil {
			return maybe
		}
		ranges = append(ranges, [2]uint16{uint16(lo), uint16(hi)})
	}
	return m.portsIn(ranges, source)
}

func (m *othersMachine) legacyMark(arg string) tri {
	want, mask, masked := strings.Cut(arg, "/")
	w, err1 := strconv.ParseUint(want, 0, 32)
	k := uint64(0xffffffff)
	var err2 error
	if masked {
		k, err2 = strconv.ParseUint(mask, 0, 32)
	}
	if err1 != nil || err2 != nil || !m.mark.sure() {
		return maybe
	}

	return triOf(uint64(binary.NativeEndian.Uint32(m.mark.value))&k == w)
}

// flagBits are TCP's flags by iptables' names.
func flagBits(list string) (bits byte) {
	for f := range strings.SplitSeq(list, ",") {
		if f == "ALL" {
			return 0x3f
		}
		if i := slices.Index([]string{"FIN", "SYN", "RST", "PSH", "ACK", "URG"}, f); i >= 0 {
			bits |= 1 << i
		}
	}
	return bits
}
