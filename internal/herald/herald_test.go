package herald

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/guard"
	"sekisho/internal/lease"
	"sekisho/internal/notify"
	"sekisho/internal/sshlog"
)

var (
	noon  = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	enemy = netip.MustParsePrefix("203.0.113.7/32")
)

// heard makes a Herald, and returns what it tells.
func heard() (*Herald, *[]notify.Event) {
	var events []notify.Event
	country := func(a netip.Addr) string {
		switch {
		case netip.MustParsePrefix("203.0.113.0/24").Contains(a):
			return "KP"
		case netip.MustParsePrefix("192.0.2.0/24").Contains(a):
			return "JP"
		}
		return ""
	}
	return New(Options{Host: "web-1", Tell: func(e notify.Event) { events = append(events, e) }, Country: country}), &events
}

func kinds(events []notify.Event) (all []notify.Kind) {
	for _, e := range events {
		all = append(all, e.Kind)
	}
	return all
}

func banOf(p netip.Prefix, count int) lease.Lease {
	return lease.Lease{Prefix: p, Verdict: lease.Deny, Cause: guard.CauseAttempts, Reason: "5 attempts", From: noon, Until: noon.Add(time.Hour), Attempts: 5, Count: count}
}

func failed(h *Herald, p netip.Prefix, user, message string) {
	out := guard.Outcome{Event: sshlog.Event{Kind: sshlog.Failed}, Addr: p.Addr(), User: []byte(user), Attempts: 1}
	h.Line(&out, p, &sshlog.Line{Time: noon.UnixNano(), PID: 7, Message: []byte(message)})
}

func TestABanIsToldWithItsStory(t *testing.T) {
	h, events := heard()
	for n := range 15 {
		failed(h, enemy, "root", fmt.Sprintf("Failed password for root from 203.0.113.7 port %d ssh2\x1b[2J", n))
	}
	failed(h, enemy, "admin\r\nBcc: x", "Failed password for invalid user admin")
	h.Banned([]lease.Lease{banOf(enemy, 1), banOf(netip.MustParsePrefix("198.51.100.1/32"), 3)}, true, noon)
	if diff := cmp.Diff([]notify.Kind{notify.Ban, notify.Repeat}, kinds(*events)); diff != "" {
		t.Fatalf("-want +got:\n%s", diff)
	}
	e := (*events)[0]
	if diff := cmp.Diff([]notify.Tried{{Name: "root", Count: 15}, {Name: `admin\r\nBcc: x`, Count: 1}}, e.Ban.Users); diff != "" {
		t.Errorf("users: -want +got:\n%s", diff)
	}
	if len(e.Ban.Lines) != maxLines || strings.ContainsAny(strings.Join(e.Ban.Lines, ""), "\x1b\r\n") || e.Host != "web-1" {
		t.Errorf("%d lines: %q", len(e.Ban.Lines), e.Ban.Lines)
	}
	if what := (*events)[1].What; what != "198.51.100.1 was banned, for the 3rd time: 5 attempts" {
		t.Errorf("what: %q", what)
	}
	h.Banned([]lease.Lease{banOf(enemy, 2)}, false, noon)
	if e := (*events)[2]; len(e.Ban.Lines) != 0 || !strings.Contains(e.What, "would have been banned") {
		t.Errorf("the next ban: %+v", e)
	}
}

func TestAnAttackBeginsAndEnds(t *testing.T) {
	h, events := heard()
	at := noon
	for n := range 100 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(n)}), 32)
		failed(h, p, fmt.Sprintf("user%d", n%3), "Failed")
		h.Banned([]lease.Lease{banOf(p, 1)}, true, at)
		at = at.Add(time.Second)
		h.Advance(at)
	}
	h.Advance(at.Add(4 * time.Minute))
	h.Advance(at.Add(6 * time.Minute))
	h.Advance(at.Add(time.Hour))
	var told []notify.Event
	part := 0
	for _, e := range *events {
		if e.Part {
			part++
		}
		if e.Kind != notify.Ban {
			told = append(told, e)
		}
	}
	if diff := cmp.Diff([]notify.Kind{notify.AttackBegan, notify.AttackEnded}, kinds(told)); diff != "" {
		t.Fatalf("-want +got:\n%s", diff)
	}
	if part != 100-attackBans {
		t.Errorf("%d bans are part of it, want those since it was told of", part)
	}
	if f := told[0].Attack; f.Bans != attackBans || f.Attempts != 5*attackBans || len(f.Prefixes) != attackBans || len(f.Users) != 3 || f.Places[0].Count != attackBans {
		t.Errorf("its beginning: %+v", f)
	}
	f := told[1].Attack
	if f.Bans != 100 || len(f.Prefixes) != maxPrefixes || f.Places[0].Name != "KP" || len(f.Users) != 3 || !f.Began.Equal(noon) || !f.Ended.Equal(at.Add(-time.Second)) {
		t.Errorf("the attack: %+v", f)
	}
	// A ban now and then is none.
	for n := range 20 {
		h.Banned([]lease.Lease{banOf(netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), 32), 1)}, true, at.Add(time.Duration(n)*10*time.Second))
	}
	// Nor are bans by hand, such as those of a list.
	for n := range 20 {
		l := banOf(netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(n)}), 32), 1)
		l.Cause = manual
		h.Banned([]lease.Lease{l}, true, at.Add(time.Hour))
	}
	if last := (*events)[len(*events)-1]; last.Kind != notify.Ban {
		t.Errorf("told: %+v", last)
	}
}

func TestALoginFromElsewhere(t *testing.T) {
	login := func(user, addr string) sshlog.Login {
		return sshlog.Login{User: user, Addr: netip.MustParseAddr(addr), Time: noon}
	}
	for _, tt := range []struct {
		name   string
		before []string
		from   string
		want   string // of the event; "": none
	}{
		{"never seen", nil, "192.0.2.1", ""},
		{"as before", []string{"192.0.2.1"}, "192.0.2.200", ""},
		{"another country", []string{"192.0.2.1"}, "203.0.113.9", "hanako logged in from 203.0.113.9, a country that they were not seen to come from before"},
		{"another network", []string{"198.51.100.1"}, "198.18.0.1", "hanako logged in from 198.18.0.1, a network that they were not seen to come from before"},
		{"of no known country", []string{"192.0.2.1"}, "198.51.100.1", "hanako logged in from 198.51.100.1, a network that they were not seen to come from before"},
		{"over IPv6, the same /48", []string{"2001:db8:1:2::1"}, "2001:db8:1:ffff::1", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, events := heard()
			for _, a := range tt.before {
				h.Seen(login("hanako", a))
			}
			h.LoggedIn(login("hanako", tt.from))
			got := ""
			if len(*events) > 0 {
				got = (*events)[0].What
			}
			if got != tt.want {
				t.Errorf("told %q, want %q", got, tt.want)
			}
			n := len(*events)
			h.LoggedIn(login("hanako", tt.from))
			if len(*events) != n {
				t.Error("told again")
			}
		})
	}
}

func TestNotices(t *testing.T) {
	for kind, want := range map[string]notify.Kind{
		guard.NoticeAccepted: notify.LoginDoubt, guard.NoticeIneffective: notify.Degraded, guard.NoticeDistributed: notify.AttackBegan, guard.NoticeSpared: "",
	} {
		h, events := heard()
		h.Notice(guard.Notice{Kind: kind, Addr: enemy.Addr(), User: "root", Method: sshlog.MethodPassword, Text: "what"}, noon)
		var got notify.Kind
		if len(*events) > 0 {
			got = (*events)[0].Kind
		}
		if got != want {
			t.Errorf("%s is told as %q, want %q", kind, got, want)
		}
		if want == notify.LoginDoubt && (*events)[0].Login.Method != "password" {
			t.Errorf("the login: %+v", (*events)[0].Login)
		}
		if want == notify.AttackBegan && (*events)[0].Attack != nil {
			t.Error("an attack of no bans") // which would be all that a subject says
		}
	}
}

// TestBounds: an attacker with many addresses and names makes it remember no more.
func TestBounds(t *testing.T) {
	h, _ := heard()
	long := strings.Repeat("x", 100_000)
	for n := range 3 * maxSources {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 32)
		for u := range 3 {
			failed(h, p, fmt.Sprintf("%d%s", u, long), long)
		}
	}
	for n := range 10 * maxNames {
		failed(h, enemy, fmt.Sprint(n), "x")
	}
	if len(h.sources) != maxSources || h.recent.Len() != maxSources {
		t.Errorf("%d sources, %d recent", len(h.sources), h.recent.Len())
	}
	s := h.sources[enemy].Value.(*source)
	if len(s.users) != maxNames || len(s.lines) != maxLines {
		t.Errorf("%d names, %d lines", len(s.users), len(s.lines))
	}
	for e := h.recent.Front(); e != nil; e = e.Next() {
		for _, l := range e.Value.(*source).lines {
			if len(l.message) > maxLine {
				t.Fatalf("a line of %d bytes", len(l.message))
			}
		}
	}
	for n := range 3 * maxPlaces {
		h.LoggedIn(sshlog.Login{User: "hanako", Addr: netip.AddrFrom4([4]byte{10, 0, byte(n), 1}), Time: noon.Add(time.Duration(n))})
	}
	if n := len(h.people["hanako"].networks); n != maxPlaces {
		t.Errorf("%d networks", n)
	}
}

func BenchmarkLine(b *testing.B) {
	h, _ := heard()
	out := guard.Outcome{Event: sshlog.Event{Kind: sshlog.Failed}, User: []byte("root"), Attempts: 1}
	line := &sshlog.Line{Time: noon.UnixNano(), PID: 7, Message: []byte("Failed password for root from 203.0.113.7 port 40022 ssh2")}
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		h.Line(&out, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), 32), line)
	}
}
