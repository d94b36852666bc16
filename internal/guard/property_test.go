package guard

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sekisho/internal/lease"
	"sekisho/internal/sshlog"
)

// The table is a map.
func TestTableIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var table table[int]
		model := map[key]int{}
		for i := range rapid.IntRange(0, 400).Draw(t, "steps") {
			k := key{hi: uint64(rapid.IntRange(0, 60).Draw(t, "k"))}
			v := table.get(k)
			want, ok := model[k]
			if (v != nil) != ok || ok && *v != want {
				t.Fatalf("step %d: get %v: got %v, want %v %v", i, k, v, want, ok)
			}
			switch rapid.IntRange(0, 4).Draw(t, "op") {
			case 0, 1:
				if v == nil {
					v, _ = table.insert(k)
				}
				*v, model[k] = i, i
			case 2:
				table.remove(k)
				delete(model, k)
			case 3:
				odd := func(k key, _ *int) bool { return k.hi%2 == 1 }
				table.sweep(1<<20, odd) // at least once round
				table.sweep(1<<20, odd)
				for k := range model {
					if k.hi%2 == 1 {
						delete(model, k)
					}
				}
			}
			if table.n != len(model) {
				t.Fatalf("step %d: %d entries, want %d", i, table.n, len(model))
			}
		}
		n := 0
		table.each(func(k key, v *int) bool {
			if n++; model[k] != *v {
				t.Fatalf("each: %v is %d, want %d", k, *v, model[k])
			}
			return true
		})
		if n != len(model) {
			t.Fatalf("each: %d entries, want %d", n, len(model))
		}
	})
}

func TestShrink(t *testing.T) {
	var big table[int]
	for i := range uint64(1 << 14) {
		v, _ := big.insert(key{hi: i})
		*v = int(i)
	}
	for i := range uint64(1<<14 - 10) {
		big.remove(key{hi: i})
	}
	small := big.shrunk()
	if small == &big || len(small.chunks) != 1 || small.n != 10 {
		t.Fatalf("%d chunks, %d entries", len(small.chunks), small.n)
	}
	for i := uint64(1<<14 - 10); i < 1<<14; i++ {
		if v := small.get(key{hi: i}); v == nil || *v != int(i) {
			t.Errorf("lost %d", i)
		}
	}
}

// The window is the naive one: all attempts of the last find_time, counted anew
// each time; those until the end of a ban do not count.
func TestWindowIsNaive(t *testing.T) {
	type ban struct {
		at     time.Duration
		source int
	}
	rapid.Check(t, func(t *rapid.T) {
		p := DefaultPolicy()
		p.MaxRetry = rapid.SampledFrom([]int{1, 2, 5, 6, 11, 30}).Draw(t, "max_retry")
		p.BanTime = rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour}).Draw(t, "ban_time")
		p.Growth.Factor = 1
		p.Known.MaxRetry, p.Distributed, p.Escalate = 10000, Distributed{}, Escalate{}
		e := New(p)
		var o Outcome
		var got, want []ban
		attempts := map[int][]time.Duration{}
		until := map[int]time.Duration{}
		at := time.Duration(0)
		for i := range rapid.IntRange(0, 300).Draw(t, "lines") {
			at += time.Duration(rapid.SampledFrom([]int{0, 1, 50, 1000, 20_000, 59_999, 300_000}).Draw(t, "ms")) * time.Millisecond
			source := rapid.IntRange(1, 3).Draw(t, "source")
			repeat := rapid.SampledFrom([]int{1, 1, 1, 3, 20}).Draw(t, "repeat")
			text := fmt.Sprintf("Failed password for root from 192.0.2.%d port %d ssh2", source, 1000+i)
			if repeat > 1 {
				text = fmt.Sprintf("message repeated %d times: [ %s]", repeat, text)
			}
			e.Observe(&sshlog.Line{Time: start.Add(at).UnixNano(), PID: int32(i + 1), Message: []byte(text)}, &o)
			for range o.Bans {
				got = append(got, ban{at, source})
			}

			if end, ok := until[source]; ok && at < end {
				continue
			}
			for range repeat {
				attempts[source] = append(attempts[source], at)
			}
			n := 0
			for _, a := range attempts[source] {
				if a > at-p.FindTime {
					n++
				}
			}
			if n >= p.MaxRetry {
				want = append(want, ban{at, source})
				attempts[source], until[source] = nil, at+p.BanTime
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("max_retry %d: got bans %v, want %v", p.MaxRetry, got, want)
		}
	})
}

// Whatever the lines say, nobody whom the policy protects is banned.
func TestNeverBanned(t *testing.T) {
	never := prefixes("192.0.2.3/32", "2001:db8::3/128", "10.1.0.0/16")
	rapid.Check(t, func(t *rapid.T) {
		p := DefaultPolicy()
		p.Never = never
		p.MaxRetry, p.Known.MaxRetry, p.Escalate.Hosts = 2, 3, 2
		p.Distributed = Distributed{Sources: 2, Within: time.Hour, MaxRetry: 1}
		e := New(p)
		var o Outcome
		at := start
		for i := range rapid.IntRange(0, 200).Draw(t, "lines") {
			at = at.Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "s")) * time.Second)
			a := rapid.SampledFrom([]string{"192.0.2.3", "192.0.2.4", "192.0.2.5", "2001:db8::3", "2001:db8::4", "2001:db8:0:1::4", "2001:db8:0:2::4",
				"10.1.2.3", "10.2.2.3", "127.0.0.1", "::1", "::ffff:192.0.2.3", "ff02::1", "0.0.0.0", "::"}).Draw(t, "addr")
			user := rapid.SampledFrom([]string{"root", "x from 10.1.2.3 port 1 ssh2", "invalid user y"}).Draw(t, "user")
			format := rapid.SampledFrom([]string{
				"Failed password for %[1]s from %[2]s port %[3]d ssh2",
				"Accepted password for %[1]s from %[2]s port %[3]d ssh2",
				"message repeated 9 times: [ Failed password for %[1]s from %[2]s port %[3]d ssh2]",
				"Connection closed by %[2]s port %[3]d",
				"Connection closed by %[2]s port %[3]d [preauth]",
				"pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=%[2]s  user=%[1]s",
			}).Draw(t, "message")
			l := sshlog.Line{Time: at.UnixNano(), PID: int32(rapid.IntRange(0, 5).Draw(t, "pid")), Message: fmt.Appendf(nil, format, user, a, 1000+i%7)}
			if rapid.IntRange(0, 9).Draw(t, "advance") == 0 {
				e.Advance(at, &o)
			} else {
				e.Observe(&l, &o)
			}
			for _, b := range o.Bans {
				if b.Prefix != b.Prefix.Masked() || b.Prefix.Addr().Is4In6() || b.Until.Before(b.From) {
					t.Fatalf("not a lease: %+v", b)
				}
				for _, n := range append(never, prefixes("127.0.0.0/8", "::1/128", "ff00::/8", "0.0.0.0/32", "::/128")...) {
					if n.Overlaps(b.Prefix) {
						t.Fatalf("banned %v, which holds %v", b.Prefix, n)
					}
				}
			}
		}
	})
}

// A run that was killed anywhere and begun again from what the store keeps bans
// whom an uninterrupted run bans, for as long.
func TestRestartIsEquivalent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSSHD(t)
		_, log := s.drawLog(25)
		p := DefaultPolicy()
		p.MaxRetry, p.Known.MaxRetry = rapid.IntRange(2, 6).Draw(t, "max_retry"), 10
		p.BanTime = rapid.SampledFrom([]time.Duration{time.Second, 20 * time.Second, time.Hour}).Draw(t, "ban_time")
		p.Escalate.Hosts = rapid.SampledFrom([]int{0, 3}).Draw(t, "hosts")
		if slices.ContainsFunc(log, func(l sshlog.Line) bool { return strings.HasPrefix(string(l.Message), "Accepted ") }) {
			p.Escalate.Hosts = 0 // when a network that was spared is looked at again is not kept
		}
		p.Distributed = Distributed{}
		whole := run(New(p), log)

		kill := rapid.IntRange(0, len(log)).Draw(t, "kill")
		before := New(p)
		bans := run(before, log[:kill])
		var logins []sshlog.Login
		before.friends.each(func(_ key, f *friend) bool {
			logins = append(logins, sshlog.Login{Addr: f.addr, User: f.user, Time: time.UnixMilli(f.last)})
			return true
		})
		now := start
		if kill > 0 {
			now = time.Unix(0, log[kill-1].Time)
		}
		history := map[netip.Prefix]lease.History{}
		var inForce []lease.Lease
		for _, b := range bans {
			history[b.Prefix] = lease.History{Prefix: b.Prefix, Count: b.Count, Last: b.From}
			if b.Live(now) {
				inForce = append(inForce, b)
			}
		}
		var remembered []lease.History
		for _, h := range history {
			remembered = append(remembered, h)
		}

		after := New(p)
		after.Adopt(inForce, remembered, logins)
		after.SetReplay(true)
		if replayed := run(after, log[:kill]); len(replayed) > 0 {
			t.Fatalf("replay banned %v", replayed)
		}
		after.SetReplay(false)
		bans = append(bans, run(after, log[kill:])...)
		diff := cmp.Diff(whole, bans, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }))
		if diff != "" {
			t.Fatalf("killed after %d of %d lines (-whole +killed):\n%s\n%s", kill, len(log), diff, text(log))
		}
	})
}

func run(e *Engine, log []sshlog.Line) (bans []lease.Lease) {
	var o Outcome
	for i := range log {
		e.Observe(&log[i], &o)
		bans = append(bans, o.Bans...)
	}
	return bans
}

// At the bound a flood of new sources pushes itself out, not those who have
// more against them, and never who has logged in.
func TestSourcesAreBounded(t *testing.T) {
	const bound = 2000
	d := newDesk(t, func(p *Policy) { p.MaxSources, p.Distributed = bound, Distributed{} })
	pid, port := d.login("198.51.100.7", "ann")
	d.logout("198.51.100.7", "ann", pid, port)
	d.fail("198.51.100.7", "ann", 7)
	for i := range 100 {
		d.fail(fmt.Sprintf("203.0.113.%d", i), "root", 4)
	}
	for i := range 10 * bound {
		d.fail(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255), "root", 1)
	}
	s := d.e.Stats()
	if s.Sources != bound || s.SourcesEvicted < 9*bound {
		t.Errorf("%d sources, %d evicted; the bound is %d", s.Sources, s.SourcesEvicted, bound)
	}
	if got := d.e.Why(netip.MustParseAddr("198.51.100.7"), d.now).Weight; got != 7 {
		t.Errorf("who logged in has %d attempts counted, want 7", got)
	}
	d.bans = nil
	for i := range 100 {
		d.fail(fmt.Sprintf("203.0.113.%d", i), "root", 1)
	}
	n := 0
	for _, b := range d.bans {
		if b.Cause == CauseAttempts {
			n++
		}
	}
	if n < 95 && !slices.ContainsFunc(d.bans, func(b lease.Lease) bool { return b.Cause == CauseEscalation }) {
		t.Errorf("only %d of 100 were still known after the flood", n)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	e := New(DefaultPolicy())
	var o Outcome
	for i := range maxConns + 5000 {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		e.Observe(&sshlog.Line{Time: start.UnixNano(), PID: int32(i + 1), Message: fmt.Appendf(nil, "Connection from %v port 4711 on 198.51.100.1 port 22", a)}, &o)
	}
	if got := e.Stats().Connections; got != maxConns {
		t.Errorf("%d connections, want %d", got, maxConns)
	}
	e.Advance(start.Add(connIdle*time.Millisecond), &o)
	for range maxConns {
		e.Advance(start.Add(2*connIdle*time.Millisecond), &o)
	}
	if got := e.Stats().Connections; got != 0 {
		t.Errorf("%d connections after they idled, want 0", got)
	}
}

func TestSourcesAreForgotten(t *testing.T) {
	d := newDesk(t, nil)
	for i := range 3000 {
		d.fail(fmt.Sprintf("10.0.%d.%d", i>>8, i&255), "root", 1)
	}
	d.wait(2 * time.Hour)
	for range 10 {
		d.advance()
	}
	if got := d.e.Stats().Sources; got != 0 {
		t.Errorf("%d sources, want 0", got)
	}
}

func TestNamesAreBounded(t *testing.T) {
	d := newDesk(t, nil)
	for i := range 40 {
		d.wait(20 * time.Second)
		d.fail(fmt.Sprintf("10.0.0.%d", i), "oracle", 1)
		for j := range 200 { // names made up to push it out
			d.fail(fmt.Sprintf("10.9.%d.%d", i, j), fmt.Sprintf("invalid user u%dx%d", i, j), 1)
		}
	}
	if got := d.e.Stats().Names; got != maxNames {
		t.Errorf("%d names, want %d", got, maxNames)
	}
	i := d.e.names.find(d.e.conns.hash([]byte("oracle")))
	if i == 0 {
		t.Fatal("the name that many tried was pushed out")
	}
	if got := d.e.names.at(i).sources(); got < 38 || got > 42 {
		t.Errorf("about %d sources, want 40", got)
	}
}

// FuzzObserve feeds arbitrary messages: nothing panics, no attempt appears
// without a peer, and nobody is banned for lines that count nothing.
func FuzzObserve(f *testing.F) {
	f.Add("Failed password for root from 192.0.2.4 port 5 ssh2\nAccepted password for root from 192.0.2.4 port 5 ssh2\npam_unix(sshd:session): session closed for user root", uint16(1))
	f.Add("Invalid user x from 192.0.2.4 port 5\nmessage repeated 9999999 times: [ Failed password for invalid user x from 192.0.2.4 port 5 ssh2]", uint16(0))
	f.Add("error: kex_exchange_identification: Connection closed by remote host\nConnection closed by 2001:db8::1 port 5\nTimeout before authentication for connection from 192.0.2.4 to 198.51.100.1, pid = 9", uint16(9))
	f.Add("User x not allowed because account is locked\nUser child is on pid 3", uint16(3))
	f.Fuzz(func(t *testing.T, log string, pid uint16) {
		e := New(DefaultPolicy())
		var o Outcome
		at := start
		total := 0
		for i, message := range slices.Collect(func(yield func(string) bool) {
			for len(log) > 0 {
				n := 0
				for n < len(log) && log[n] != '\n' {
					n++
				}
				if !yield(log[:n]) {
					return
				}
				log = log[min(n+1, len(log)):]
			}
		}) {
			at = at.Add(time.Second)
			e.Observe(&sshlog.Line{Time: at.UnixNano(), PID: int32(pid) + int32(i%3), Message: []byte(message)}, &o)
			if o.Attempts < 0 || o.Attempts > 0 && !o.Addr.IsValid() {
				t.Fatalf("%q: %d attempts of %v", message, o.Attempts, o.Addr)
			}
			total += o.Attempts
			for _, b := range o.Bans {
				for _, c := range []byte(b.Reason) {
					if c < ' ' || c > '~' {
						t.Fatalf("reason %q", b.Reason)
					}
				}
				if total == 0 && b.Attempts == 0 {
					t.Fatalf("banned %v for nothing", b.Prefix)
				}
			}
			if o.Addr.IsValid() {
				e.Why(o.Addr, at)
			}
		}
	})
}
