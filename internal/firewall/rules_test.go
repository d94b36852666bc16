package firewall

import (
	cmdline "flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"

	"sekisho/internal/prefixset"
)

var update = cmdline.Bool("update", false, "write the golden files")

func prefixes(texts ...string) (ps []netip.Prefix) {
	for _, s := range texts {
		ps = append(ps, prefix(s))
	}
	return ps
}

func setOf(t testing.TB, texts ...string) prefixset.Set {
	t.Helper()
	s, err := prefixset.Of(prefixes(texts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// load writes a layout into a namespace, as simply as can be.
func load(t testing.TB, n namespace, l layout) {
	t.Helper()
	c, err := nftables.New(nftables.WithNetNSFd(n.fd()))
	if err != nil {
		t.Fatal(err)
	}
	c.DelTable(&nftables.Table{Name: tableName, Family: nftables.TableFamilyINet})
	_ = c.Flush() // not there
	c.AddTable(l.table)
	for _, s := range l.sets {
		var elements []nftables.SetElement
		for _, p := range s.ports {
			elements = append(elements, nftables.SetElement{Key: []byte{byte(p >> 8), byte(p)}})
		}
		for _, r := range s.ranges {
			elements = append(elements, nftables.SetElement{Key: r.From().AsSlice()})
			if next := r.To().Next(); next.IsValid() {
				elements = append(elements, nftables.SetElement{Key: next.AsSlice(), IntervalEnd: true})
			}
		}
		if err := c.AddSet(s.Set, elements); err != nil {
			t.Fatal(err)
		}
	}
	for _, ch := range l.chains {
		c.AddChain(ch.Chain)
	}
	for _, ch := range l.chains {
		for _, r := range ch.rules {
			c.AddRule(r)
		}
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
}

// all is a kernel that can do all.
var all = features{intervalTimeouts: true, socketWildcard: true}

// listed are rule sets whose listing is kept as it should be.
func listed(t testing.TB) map[string]layout {
	guardPublic := Ruleset{
		Generation: 7,
		Rules: Rules{
			Mode: ModeGuard, Ports: []uint16{22, 51921}, Exposure: ExposurePublic,
			Admins: prefixes("198.51.100.10/32", "203.0.113.0/28", "2001:db8:1::/48"), Countries: Countries{Allow: []string{"JP"}},
			Rate: Rate{PerMinute: 2, Burst: 5},
		},
		Countries: setOf(t, "192.0.2.0/24", "2001:db8:2::/48"),
	}
	fixed := Ruleset{Generation: 7, Rules: Rules{
		Mode: ModeGuard, Ports: []uint16{22}, Exposure: ExposureFixed, Admins: prefixes("198.51.100.10/32"), NoIPv6: true,
	}}
	lockdown := Ruleset{
		Generation: 9,
		Rules: Rules{
			Mode: ModeLockdown, Ports: []uint16{22}, Exposure: ExposurePublic, Admins: prefixes("198.51.100.10/32", "2001:db8:1::1/128"),
			Countries: Countries{Deny: []string{"CN", "KP", "RU"}}, Rate: Rate{PerMinute: 2, Burst: 5}, NoTrack: true,
			Open: []Service{
				{Proto: "tcp", First: 80, Last: 80}, {Proto: "tcp", First: 443, Last: 443}, {Proto: "udp", First: 60000, Last: 61000},
				{Proto: "tcp", First: 9100, Last: 9100, From: prefixes("10.0.0.0/8", "2001:db8:9::/64", "192.0.2.7/32")},
			},
		},
		Countries: setOf(t, "192.0.2.0/24", "2001:db8:2::/48"),
	}
	onTrial := Ruleset{Generation: 8, Rules: Rules{
		Mode: ModeLockdown, Ports: []uint16{22, 2222}, Exposure: ExposureOnRequest, Admins: prefixes("198.51.100.10/32"),
	}}
	return map[string]layout{
		"bans":         desired(State{Ports: []uint16{22}}, nil, all),
		"guard-public": desired(State{Ports: []uint16{22, 51921}, SSHOnly: true, Ruleset: guardPublic}, nil, all),
		"guard-fixed":  desired(State{Ports: []uint16{22}, Ruleset: fixed}, nil, all),
		"lockdown":     desired(State{Ports: []uint16{22}, Ruleset: lockdown}, nil, all),
		"trial":        desired(State{Ports: []uint16{22}, SSHOnly: true, Ruleset: fixed}, &onTrial, all),
		"first-trial":  desired(State{Ports: []uint16{22}}, &onTrial, all),
		"trial-back":   desired(State{Ports: []uint16{22}, Ruleset: lockdown}, &Ruleset{Generation: 10, Rules: fixed.Rules}, all),
	}
}

// What an administrator reads in nft: short, nothing that nft cannot name, and the
// reason of each rule.
func TestListings(t *testing.T) {
	for name, l := range listed(t) {
		t.Run(name, func(t *testing.T) {
			n := newNamespace(t)
			load(t, n, l)
			got := strings.ReplaceAll(n.run(t, "nft", "-t", "list", "table", "inet", tableName), "== @", "@") // versions of nft differ
			golden(t, filepath.Join("listing", name+".nft"), got)
		})
	}
}

// golden compares got with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}
