package conntrack

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A real table: entries of real packets, and a race that is lost on purpose.
func TestReadHealth(t *testing.T) {
	inNamespace(t, "10.0.0.1/32", "10.0.0.2/32", "2001:db8::1/128", "2001:db8::2/128")
	before, err := ReadHealth(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !before.InUse {
		t.Skip("LEFT OUT: needs a kernel with connection tracking (CONFIG_NF_CONNTRACK)")
	}
	if before.Count != 0 || before.Max == 0 || before.RAM < 64<<20 || before.Idle <= 0 || before.Time.IsZero() {
		t.Errorf("a new namespace: got %+v", before)
	}
	script := "add table inet watcher; add chain inet watcher input { type filter hook input priority 0; }; add rule inet watcher input ct state new counter"
	if out, err := exec.Command("nft", script).CombinedOutput(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			t.Skip("LEFT OUT: needs the command nft")
		}
		t.Fatalf("nft: %v: %s", err, out)
	}
	four, _ := listenAt(t, "tcp4", "10.0.0.1:0")
	six, _ := listenAt(t, "tcp6", "[2001:db8::1]:0")
	connect(t, four, "10.0.0.2", "10.0.0.1")
	connect(t, four, "10.0.0.2", "10.0.0.1")
	connect(t, six, "2001:db8::2", "2001:db8::1")
	// A packet whose connection cannot be entered: its answers belong to another.
	if err := enter(); err != nil {
		t.Fatal(err)
	}
	clashing, err := net.DialIP("ip4:icmp", &net.IPAddr{IP: net.IPv4(10, 0, 0, 2)}, &net.IPAddr{IP: net.IPv4(10, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = clashing.Close() }()
	if _, err := clashing.Write([]byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}); !errors.Is(err, unix.EPERM) {
		t.Fatalf("a packet that cannot be tracked: %v, want it to be dropped (EPERM)", err)
	}
	after, err := ReadHealth(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := after.Count, uint64(4); got != want {
		t.Errorf("count: got %d, want %d", got, want)
	}
	if got, want := after.InsertsFailed, uint64(1); got != want {
		t.Errorf("inserts failed: got %d, want %d", got, want)
	}
	found := Judge(before, after)
	if len(found) != 1 || found[0].Kind != KindInsertsFailed || found[0].Level != Critical {
		t.Errorf("found %+v, want one lost race", found)
	}

	// The other way to the same figures.
	b, err := os.ReadFile("/proc/thread-self/net/stat/nf_conntrack")
	if errors.Is(err, os.ErrNotExist) {
		t.Log("LEFT OUT: no /proc/net/stat/nf_conntrack (CONFIG_NF_CONNTRACK_PROCFS)")
	} else {
		var procfs Health
		if err := procfs.readStatistics(b); err != nil {
			t.Fatal(err)
		}
		if procfs.InsertsFailed != after.InsertsFailed || procfs.Drops != after.Drops || procfs.EarlyDrops != after.EarlyDrops {
			t.Errorf("procfs tells %+v, netlink %+v", procfs, after)
		}
	}

	// Another namespace, by its descriptor, from a thread that is not in it.
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = here.Close() }()
	answer := make(chan Health)
	go func() {
		h, err := ReadHealth(t.Context(), Options{NetNS: int(here.Fd())})
		if err != nil {
			t.Error(err)
		}
		answer <- h
	}()
	if got := <-answer; got.Count != after.Count || got.InsertsFailed != after.InsertsFailed {
		t.Errorf("by its descriptor: got %+v, want %+v", got, after)
	}
}

// enter puts an echo request with id 0 from 10.0.0.3 to 10.0.0.1 into the table by
// hand, whose answers go to 10.0.0.2. (Of UDP, Linux 6.1 and older take the packet
// that clashes for one of the connection that is there.)
func enter() error {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	tuple := func(from, to, kind byte) func(*netlink.AttributeEncoder) error {
		return func(e *netlink.AttributeEncoder) error {
			e.Nested(1, func(e *netlink.AttributeEncoder) error { // CTA_TUPLE_IP
				e.Bytes(1, []byte{10, 0, 0, from})
				e.Bytes(2, []byte{10, 0, 0, to})
				return nil
			})
			e.Nested(2, func(e *netlink.AttributeEncoder) error { // CTA_TUPLE_PROTO
				e.Uint8(1, unix.IPPROTO_ICMP)
				e.Uint16(4, 0)
				e.Uint8(5, kind)
				e.Uint8(6, 0)
				return nil
			})
			return nil
		}
	}
	e := netlink.NewAttributeEncoder()
	e.ByteOrder = binary.BigEndian
	e.Nested(1, tuple(3, 1, 8)) // CTA_TUPLE_ORIG
	e.Nested(2, tuple(1, 2, 0)) // CTA_TUPLE_REPLY
	e.Uint32(7, 60)             // CTA_TIMEOUT
	b, err := e.Encode()
	if err != nil {
		return err
	}
	_, err = c.Execute(netlink.Message{
		Header: netlink.Header{
			Type:  unix.NFNL_SUBSYS_CTNETLINK << 8,
			Flags: netlink.Request | netlink.Acknowledge | netlink.Create | netlink.Excl,
		},
		Data: append([]byte{unix.AF_INET, unix.NFNETLINK_V0, 0, 0}, b...),
	})
	return err
}

func TestReadHealthCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ReadHealth(ctx, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := ReadHealth(t.Context(), Options{NetNS: 1 << 20}); err == nil {
		t.Error("a descriptor that is none: no error")
	}
}

// A real driver's counters, as ethtool reads them: veth tells its peer's index.
func TestDriverCounters(t *testing.T) {
	inNamespace(t)
	if out, err := exec.Command("ip", "link", "add", "veth0", "type", "veth", "peer", "name", "veth1").CombinedOutput(); err != nil {
		t.Fatalf("ip: %v: %s", err, out)
	}
	peer, err := net.InterfaceByName("veth1")
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	counters, err := driverCounters(fd, "veth0")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := counters["peer_ifindex"], uint64(peer.Index); got != want {
		t.Errorf("peer_ifindex of veth0: got %d, want %d (all: %v)", got, want, counters)
	}
	if _, err := driverCounters(fd, "lo"); !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("lo: got %v, want EOPNOTSUPP", err)
	}
	if got, err := allowances(); err != nil || got != nil {
		t.Errorf("allowances of veth: got %v, %v", got, err)
	}
}

func TestAllowanceOf(t *testing.T) {
	tests := []struct {
		name     string
		counters map[string]uint64
		want     Allowance
		ok       bool
	}{
		{name: "another driver", counters: map[string]uint64{"rx_packets": 1}},
		{
			name: "ena", ok: true,
			counters: map[string]uint64{
				"bw_in_allowance_exceeded": 1, "bw_out_allowance_exceeded": 2, "pps_allowance_exceeded": 3, "conntrack_allowance_exceeded": 4,
				"linklocal_allowance_exceeded": 5, "conntrack_allowance_available": 136812, "rx_overruns": 7,
			},
			want: Allowance{Interface: "ens5", BandwidthExceeded: 3, PacketRateExceeded: 3, ConntrackExceeded: 4, LinkLocalExceeded: 5, ConntrackAvailable: 136812, AvailableKnown: true},
		},
		{
			name: "an older ena", counters: map[string]uint64{"conntrack_allowance_exceeded": 0}, ok: true,
			want: Allowance{Interface: "ens5"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := allowanceOf("ens5", tt.counters)
			if diff := cmp.Diff(tt.want, got); diff != "" || ok != tt.ok {
				t.Errorf("ok %v, want %v (-want +got):\n%s", ok, tt.ok, diff)
			}
		})
	}
}

func TestReadStatistics(t *testing.T) {
	tests := []struct {
		name, text string
		want       Health
		wantErr    string
	}{
		{
			name: "two CPUs, Linux 6.1", // the first column is the same number in each line, the others are each CPU's
			text: "entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop icmp_error  expect_new expect_create expect_delete search_restart\n" +
				"0000000a  00000000 00000000 00000000 00000001 00000000 00000000 00000000 00000000 00000002 0000001f 00000004 00000000  00000000 00000000 00000000 00000000\n" +
				"0000000a  00000000 00000000 00000000 00000001 00000000 00000000 00000000 00000000 00000001 00000001 00000000 00000000  00000000 00000000 00000000 00000000\n",
			want: Health{InsertsFailed: 3, Drops: 32, EarlyDrops: 4},
		},
		{
			name: "Linux 4.14", text: "entries  searched found new invalid ignore delete delete_list insert insert_failed drop early_drop\n00000001 0 0 0 0 0 0 0 0 00000001 00000002 00000003\n",
			want: Health{InsertsFailed: 1, Drops: 2, EarlyDrops: 3},
		},
		{name: "empty", wantErr: "no figures"},
		{name: "names only", text: "entries drop\n", wantErr: "no figures"},
		{name: "no number", text: "entries drop\n1 x\n", wantErr: "not a hexadecimal number"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got Health
			err := got.readStatistics([]byte(tt.text))
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Errorf("got %v, want %q", err, tt.wantErr)
				}
				return
			}
			if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestJudge(t *testing.T) {
	start := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	const gib = 1 << 30
	// health is a machine of 4 GiB with the defaults, a minute after start.
	health := func(change func(*Health)) Health {
		h := Health{Time: start.Add(time.Minute), InUse: true, Count: 100, Max: 65536, Idle: 5 * 24 * time.Hour, RAM: 4 * gib, Drops: 7, EarlyDrops: 8, InsertsFailed: 9}
		h.Allowances = []Allowance{{Interface: "ens5", ConntrackExceeded: 3, BandwidthExceeded: 2, PacketRateExceeded: 1}}
		if change != nil {
			change(&h)
		}
		return h
	}
	usual := health(func(h *Health) { h.Time = start })
	const both = "sysctl -w net.netfilter.nf_conntrack_max=131072 net.netfilter.nf_conntrack_tcp_timeout_established=86400 "
	type finding struct {
		level  Level
		kind   string
		text   string // a part
		advice string // a part
	}
	tests := []struct {
		name   string
		before Health
		now    Health
		want   []finding
	}{
		{name: "nothing", before: usual, now: health(nil)},
		{name: "the first reading", now: health(nil)},
		{name: "no conntrack", before: Health{Time: start}, now: Health{Time: start.Add(time.Minute)}},
		{name: "just below 75 %", before: usual, now: health(func(h *Health) { h.Count = 49151 })},
		{
			name: "75 %", before: usual, now: health(func(h *Health) { h.Count = 49152 }),
			want: []finding{{Warning, KindFill, "75 % full (49152 of 65536)", both}},
		},
		{
			name: "90 %", before: usual, now: health(func(h *Health) { h.Count = 58983 }),
			want: []finding{{Critical, KindFill, "90 % full (58983 of 65536)", "`firewall.track: no`"}},
		},
		{
			name: "full at the first reading", now: health(func(h *Health) { h.Count = 65537 }),
			want: []finding{{Critical, KindFill, "100 % full (65537 of 65536)", both}},
		},
		{name: "no limit", before: usual, now: health(func(h *Health) { h.Max = 0 })},
		{
			name: "drops", before: usual, now: health(func(h *Health) { h.Drops += 5 }),
			want: []finding{{Critical, KindDrops, "dropped 5 packets within 1m0s", both}},
		},
		{
			name: "drops, some of them lost races", before: usual, now: health(func(h *Health) { h.Drops, h.InsertsFailed = h.Drops+5, h.InsertsFailed+2 }),
			want: []finding{{Critical, KindDrops, "dropped 3 packets within 1m0s", both}, {Critical, KindInsertsFailed, "dropped 2 packets", "conntrack -S"}},
		},
		{
			name: "early drops", before: usual, now: health(func(h *Health) { h.EarlyDrops++ }),
			want: []finding{{Critical, KindEarlyDrops, "threw 1 connections", both}},
		},
		{
			name: "lost races", before: usual, now: health(func(h *Health) { h.InsertsFailed += 2 }),
			want: []finding{{Critical, KindInsertsFailed, "dropped 2 packets", "conntrack -S"}},
		},
		{name: "counted anew", before: usual, now: health(func(h *Health) { h.Drops, h.EarlyDrops, h.InsertsFailed = 0, 0, 0 })},
		{
			name: "a small machine", before: usual, // 256 MiB: 65536 is what its memory makes sensible
			now:  health(func(h *Health) { h.Count, h.RAM = 60000, gib/4 }),
			want: []finding{{Critical, KindFill, "91 %", "sysctl -w net.netfilter.nf_conntrack_tcp_timeout_established=86400 "}},
		},
		{
			name: "between", before: usual, // 384 MiB: not doubled
			now:  health(func(h *Health) { h.Count, h.RAM = 60000, 3*gib/8 }),
			want: []finding{{Critical, KindFill, "91 %", "nf_conntrack_max=98304 "}},
		},
		{
			name: "all is set already", before: usual,
			now:  health(func(h *Health) { h.Count, h.RAM, h.Idle = 60000, gib/4, time.Hour }),
			want: []finding{{Critical, KindFill, "91 %", "add memory"}},
		},
		{
			name: "a short timeout is not made longer", before: usual,
			now:  health(func(h *Health) { h.Count, h.Idle = 60000, time.Hour }),
			want: []finding{{Critical, KindFill, "91 %", "nf_conntrack_max=131072 (and"}},
		},
		{
			name: "EC2's limits", before: usual,
			now: health(func(h *Health) {
				h.Allowances[0] = Allowance{Interface: "ens5", ConntrackExceeded: 13, BandwidthExceeded: 4, PacketRateExceeded: 2, LinkLocalExceeded: 1}
			}),
			want: []finding{
				{Critical, KindAllowance, "dropped 10 packets of ens5", "ethtool -S ens5 | grep allowance"},
				{Warning, KindAllowance, "2 packets of ens5 within 1m0s: more bandwidth", "larger instance"},
				{Warning, KindAllowance, "1 packets of ens5 within 1m0s: more packets per second", "larger instance"},
				{Warning, KindAllowance, "more traffic to DNS", "larger instance"},
			},
		},
		{name: "an interface plugged in since", before: usual, now: health(func(h *Health) { h.Allowances[0].Interface = "ens6" })},
		{
			name: "EC2 without conntrack", before: Health{Time: start, Allowances: []Allowance{{Interface: "eth0"}}},
			now:  Health{Time: start.Add(time.Minute), Allowances: []Allowance{{Interface: "eth0", ConntrackExceeded: 1}}},
			want: []finding{{Critical, KindAllowance, "dropped 1 packets of eth0", ""}},
		},
		{
			name: "a hostile interface", before: Health{Time: start, Allowances: []Allowance{{Interface: "\x1b[2J"}}},
			now:  Health{Time: start.Add(time.Minute), Allowances: []Allowance{{Interface: "\x1b[2J", ConntrackExceeded: 1}}},
			want: []finding{{Critical, KindAllowance, `\x1b[2J`, `\x1b[2J`}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Judge(tt.before, tt.now)
			if len(got) != len(tt.want) {
				t.Fatalf("got %d findings, want %d: %+v", len(got), len(tt.want), got)
			}
			for i, w := range tt.want {
				g := got[i]
				if g.Level != w.level || g.Kind != w.kind || !strings.Contains(g.Text, w.text) || !strings.Contains(g.Advice, w.advice) || g.Advice == "" {
					t.Errorf("got  %+v\nwant %+v", g, w)
				}
			}
		})
	}
}
