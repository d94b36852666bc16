package firewall

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// Others' tables may be huge: a set costs one question, rules beyond a bound are
// not read and leave us in doubt.
func TestOthersHuge(t *testing.T) {
	w := newWire(t)
	var b strings.Builder
	b.WriteString("table inet huge {\nset bad { type ipv4_addr; flags interval; elements = {")
	for i := range 30_000 {
		fmt.Fprintf(&b, "11.%d.%d.%d,", i>>15, i>>7&255, i<<1&255)
	}
	b.WriteString("10.0.0.2 } }\nchain i { type filter hook input priority 0; ip saddr @bad drop; }\n}\n")
	w.host.feed(t, b.String(), "nft", "-f", "-")
	b.Reset()
	b.WriteString("table ip6 huge {\nchain i { type filter hook input priority 0;\n")
	for i := range othersRules + 1000 {
		fmt.Fprintf(&b, "ip6 saddr 2001:db9::%x drop\n", i)
	}
	b.WriteString("}\n}\n")
	w.host.feed(t, b.String(), "nft", "-f", "-")

	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	got := w.others(t, peer4, peer6, "10.0.0.3")
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	t.Logf("took %v, allocated %d MiB", took, (after.TotalAlloc-before.TotalAlloc)>>20)
	if limit := 10 * time.Second; took > limit {
		t.Errorf("took %v, want at most %v", took, limit)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 256<<20 {
		t.Errorf("allocated %d MiB", n>>20)
	}
	var told []string
	for _, b := range got.Blocks {
		if !b.Untracked {
			told = append(told, fmt.Sprint(b.Peer, " ", b.Where, " ", b.Certain))
		}
	}
	slices.Sort(told)
	want := []string{"10.0.0.2 table inet huge, chain i true", "2001:db8::2 table ip6 huge, chain i false"}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Names, comments and rules of others do not reach a terminal or a shell as they are.
func TestOthersHostileNames(t *testing.T) {
	w := newWire(t)
	c, err := nftables.New(nftables.WithNetNSFd(w.host.fd()))
	if err != nil {
		t.Fatal(err)
	}
	policy := nftables.ChainPolicyDrop
	for _, name := range []string{"\x1b[2J\n$(reboot)", "`reboot`;", strings.Repeat("x", 200)} {
		table := c.AddTable(&nftables.Table{Name: name, Family: nftables.TableFamilyINet})
		chain := c.AddChain(&nftables.Chain{
			Name: name, Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter, Policy: &policy,
		})
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}, UserData: append([]byte{0, 6}, "\x1b]0;a\x00"...)})
		c.AddChain(&nftables.Chain{Name: name + "f", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter})
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	w.host.set(t, "net.ipv4.ip_forward=1")
	o := w.others(t, peer4)
	if len(o.Blocks) != 3 || len(o.Forwards) != 3 {
		t.Fatalf("got %+v, want 3 blocks and 3 forwards", o)
	}
	for _, s := range append(o.Forwards, o.Blocks[0].Where, o.Blocks[0].Rule, o.Blocks[1].Where, o.Blocks[1].Rule) {
		if strings.ContainsAny(s, "\x1b\n") || len(s) > 400 {
			t.Errorf("%q is not fit to be shown", s)
		}
	}
	for _, b := range o.Blocks {
		if strings.Contains(b.Remedy, "reboot") || strings.Contains(b.Remedy, "\x1b") {
			t.Errorf("the remedy %q runs what others wrote", b.Remedy)
		}
	}
}

// What older versions of iptables-nft wrote (1.8.7: a match of x_tables for TCP,
// with all its fields), and older revisions of conntrack's match.
func TestOthersOlderIPTables(t *testing.T) {
	tcp := func(first, last uint16, invert xt.TcpInvFlagset) *expr.Match {
		return &expr.Match{Name: "tcp", Info: &xt.Tcp{
			SrcPorts: [2]uint16{0, 65535}, DstPorts: [2]uint16{first, last}, InvFlags: invert,
		}}
	}
	for _, tt := range []struct {
		name  string
		match *expr.Match
		want  Verdict // of a rule that drops
	}{
		{"port", tcp(22, 22, 0), Drop},
		{"range", tcp(20, 30, 0), Drop},
		{"another port", tcp(80, 80, 0), Pass},
		{"not the port", tcp(22, 22, xt.TcpInvDestPorts), Pass},
		{"not another port", tcp(80, 90, xt.TcpInvDestPorts), Drop},
		{"SYN", &expr.Match{Name: "tcp", Info: &xt.Tcp{SrcPorts: [2]uint16{0, 65535}, DstPorts: [2]uint16{0, 65535}, FlagsMask: 0x17, FlagsCmp: 2}}, Drop},
		{"not SYN", &expr.Match{Name: "tcp", Info: &xt.Tcp{SrcPorts: [2]uint16{0, 65535}, DstPorts: [2]uint16{22, 22}, FlagsMask: 0x17, FlagsCmp: 2, InvFlags: xt.TcpInvFlags}}, Pass},
		{"new", &expr.Match{Name: "conntrack", Rev: 2, Info: &xt.ConntrackMtinfo2{ConntrackMtinfoBase: xt.ConntrackMtinfoBase{MatchFlags: 1}, StateMask: 1 << 3}}, Drop},
		{"established", &expr.Match{Name: "conntrack", Rev: 2, Info: &xt.ConntrackMtinfo2{ConntrackMtinfoBase: xt.ConntrackMtinfoBase{MatchFlags: 1}, StateMask: 1 << 1}}, Pass},
		{"to us, revision 0", &expr.Match{Name: "addrtype", Info: &xt.AddrType{Dest: 1 << unix.RTN_LOCAL}}, Drop},
		{"not to us, revision 0", &expr.Match{Name: "addrtype", Info: &xt.AddrType{Dest: 1 << unix.RTN_LOCAL, InvertDest: true}}, Pass},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWire(t)
			c, err := nftables.New(nftables.WithNetNSFd(w.host.fd()))
			if err != nil {
				t.Fatal(err)
			}
			table := c.AddTable(&nftables.Table{Name: "filter", Family: nftables.TableFamilyIPv4})
			chain := c.AddChain(&nftables.Chain{Name: "INPUT", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter})
			c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
				&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
				tt.match, &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop},
			}})
			if err := c.Flush(); err != nil {
				t.Fatal(err)
			}
			if got := w.tries(t, peer4, tt.want); got != tt.want {
				t.Fatalf("a real connection: got %d, want %d: the test is wrong", got, tt.want)
			}
			blocks := untrackedLeftOut(w.others(t, peer4).Blocks)
			if want := tt.want == Drop; want != (len(blocks) == 1 && blocks[0].Certain) || !want && len(blocks) > 0 {
				t.Errorf("got %+v, want a certain block: %v", blocks, want)
			}
		})
	}
}

// Without the tool that reads them, the old tables leave us in doubt and say so.
func TestOthersLegacyUnread(t *testing.T) {
	noLegacy(t)
	w := newWire(t)
	w.setUp(t, "iptables-legacy -P INPUT DROP")
	t.Setenv("PATH", t.TempDir())
	got := w.others(t, peer4, peer6).Blocks
	if len(got) != 1 || got[0].Certain || got[0].Peer != netip.MustParseAddr(peer4) ||
		!strings.Contains(got[0].Rule, "iptables-legacy-save is not installed") {
		t.Errorf("got %+v", got)
	}
}

func TestOthersErrors(t *testing.T) {
	w := newWire(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.k.Others(ctx, []uint16{22}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
	if _, err := (&Kernel{netNS: 1 << 20}).Others(t.Context(), []uint16{22}, nil); err == nil {
		t.Error("no such namespace: no error")
	}
}

func TestFakeOthers(t *testing.T) {
	f := NewFake(nil)
	peer, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	f.SetOthers(Others{
		Managers: []Manager{{Name: "ufw"}}, Forwards: []string{"table ip docker"},
		Blocks: []Block{{Port: 22}, {Port: 22, Peer: peer}, {Port: 22, Peer: other}, {Port: 80}},
	})
	got, err := f.Others(t.Context(), []uint16{22}, []netip.Addr{peer})
	want := Others{Managers: []Manager{{Name: "ufw"}}, Forwards: []string{"table ip docker"}, Blocks: []Block{{Port: 22}, {Port: 22, Peer: peer}}}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	failure := errors.New("no")
	f.FailCall("Others", failure)
	if _, err := f.Others(t.Context(), nil, nil); !errors.Is(err, failure) {
		t.Errorf("got %v", err)
	}
}

func TestSplitSaved(t *testing.T) {
	for _, tt := range []struct {
		line string
		want []string
	}{
		{"", nil},
		{"-A INPUT -j DROP", []string{"-A", "INPUT", "-j", "DROP"}},
		{`-m comment --comment "a \"b\" \\ c" -j X`, []string{"-m", "comment", "--comment", `a "b" \ c`, "-j", "X"}},
		{`--comment "" -j`, []string{"--comment", "", "-j"}},
		{`--comment "open`, []string{"--comment", "open"}},
	} {
		if diff := cmp.Diff(tt.want, splitSaved(tt.line)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.line, diff)
		}
	}
}

// A rule whose words hold another option's name as text is not taken for it.
func TestLegacyComment(t *testing.T) {
	tables := parseSaved(unix.NFPROTO_IPV4, "iptables", "*filter\n:INPUT DROP [0:0]\n[1:2] -A INPUT -p tcp -m comment --comment \"-j ACCEPT\" -j DROP\nCOMMIT\n")
	m := othersMachine{steps: 100}
	m.begin(attempt{from: netip.MustParseAddr("192.0.2.1"), port: 22, tracked: true})
	if got := m.runLegacy(tables[0], tables[0].bases()[0]); got.blocked() == false || got&passes != 0 {
		t.Errorf("got %b, want it dropped", got)
	}
}

// FuzzOthersRule holds that no bytes of the kernel's make the machine panic.
func FuzzOthersRule(f *testing.F) {
	if b, err := exprsOf(); err == nil {
		f.Add(b, true)
	}
	f.Add([]byte{8, 0, 1, 0, 'c', 'm', 'p', 0}, false)
	r := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 200)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	f.Add(noise, true)
	f.Fuzz(func(t *testing.T, exprs []byte, v6 bool) {
		m := othersMachine{steps: 1000, read: &othersReader{sets: map[otherTable]map[string]otherSet{{}: {}}}}
		a := attempt{from: netip.MustParseAddr("192.0.2.1"), port: 22, tracked: true}
		if v6 {
			a = attempt{from: netip.MustParseAddr("2001:db8::1"), port: 22, iface: "eth0", index: 2}
		}
		m.begin(a)
		m.reg = unknownField(registerBytes)
		for _, e := range []string{"cmp", "bitwise", "payload", "byteorder", "range", "match", "target", "exthdr", "fib", "immediate", "dynset", "meta", "ct", "lookup"} {
			m.expr(e, exprs, true)
		}
		m.rule(otherRule{exprs: exprs}, true)
		otherRule{exprs: exprs}.jumps()
	})
}

func exprsOf() ([]byte, error) {
	var out []byte
	for _, e := range []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(22)},
		&expr.Verdict{Kind: expr.VerdictDrop},
	} {
		b, err := expr.Marshal(unix.NFPROTO_INET, e)
		if err != nil {
			return nil, err
		}
		out = binary.NativeEndian.AppendUint16(out, uint16(len(b)+4))
		out = binary.NativeEndian.AppendUint16(out, unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED)
		out = append(out, b...)
	}
	return out, nil
}
