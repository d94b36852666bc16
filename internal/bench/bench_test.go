package main

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

// attr is a netlink attribute, padded.
func attr(kind uint16, value ...[]byte) []byte {
	payload := slices.Concat(value...)
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(payload)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, payload...)
	return append(b, make([]byte, -len(b)&3)...)
}

// message is a netfilter message of one kind.
func message(kind uint16, attrs ...[]byte) []byte {
	payload := slices.Concat(append([][]byte{{1, 0, 0, 0}}, attrs...)...)
	b := binary.NativeEndian.AppendUint32(nil, uint32(16+len(payload)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, make([]byte, 10)...)
	return append(b, payload...)
}

func element(addr string, more ...[]byte) []byte {
	key := netip.MustParseAddr(addr).AsSlice()
	return attr(1|unix.NLA_F_NESTED, append([][]byte{attr(1|unix.NLA_F_NESTED, attr(1, key))}, more...)...)
}

func TestElements(t *testing.T) {
	const newElem = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWSETELEM
	table := attr(1, []byte("sekisho\x00"))
	tests := []struct {
		name  string
		input []byte
		want  []string
	}{
		{name: "empty"},
		{
			name:  "two messages, three elements",
			input: slices.Concat(message(newElem, table, attr(3, element("192.0.2.1"), element("192.0.2.2"))), message(newElem, table, attr(3, element("192.0.2.3")))),
			want:  []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"},
		},
		{
			name:  "the end of an interval",
			input: message(newElem, attr(3, element("192.0.2.9"), attr(1, attr(3, []byte{0, 0, 0, 1}), attr(1, attr(1, []byte{192, 0, 2, 10}))))),
			want:  []string{"192.0.2.9"},
		},
		{
			name:  "another kind of message",
			input: message(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_DELSETELEM, attr(3, element("192.0.2.1"))),
		},
		{
			name:  "cut off",
			input: message(newElem, table, attr(3, element("192.0.2.1")))[:40],
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for addr := range elements(tt.input) {
				got = append(got, addr.String())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("elements (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzElements(f *testing.F) {
	f.Add(message(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWSETELEM, attr(3, element("192.0.2.1"))))
	f.Fuzz(func(t *testing.T, b []byte) {
		for addr := range elements(b) {
			if !addr.Is4() {
				t.Errorf("got %v", addr)
			}
		}
	})
}

func TestQuantile(t *testing.T) {
	values := []float64{5, 1, 4, 2, 3}
	tests := []struct {
		name string
		q    float64
		want float64
	}{
		{"median", 0.5, 3},
		{"p99 of five is the greatest", 0.99, 5},
		{"the least", 0.01, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := quantile(values, tt.q); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestSamples(t *testing.T) {
	s := samples{}
	for _, value := range []float64{9, 1, 2, 8, 3} {
		s.add(sekisho, value)
	}
	for _, value := range []float64{4, 2} {
		s.add(crowdsec, value)
	}
	if diff := cmp.Diff(map[string]float64{sekisho: 3, crowdsec: 2}, s.quantiles(0.5)); diff != "" {
		t.Errorf("medians (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]float64{sekisho: 4.6, crowdsec: 3}, s.means(), cmpopts.EquateApprox(0, 1e-9)); diff != "" {
		t.Errorf("means (-want +got):\n%s", diff)
	}
}

// Every program has its turn in every round, but for one that failed or had enough.
func TestRounds(t *testing.T) {
	b := &bench{options: &options{peers: true, runs: 3}}
	var got []string
	b.rounds(t.Context(), "part", []program{{name: sekisho}, {name: fail2ban}, {name: sshguard}}, func(p program) error {
		got = append(got, p.name)
		switch {
		case p.name == fail2ban && len(got) > 3:
			return errors.New("no")
		case p.name == sshguard:
			return errEnough
		}
		return nil
	})
	if diff := cmp.Diff([]string{sekisho, fail2ban, sshguard, sekisho, fail2ban, sekisho}, got); diff != "" {
		t.Errorf("turns (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"part, fail2ban, from round 2 of 3: no"}, b.report.left); diff != "" {
		t.Errorf("left out (-want +got):\n%s", diff)
	}
}

func TestPeerTable(t *testing.T) {
	r := report{table: peerTable}
	r.add(figure{name: "delay", goal: "≤ 1 ms", values: map[string]float64{sekisho: 2, crowdsec: 1, fail2ban: 60}, atLeast: map[string]bool{fail2ban: true}, show: seconds})
	want := [][]string{
		{"figure", sekisho, fail2ban, sshguard, crowdsec},
		{"delay", "2.00 s", "> 60.00 s (over ×30.0)", "", "1.00 s (×0.50)"},
	}
	if diff := cmp.Diff(want, r.rows()); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

func TestReport(t *testing.T) {
	beginMark, endMark := goalTable.marks()
	r := report{table: goalTable, machine: []string{"a machine"}, left: []string{"flood: needs root"}}
	r.add(figure{
		name: "speed", values: map[string]float64{sekisho: 4e6, fail2ban: 2e4}, show: rate, more: true,
		goal: "fast", met: true, notes: map[string]string{sshguard: "not asked"},
	})
	r.add(figure{name: "delay", values: map[string]float64{sekisho: 0.0005, sshguard: 30}, atLeast: map[string]bool{sshguard: true}, show: seconds, goal: "≤ 0.3 ms"})

	path := filepath.Join(t.TempDir(), "doc.md")
	if err := os.WriteFile(path, []byte("before\n"+beginMark+"old\n"+endMark+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.writeInto(path, ""); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := "before\n" + beginMark + `- a machine

| figure | Sekisho | goal |  | fail2ban | SSHGuard | grep |
|---|---|---|---|---|---|---|
| speed | 4.00 M/s | fast | met | 20 k/s (×200) | not asked |  |
| delay | 0.50 ms | ≤ 0.3 ms | missed |  | > 30.00 s (over ×60 k) |  |

Left out: flood: needs root
` + endMark + "after\n"
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("document (-want +got):\n%s", diff)
	}
	if !r.missed() {
		t.Error("a missed goal was not seen")
	}
}

func TestSources(t *testing.T) {
	var got []netip.Addr
	for _, n := range []int{0, 255, 256, 65_535, 65_536, 99_999} {
		got = append(got, source(burstSources, n))
	}
	want := []netip.Addr{
		netip.MustParseAddr("48.0.0.7"), netip.MustParseAddr("48.0.255.7"), netip.MustParseAddr("48.1.0.7"),
		netip.MustParseAddr("48.255.255.7"), netip.MustParseAddr("49.0.0.7"), netip.MustParseAddr("49.134.159.7"),
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
}

func TestBenchmarkMetrics(t *testing.T) {
	got := benchmarkMetrics("goos: linux\nBenchmarkFlood-2   \t       1\t         0.7500 fail2ban-Mpps\t         0 ns/op\t         1.900 ratio\nPASS\n", "BenchmarkFlood")
	want := map[string]float64{"fail2ban-Mpps": 0.75, "ns/op": 0, "ratio": 1.9}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

// A run of one part refreshes its own figures and leaves the others.
func TestReportMerged(t *testing.T) {
	figureOf := func(name string, value float64) figure {
		return figure{name: name, values: map[string]float64{sekisho: value}, show: significant}
	}
	beginMark, endMark := goalTable.marks()
	doc := filepath.Join(t.TempDir(), "benchmarks.md")
	if err := os.WriteFile(doc, []byte("above\n"+beginMark+endMark+"below\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	whole := report{table: goalTable, machine: []string{"first", "program"}, figures: []figure{figureOf("a", 1), figureOf("b", 2)}, left: []string{"flood: no", "storm: no"}}
	if err := whole.writeInto(doc, ""); err != nil {
		t.Fatal(err)
	}
	part := report{table: goalTable, machine: []string{"second", "program"}, figures: []figure{figureOf("b", 3), figureOf("c", 4)}}
	for range 2 { // again changes nothing more
		if err := part.writeInto(doc, "flood"); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	want := "above\n" + beginMark + "- first\n- program\n- of a run of its own: flood: second; program\n\n" +
		"| figure | Sekisho | goal |  | fail2ban | SSHGuard | grep |\n|---|---|---|---|---|---|---|\n" +
		"| a | 1.00 |  |  |  |  |  |\n| b | 3.00 |  |  |  |  |  |\n| c | 4.00 |  |  |  |  |  |\n" +
		"\nLeft out: storm: no\n" + endMark + "below\n"
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("the document (-want +got):\n%s", diff)
	}
}
