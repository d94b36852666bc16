package firewall

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"os/exec"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// watched runs k.Watch until the test ends and returns its changes.
func watched(t *testing.T, k *Kernel) <-chan Change {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ready, done, out := make(chan struct{}), make(chan error, 1), make(chan Change, 100)
	go func() {
		done <- k.watch(ctx, watchBuffer, func() { close(ready) }, func(c Change) { out <- c })
	}()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("watch ended with %v", err)
		}
	})
	return out
}

func next(t *testing.T, changes <-chan Change) Change {
	t.Helper()
	select {
	case c := <-changes:
		return c
	case <-time.After(10 * time.Second):
		t.Fatal("no change was told")
		return Change{}
	}
}

func TestWatch(t *testing.T) {
	for _, tt := range []struct {
		name    string
		command []string
		what    string
		missing []string
	}{
		{"flush ruleset", []string{"nft", "flush", "ruleset"}, "table deleted", []string{"table inet sekisho"}},
		{"delete table", []string{"nft", "delete", "table", "inet", "sekisho"}, "table deleted", []string{"table inet sekisho"}},
		{"flush chain", []string{"nft", "flush", "chain", "inet", "sekisho", "raw"}, "rule of chain raw deleted", []string{"rules of chain raw"}},
		{"delete chain", []string{"nft", "flush", "chain", "inet", "sekisho", "raw", ";", "delete", "chain", "inet", "sekisho", "raw"}, "chain raw deleted", []string{"chain raw", "rules of chain raw"}},
		{"add rule", []string{"nft", "insert", "rule", "inet", "sekisho", "raw", "accept"}, "rule of chain raw added", []string{"rules of chain raw"}},
		{"delete element", []string{"nft", "delete", "element", "inet", "sekisho", "ban4", "{ 192.0.2.1 }"}, "elements of set ban4 deleted", nil},
		{"flush set", []string{"nft", "flush", "set", "inet", "sekisho", "ban4"}, "elements of set ban4 deleted", nil},
		{"add element", []string{"nft", "add", "element", "inet", "sekisho", "ban4", "{ 192.0.2.77 timeout 1h }"}, "elements of set ban4 added", nil},
		{"change ports", []string{"nft", "add", "element", "inet", "sekisho", "ports", "{ 23 }"}, "elements of set ports added", []string{"elements of set ports"}},
		{"make dormant", []string{"nft", "add", "table", "inet", "sekisho", "{ flags dormant; }"}, "table changed", []string{"table inet sekisho has other flags"}},
		{"add chain", []string{"nft", "add", "chain", "inet", "sekisho", "evil", "{ type filter hook input priority 0; policy drop; }"}, "chain evil changed", []string{"chain evil is not ours"}},
		{"add set", []string{"nft", "add", "set", "inet", "sekisho", "evil", "{ type ipv4_addr; }"}, "set evil changed", []string{"set evil is not ours"}},
		{"change policy", []string{"nft", "chain", "inet", "sekisho", "raw", "{ policy drop; }"}, "chain raw changed", []string{"chain raw is another"}},
		{
			"another set", []string{"nft", "flush chain inet sekisho raw; delete set inet sekisho ban4; add set inet sekisho ban4 { type ipv4_addr; }"},
			"set ban4 deleted", []string{"set ban4 is another", "rules of chain raw"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNamespace(t)
			k := newKernel(t, n)
			if err := k.Ensure(t.Context(), everything); err != nil {
				t.Fatal(err)
			}
			changes := watched(t, k)
			ban(t, k, Ban{prefix("192.0.2.1/32"), time.Hour}, Ban{prefix("10.0.0.0/8"), time.Hour}) // ours: not told
			n.run(t, tt.command[0], tt.command[1:]...)
			got := next(t, changes)
			if got.PID <= 0 {
				t.Errorf("pid %d", got.PID)
			}
			got.PID = 0
			if diff := cmp.Diff(Change{Process: "nft", What: tt.what}, got); diff != "" {
				t.Errorf("change (-want +got):\n%s", diff)
			}
			missing, err := k.Intact(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.missing, missing); diff != "" {
				t.Errorf("missing (-want +got):\n%s", diff)
			}

			// Ensure and Ban put it right.
			if err := k.Ensure(t.Context(), everything); err != nil {
				t.Fatal(err)
			}
			if missing, err := k.Intact(t.Context()); err != nil || len(missing) > 0 {
				t.Errorf("after Ensure: %q, %v", missing, err)
			}
			ban(t, k, Ban{prefix("192.0.2.1/32"), time.Hour}, Ban{prefix("10.0.0.0/8"), time.Hour})
			bans := banned(t, k)
			delete(bans, prefix("192.0.2.77/32"))
			if len(bans) != 2 {
				t.Errorf("after Ban: %v", bans)
			}
			select {
			case c := <-changes:
				t.Errorf("told of our own change: %+v", c)
			default:
			}
		})
	}
}

// What is not about our table is not told: other tables, iptables, our own work,
// the end of a ban by itself.
func TestWatchIsSilent(t *testing.T) {
	n := newNamespace(t)
	k := newKernel(t, n)
	if err := k.Ensure(t.Context(), everything); err != nil {
		t.Fatal(err)
	}
	changes := watched(t, k)
	ban(t, k, Ban{prefix("192.0.2.1/32"), 100 * time.Millisecond}, Ban{prefix("10.0.0.0/8"), 100 * time.Millisecond})
	ban(t, k, hostBans(50_000)...) // as many events as no buffer holds
	n.run(t, "nft", "add table ip sekisho; add table inet other; add set inet other ban4 { type ipv4_addr; }; add element inet other ban4 { 192.0.2.1 }; flush set inet other ban4; delete table inet other")
	if _, err := exec.LookPath("iptables"); err == nil {
		n.run(t, "iptables", "-A", "INPUT", "-j", "ACCEPT")
		n.run(t, "iptables", "-F")
		n.run(t, "iptables", "-X")
	}
	eventually(t, func() bool { return len(banned(t, k)) == 50_000 })
	if missing, err := k.Intact(t.Context()); err != nil || len(missing) > 0 {
		t.Errorf("not intact: %q, %v", missing, err)
	}
	n.run(t, "nft", "delete element inet sekisho ban4 { 10.0.0.7 }") // the first thing to be told
	if got := next(t, changes); got.What != "elements of set ban4 deleted" {
		t.Errorf("told of %+v", got)
	}
}

// What the kernel could not keep for us is told as lost, and then the watch goes on.
func TestWatchOverrun(t *testing.T) {
	n := newNamespace(t)
	k := newKernel(t, n)
	if err := k.Ensure(t.Context(), everything); err != nil {
		t.Fatal(err)
	}
	ban(t, k, hostBans(10_000)...)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ready, hold, out, done := make(chan struct{}), make(chan struct{}), make(chan Change, 1000), make(chan error, 1)
	go func() {
		done <- k.watch(ctx, 4096, func() { close(ready); <-hold }, func(c Change) { out <- c })
	}()
	<-ready
	n.run(t, "nft", "flush set inet sekisho ban4")
	n.run(t, "nft", "flush ruleset")
	close(hold)
	var whats []string
	for !slices.Contains(whats, "events lost") {
		whats = append(whats, next(t, out).What)
	}
	if err := k.Ensure(ctx, everything); err != nil {
		t.Fatal(err)
	}
	n.run(t, "nft", "flush ruleset")
	for next(t, out).What != "table deleted" {
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestFakeWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFake(nil)
		ctx, cancel := context.WithCancel(t.Context())
		var got []Change
		done := make(chan error, 1)
		go func() { done <- f.Watch(ctx, func(c Change) { got = append(got, c) }) }()
		synctest.Wait()
		f.Flush(7, "nft") // nothing there yet
		if err := f.Ensure(ctx, everything); err != nil {
			t.Fatal(err)
		}
		ban(t, f, Ban{prefix("192.0.2.1/32"), time.Hour}, Ban{prefix("10.0.0.0/8"), 2 * time.Hour})
		<-time.After(90 * time.Minute) // by the bubble's clock
		if got, want := banned(t, f), (map[netip.Prefix]time.Duration{prefix("10.0.0.0/8"): 30 * time.Minute}); !cmp.Equal(got, want, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })) {
			t.Errorf("bans: got %v, want %v", got, want)
		}
		f.Flush(7, "nft")
		synctest.Wait()
		if diff := cmp.Diff([]Change{{PID: 7, Process: "nft", What: "table deleted"}}, got); diff != "" {
			t.Errorf("changes (-want +got):\n%s", diff)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// FuzzEvents holds that no event makes the watch panic.
func FuzzEvents(f *testing.F) {
	var m message
	m.start(nfnl|unix.NFT_MSG_DELSET, 0)
	m.string(1, tableName)
	m.string(2, "ban4")
	m.end()
	m.start(nfnl|unix.NFT_MSG_NEWGEN, 0)
	m.uint32(unix.NFTA_GEN_PROC_PID, 7)
	m.string(unix.NFTA_GEN_PROC_NAME, "nft")
	m.end()
	f.Add(m.b)
	f.Add(binary.NativeEndian.AppendUint32(nil, 1<<31))
	f.Fuzz(func(_ *testing.T, b []byte) {
		var c changes
		_, _ = messages(b, func(h header, data []byte) (bool, error) {
			c.add(h.typ, data)
			parseElement(data)
			return false, nil
		})
	})
}
