package firewall

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"sekisho/internal/printable"
)

// strangers stand for anybody: addresses of no list in particular, far apart.
func strangers() []netip.Addr {
	return []netip.Addr{
		netip.MustParseAddr("9.113.57.20"), netip.MustParseAddr("100.21.44.3"), netip.MustParseAddr("193.140.9.77"),
		netip.MustParseAddr("2400:4050:1234::17"), netip.MustParseAddr("2600:1f14:77::9"), netip.MustParseAddr("2a02:8108:99::5"),
	}
}

// legible makes a name that others chose fit to be shown, and short.
func legible(s string) string { return printable.Cut(printable.Text(s), 80) }

// Others implements Firewall. For anybody a few addresses are tried; one of a
// family that has no route here is left out.
func (k *Kernel) Others(ctx context.Context, ports []uint16, peers []netip.Addr) (o Others, err error) {
	err = within(k.netNS, func() error {
		l, err := newLook(ctx, peers)
		if err != nil {
			return err
		}
		defer l.close()
		o.Managers, o.Forwards = l.managers(), l.forwards()
		o.Blocks, err = l.blocks(ctx, ports)
		return err
	})
	if err != nil {
		return Others{}, fmt.Errorf("look at other firewalls: %w", err)
	}
	return o, nil
}

// within runs f inside a network namespace; 0 is the caller's.
func within(netNS int, f func() error) error {
	if netNS == 0 {
		return f()
	}
	c := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Setns(netNS, unix.CLONE_NEWNET); err != nil {
			c <- fmt.Errorf("enter the network namespace: %w", err)
			return
		}
		c <- f()
	}()
	return <-c
}

// look is one look at the firewalls of the namespace that the thread is in.
type look struct {
	anybody bool
	peers   []arrival
	s       *sock
	chains  []otherChain
	legacy  []*legacyTable
	machine othersMachine
}

func newLook(ctx context.Context, peers []netip.Addr) (*look, error) {
	l := &look{anybody: len(peers) == 0}
	if l.anybody {
		peers = strangers()
	}
	arrivals, err := arrivalsOf(peers)
	if err != nil {
		return nil, err
	}
	reached := func(a arrival) bool { return a.index != 0 }
	for _, a := range arrivals {
		if !l.anybody || reached(a) || !slices.ContainsFunc(arrivals, reached) {
			l.peers = append(l.peers, a)
		}
	}
	if l.legacy, err = readLegacy(ctx); err != nil {
		return nil, err
	}
	if l.s, err = dial(0); err != nil {
		return nil, err
	}
	l.machine = othersMachine{
		read:  &othersReader{s: l.s, rules: make(map[otherChainName][]otherRule), sets: make(map[otherTable]map[string]otherSet)},
		steps: othersSteps,
	}
	if l.chains, err = l.machine.read.chains(); err != nil {
		l.close()
		return nil, explain(err)
	}
	return l, nil
}

func (l *look) close() { _ = l.s.close() }

// stop is a base chain on the way in, of nf_tables or of x_tables.
type stop struct {
	chain  otherChain
	legacy *legacyTable // nil: nf_tables
}

func (s stop) where(c culprit) string {
	if s.legacy != nil {
		return s.legacy.String() + ", chain " + legible(c.chain.name)
	}
	return s.chain.table.String() + ", chain " + legible(c.chain.name)
}

// judges reports whether packets of IPv6, or of IPv4, come by.
func (s stop) judges(v6 bool) bool {
	switch s.chain.table.family {
	case unix.NFPROTO_IPV4:
		return !v6
	case unix.NFPROTO_IPV6:
		return v6
	}
	return true
}

const (
	hookForward = unix.NF_INET_FORWARD
	inetIngress = 5 // NF_INET_INGRESS, 5.10
)

// wayIn is every stop of a packet for this host, in order.
func (l *look) wayIn() (stops []stop) {
	for _, c := range l.chains {
		if !c.base {
			continue
		}
		switch c.table.family {
		case unix.NFPROTO_NETDEV:
			if c.hook != unix.NF_NETDEV_INGRESS {
				continue
			}
		case unix.NFPROTO_INET, unix.NFPROTO_IPV4, unix.NFPROTO_IPV6:
			if c.hook != unix.NF_INET_PRE_ROUTING && c.hook != unix.NF_INET_LOCAL_IN && c.hook != inetIngress {
				continue
			}
		default:
			continue
		}
		stops = append(stops, stop{chain: c})
	}
	for _, t := range l.legacy {
		for _, c := range t.bases() {
			stops = append(stops, stop{chain: c, legacy: t})
		}
	}
	order := func(c otherChain) int {
		if c.table.family == unix.NFPROTO_NETDEV || c.hook == inetIngress {
			return -1
		}
		return int(c.hook)
	}
	slices.SortStableFunc(stops, func(a, b stop) int {
		return cmp.Or(cmp.Compare(order(a.chain), order(b.chain)), cmp.Compare(a.chain.priority, b.chain.priority))
	})
	return stops
}

// finding is what became of one attempt at one stop.
type finding struct {
	stop    int
	attempt attempt
	fates   fates
	blame   culprit
	doubt   string
	entered []string
}

// blocks are those of all attempts at ports.
func (l *look) blocks(ctx context.Context, ports []uint16) ([]Block, error) {
	stops := l.wayIn()
	var blocks []Block
	for _, port := range ports {
		// A stop that blocks what is tracked is not told again for what is not.
		type place struct {
			stop int
			from netip.Addr
		}
		told := make(map[place]bool)
		for _, tracked := range []bool{true, false} {
			var found []finding
			for _, p := range l.peers {
				if err := ctx.Err(); err != nil {
					return nil, err
				}
				a := attempt{from: p.from, to: p.to, port: port, iface: p.iface, index: p.index, tracked: tracked}
				l.machine.begin(a)
				for i, s := range stops {
					if !s.judges(a.v6()) {
						continue
					}
					f := l.machine.at(s)
					if l.machine.fatal != nil {
						return nil, explain(l.machine.fatal)
					}
					if told[place{i, p.from}] || !f.blocked() && !l.anybody {
						continue
					}
					told[place{i, p.from}] = f.blocked()
					n := finding{stop: i, attempt: a, fates: f, doubt: l.machine.doubt, entered: slices.Clone(l.machine.entered)}
					if l.machine.blame != nil {
						n.blame = *l.machine.blame
					}
					found = append(found, n)
				}
			}
			if l.anybody {
				found = together(found)
			}
			for _, f := range found {
				blocks = append(blocks, l.block(stops[f.stop], f))
			}
		}
	}
	return blocks, nil
}

// together makes of the findings of several strangers one for each stop: certain if
// all of a family are blocked for certain.
func together(found []finding) (out []finding) {
	for i, f := range found {
		first := -1
		for j, o := range out {
			if o.stop == f.stop && o.attempt.v6() == f.attempt.v6() {
				first = j
			}
		}
		if first < 0 {
			out = append(out, found[i])
			continue
		}
		if o := &out[first]; !o.fates.blocked() && f.fates.blocked() {
			f.fates |= o.fates
			*o = f
		} else {
			o.fates |= f.fates
		}
	}
	out = slices.DeleteFunc(out, func(f finding) bool { return !f.fates.blocked() })
	for i := 0; i < len(out); i++ { // the same for both families
		j := slices.IndexFunc(out[:i], func(o finding) bool {
			return o.stop == out[i].stop && o.blame == out[i].blame && o.fates == out[i].fates
		})
		if j >= 0 {
			out = slices.Delete(out, i, i+1)
			i--
		}
	}
	return out
}

func (l *look) block(s stop, f finding) Block {
	b := Block{
		Where: s.where(f.blame), Rule: f.blame.rule, Port: f.attempt.port,
		Certain: f.fates&^(drops|rejects) == 0, Untracked: !f.attempt.tracked,
	}
	if !l.anybody {
		b.Peer = f.attempt.from
	}
	if !b.Certain && f.doubt != "" {
		b.Rule += "; cannot be judged: " + f.doubt
	}
	b.Remedy = l.remedy(s, f, b.Peer)
	return b
}

// at runs a stop.
func (m *othersMachine) at(s stop) fates {
	if s.legacy != nil {
		return m.runLegacy(s.legacy, s.chain)
	}
	return m.run(s.chain)
}

// Names by which a table or chain of those who forward is known.
func forwarders() map[string]string {
	return map[string]string{
		"docker": "Docker", "libvirt": "libvirt", "netavark": "Podman", "podman": "Podman", "cni-": "CNI", "kube": "Kubernetes",
		"cali-": "Calico", "cilium": "Cilium", "lxc": "LXC", "lxd": "LXD", "incus": "Incus", "flannel": "Flannel",
	}
}

// forwards names the tables that forward for others.
func (l *look) forwards() (tables []string) {
	on := map[bool]bool{false: isOn("/proc/sys/net/ipv4/ip_forward"), true: isOn("/proc/sys/net/ipv6/conf/all/forwarding")}
	note := func(where string, judges func(v6 bool) bool, names []string) {
		who := ""
		for _, n := range names {
			for part, program := range forwarders() {
				if strings.HasPrefix(strings.ToLower(n), part) {
					who = program
				}
			}
		}
		switch {
		case who != "":
			where += " (" + who + ")"
		case !(on[false] && judges(false)) && !(on[true] && judges(true)):
			return
		}
		if !slices.Contains(tables, where) {
			tables = append(tables, where)
		}
	}
	for _, c := range l.chains {
		if !c.base || c.hook != hookForward {
			continue
		}
		switch c.table.family {
		case unix.NFPROTO_INET, unix.NFPROTO_IPV4, unix.NFPROTO_IPV6:
			names := []string{c.table.name}
			for _, other := range l.chains {
				if other.table == c.table {
					names = append(names, other.name)
				}
			}
			note(c.table.String(), stop{chain: c}.judges, names)
		}
	}
	for _, t := range l.legacy {
		if names := t.names(); slices.Contains(names, "FORWARD") && t.name == "filter" {
			note(t.String(), stop{chain: otherChain{table: otherTable{family: t.family}}}.judges, names)
		}
	}
	slices.Sort(tables)
	return tables
}

func isOn(sysctl string) bool {
	b, err := os.ReadFile(sysctl)
	return err == nil && strings.TrimSpace(string(b)) != "0"
}

const (
	firewalld = "firewalld"
	ufw       = "ufw"
)

// managers names the programs whose rules are in force.
func (l *look) managers() (found []Manager) {
	add := func(m Manager) {
		if !slices.ContainsFunc(found, func(o Manager) bool { return o.Name == m.Name }) {
			found = append(found, m)
		}
	}
	judge := func(where, base string, jumps []string) {
		for _, j := range jumps {
			switch {
			case isUFW(j):
				add(Manager{Name: ufw, How: where + ", chain " + base + " jumps to " + legible(j), Stop: "ufw disable"})
			case j == "INPUT_ZONES":
				add(Manager{Name: firewalld, How: where + ", chain " + base + " jumps to INPUT_ZONES", Stop: "systemctl disable --now firewalld"})
			}
		}
	}
	for _, c := range l.chains {
		if c.table.name == firewalld && c.base {
			add(Manager{Name: firewalld, How: c.table.String(), Stop: "systemctl disable --now firewalld"})
		}
		if c.base && c.name == "INPUT" && c.table.name == "filter" {
			rules, err := l.machine.read.chain(otherChainName{c.table, c.name})
			if err != nil {
				continue // the judge of its rules will say so
			}
			var jumps []string
			for _, r := range rules {
				for _, to := range r.jumps() {
					// `ufw disable` leaves its chains there, empty.
					if inner, err := l.machine.read.chain(otherChainName{c.table, to}); err != nil || len(inner) > 0 {
						jumps = append(jumps, to)
					}
				}
			}
			judge(c.table.String(), c.name, jumps)
		}
	}
	for _, t := range l.legacy {
		if t.name == "filter" {
			judge(t.String(), "INPUT", t.jumps("INPUT"))
		}
	}
	return found
}

// isUFW reports whether a chain is one that ufw makes on the way in.
func isUFW(chain string) bool {
	return strings.HasPrefix(chain, "ufw-") || strings.HasPrefix(chain, "ufw6-")
}

// jumps are the chains that a rule goes to.
func (r otherRule) jumps() (chains []string) {
	attributes(r.exprs, func(_ uint16, e []byte) {
		if text(attrOf(e, unix.NFTA_EXPR_NAME)) != "immediate" {
			return
		}
		data := attrOf(attrOf(e, unix.NFTA_EXPR_DATA), unix.NFTA_IMMEDIATE_DATA)
		if chain := attrOf(attrOf(data, unix.NFTA_DATA_VERDICT), unix.NFTA_VERDICT_CHAIN); chain != nil {
			chains = append(chains, text(chain))
		}
	})
	return chains
}
