package firewall

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// Without the capability the error says which, and nothing else works by luck.
func TestMissingCapability(t *testing.T) {
	n := newNamespace(t)
	n.do(t, func() error {
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&header, &none[0]); err != nil { // of this thread only
			return err
		}
		err := Probe(Options{})
		if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
			return fmt.Errorf("got %w, want an error that names CAP_NET_ADMIN", err)
		}
		return nil
	})
}

func TestProbe(t *testing.T) {
	n := newNamespace(t)
	if err := Probe(Options{NetNS: n.fd()}); err != nil {
		t.Error(err)
	}
	if got := n.run(t, "nft", "list", "ruleset"); got != "" {
		t.Errorf("the probe left something behind: %s", got)
	}
}

func TestExplain(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{unix.EPERM, "CAP_NET_ADMIN"},
		{unix.EPROTONOSUPPORT, "modprobe nf_tables"},
		{unix.EAFNOSUPPORT, "modprobe nf_tables"},
		{unix.EINVAL, "invalid argument"},
	} {
		if got := explain(tt.err); !errors.Is(got, tt.err) || !strings.Contains(got.Error(), tt.want) {
			t.Errorf("%v: got %q, want %q in it", tt.err, got, tt.want)
		}
	}
}

// What an administrator sees of a banned prefix in nft.
func TestElementListing(t *testing.T) {
	n := newNamespace(t)
	k := newKernel(t, n)
	if err := k.Ensure(t.Context(), everything); err != nil {
		t.Fatal(err)
	}
	ban(t, k, Ban{prefix("10.0.0.0/8"), 0})
	if got := n.run(t, "nft", "list", "set", "inet", "sekisho", "net4"); !strings.Contains(got, `10.0.0.0/8 comment "/8@0"`) {
		t.Errorf("nft list set: %s", got)
	}
}

// Rules of another version, or of another shape under our comments, are replaced.
func TestEnsureReplacesRules(t *testing.T) {
	for _, tt := range []struct{ name, script string }{
		{"another version", `replace rule inet sekisho raw handle %d ip saddr @ban4 counter drop comment "older: banned IPv4 hosts"`},
		{"another verdict", `replace rule inet sekisho raw handle %d ip saddr @ban4 counter accept comment "banned IPv4 hosts"`},
		{"another set", `replace rule inet sekisho raw handle %d ip saddr @net4 counter drop comment "banned IPv4 hosts"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNamespace(t)
			k := newKernel(t, n)
			if err := k.Ensure(t.Context(), everything); err != nil {
				t.Fatal(err)
			}
			ban(t, k, Ban{prefix("192.0.2.1/32"), time.Hour})
			want := n.run(t, "nft", "list", "chain", "inet", "sekisho", "raw")
			handle := 0
			for line := range strings.Lines(n.run(t, "nft", "-a", "list", "chain", "inet", "sekisho", "raw")) {
				if before, after, ok := strings.Cut(line, "# handle "); ok && strings.Contains(before, "@ban4") {
					if _, err := fmt.Sscan(after, &handle); err != nil {
						t.Fatal(err)
					}
				}
			}
			n.run(t, "nft", fmt.Sprintf(tt.script, handle))
			if missing, err := k.Intact(t.Context()); err != nil || len(missing) != 1 {
				t.Errorf("intact: %q, %v", missing, err)
			}
			if err := k.Ensure(t.Context(), everything); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, n.run(t, "nft", "list", "chain", "inet", "sekisho", "raw")); diff != "" {
				t.Errorf("chain (-want +got):\n%s", diff)
			}
			if len(banned(t, k)) != 1 {
				t.Error("the ban is lost")
			}
		})
	}
}

// A Kernel may be used by several goroutines; reading keeps no ban waiting.
func TestConcurrentUse(t *testing.T) {
	n := newNamespace(t)
	k := newKernel(t, n)
	if err := k.Ensure(t.Context(), everything); err != nil {
		t.Fatal(err)
	}
	ban(t, k, hostBans(5000)...)
	var wg sync.WaitGroup
	for i := range 4 {
		host := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
		wg.Go(func() {
			for range 20 {
				net, _ := host.Prefix(24 + i)
				for _, err := range []error{
					k.Ban(t.Context(), []Ban{{netip.PrefixFrom(host, 32), time.Hour}, {net, time.Hour}}),
					k.Bans(t.Context(), func(Ban) error { return nil }),
					k.Ensure(t.Context(), everything),
					k.Unban(t.Context(), []netip.Prefix{netip.PrefixFrom(host, 32), net}),
				} {
					if err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if got := len(banned(t, k)); got != 5000 {
		t.Errorf("got %d bans, want 5000", got)
	}
}

// A batch that is too big for the buffers goes in parts.
func TestInParts(t *testing.T) {
	var got []int
	err := inParts(make([]host, 10), func(h []host) error {
		if len(h) > 3 {
			return unix.EMSGSIZE
		}
		got = append(got, len(h))
		return nil
	})
	if diff := cmp.Diff([]int{2, 3, 2, 3}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if err := inParts(make([]host, 4), func([]host) error { return unix.ENOMEM }); !errors.Is(err, unix.ENOMEM) {
		t.Errorf("got %v", err)
	}
}

func TestFakeDump(t *testing.T) {
	now := time.Unix(1_770_000_000, 0)
	f := NewFake(func() time.Time { return now })
	var b strings.Builder
	if err := f.Dump(&b); err != nil {
		t.Fatal(err)
	}
	if err := f.Ensure(t.Context(), State{Ports: []uint16{22, 51921}}); err != nil {
		t.Fatal(err)
	}
	ban(t, f, Ban{prefix("2001:db8::/64"), 0}, Ban{prefix("192.0.2.1/32"), time.Hour}, Ban{prefix("10.0.0.0/8"), time.Minute})
	now = now.Add(10 * time.Minute)
	if err := f.Dump(&b); err != nil {
		t.Fatal(err)
	}
	want := "no table\ntable inet sekisho ports [22 51921] ssh-only false\nban4 192.0.2.1/32 50m0s\nban6n 2001:db8::/64 without end\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("dump (-want +got):\n%s", diff)
	}
	broken := errors.New("no such device")
	f.Fail(broken)
	if err := f.Ban(t.Context(), nil); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}
