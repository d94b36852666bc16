package firewall

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

func TestFakeConforms(t *testing.T) {
	conform(t, func(*testing.T) Firewall { return NewFake(nil) })
}

func TestKernelConforms(t *testing.T) {
	conform(t, func(t *testing.T) Firewall { return newKernel(t, newNamespace(t)) })
}

// A kernel that cannot time interval sets keeps the same contract.
func TestKernelWithoutIntervalTimeoutsConforms(t *testing.T) {
	conform(t, func(t *testing.T) Firewall {
		k := newKernel(t, newNamespace(t))
		k.intervalTimeouts = false
		return k
	})
}

var everything = State{Ports: []uint16{22}}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// banned reads all bans into a map.
func banned(t testing.TB, f Firewall) map[netip.Prefix]time.Duration {
	t.Helper()
	got := make(map[netip.Prefix]time.Duration)
	if err := f.Bans(t.Context(), func(b Ban) error {
		if _, twice := got[b.Prefix]; twice {
			t.Errorf("%v is told twice", b.Prefix)
		}
		got[b.Prefix] = b.Left
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return got
}

// sameEnd lets durations differ by what the test itself takes.
func sameEnd(a, b time.Duration) bool {
	if a == 0 || b == 0 {
		return a == b
	}
	return (a - b).Abs() < 10*time.Second
}

func same(t testing.TB, f Firewall, want map[netip.Prefix]time.Duration) {
	t.Helper()
	got := banned(t, f)
	if maps.EqualFunc(want, got, sameEnd) {
		return // cmp takes seconds for 30,000
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(sameEnd), cmpopts.EquateComparable(netip.Prefix{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("bans in force (-want +got):\n%s", diff)
	}
}

func ensured(t *testing.T, f Firewall) Firewall {
	t.Helper()
	if err := f.Ensure(t.Context(), everything); err != nil {
		t.Fatal(err)
	}
	return f
}

func ban(t testing.TB, f Firewall, bans ...Ban) {
	t.Helper()
	if err := f.Ban(t.Context(), bans); err != nil {
		t.Fatal(err)
	}
}

func unban(t testing.TB, f Firewall, prefixes ...string) {
	t.Helper()
	var list []netip.Prefix
	for _, p := range prefixes {
		list = append(list, prefix(p))
	}
	if err := f.Unban(t.Context(), list); err != nil {
		t.Fatal(err)
	}
}

// conform is what every Firewall does.
func conform(t *testing.T, open func(t *testing.T) Firewall) {
	const hour = time.Hour
	steps := []struct {
		name  string
		bans  [][]Ban
		unban []string
		want  map[netip.Prefix]time.Duration
	}{
		{name: "nothing"},
		{
			name: "every kind of prefix",
			bans: [][]Ban{{
				{prefix("192.0.2.1/32"), hour}, {prefix("198.51.100.0/24"), 2 * hour}, {prefix("2001:db8::1/128"), 3 * hour},
				{prefix("2001:db8:1:2::/64"), 4 * hour}, {prefix("2001:db8:5::/48"), 5 * hour}, {prefix("203.0.113.9/32"), 0},
				{prefix("2001:db8:6::/48"), 0}, {prefix("255.255.255.255/32"), hour}, {prefix("255.255.255.0/24"), hour},
				{prefix("ff00::/8"), hour}, {prefix("128.0.0.0/1"), hour},
			}},
			want: map[netip.Prefix]time.Duration{
				prefix("192.0.2.1/32"): hour, prefix("198.51.100.0/24"): 2 * hour, prefix("2001:db8::1/128"): 3 * hour,
				prefix("2001:db8:1:2::/64"): 4 * hour, prefix("2001:db8:5::/48"): 5 * hour, prefix("203.0.113.9/32"): 0,
				prefix("2001:db8:6::/48"): 0, prefix("255.255.255.255/32"): hour, prefix("255.255.255.0/24"): hour,
				prefix("ff00::/8"): hour, prefix("128.0.0.0/1"): hour,
			},
		},
		{
			name: "a ban made again has the new end",
			bans: [][]Ban{
				{{prefix("192.0.2.1/32"), hour}, {prefix("192.0.2.2/32"), hour}, {prefix("192.0.2.3/32"), 0}, {prefix("10.0.0.0/8"), hour}, {prefix("2001:db8::/64"), hour}},
				{{prefix("192.0.2.1/32"), 4 * hour}, {prefix("192.0.2.2/32"), 0}, {prefix("192.0.2.3/32"), hour}, {prefix("10.0.0.0/8"), 2 * hour}, {prefix("2001:db8::/64"), time.Minute}},
			},
			want: map[netip.Prefix]time.Duration{
				prefix("192.0.2.1/32"): 4 * hour, prefix("192.0.2.2/32"): 0, prefix("192.0.2.3/32"): hour,
				prefix("10.0.0.0/8"): 2 * hour, prefix("2001:db8::/64"): time.Minute,
			},
		},
		{
			name: "of two bans in one batch the last one holds",
			bans: [][]Ban{{{prefix("192.0.2.1/32"), hour}, {prefix("10.0.0.0/8"), hour}, {prefix("192.0.2.1/32"), 2 * hour}, {prefix("10.0.0.0/8"), 3 * hour}}},
			want: map[netip.Prefix]time.Duration{prefix("192.0.2.1/32"): 2 * hour, prefix("10.0.0.0/8"): 3 * hour},
		},
		{
			name: "a ban that ended already",
			bans: [][]Ban{{{prefix("192.0.2.1/32"), -1}, {prefix("10.0.0.0/8"), -hour}}},
		},
		{
			name: "prefixes inside of each other",
			bans: [][]Ban{{{prefix("10.1.2.0/24"), 3 * hour}}, {{prefix("10.1.0.0/16"), hour}, {prefix("10.1.2.128/25"), 2 * hour}}, {{prefix("10.0.0.0/8"), 0}}},
			want: map[netip.Prefix]time.Duration{
				prefix("10.1.2.0/24"): 3 * hour, prefix("10.1.0.0/16"): hour, prefix("10.1.2.128/25"): 2 * hour, prefix("10.0.0.0/8"): 0,
			},
		},
		{
			name:  "unban one of those inside of each other",
			bans:  [][]Ban{{{prefix("10.1.2.0/24"), 3 * hour}, {prefix("10.1.0.0/16"), hour}, {prefix("2001:db8::/32"), hour}, {prefix("2001:db8:1::/48"), 2 * hour}}},
			unban: []string{"10.1.0.0/16", "2001:db8:1::/48"},
			want:  map[netip.Prefix]time.Duration{prefix("10.1.2.0/24"): 3 * hour, prefix("2001:db8::/32"): hour},
		},
		{
			name:  "unban",
			bans:  [][]Ban{{{prefix("192.0.2.1/32"), hour}, {prefix("192.0.2.2/32"), hour}, {prefix("2001:db8::/64"), 0}}},
			unban: []string{"192.0.2.1/32", "2001:db8::/64"},
			want:  map[netip.Prefix]time.Duration{prefix("192.0.2.2/32"): hour},
		},
		{
			name:  "unban what is not there, and twice",
			bans:  [][]Ban{{{prefix("192.0.2.1/32"), hour}}},
			unban: []string{"192.0.2.7/32", "192.0.2.1/32", "192.0.2.1/32", "10.0.0.0/8", "2001:db8::/64", "2001:db8::1/128"},
		},
		{
			name: "host inside of a banned prefix",
			bans: [][]Ban{{{prefix("192.0.2.0/24"), hour}, {prefix("192.0.2.1/32"), 2 * hour}, {prefix("2001:db8::/48"), hour}, {prefix("2001:db8::/64"), 0}, {prefix("2001:db8::1/128"), hour}}},
			want: map[netip.Prefix]time.Duration{
				prefix("192.0.2.0/24"): hour, prefix("192.0.2.1/32"): 2 * hour, prefix("2001:db8::/48"): hour, prefix("2001:db8::/64"): 0, prefix("2001:db8::1/128"): hour,
			},
		},
		{
			name: "a year",
			bans: [][]Ban{{{prefix("192.0.2.0/24"), 8760 * hour}}},
			want: map[netip.Prefix]time.Duration{prefix("192.0.2.0/24"): 8760 * hour},
		},
	}
	for _, tt := range steps {
		t.Run(tt.name, func(t *testing.T) {
			f := ensured(t, open(t))
			for _, bans := range tt.bans {
				ban(t, f, bans...)
			}
			unban(t, f, tt.unban...)
			same(t, f, tt.want)
			if missing, err := f.Intact(t.Context()); err != nil || len(missing) > 0 {
				t.Errorf("not intact: %q, %v", missing, err)
			}
		})
	}

	t.Run("refused", func(t *testing.T) {
		f := ensured(t, open(t))
		for _, p := range []netip.Prefix{
			{}, prefix("0.0.0.0/0"), prefix("::/0"), prefix("127.0.0.1/32"), prefix("127.0.0.0/8"), prefix("0.0.0.0/1"),
			prefix("::1/128"), prefix("::/64"), prefix("::ffff:192.0.2.1/128"), prefix("192.0.2.1/24"), prefix("2001:db8::1/64"),
		} {
			if err := f.Ban(t.Context(), []Ban{{prefix("192.0.2.1/32"), hour}, {p, hour}}); err == nil {
				t.Errorf("ban %v: no error", p)
			}
		}
		same(t, f, nil)
		if err := f.Ensure(t.Context(), State{SSHOnly: true}); err == nil {
			t.Error("SSHOnly without ports: no error")
		}
	})

	t.Run("ends by itself", func(t *testing.T) {
		f := ensured(t, open(t))
		ban(t, f, Ban{prefix("192.0.2.1/32"), 300 * time.Millisecond}, Ban{prefix("10.0.0.0/8"), 300 * time.Millisecond},
			Ban{prefix("2001:db8::/48"), 300 * time.Millisecond}, Ban{prefix("10.1.0.0/16"), hour}, Ban{prefix("192.0.2.2/32"), hour})
		if got := banned(t, f); len(got) != 5 {
			t.Errorf("bans in force: %v", got)
		}
		eventually(t, func() bool { return len(banned(t, f)) == 2 })
		same(t, f, map[netip.Prefix]time.Duration{prefix("10.1.0.0/16"): hour, prefix("192.0.2.2/32"): hour})
		ban(t, f, Ban{prefix("10.0.0.0/8"), hour}) // around what has ended
		same(t, f, map[netip.Prefix]time.Duration{prefix("10.1.0.0/16"): hour, prefix("192.0.2.2/32"): hour, prefix("10.0.0.0/8"): hour})
	})

	t.Run("without a table", func(t *testing.T) {
		f := open(t)
		ctx := t.Context()
		none := func(Ban) error { return nil }
		_, errCounters := f.Counters(ctx)
		for name, err := range map[string]error{
			"ban":      f.Ban(ctx, []Ban{{prefix("192.0.2.1/32"), hour}}),
			"ban net":  f.Ban(ctx, []Ban{{prefix("10.0.0.0/8"), hour}}),
			"unban":    f.Unban(ctx, []netip.Prefix{prefix("192.0.2.1/32")}),
			"bans":     f.Bans(ctx, none),
			"counters": errCounters,
		} {
			if !errors.Is(err, ErrAbsent) {
				t.Errorf("%s: got %v, want ErrAbsent", name, err)
			}
		}
		if missing, err := f.Intact(ctx); err != nil || len(missing) == 0 {
			t.Errorf("intact: got %q, %v", missing, err)
		}
		if knocks, err := f.Knocks(ctx); err != nil || len(knocks) > 0 {
			t.Errorf("knocks: got %v, %v", knocks, err)
		}
		if err := f.Remove(ctx); err != nil {
			t.Errorf("remove: %v", err)
		}
	})

	t.Run("ensure again keeps the bans, remove does not", func(t *testing.T) {
		f := ensured(t, open(t))
		ban(t, f, Ban{prefix("192.0.2.1/32"), hour}, Ban{prefix("10.0.0.0/8"), hour})
		want := map[netip.Prefix]time.Duration{prefix("192.0.2.1/32"): hour, prefix("10.0.0.0/8"): hour}
		for _, s := range []State{everything, {Ports: []uint16{22, 2222}, SSHOnly: true}, {Ports: []uint16{51921}, SSHOnly: true}, everything} {
			for range 2 {
				if err := f.Ensure(t.Context(), s); err != nil {
					t.Fatal(err)
				}
			}
			same(t, f, want)
			if missing, err := f.Intact(t.Context()); err != nil || len(missing) > 0 {
				t.Errorf("not intact: %q, %v", missing, err)
			}
		}
		if err := f.Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
		ensured(t, f)
		same(t, f, nil)
	})

	t.Run("yield stops the reading", func(t *testing.T) {
		f := ensured(t, open(t))
		var many []Ban
		for i := range 5000 {
			many = append(many, Ban{netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}), 32), hour})
		}
		ban(t, f, many...)
		enough := errors.New("enough")
		n := 0
		if err := f.Bans(t.Context(), func(Ban) error { n++; return enough }); !errors.Is(err, enough) || n != 1 {
			t.Errorf("got %v after %d", err, n)
		}
		if got := len(banned(t, f)); got != len(many) {
			t.Errorf("got %d bans afterwards, want %d", got, len(many))
		}
	})

	t.Run("10,000 in one call are all there", func(t *testing.T) {
		// google/nftables v0.3.0 lost those above 4,090 without a word.
		f := ensured(t, open(t))
		want := make(map[netip.Prefix]time.Duration)
		var list []Ban
		for i := range 10000 {
			for _, p := range []string{
				fmt.Sprintf("10.%d.%d.0/32", i>>8, i&255), fmt.Sprintf("2001:db8:%x::1/128", i), fmt.Sprintf("2001:db8:%x:1::/64", i),
			} {
				list = append(list, Ban{prefix(p), hour})
				want[prefix(p)] = hour
			}
		}
		ban(t, f, list...)
		same(t, f, want)
		for i := range list { // and once more, all of them there already
			list[i].Left = 2 * hour
			want[list[i].Prefix] = 2 * hour
		}
		ban(t, f, list...)
		same(t, f, want)
	})

	t.Run("context", func(t *testing.T) {
		f := ensured(t, open(t))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, errKnocks := f.Knocks(ctx)
		for name, err := range map[string]error{
			"knocks": errKnocks,
			"ensure": f.Ensure(ctx, everything),
			"ban":    f.Ban(ctx, []Ban{{prefix("192.0.2.1/32"), hour}}),
			"unban":  f.Unban(ctx, []netip.Prefix{prefix("10.0.0.0/8")}),
			"bans":   f.Bans(ctx, func(Ban) error { return nil }),
			"watch":  f.Watch(ctx, func(Change) {}),
			"remove": f.Remove(ctx),
		} {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s: got %v", name, err)
			}
		}
	})
}

// eventually waits, without a sleep of Go's, until ok holds.
func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatal("it did not come within 10 s")
		}
		_, _ = unix.Poll(nil, 10)
	}
}
