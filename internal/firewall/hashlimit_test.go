package firewall

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// twins are iptables' hashlimit and our rate limit, side by side: each SYN is
// judged by both at the same time, since hashlimit only counts, before us.
type twins struct {
	w    wire
	in   *injector
	port uint16
	seen map[netip.Addr]uint64 // of hashlimit's counters, by family's host
}

func newTwins(t testing.TB, r Rate) *twins {
	t.Helper()
	w := newWire(t)
	tw := &twins{w: w, in: w.inject(t, true), port: 1024, seen: make(map[netip.Addr]uint64)}
	for command, mask := range map[string]string{"iptables": "32", "ip6tables": "64"} {
		w.host.run(t, command, "-t", "mangle", "-A", "INPUT", "-p", "tcp", "--syn", "--dport", fmt.Sprint(sshPort),
			"-m", "hashlimit", "--hashlimit-name", "ssh", "--hashlimit-mode", "srcip", "--hashlimit-srcmask", mask,
			"--hashlimit-upto", fmt.Sprintf("%d/min", r.PerMinute), "--hashlimit-burst", fmt.Sprint(r.Burst), "--hashlimit-htable-expire", "120000")
	}
	tw.w.ensure(t, Rules{Mode: ModeGuard, Ports: []uint16{sshPort}, Exposure: ExposurePublic, Rate: r})
	return tw
}

// syn sends one; both say whether it passes.
func (tw *twins) syn(t testing.TB, from netip.Addr) (hashlimit, ours bool) {
	t.Helper()
	to, family := ip(host4), nftables.TableFamilyIPv4
	if from.Is6() {
		to, family = ip(host6), nftables.TableFamilyIPv6
	}
	tw.port++
	ours = tw.in.verdict(t, ipPacket(from, to, unix.IPPROTO_TCP, tcp(netip.AddrPortFrom(from, tw.port), netip.AddrPortFrom(to, sshPort), flagSYN, 7, 0, nil))) == "pass"
	table := &nftables.Table{Name: "mangle", Family: family}
	rules, err := tw.in.probe.GetRules(table, &nftables.Chain{Name: "INPUT", Table: table})
	if err != nil || len(rules) != 1 {
		t.Fatalf("hashlimit's rule: %d, %v", len(rules), err)
	}
	for _, e := range rules[0].Exprs {
		if c, ok := e.(*expr.Counter); ok {
			hashlimit = c.Packets > tw.seen[to]
			tw.seen[to] = c.Packets
		}
	}
	return hashlimit, ours
}

// knock is a SYN at a time since the start.
type knock struct {
	at   time.Duration
	from string
}

// run makes knocks at their times and compares. It returns what passed, per
// source: P and d.
func (tw *twins) run(t *testing.T, knocks []knock) map[string]string {
	t.Helper()
	slices.SortStableFunc(knocks, func(a, b knock) int { return int(a.at - b.at) })
	start, passed := time.Now(), make(map[string]string)
	for _, a := range knocks {
		<-time.After(time.Until(start.Add(a.at)))
		hashlimit, ours := tw.syn(t, ip(a.from))
		if hashlimit != ours {
			t.Errorf("%v from %s (at %v): hashlimit lets it pass: %v, we: %v", a.at, a.from, time.Since(start), hashlimit, ours)
		}
		passed[a.from] += map[bool]string{true: "P", false: "d"}[ours]
	}
	return passed
}

// every makes n knocks from the source.
func every(start, step time.Duration, n int, from string) (knocks []knock) {
	for i := range n {
		knocks = append(knocks, knock{start + time.Duration(i)*step, from})
	}
	return knocks
}

// Our rate limit and iptables' hashlimit let the same SYNs pass: the burst and its
// boundary, the rate afterwards, sources that do not count for each other, an
// IPv6 /64 that counts as one, and a pause that fills the bucket.
func TestHashlimit(t *testing.T) {
	const ms = time.Millisecond
	tw := newTwins(t, Rate{PerMinute: 120, Burst: 5})
	passed := tw.run(t, slices.Concat(
		every(0, 0, 7, "10.0.0.2"), every(350*ms, 350*ms, 8, "10.0.0.2"), // one each 500 ms
		every(100*ms, 600*ms, 5, "10.0.0.3"),
		every(6*time.Second, 0, 7, "10.0.0.2"), // 3 s later: the bucket is full, not more than full
		every(20*ms, 0, 4, "2001:db8::2"), every(40*ms, 0, 3, "2001:db8::3"), every(60*ms, 0, 6, "2001:db8:7::2"),
		every(400*ms, 350*ms, 6, "2001:db8::3"),
	))
	for from, want := range map[string]string{
		"10.0.0.2": "PPPPPdd" + "dPPdPPdP" + "PPPPPdd",
		"10.0.0.3": "PPPPP", "2001:db8::2": "PPPP", "2001:db8::3": "Pdd" + "dPPdPP", "2001:db8:7::2": "PPPPPd",
	} {
		if got := passed[from]; got != want {
			t.Logf("%s: got %s, where time keeps its pace %s", from, got, want)
			if strings.Count(got, "P") == len(got) && from != "10.0.0.3" && from != "2001:db8::2" {
				t.Errorf("%s was never limited", from)
			}
		}
	}
}

// The same with the figures of the default, and with the end of a source that was
// idle for longer than two minutes. It takes four minutes.
func TestHashlimitInFull(t *testing.T) {
	if os.Getenv("SEKISHO_TEST_LONG") == "" {
		t.Skip("LEFT OUT: takes four minutes; set SEKISHO_TEST_LONG=1")
	}
	tw := newTwins(t, Rate{PerMinute: 2, Burst: 5})
	var knocks []knock
	for _, from := range []string{"10.0.0.2", "2001:db8::2"} {
		knocks = append(knocks, every(100*time.Millisecond, 2*time.Second, 50, from)...)
		// 125 s later: 4 of 5 tokens by time alone, all of them for a source forgotten.
		knocks = append(knocks, every(224*time.Second, 0, 7, from)...)
	}
	for from, got := range tw.run(t, knocks) {
		t.Logf("%s: %s", from, got)
		if !strings.HasPrefix(got, "PPPPPdddddddddd") || !strings.HasSuffix(got, "PPPPPdd") {
			t.Errorf("%s: %s", from, got)
		}
	}
}
