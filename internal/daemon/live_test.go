package daemon

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/guard"
	"sekisho/internal/lease"
)

// TestLive: who attacks, and as whom, the newest bans first, and what is looked for.
func TestLive(t *testing.T) {
	d, log, dir, _ := dry(t, "")
	if _, err := io.WriteString(log, failures("203.0.113.9", 5)+failures("198.51.100.7", 2)+failures("203.0.114.1", 5)+
		fmt.Sprintf("%s host sshd[7]: Failed password for invalid user \x1b[2J from 198.51.100.7 port 22 ssh2\n", time.Now().Format(time.RFC3339Nano))); err != nil {
		t.Fatal(err)
	}
	var live LiveReply
	eventually(t, "all was read", func() bool {
		live = LiveReply{}
		control(t, dir, "GET", "live", "", &live)
		return live.Status.Guard.Attempts == 13
	})
	type source struct {
		Prefix   string
		Attempts int
		Names    string
		Banned   bool
	}
	var got []source
	for _, s := range live.Sources {
		got = append(got, source{s.Prefix.String(), s.Attempts, strings.Join(s.Names, ","), s.Banned})
	}
	want := []source{{"203.0.114.1/32", 5, "root", true}, {"203.0.113.9/32", 5, "root", true}, {"198.51.100.7/32", 3, `root,\x1b[2J`, false}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
	var attempts uint32
	for _, n := range live.Attempts {
		attempts += n
	}
	if attempts != 13 || len(live.Attempts) != 300 {
		t.Errorf("%d attempts in %d seconds", attempts, len(live.Attempts))
	}
	if len(live.Bans) != 2 || live.Bans[0].From.Before(live.Bans[1].From) {
		t.Errorf("bans: %+v", live.Bans)
	}
	// Between two looks at all bans those that begin and those that end are seen too.
	d.mu.Lock()
	d.newest.next = time.Now().Add(time.Hour)
	d.mu.Unlock()
	var ban Ban
	control(t, dir, "POST", "ban", `{"prefix":"198.51.100.0/24"}`, &ban)
	var lifted UnbanReply
	control(t, dir, "POST", "unban", `{"prefix":"203.0.114.1/32"}`, &lifted)
	live = LiveReply{}
	control(t, dir, "GET", "live", "", &live)
	if len(live.Bans) != 2 || live.Bans[0].Prefix.String() != "198.51.100.0/24" || live.Bans[1].Prefix.String() != "203.0.113.9/32" {
		t.Errorf("bans: %+v", live.Bans)
	}
	for find, want := range map[string]string{
		"203.0.113.9": "203.0.113.9/32", "203.0.113.0/24": "203.0.113.9/32", "113.9": "203.0.113.9/32", " ATTEMPTS": "203.0.113.9/32", "198.51": "198.51.100.0/24", "nobody": "", "guard": "203.0.113.9/32",
	} {
		var found LiveReply
		control(t, dir, "GET", "live?find="+strings.NewReplacer("/", "%2F", " ", "+").Replace(find), "", &found)
		var prefixes []string
		for _, b := range found.Bans {
			prefixes = append(prefixes, b.Prefix.String())
		}
		if len(prefixes) == 2 && prefixes[0] > prefixes[1] { // begun in the same moment
			prefixes[0], prefixes[1] = prefixes[1], prefixes[0]
		}
		if got := strings.Join(prefixes, " "); got != want {
			t.Errorf("bans that hold %q: %q, want %q", find, got, want)
		}
	}
}

// TestLately: what is old is forgotten, what is older than what is kept is no more
// than left out, and IPv6 sources stay what they are.
func TestLately(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	var l lately
	v6 := netip.MustParsePrefix("2001:db8:1:2::/64")
	l.add(&guard.Outcome{Attempts: 0}, v6, now)
	l.add(&guard.Outcome{Attempts: 1}, netip.Prefix{}, now)
	if l.tries != nil {
		t.Error("what is no attempt is kept")
	}
	l.add(&guard.Outcome{Attempts: 3, User: []byte(strings.Repeat("長", 40))}, v6, now.Add(-time.Second))
	l.add(&guard.Outcome{Attempts: 1}, v6, now.Add(-10*time.Minute)) // read late
	l.add(&guard.Outcome{Attempts: 1 << 20}, v6, now.Add(-2*time.Minute))
	sums := l.bySecond(now)
	if n := len(sums); sums[n-2] != 3 || sums[n-121] != 1<<20 || sums[n-1] != 0 {
		t.Errorf("by second: %v", sums)
	}
	got := attackers(l.tries, now.Add(-time.Minute), now)
	if len(got) != 1 || got[0].Prefix != v6 || got[0].Attempts != 3 || len(got[0].Names) != 1 {
		t.Errorf("%+v", got)
	}
	for i := range 3 * liveKept {
		l.add(&guard.Outcome{Attempts: 1, User: fmt.Append(nil, "u", i)}, netip.MustParsePrefix("192.0.2.1/32"), now)
	}
	got = attackers(l.tries, now.Add(-time.Minute), now)
	if len(got) != 1 || got[0].Attempts != liveKept || got[0].Many != liveKept || len(got[0].Names) != liveNames {
		t.Errorf("%+v", got)
	}
}

// TestSeverities: every key of a problem has its severity in the one table, and
// nothing else stands there.
func TestSeverities(t *testing.T) {
	used := map[string]bool{}
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	call := regexp.MustCompile(`(?:\.problem|problemOf)\("([a-z]+)[ "]`)
	for _, f := range files {
		if strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		text, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range call.FindAllStringSubmatch(string(text), -1) {
			used[m[1]] = true
			if _, ok := severities[m[1]]; !ok {
				t.Errorf("%s: the problem %q has no severity", f.Name(), m[1])
			}
		}
	}
	for key := range severities {
		if !used[key] {
			t.Errorf("no problem has the key %q", key)
		}
	}
	ps := []Problem{problemOf("dry", "a", ""), problemOf("source x", "b", ""), problemOf("unheard", "c", ""), problemOf("off", "d", "")}
	worstFirst(ps)
	var order string
	for _, p := range ps {
		order += p.What
	}
	if order != "bdac" || ps[3].Severity != Warning {
		t.Errorf("order %s, %+v", order, ps)
	}
}

// BenchmarkLive is one look with many bans in force: the guard waits for no longer.
func BenchmarkLive(b *testing.B) {
	for _, bans := range []int{100, 100_000} {
		b.Run(fmt.Sprintf("bans=%d", bans), func(b *testing.B) {
			d := New(Options{})
			now := time.Now()
			d.engine = guard.New(guard.Policy{IPv4Bits: 32, IPv6Bits: 64})
			for i, a := 0, netip.MustParseAddr("20.0.0.1"); i < bans; i, a = i+1, a.Next() {
				d.engine.Begin(lease.Lease{Prefix: netip.PrefixFrom(a, 32), Verdict: lease.Deny, Cause: guard.CauseAttempts, From: now.Add(time.Duration(i) * time.Microsecond), Until: now.Add(time.Hour), Count: 1})
			}
			look := newFinder("", nil)
			b.ReportAllocs()
			for b.Loop() {
				d.mu.Lock()
				d.newestBans(time.Now(), look)
				d.mu.Unlock()
			}
		})
	}
}

// BenchmarkLatelyAdd is what an attempt costs where nobody looks.
func BenchmarkLatelyAdd(b *testing.B) {
	var l lately
	out := &guard.Outcome{Attempts: 1, User: []byte("administrator")}
	source, now := netip.MustParsePrefix("192.0.2.1/32"), time.Now()
	for b.Loop() {
		l.add(out, source, now)
	}
}

// TestLiveSoon: a look is soon over, however many are banned, and the countries are told.
func TestLiveSoon(t *testing.T) {
	f, _ := guarding(t, applyBase)
	fill(t, f.Daemon, 100_000)
	f.Live(t.Context(), "") // makes the index of countries
	began := time.Now()
	const looks = 5
	for range looks {
		live := f.Live(t.Context(), "")
		if len(live.Bans) != liveMost || live.Bans[0].Country == "" || live.Status.Bans != 100_000 {
			t.Fatalf("%d bans of %d, %+v", len(live.Bans), live.Status.Bans, live.Bans[0])
		}
	}
	if took := time.Since(began) / looks; took > time.Second {
		t.Errorf("a look takes %v", took)
	}
	if live := f.Live(t.Context(), "us"); len(live.Bans) != liveMost || live.Bans[0].Country != "US" {
		t.Errorf("%d bans of the US, %+v", len(live.Bans), live.Bans[:min(1, len(live.Bans))])
	}
}
