package firewall

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A name that may stand in a command line as it is: what nft takes for one, which
// is nothing to a shell.
var plainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_./-]{0,80}$`)

// remedy is the exact command that lets peer (the zero Addr: anybody) in to the
// port at s.
func (l *look) remedy(s stop, f finding, peer netip.Addr) string {
	port, table, base := f.attempt.port, s.chain.table, s.chain.name
	command := "iptables"
	if table.family == unix.NFPROTO_IPV6 {
		command = "ip6tables"
	}
	if s.legacy != nil {
		command = s.legacy.command
	}
	xtables := s.legacy != nil || table.family != unix.NFPROTO_INET && table.family != unix.NFPROTO_NETDEV && base == strings.ToUpper(base) &&
		slices.Contains([]string{"filter", "raw", "mangle", "nat", "security"}, table.name)
	zone, zoned := zoneOf(f.entered)
	switch {
	case table.name == firewalld || xtables && zoned:
		return firewalldRemedy(f.blame.chain.name, zone, port, peer)
	case xtables && slices.ContainsFunc(f.entered, isUFW) && !strings.HasSuffix(f.blame.chain.name, "-before-input") && !strings.HasSuffix(f.blame.chain.name, "-not-local"):
		verb := "allow"
		if strings.Contains(f.blame.chain.name, "-user-") {
			verb = "prepend allow" // before the rule that denies it
		}
		if peer.IsValid() {
			return fmt.Sprintf("ufw %s from %s to any port %d proto tcp", verb, peer, port)
		}
		return fmt.Sprintf("ufw %s %d/tcp", verb, port)
	case !plainName.MatchString(table.name) || !plainName.MatchString(base):
		return "nft -a list ruleset # its name cannot be written into a command: ask who made it"
	case xtables:
		source, of := "", ""
		if peer.IsValid() {
			source = " -s " + peer.String()
		}
		if table.name != "filter" {
			of = " -t " + table.name
		}
		return fmt.Sprintf("%s%s -I %s%s -p tcp --dport %d -j ACCEPT", command, of, base, source, port)
	}
	source := ""
	switch {
	case peer.Is4():
		source = "ip saddr " + peer.String() + " "
	case peer.Is6():
		source = "ip6 saddr " + peer.String() + " "
	}
	return fmt.Sprintf("nft insert rule %s %s %s %stcp dport %d accept", familyName(table.family), table.name, base, source, port)
}

// zoneOf finds firewalld's zone in the chains that a packet came through; ok is
// false where there is none of its chains.
func zoneOf(entered []string) (zone string, ok bool) {
	for _, name := range entered {
		rest, found := strings.CutPrefix(name, "filter_IN_")
		if !found {
			rest, found = strings.CutPrefix(name, "IN_")
		}
		if found {
			if strings.HasPrefix(rest, "policy_") || !plainName.MatchString(rest) {
				continue
			}
			if !slices.ContainsFunc([]string{"_pre", "_log", "_deny", "_allow", "_post"}, func(s string) bool { return strings.HasSuffix(rest, s) }) {
				zone, ok = rest, true
			}
		}
	}
	return zone, ok
}

func firewalldRemedy(blamed, zone string, port uint16, peer netip.Addr) string {
	if strings.Contains(blamed, "PREROUTING") && !strings.Contains(blamed, "ZONES") {
		return "set IPv6_rpfilter=no in /etc/firewalld/firewalld.conf, then: firewall-cmd --reload"
	}
	of := ""
	if zone != "" {
		of = " --zone=" + zone
	}
	// What a rule denies is denied before any port is looked at.
	first := strings.HasSuffix(blamed, "_deny") || strings.HasSuffix(blamed, "_pre")
	if !first && !peer.IsValid() {
		return fmt.Sprintf("firewall-cmd --permanent%s --add-port=%d/tcp && firewall-cmd --reload", of, port)
	}
	rule := "rule"
	if first {
		rule += ` priority="-32768"`
	}
	if peer.Is4() {
		rule += fmt.Sprintf(` family="ipv4" source address="%s"`, peer)
	} else if peer.Is6() {
		rule += fmt.Sprintf(` family="ipv6" source address="%s"`, peer)
	}
	return fmt.Sprintf(`firewall-cmd --permanent%s --add-rich-rule='%s port port="%d" protocol="tcp" accept' && firewall-cmd --reload`, of, rule, port)
}
