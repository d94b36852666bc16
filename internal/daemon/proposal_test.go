package daemon

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sekisho/internal/conntrack"
	"sekisho/internal/country"
	"sekisho/internal/firewall"
	"sekisho/internal/lease"
)

// TestProposal: what speaks against a rule set, and what --force is stronger than.
func TestProposal(t *testing.T) {
	embedded, err := country.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	fresh := *embedded
	fresh.Time = time.Now()
	data := &fresh
	const lockdown = "admins: [192.0.2.10]\nfirewall: {mode: lockdown}\n"
	firewalld := firewall.Manager{Name: "firewalld", How: "table inet firewalld", Stop: "systemctl disable --now firewalld"}
	block := firewall.Block{Where: "table inet filter, chain input", Rule: "policy drop", Port: 22, Certain: true, Remedy: "nft add rule inet filter input tcp dport 22 accept"}
	perhaps := block
	perhaps.Certain = false
	tests := []struct {
		name, config string
		change       func(*proposal)
		refused      string // without force; "": not
		forced       string // with it
		warned       string
	}{
		{"nothing", "", func(*proposal) {}, "", "", ""},
		{"the asker", "admins: [192.0.2.10]\nexposure: fixed\n", func(p *proposal) { p.peer = strangerPeer }, "203.0.113.50", "", "only address"},
		{"the asker is an administrator", "admins: [192.0.2.10]\nexposure: fixed\n", func(p *proposal) { p.peer = adminPeer }, "", "", "only address"},
		{"the asker holds a grant", "admins: [192.0.2.10]\nexposure: on_request\n", func(p *proposal) {
			p.peer = strangerPeer
			p.live.Granted = func(a netip.Addr) bool { return a == strangerPeer.Addr() }
		}, "", "", "only address"},
		{"the asker is banned", "", func(p *proposal) {
			p.peer = strangerPeer
			p.live.Banned = func(a netip.Addr) bool { return a == strangerPeer.Addr() }
		}, "203.0.113.50", "", ""},
		{"the asker's country", "firewall: {countries: [JP]}\n", func(p *proposal) { p.peer = netip.MustParseAddrPort("8.8.8.8:50000") }, "8.8.8.8", "", ""},
		{"the asker's port", "", func(p *proposal) { p.peer, p.astray = strangerPeer, true }, "ssh.port", "", ""},
		{"somebody else", "admins: [192.0.2.10]\nexposure: fixed\n", func(p *proposal) {
			p.peer, p.sessions = adminPeer, []netip.AddrPort{adminPeer, strangerPeer}
		}, "", "", "203.0.113.50"},
		{"a tmux that outlived its connection", "admins: [192.0.2.10]\nexposure: fixed\n", func(p *proposal) {
			p.sessions = []netip.AddrPort{strangerPeer}
		}, "nobody who is logged in now", "", "203.0.113.50"},
		{"a console, and an administrator is logged in", "admins: [192.0.2.10]\nexposure: fixed\n", func(p *proposal) {
			p.sessions = []netip.AddrPort{adminPeer, strangerPeer}
		}, "", "", "203.0.113.50"},
		{"no sshd on the port", "", func(p *proposal) { p.deaf = true }, "", "", "nothing listens on ssh.port"},
		{"a lockdown without sshd's port", lockdown, func(p *proposal) { p.deaf = true }, "nothing listens on ssh.port", "", ""},
		{"another firewall", lockdown, func(p *proposal) { p.others.Managers = []firewall.Manager{firewalld} }, firewalld.Stop, firewalld.Stop, ""},
		{"another firewall beside guard", "", func(p *proposal) { p.others.Managers = []firewall.Manager{firewalld} }, "", "", ""},
		{"another firewall drops SSH", "", func(p *proposal) { p.others.Blocks = []firewall.Block{block} }, block.Remedy, "", ""},
		{"another firewall drops SSH, perhaps", "", func(p *proposal) { p.others.Blocks = []firewall.Block{perhaps} }, "", "", ""},
		{"Docker", lockdown, func(p *proposal) { p.others.Forwards = []string{"table ip docker"} }, "", "", "firewall.forward: yes"},
		{"Docker is left alone", "admins: [192.0.2.10]\nfirewall: {mode: lockdown, forward: yes}\n", func(p *proposal) { p.others.Forwards = []string{"table ip docker"} }, "", "", ""},
		{"old data", "firewall: {countries: [JP]}\n", func(p *proposal) {
			old := *p.data
			old.Time = time.Now().Add(-2 * oldData)
			p.data = &old
		}, "", "", "country data is of"},
		{"no such data", "firewall: {countries: [JP]}\n", func(p *proposal) { p.data = &country.Data{Meta: country.Meta{Time: time.Now()}} }, "no address of JP", "no address of JP", ""},
		{"others unknown", "", func(p *proposal) { p.unasked = errors.New("no answer") }, "", "", "no answer"},
		{"the kernel holds another", "", func(p *proposal) { p.standing.Confirmed = 9 }, "", "", "rule set 9"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p, err := propose(parsed(t, test.config), nil, firewall.State{}, data)
			if err != nil {
				t.Fatal(err)
			}
			p.live = firewall.Live{Banned: func(netip.Addr) bool { return false }, Granted: func(netip.Addr) bool { return false }}
			test.change(&p)
			reply := p.reply()
			for _, c := range []struct {
				force bool
				want  string
			}{{false, test.refused}, {true, test.forced}} {
				err := p.refusal(reply, c.force)
				text := fmt.Sprint(err)
				if hinted, ok := errors.AsType[*Error](err); ok {
					text += " " + hinted.Hint
				}
				if c.want == "" && err != nil || c.want != "" && !strings.Contains(text, c.want) {
					t.Errorf("force=%t: %s, want %q", c.force, text, c.want)
				}
			}
			if got := fmt.Sprint(reply.Warnings); test.warned == "" && len(reply.Warnings) > 0 || !strings.Contains(got, test.warned) {
				t.Errorf("warned of %s, want %q", got, test.warned)
			}
			if len(reply.Blocks) != len(p.others.Blocks) {
				t.Errorf("blocks: %+v", reply.Blocks)
			}
		})
	}
}

// TestProposalUntracked: who lets in what is tracked only stands in the way of
// "track: no" only.
func TestProposalUntracked(t *testing.T) {
	data, err := country.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	fake := firewall.NewFake(nil)
	fake.SetOthers(firewall.Others{Blocks: []firewall.Block{{Port: 22, Certain: true, Untracked: true}}})
	for config, want := range map[string]int{"": 0, "firewall: {track: no}\n": 1} {
		p, err := propose(parsed(t, config), nil, firewall.State{}, data)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.ask(t.Context(), fake); err != nil {
			t.Fatal(err)
		}
		if got := len(p.others.Blocks); got != want {
			t.Errorf("%q: %d blocks, want %d", config, got, want)
		}
	}
}

// TestGrantsEnd: a grant that is over is forgotten, and lets nobody in.
func TestGrantsEnd(t *testing.T) {
	d := New(Options{})
	now := time.Now()
	p := netip.MustParsePrefix("2001:db8:1:2::/64")
	d.grants.put(lease.Lease{Prefix: p, Verdict: lease.Allow, From: now, Until: now.Add(time.Minute)})
	inside := netip.MustParseAddr("2001:db8:1:2::7")
	if _, ok := d.granted(inside, now); !ok || len(d.liveGrants(now)) != 1 {
		t.Error("not granted")
	}
	later := now.Add(time.Minute)
	if _, ok := d.granted(inside, later); ok || len(d.liveGrants(later)) != 0 || len(d.grants) != 0 {
		t.Error("granted after its end")
	}
}

// TestHealth: what grew within the span is told, and no longer than that.
func TestHealth(t *testing.T) {
	var h health
	at := time.Now()
	reading := func(drops uint64) {
		at = at.Add(healthEvery)
		h.add(conntrack.Health{Time: at, InUse: true, Count: 10, Max: 100, Drops: drops}, nil)
	}
	reading(5)
	if len(h.found) != 0 {
		t.Errorf("held against the table what was before: %+v", h.found)
	}
	reading(9)
	if len(h.found) != 1 || h.found[0].Level != conntrack.Critical {
		t.Errorf("drops: %+v", h.found)
	}
	for range 2 * healthReadings {
		reading(9)
	}
	if len(h.found) != 0 || len(h.readings) > healthReadings {
		t.Errorf("long ago: %+v (%d readings)", h.found, len(h.readings))
	}
	h.add(conntrack.Health{}, errors.New("no answer"))
	if h.last().Drops != 9 {
		t.Error("a failed reading took the last one away")
	}
}
