package main

import (
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sekisho/internal/lab"
	"sekisho/internal/run"
)

// handMade is the set-up that a careful administrator wires by hand on Amazon Linux 2:
// what docs/amazon-linux-2.md takes the place of. IPT is iptables, in either form.
const handMade = `
$IPT -P INPUT DROP
$IPT -P FORWARD DROP
$IPT -P OUTPUT ACCEPT
$IPT -A INPUT -i lo -j ACCEPT
$IPT -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
$IPT -A INPUT -m conntrack --ctstate INVALID -j DROP
$IPT -A INPUT -f -j DROP
$IPT -A INPUT -p tcp --tcp-flags ALL NONE -j DROP
$IPT -A INPUT -p tcp --tcp-flags ALL ALL -j DROP
$IPT -A INPUT -p tcp --tcp-flags ALL FIN,PSH,URG -j DROP
$IPT -A INPUT -p tcp --tcp-flags SYN,FIN SYN,FIN -j DROP
$IPT -A INPUT -p tcp ! --syn -m conntrack --ctstate NEW -j DROP
$IPT -A INPUT -m pkttype --pkt-type broadcast -j DROP
$IPT -A INPUT -m pkttype --pkt-type multicast -j DROP
$IPT -A INPUT -p icmp --icmp-type echo-request -m limit --limit 1/s --limit-burst 4 -j ACCEPT
$IPT -A INPUT -p tcp --dport 51921 -m set --match-set banned src -j DROP
$IPT -A INPUT -p tcp --dport 51921 -m set ! --match-set japan src -j DROP
$IPT -A INPUT -p tcp --syn --dport 51921 -m conntrack --ctstate NEW -m hashlimit --hashlimit-name ssh --hashlimit-mode srcip \
	--hashlimit-upto 2/min --hashlimit-burst 5 --hashlimit-htable-expire 120000 -j ACCEPT
`

// refreshByHand is its daily cron job, once the list is there: $1, a prefix a line.
const refreshByHand = `
[ "$(wc -l <"$1")" -ge 100 ] || { echo "too few" >&2; exit 1; }
{ echo "create fresh hash:net maxelem 131072"; sed 's/^/add fresh /' "$1"; } | ipset restore
ipset swap fresh japan
ipset destroy fresh
`

// newHandMade sets a host up by hand, with these addresses as Japan's. Its administrator
// logged in before.
func newHandMade(t *testing.T, japan []netip.Prefix) *site {
	t.Helper()
	l, err := lab.New(t.Context(), lab.Options{System: true, Settings: "Port 22\nPort 51921\n"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &site{Network: l.Network, lab: l, start: func(c run.Command) (*run.Child, error) { return l.Start(t.Context(), c) }}
	s.inject(t)
	s.older = s.login(t, lab.Admin4, lab.Port)
	s.iptables = "iptables-legacy" // as there
	if c, err := s.start(run.Command{Args: []string{s.iptables, "-S"}, Stdout: io.Discard}); err != nil || c.Wait() != nil {
		s.iptables = "iptables"
	}
	t.Logf("by hand: %s, %s", strings.TrimSpace(s.run(t, s.iptables, "-V")), strings.TrimSpace(strings.ReplaceAll(s.run(t, "ipset", "-v"), "\n", ", ")))
	c, err := s.start(run.Command{Args: []string{"ipset", "create", "japan", "hash:net", "maxelem", "131072"}, Stdout: io.Discard})
	if err != nil || c.Wait() != nil {
		t.Skip("LEFT OUT: this kernel has no ipset")
	}
	s.run(t, "ipset", "create", "banned", "hash:ip", "timeout", "3600")
	s.refresh(t, japan)
	s.run(t, "sh", "-ec", strings.ReplaceAll(handMade, "$IPT", s.iptables))
	s.ban = func(t *testing.T, a netip.Addr) { s.run(t, "ipset", "add", "banned", a.String()) }
	return s
}

// refresh is the cron job of the hand-made host, given this list.
func (s *site) refresh(t *testing.T, japan []netip.Prefix) {
	t.Helper()
	var list strings.Builder
	for _, p := range japan {
		if p.Addr().Is4() {
			list.WriteString(p.String() + "\n")
		}
	}
	path := filepath.Join(s.dir, "cidr.txt")
	if err := os.WriteFile(path, []byte(list.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	s.run(t, "sh", "-ec", refreshByHand, "refresh", path)
}

// copyToIPv6 takes the same rules for IPv6, but for what ip6tables does not know.
func (s *site) copyToIPv6(t *testing.T) {
	t.Helper()
	var rules strings.Builder
	for line := range strings.Lines(strings.ReplaceAll(handMade, "\\\n", "")) {
		if !strings.Contains(line, " -f ") && !strings.Contains(line, "icmp") && !strings.Contains(line, "-set ") {
			rules.WriteString(line)
		}
	}
	s.run(t, "sh", "-ec", strings.ReplaceAll(rules.String(), "$IPT", strings.Replace(s.iptables, "ip", "ip6", 1)))
}

// login logs in, and holds the session until the test ends.
func (s *site) login(t *testing.T, from netip.Addr, port uint16) *lab.Session {
	t.Helper()
	session, err := s.lab.LoginAt(t.Context(), from, port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close() })
	return session
}
