package guard

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/lease"
	"sekisho/internal/sshlog"
)

// desk feeds an engine by hand.
type desk struct {
	t   testing.TB
	e   *Engine
	now time.Time
	pid int
	o   Outcome

	bans    []lease.Lease
	notices []Notice
}

func newDesk(t testing.TB, change func(*Policy)) *desk {
	p := DefaultPolicy()
	if change != nil {
		change(&p)
	}
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	return &desk{t: t, e: New(p), now: start, pid: 1000}
}

func (d *desk) wait(by time.Duration) { d.now = d.now.Add(by) }

func (d *desk) say(format string, args ...any) *Outcome {
	d.t.Helper()
	d.e.Observe(line(d.t, fmt.Sprintf(format, args...), d.now), &d.o)
	d.gather()
	return &d.o
}

func (d *desk) advance() {
	d.e.Advance(d.now, &d.o)
	d.gather()
}

func (d *desk) gather() {
	d.bans = append(d.bans, d.o.Bans...)
	d.notices = append(d.notices, d.o.Notices...)
}

// fail has addr fail n logins as user, each in a connection of its own.
func (d *desk) fail(addr, user string, n int) {
	d.t.Helper()
	for range n {
		d.pid++
		d.say("sshd[%d]: Failed password for %s from %s port %d ssh2", d.pid, user, addr, 1024+d.pid%50000)
	}
}

func (d *desk) login(addr, user string) (pid, port int) {
	d.t.Helper()
	d.pid++
	port = 1024 + d.pid%50000
	d.say("sshd[%d]: Accepted publickey for %s from %s port %d ssh2: ED25519 SHA256:aaaa", d.pid, user, addr, port)
	return d.pid, port
}

func (d *desk) logout(addr, user string, pid, port int) {
	d.t.Helper()
	d.say("sshd[%d]: Disconnected from user %s %s port %d", pid+1, user, addr, port)
}

// banned are the prefixes banned so far, with causes.
func (d *desk) banned() []string {
	var list []string
	for _, b := range d.bans {
		list = append(list, b.Prefix.String()+" "+b.Cause)
	}
	return list
}

func (d *desk) told() []string {
	var list []string
	for _, n := range d.notices {
		list = append(list, n.Kind+" "+n.Addr.String())
	}
	return list
}

func (d *desk) wantBans(want ...string) {
	d.t.Helper()
	if diff := cmp.Diff(want, d.banned()); diff != "" {
		d.t.Errorf("bans (-want +got):\n%s", diff)
	}
}

func (d *desk) wantNotices(want ...string) {
	d.t.Helper()
	if diff := cmp.Diff(want, d.told()); diff != "" {
		d.t.Errorf("notices (-want +got):\n%s", diff)
	}
}

func prefixes(list ...string) (ps []netip.Prefix) {
	for _, s := range list {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

func TestDefaultPolicy(t *testing.T) {
	if err := DefaultPolicy().Validate(); err != nil {
		t.Error(err)
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Policy)
		want   string
	}{
		{"mode", func(p *Policy) { p.Mode = "strict" }, `mode "strict" is none of normal, ddos, extra, aggressive`},
		{"max retry", func(p *Policy) { p.MaxRetry, p.Distributed.MaxRetry, p.Known.MaxRetry = 0, 0, 1 }, "max retry 0 is not in 1..10000"},
		{"known below the bar", func(p *Policy) { p.Known.MaxRetry = 4 }, "known max retry 4 is not in 5..10000"},
		{"escalation of nothing", func(p *Policy) { p.Escalate.IPv4Bits = 32 }, "escalate IPv4 bits 32 are not in 8..31"},
		{"weight", func(p *Policy) { p.Weights = map[sshlog.Kind]int{sshlog.Failed: 16} }, "weight 16 of failed is not in 0..15"},
		{"never", func(p *Policy) { p.Never = make([]netip.Prefix, 1) }, "an invalid prefix among those never banned"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := DefaultPolicy()
			test.change(&p)
			got := ""
			if err := p.Validate(); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestWindowSlides(t *testing.T) {
	tests := []struct {
		name     string
		maxRetry int
		gaps     []time.Duration // before each attempt
		want     int             // bans
	}{
		{"five at once", 5, []time.Duration{0, 0, 0, 0, 0}, 1},
		{"four", 5, []time.Duration{0, 0, 0, 0}, 0},
		{"five just within", 5, []time.Duration{0, 0, 0, 0, 10*time.Minute - time.Millisecond}, 1},
		{"five just not within", 5, []time.Duration{0, 0, 0, 0, 10 * time.Minute}, 0},
		// A counter that is reset, or rescaled, misses the burst across the edge.
		{"across the edge", 5, []time.Duration{0, 9 * time.Minute, 0, 0, 2 * time.Minute, 0}, 1},
		{"slow for ever", 5, []time.Duration{0, 151 * time.Second, 151 * time.Second, 151 * time.Second, 151 * time.Second, 151 * time.Second, 151 * time.Second, 151 * time.Second}, 0},
		{"one is enough", 1, []time.Duration{0}, 1},
		{"seven of seven", 7, []time.Duration{0, 0, 0, 0, 0, 0, 0}, 1},
		{"six of seven", 7, []time.Duration{0, 0, 0, 0, 0, 0, 11 * time.Minute}, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := newDesk(t, func(p *Policy) {
				p.MaxRetry, p.Distributed.MaxRetry = test.maxRetry, min(2, test.maxRetry)
			})
			for _, gap := range test.gaps {
				d.wait(gap)
				d.fail("192.0.2.4", "root", 1)
			}
			if got := len(d.bans); got != test.want {
				t.Errorf("%d bans, want %d: %v", got, test.want, d.banned())
			}
		})
	}
}

func TestBanIsALease(t *testing.T) {
	d := newDesk(t, nil)
	d.fail("192.0.2.4", "root", 3)
	d.wait(90 * time.Second)
	d.fail("192.0.2.4", "invalid user \\033]0;evil\\a", 2)
	want := []lease.Lease{{
		Prefix: netip.MustParsePrefix("192.0.2.4/32"), Verdict: lease.Deny, Cause: "attempts", Holder: "guard",
		Reason: `5 attempts within 10m0s: failed 5; users "\\033]0;evil\\a", "root"`,
		From:   start.Add(90 * time.Second), Until: start.Add(90*time.Second + time.Hour), Attempts: 5, Count: 1,
	}}
	if diff := cmp.Diff(want, d.bans, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestGrowth(t *testing.T) {
	tests := []struct {
		name string
		gaps []time.Duration // from the end of a ban to the next attempts
		want []time.Duration
	}{
		{"doubles", []time.Duration{0, time.Minute, time.Minute}, []time.Duration{time.Hour, 2 * time.Hour, 4 * time.Hour}},
		{"up to a week", slicesRepeat(time.Minute, 9), []time.Duration{1 * time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour, 16 * time.Hour, 32 * time.Hour, 64 * time.Hour, 128 * time.Hour, 168 * time.Hour}},
		{"forgets after a month", []time.Duration{0, time.Minute, 31 * 24 * time.Hour}, []time.Duration{time.Hour, 2 * time.Hour, time.Hour}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := newDesk(t, nil)
			var got []time.Duration
			for i, gap := range test.gaps {
				if i > 0 {
					d.now = d.bans[i-1].Until.Add(gap)
				}
				d.fail("192.0.2.4", "root", 5)
				if len(d.bans) != i+1 {
					t.Fatalf("%d bans after round %d", len(d.bans), i+1)
				}
				b := d.bans[i]
				got = append(got, b.Until.Sub(b.From))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func slicesRepeat(d time.Duration, n int) []time.Duration {
	list := make([]time.Duration, n)
	for i := range list {
		list[i] = d
	}
	return list
}

func TestNoSecondBan(t *testing.T) {
	d := newDesk(t, nil)
	d.fail("192.0.2.4", "root", 12) // some were on their way
	d.wait(4 * time.Second)
	d.fail("192.0.2.4", "root", 12)
	d.wantBans("192.0.2.4/32 attempts")
	d.wantNotices()

	d.wait(2 * time.Second) // none can be on its way now
	d.fail("192.0.2.4", "root", 40)
	d.wantNotices("ban_ineffective 192.0.2.4")
	d.wantBans("192.0.2.4/32 attempts")

	// What came during the ban does not count after it.
	d.now = d.bans[0].Until.Add(-time.Second)
	d.fail("192.0.2.4", "root", 4)
	d.wait(2 * time.Second)
	d.fail("192.0.2.4", "root", 4)
	d.wantBans("192.0.2.4/32 attempts")
	d.fail("192.0.2.4", "root", 1)
	d.wantBans("192.0.2.4/32 attempts", "192.0.2.4/32 attempts")
	if got := d.bans[1].Count; got != 2 {
		t.Errorf("count %d, want 2", got)
	}
}

func TestSources(t *testing.T) {
	tests := []struct {
		name  string
		from  []string // of one attempt each
		never []string
		want  []string
	}{
		{"IPv4 hosts are apart", []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5"}, nil, nil},
		{"an IPv6 /64 is one", []string{"2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4", "2001:db8::5"}, nil, []string{"2001:db8::/64 attempts"}},
		{"two /64s are two", []string{"2001:db8::1", "2001:db8::2", "2001:db8:0:1::3", "2001:db8:0:1::4", "2001:db8:0:1::5"}, nil, nil},
		{"v4-mapped is IPv4", []string{"::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1"}, nil, []string{"192.0.2.1/32 attempts"}},
		{"a protected neighbour leaves the one address", []string{"2001:db8::1", "2001:db8::1", "2001:db8::1", "2001:db8::1", "2001:db8::5"}, []string{"2001:db8::9/128"}, []string{"2001:db8::5/128 attempts"}},
		{"never", []string{"192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1"}, []string{"192.0.2.0/24"}, nil},
		{"never, given v4-mapped", []string{"192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1"}, []string{"::ffff:192.0.2.0/120"}, nil},
		{"loopback", []string{"127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1"}, nil, nil},
		{"loopback, IPv6", []string{"::1", "::1", "::1", "::1", "::1"}, nil, nil},
		{"unspecified", []string{"0.0.0.0", "0.0.0.0", "0.0.0.0", "0.0.0.0", "0.0.0.0"}, nil, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := newDesk(t, func(p *Policy) { p.Never = prefixes(test.never...) })
			for _, a := range test.from {
				d.fail(a, "root", 1)
			}
			d.wantBans(test.want...)
		})
	}
}

func TestWeights(t *testing.T) {
	d := newDesk(t, func(p *Policy) {
		p.Weights = map[sshlog.Kind]int{sshlog.Closed: 0, sshlog.InvalidUser: 3}
	})
	for i := range 20 {
		d.say("sshd[%d]: Connection closed by 192.0.2.1 port %d [preauth]", 2000+i, 3000+i)
	}
	d.wantBans()
	d.say("sshd[3000]: Invalid user a from 192.0.2.2 port 5000")
	d.say("sshd[3001]: Invalid user b from 192.0.2.2 port 5001")
	d.wantBans("192.0.2.2/32 attempts")
}

func TestEscalation(t *testing.T) {
	tests := []struct {
		name string
		do   func(d *desk)
		want string // the last ban, if there are more than hosts
		told []string
	}{
		{"eight of a /24", func(d *desk) { d.neighbours("192.0.2.%d", 8) }, "192.0.2.0/24 escalation", nil},
		{"seven", func(d *desk) { d.neighbours("192.0.2.%d", 7) }, "", nil},
		{"eight of a /48", func(d *desk) { d.neighbours("2001:db8:7:%d::1", 8) }, "2001:db8:7::/48 escalation", nil},
		{"eight, two days", func(d *desk) {
			d.neighbours("192.0.2.%d", 4)
			d.wait(25 * time.Hour)
			d.neighbours("192.0.2.1%d", 4)
		}, "", nil},
		{"the rest within the day", func(d *desk) {
			d.neighbours("192.0.2.%d", 4)
			d.wait(25 * time.Hour)
			d.neighbours("192.0.2.1%d", 7)
			d.wait(23 * time.Hour)
			d.neighbours("192.0.2.20%d", 1)
		}, "192.0.2.0/24 escalation", nil},
		{"an administrator in it", func(d *desk) {
			p := d.e.judge.Policy
			p.Never = prefixes("192.0.2.200/32")
			d.e.SetPolicy(p)
			d.neighbours("192.0.2.%d", 9)
		}, "", []string{"spared 192.0.2.0"}},
		{"a session in it", func(d *desk) {
			d.login("192.0.2.200", "ann")
			d.neighbours("192.0.2.%d", 9)
		}, "", []string{"spared 192.0.2.0"}},
		{"a known source in it", func(d *desk) {
			pid, port := d.login("192.0.2.200", "ann")
			d.logout("192.0.2.200", "ann", pid, port)
			d.neighbours("192.0.2.%d", 9)
		}, "", []string{"spared 192.0.2.0"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := newDesk(t, nil)
			test.do(d)
			var got string
			for _, b := range d.bans {
				if b.Cause == CauseEscalation {
					got = b.Prefix.String() + " " + b.Cause
				}
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			d.wantNotices(test.told...)
		})
	}
}

func (d *desk) neighbours(format string, n int) {
	d.t.Helper()
	for i := range n {
		d.fail(fmt.Sprintf(format, i+1), "root", 5)
	}
}

func TestEscalationSettlesItsHosts(t *testing.T) {
	d := newDesk(t, nil)
	d.neighbours("192.0.2.%d", 8)
	n := len(d.bans)
	d.fail("192.0.2.99", "root", 5) // banned with its network
	if len(d.bans) != n {
		t.Errorf("banned again: %v", d.banned()[n:])
	}
	last := d.bans[n-1]
	if want := "8 banned sources in 192.0.2.0/24 within 24h0m0s: 192.0.2.1, 192.0.2.2, 192.0.2.3, 192.0.2.4, 192.0.2.5, 192.0.2.6, 192.0.2.7, 192.0.2.8"; last.Reason != want {
		t.Errorf("reason %q, want %q", last.Reason, want)
	}
}

func TestLiveSession(t *testing.T) {
	t.Run("is spared until it ends", func(t *testing.T) {
		d := newDesk(t, func(p *Policy) { p.Known = Known{} })
		pid, port := d.login("192.0.2.4", "ann")
		d.fail("192.0.2.4", "root", 8)
		d.wantBans()
		d.wantNotices("spared 192.0.2.4")
		d.logout("192.0.2.4", "ann", pid, port)
		d.fail("192.0.2.4", "root", 1)
		d.wantBans("192.0.2.4/32 attempts")
	})
	t.Run("ends by PAM's word", func(t *testing.T) {
		d := newDesk(t, func(p *Policy) { p.Known = Known{} })
		pid, _ := d.login("192.0.2.4", "ann")
		d.say("sshd[%d]: pam_unix(sshd:session): session closed for user ann", pid)
		d.fail("192.0.2.4", "root", 5)
		d.wantBans("192.0.2.4/32 attempts")
	})
	t.Run("one channel closed is not the end", func(t *testing.T) {
		d := newDesk(t, func(p *Policy) { p.Known = Known{} })
		pid, port := d.login("192.0.2.4", "ann")
		d.say("sshd[%d]: Close session: user ann from 192.0.2.4 port %d id 0", pid+1, port)
		d.fail("192.0.2.4", "root", 5)
		d.wantBans()
	})
	t.Run("the kernel knows better", func(t *testing.T) {
		d := newDesk(t, func(p *Policy) { p.Known = Known{} })
		asked := 0
		d.e.SetSessionCheck(func(netip.AddrPort) bool { asked++; return false })
		d.login("192.0.2.4", "ann")
		d.fail("192.0.2.4", "root", 4)
		if asked != 0 {
			t.Errorf("asked %d times before a decision", asked)
		}
		d.fail("192.0.2.4", "root", 1)
		d.wantBans("192.0.2.4/32 attempts")
	})
	t.Run("an adopted one counts if the kernel has it", func(t *testing.T) {
		d := newDesk(t, func(p *Policy) { p.Known = Known{} })
		peer := netip.MustParseAddrPort("192.0.2.4:4711")
		d.e.Adopt(nil, nil, []sshlog.Login{{Addr: peer.Addr(), Port: peer.Port(), User: "ann", Time: start.Add(-time.Hour)}})
		d.e.SetSessionCheck(func(p netip.AddrPort) bool { return p == peer })
		d.fail("192.0.2.4", "root", 5)
		d.wantBans()
		d.wantNotices("spared 192.0.2.4")
	})
	t.Run("may be banned if so wished", func(t *testing.T) {
		d := newDesk(t, func(p *Policy) { p.Known, p.SpareLive = Known{}, false })
		d.login("192.0.2.4", "ann")
		d.fail("192.0.2.4", "root", 5)
		d.wantBans("192.0.2.4/32 attempts")
	})
	t.Run("in the same /64 leaves the one address", func(t *testing.T) {
		d := newDesk(t, func(p *Policy) { p.Known = Known{} })
		d.login("2001:db8::a", "ann")
		d.fail("2001:db8::b", "root", 5)
		d.wantBans("2001:db8::b/128 attempts")
	})
}

func TestKnown(t *testing.T) {
	d := newDesk(t, nil)
	pid, port := d.login("192.0.2.4", "ann")
	d.logout("192.0.2.4", "ann", pid, port)
	d.wait(6 * 24 * time.Hour)
	d.fail("192.0.2.4", "ann", 19)
	d.wantBans()
	d.fail("192.0.2.4", "ann", 1)
	d.wantBans("192.0.2.4/32 attempts")

	d = newDesk(t, nil)
	d.e.Adopt(nil, nil, []sshlog.Login{{Addr: netip.MustParseAddr("192.0.2.4"), Time: start.Add(-8 * 24 * time.Hour)}})
	d.fail("192.0.2.4", "ann", 5) // too long ago
	d.wantBans("192.0.2.4/32 attempts")
}

func TestAcceptedAfterFailures(t *testing.T) {
	d := newDesk(t, nil)
	d.fail("192.0.2.4", "ann", 3)
	d.login("192.0.2.4", "ann")
	d.wantNotices()
	d.fail("192.0.2.5", "root", 4)
	d.login("192.0.2.5", "ann")
	if len(d.notices) != 1 || d.notices[0].Method != sshlog.MethodPublickey {
		t.Errorf("notices %+v", d.notices)
	}
	d.wantNotices("accepted_after_failures 192.0.2.5")
}

func TestLoginForgives(t *testing.T) {
	const bar = 6
	policy := func(p *Policy) { p.Known.MaxRetry = bar }
	t.Run("its own failures", func(t *testing.T) {
		d := newDesk(t, policy)
		for i := range 10 { // ten times three typing errors and then right
			pid, port := 2000+i, 3000+i
			d.say("sshd[%d]: Failed password for ann from 192.0.2.4 port %d ssh2", pid, port)
			d.say("sshd[%d]: message repeated 2 times: [ Failed password for ann from 192.0.2.4 port %d ssh2]", pid, port)
			d.say("sshd[%d]: Accepted password for ann from 192.0.2.4 port %d ssh2", pid, port)
			d.say("sshd[%d]: Disconnected from user ann 192.0.2.4 port %d", pid+1000, port)
		}
		d.wantBans()
		if got := d.e.Why(netip.MustParseAddr("192.0.2.4"), d.now).Weight; got != 0 {
			t.Errorf("weight %d, want 0", got)
		}
	})
	t.Run("not a spray", func(t *testing.T) {
		d := newDesk(t, policy)
		for i := range bar {
			pid, port := 2000+i, 3000+i
			d.fail("192.0.2.4", fmt.Sprintf("victim%d", i), 1)
			d.say("sshd[%d]: Accepted password for mallory from 192.0.2.4 port %d ssh2", pid, port)
			d.say("sshd[%d]: Disconnected from user mallory 192.0.2.4 port %d", pid+1000, port)
		}
		d.wantBans("192.0.2.4/32 attempts")
	})
	t.Run("nor what it failed in other connections", func(t *testing.T) {
		d := newDesk(t, policy)
		for i := range bar {
			pid, port := 2000+i, 3000+i
			d.fail("192.0.2.4", "mallory", 1)
			d.say("sshd[%d]: Accepted password for mallory from 192.0.2.4 port %d ssh2", pid, port)
			d.say("sshd[%d]: Disconnected from user mallory 192.0.2.4 port %d", pid+1000, port)
		}
		d.wantBans("192.0.2.4/32 attempts")
	})
}

// For keyboard-interactive sshd runs PAM in a process of its own, whose pid is
// in none of sshd's own lines.
func TestPAMsOwnProcess(t *testing.T) {
	const pam = "sshd[%d]: pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=192.0.2.4  user=bob"
	t.Run("a failure is charged once", func(t *testing.T) {
		d := newDesk(t, func(p *Policy) { p.MaxRetry = 4 })
		for try := range 3 {
			d.say(pam, 51+try)
			d.say("sshd[50]: error: PAM: Authentication failure for bob from 192.0.2.4")
			d.say("sshd[50]: Failed keyboard-interactive/pam for bob from 192.0.2.4 port 5 ssh2")
			d.wait(20 * time.Second)
			d.advance()
		}
		d.wantBans()
	})
	t.Run("a login is not charged", func(t *testing.T) {
		d := newDesk(t, func(p *Policy) { p.MaxRetry, p.Known.MaxRetry = 2, 2 })
		for try := range 3 {
			d.say(pam, 61+10*try) // the next module of the stack knows bob
			d.say("sshd[%d]: Accepted keyboard-interactive/pam for bob from 192.0.2.4 port %d ssh2", 60+10*try, 5+try)
			d.say("sshd[%d]: Disconnected from user bob 192.0.2.4 port %d", 60+10*try, 5+try)
			d.wait(20 * time.Second)
			d.advance()
		}
		d.wantBans()
	})
}

func TestPendingPAM(t *testing.T) {
	const failure = "sshd[%d]: pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=192.0.2.4  user=root"
	d := newDesk(t, nil)
	for i := range 5 {
		d.say(failure, 2000+i)
	}
	d.wait(9 * time.Second)
	d.advance()
	d.wantBans()
	d.wait(time.Second)
	d.advance()
	d.wantBans("192.0.2.4/32 attempts")

	// What was charged ahead is shown by its line, and not charged again.
	d = newDesk(t, nil)
	d.say(failure, 2000)
	d.wait(11 * time.Second)
	d.advance()
	if got := d.say("sshd[2000]: Failed password for root from 192.0.2.4 port 4711 ssh2").Attempts; got != 1 {
		t.Errorf("attempts %d, want 1", got)
	}
	if got := d.e.Why(netip.MustParseAddr("192.0.2.4"), d.now).Weight; got != 1 {
		t.Errorf("weight %d, want 1", got)
	}
}

func TestForgive(t *testing.T) {
	d := newDesk(t, nil)
	host := netip.MustParsePrefix("192.0.2.4/32")
	d.fail("192.0.2.4", "root", 5)
	d.wait(time.Minute)
	d.e.Forgive(host, d.now)
	if _, ok := d.e.Banned(host, d.now); ok {
		t.Error("still banned")
	}
	d.fail("192.0.2.4", "root", 4)
	d.wantBans("192.0.2.4/32 attempts")
	d.fail("192.0.2.4", "root", 1)
	d.wantBans("192.0.2.4/32 attempts", "192.0.2.4/32 attempts")

	// A whole network is forgiven what its hosts have counted.
	d = newDesk(t, nil)
	d.fail("192.0.2.4", "root", 4)
	d.wait(time.Second)
	d.e.Forgive(netip.MustParsePrefix("192.0.2.0/24"), d.now)
	d.fail("192.0.2.4", "root", 4)
	d.wantBans()

	// An unban that is older than the ban does not lift it.
	d = newDesk(t, nil)
	d.fail("192.0.2.4", "root", 5)
	d.e.Forgive(host, start.Add(-time.Second))
	if _, ok := d.e.Banned(host, d.now); !ok {
		t.Error("lifted by an earlier unban")
	}
}

func TestRestart(t *testing.T) {
	record := func(d *desk) (lines []*sshlog.Line) {
		for i := range 7 {
			lines = append(lines, line(d.t, fmt.Sprintf("sshd[%d]: Failed password for root from 192.0.2.4 port %d ssh2", 100+i, 2000+i), start.Add(time.Duration(i)*time.Second)))
		}
		return lines
	}
	host := netip.MustParsePrefix("192.0.2.4/32")

	t.Run("replay bans nobody again", func(t *testing.T) {
		d := newDesk(t, nil)
		lines := record(d)
		for _, l := range lines {
			d.e.Observe(l, &d.o)
			d.gather()
		}
		d.wantBans("192.0.2.4/32 attempts")

		after := newDesk(t, nil)
		after.e.Adopt(d.bans, []lease.History{{Prefix: host, Count: 1, Last: d.bans[0].From}}, nil)
		after.e.SetReplay(true)
		for _, l := range lines {
			after.e.Observe(l, &after.o)
			after.gather()
		}
		after.e.SetReplay(false)
		after.wantBans()
		after.wantNotices()
		if got, ok := after.e.Banned(host, d.bans[0].From); !ok || got.Until != d.bans[0].Until || got.Count != 1 {
			t.Errorf("got %+v, %v", got, ok)
		}
	})
	t.Run("replay does not undo an unban", func(t *testing.T) {
		d := newDesk(t, nil)
		lines := record(d)
		d.now = start.Add(time.Minute)
		// The history remembers a ban; the store has no such ban in force any more.
		d.e.Adopt(nil, []lease.History{{Prefix: host, Count: 1, Last: start.Add(4 * time.Second)}}, nil)
		d.e.Forgive(host, start.Add(30*time.Second))
		d.e.SetReplay(true)
		for _, l := range lines {
			d.e.Observe(l, &d.o)
			d.gather()
		}
		d.e.SetReplay(false)
		d.fail("192.0.2.4", "root", 4)
		d.wantBans()
		d.fail("192.0.2.4", "root", 1)
		d.wantBans("192.0.2.4/32 attempts")
		if got := d.bans[0].Count; got != 2 {
			t.Errorf("count %d, want 2", got)
		}
	})
	t.Run("a remembered ban is not in force", func(t *testing.T) {
		d := newDesk(t, nil)
		d.e.Adopt(nil, []lease.History{{Prefix: host, Count: 3, Last: start.Add(-time.Minute)}}, nil)
		if got := d.e.Stats().Bans; got != 0 {
			t.Errorf("%d bans in force, want 0", got)
		}
		d.fail("192.0.2.4", "root", 5)
		d.wantBans("192.0.2.4/32 attempts")
		if got := d.bans[0].Count; got != 4 {
			t.Errorf("count %d, want 4", got)
		}
	})
}

func TestByHand(t *testing.T) {
	d := newDesk(t, nil)
	net := netip.MustParsePrefix("203.0.113.0/24")
	count := d.e.Begin(lease.Lease{Prefix: net, Verdict: lease.Deny, Cause: CauseManual, Reason: "spam", Holder: "ann", From: start})
	if count != 1 {
		t.Errorf("count %d, want 1", count)
	}
	d.wait(1000 * time.Hour)
	d.fail("203.0.113.9", "root", 5)
	d.wantBans()
	got, ok := d.e.Banned(net, d.now)
	if !ok || got.Reason != "spam" || got.Holder != "ann" || !got.Until.IsZero() {
		t.Errorf("got %+v, %v", got, ok)
	}
	why := d.e.Why(netip.MustParseAddr("203.0.113.9"), d.now)
	if why.Ban == nil || why.Ban.Prefix != net {
		t.Errorf("why does not know the ban: %+v", why.Ban)
	}
}

func TestReload(t *testing.T) {
	d := newDesk(t, nil)
	d.fail("192.0.2.4", "root", 5)
	d.fail("192.0.2.5", "root", 3)
	p := DefaultPolicy()
	p.MaxRetry = 4
	d.e.SetPolicy(p)
	if got := d.e.Stats().Bans; got != 1 {
		t.Errorf("%d bans after a reload, want 1", got)
	}
	d.fail("192.0.2.5", "root", 1)
	d.wantBans("192.0.2.4/32 attempts", "192.0.2.5/32 attempts")
}

func TestBareLines(t *testing.T) {
	d := newDesk(t, nil)
	for i := range 20 {
		l := line(t, "sshd[9]: Failed password for root from 192.0.2.4 port 22 ssh2", start)
		l.PID, l.Bare = int32(i), true
		d.e.Observe(l, &d.o)
		d.gather()
		if d.o.Attempts != 0 || !d.o.Bare || d.o.Addr != netip.MustParseAddr("192.0.2.4") {
			t.Fatalf("outcome %+v", d.o)
		}
	}
	l := line(t, "sshd[9]: Accepted password for root from 192.0.2.5 port 22 ssh2", start)
	l.Bare = true
	d.e.Observe(l, &d.o)
	d.wantBans()
	if s := d.e.Stats(); s.Sessions+s.Known+s.Sources+s.Connections != 0 {
		t.Errorf("believed: %+v", s)
	}
}

func TestDistributed(t *testing.T) {
	// attack has many sources try a name once each, for a while.
	attack := func(d *desk, user string, sources int, during time.Duration) {
		for i := range sources {
			d.wait(during / time.Duration(sources))
			d.fail(fmt.Sprintf("10.%d.%d.7", i/250, i%250), user, 1)
		}
	}
	t.Run("lowers the bar for its names", func(t *testing.T) {
		d := newDesk(t, nil)
		attack(d, "oracle", 80, 30*time.Minute)
		d.wantBans()
		if len(d.notices) != 1 || d.notices[0].Kind != NoticeDistributed || d.notices[0].User != "oracle" {
			t.Fatalf("notices %+v", d.notices)
		}
		d.fail("10.0.79.7", "oracle", 1) // its second
		d.wantBans("10.0.79.7/32 distributed")
		d.fail("192.0.2.8", "ann", 4) // another name, not under attack
		d.wantBans("10.0.79.7/32 distributed")
		d.fail("192.0.2.9", "invalid user nobody7", 2)
		d.wantBans("10.0.79.7/32 distributed", "192.0.2.9/32 distributed")
	})
	t.Run("slower than find_time too", func(t *testing.T) {
		d := newDesk(t, nil)
		attack(d, "oracle", 80, 30*time.Minute)
		d.wait(9 * time.Minute)
		d.fail("10.0.40.7", "oracle", 1) // 24 minutes after its first
		d.wantBans("10.0.40.7/32 distributed")
		why := d.e.Why(netip.MustParseAddr("10.0.41.7"), d.now)
		if why.Bar != 2 || !strings.HasPrefix(why.BarCause, "distributed") || why.Weight != 1 {
			t.Errorf("why: bar %d, %q, weight %d", why.Bar, why.BarCause, why.Weight)
		}
	})
	t.Run("spares who has ever logged in", func(t *testing.T) {
		d := newDesk(t, func(p *Policy) { p.Known = Known{} })
		pid, port := d.login("192.0.2.4", "oracle")
		d.logout("192.0.2.4", "oracle", pid, port)
		attack(d, "oracle", 80, 30*time.Minute)
		d.fail("192.0.2.4", "oracle", 4)
		d.wantBans()
	})
	t.Run("ends", func(t *testing.T) {
		d := newDesk(t, nil)
		attack(d, "oracle", 80, 30*time.Minute)
		d.wait(2 * time.Hour)
		d.fail("192.0.2.9", "oracle", 4)
		d.wantBans()
	})
	t.Run("is not a loud attack", func(t *testing.T) {
		d := newDesk(t, nil)
		for i := range 200 {
			d.wait(10 * time.Second)
			d.fail(fmt.Sprintf("10.0.%d.7", i), "root", 5)
		}
		for _, n := range d.notices {
			t.Errorf("notice %+v", n)
		}
	})
	t.Run("is not a burst", func(t *testing.T) {
		d := newDesk(t, nil)
		attack(d, "root", 500, 9*time.Minute)
		d.wantNotices()
	})
	t.Run("alarms when one succeeds", func(t *testing.T) {
		d := newDesk(t, nil)
		attack(d, "oracle", 80, 30*time.Minute)
		d.login("192.0.2.77", "oracle")
		if n := len(d.notices); n != 2 || d.notices[1].Kind != NoticeAccepted {
			t.Errorf("notices %v", d.told())
		}
	})
}

func TestClockSetBack(t *testing.T) {
	d := newDesk(t, nil)
	d.wait(365 * 24 * time.Hour) // a machine that wakes up in a wrong year
	d.fail("192.0.2.4", "root", 4)
	d.fail("192.0.2.5", "root", 5)
	d.wantBans("192.0.2.5/32 attempts")
	d.bans, d.now = nil, start
	d.fail("192.0.2.5", "root", 5)
	d.wantBans("192.0.2.5/32 attempts")
	d.bans = nil
	d.fail("192.0.2.4", "root", 4)
	d.wantBans()
	d.fail("192.0.2.4", "root", 1)
	d.wantBans("192.0.2.4/32 attempts")
}

func TestWhyIsJSON(t *testing.T) {
	d := newDesk(t, func(p *Policy) { p.Never = prefixes("198.51.100.0/24") })
	d.login("192.0.2.4", "ann")
	d.fail("192.0.2.4", `invalid user <\\033[31m>`, 3)
	for _, a := range []string{"192.0.2.4", "198.51.100.1", "2001:db8::1"} {
		b, err := json.Marshal(d.e.Why(netip.MustParseAddr(a), d.now))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range b {
			if c < ' ' || c > '~' {
				t.Fatalf("not plain: %q", b)
			}
		}
	}
	why := d.e.Why(netip.MustParseAddr("192.0.2.4"), d.now)
	if why.Weight != 3 || len(why.Attempts) != 3 || why.Bar != 20 || len(why.Sessions) != 1 || why.Login == nil {
		t.Errorf("why %+v", why)
	}
	if why := d.e.Why(netip.MustParseAddr("198.51.100.1"), d.now); why.Never != "within 198.51.100.0/24" {
		t.Errorf("never %q", why.Never)
	}
}
