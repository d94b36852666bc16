package daemon

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/firewall"
	"sekisho/internal/guard"
	"sekisho/internal/lease"
	"sekisho/internal/report"
	"sekisho/internal/store"
)

// What comes in by the log is in the report at once.
func TestReport(t *testing.T) {
	_, log, dir, _ := dry(t, "")
	defer log.Close()
	begun := time.Now().Add(-9 * time.Second)
	line := func(after time.Duration, text string) string {
		return begun.Add(after).Format(time.RFC3339Nano) + " host sshd[77]: " + text + "\n"
	}
	var b strings.Builder
	for i := range 5 { // the fifth brings the ban, eight seconds after the first
		b.WriteString(line(time.Duration(2*i)*time.Second, fmt.Sprintf("Failed password for root from 133.242.0.9 port %d ssh2", 2000+i)))
	}
	b.WriteString(line(9*time.Second, "Accepted publickey for hanako from 198.51.100.7 port 40022 ssh2: ED25519 SHA256:x"))
	if _, err := io.WriteString(log, b.String()); err != nil {
		t.Fatal(err)
	}
	var r report.Report
	eventually(t, "the report tells of it", func() bool {
		r = report.Report{}
		return control(t, dir, "GET", "report?days=2", "", &r) == http.StatusOK && r.Logins.Count == 1
	})
	if r.Days != 2 || len(r.ByDay) != 2 || r.Attempts != 5 || r.Bans.Count != 1 || r.Host == "" {
		t.Errorf("%+v", r)
	}
	if x := r.Bans.Reaction; x.Bans != 1 || x.Median.Round(time.Millisecond) != 8*time.Second {
		t.Errorf("reaction %+v", x)
	}
	want := report.Table[report.Country]{Rows: []report.Country{{Country: "JP", Attempts: 5, Sources: 1, Bans: 1}}}
	if diff := cmp.Diff(want, r.ByCountry); diff != "" {
		t.Error(diff)
	}
	if len(r.Logins.Rows) != 1 || r.Logins.Rows[0].User != "hanako" || r.Logins.Rows[0].Last == nil {
		t.Errorf("logins %+v", r.Logins)
	}
	for _, days := range []string{"", "0", "401", "-1", "7d", "1e3"} {
		var f Failure
		if code := control(t, dir, "GET", "report?days="+days, "", &f); code != http.StatusBadRequest || f.Hint == "" {
			t.Errorf("days=%s: %d %+v", days, code, f)
		}
	}
}

// A client that can write lines into the log tells no report anything.
func TestForgedLinesAreNotReported(t *testing.T) {
	d, log, _, _ := dry(t, "")
	defer log.Close()
	if _, err := io.WriteString(log, "Accepted password for root from 203.0.113.9 port 40022 ssh2\n"+failures("203.0.113.8", 1)); err != nil {
		t.Fatal(err)
	}
	var r report.Report
	eventually(t, "the line after it is counted", func() bool {
		var err error
		if r, err = d.Report(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		return r.Attempts == 1
	})
	if r.Logins.Count != 0 || r.Lines != 1 {
		t.Errorf("%d logins, %d lines", r.Logins.Count, r.Lines)
	}
}

// counting is a firewall through whose rules packets go: each rule in force has counted
// as many.
type counting struct {
	*firewall.Fake
	mu      sync.Mutex
	packets uint64
}

func (c *counting) Counters(ctx context.Context) ([]firewall.Counter, error) {
	if _, err := c.Fake.Counters(ctx); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	state, _, _ := c.InForce()
	var counters []firewall.Counter
	for _, l := range state.Lines() {
		for _, verb := range []string{"drop: ", "reject: "} {
			if rule, ok := strings.CutPrefix(l.Text, verb); ok {
				counters = append(counters, firewall.Counter{Chain: l.Chain, Rule: rule, Drops: true, Packets: c.packets, Bytes: 60 * c.packets})
			}
		}
	}
	return counters, nil
}

func (c *counting) count(packets uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.packets = packets
}

// What the rules count is told by what they are for, in the words that they have, and
// once: over rules that are written anew, and over restarts.
func TestReportOfRules(t *testing.T) {
	f := follow(t, applyBase+"exposure: public\nfirewall: {countries: [JP], rate: {per_minute: 2, burst: 5}}\n")
	fw := &counting{Fake: f.enforceInMemory()}
	f.fw = fw
	f.alive = func(context.Context, netip.AddrPort, []uint16) (bool, error) { return true, nil }
	f.start(t)
	dropped := func(d *Daemon) map[string]uint64 {
		t.Helper()
		r, err := d.Report(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]uint64{}
		for _, x := range r.Dropped {
			got[x.By] = x.Packets
		}
		return got
	}
	dropped(f.Daemon) // bans' rules are there, and have counted nothing
	f.forced(t)
	fw.count(1)
	one := dropped(f.Daemon)
	for _, by := range []string{report.ByBans, report.ByCountry, report.ByRate} {
		if one[by] == 0 {
			t.Errorf("nothing was kept out by %s: %v", by, one)
		}
	}
	if one[report.ByExposure] != 0 || one[report.ByOther] != 2 {
		t.Errorf("rules that are told by what they are not for (but for two of fragments): %v", one)
	}
	times := func(n uint64) map[string]uint64 {
		out := map[string]uint64{}
		for by, packets := range one {
			out[by] = n * packets
		}
		return out
	}
	fw.count(10)
	if diff := cmp.Diff(times(10), dropped(f.Daemon)); diff != "" {
		t.Error(diff)
	}
	fw.count(3) // written anew
	if diff := cmp.Diff(times(13), dropped(f.Daemon)); diff != "" {
		t.Error(diff)
	}
	// A new process finds the rules as they are; two packets more went by meanwhile.
	d := New(Options{StateDir: f.opts.StateDir})
	fw.count(5)
	d.fw, d.kept, d.store = fw, keepState, f.store
	d.rec = f.rec
	d.countRules(t.Context())
	if diff := cmp.Diff(times(15), dropped(f.Daemon)); diff != "" {
		t.Error(diff)
	}
}

func TestOnsets(t *testing.T) {
	t0 := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	source := netip.MustParsePrefix("203.0.113.9/32")
	other := netip.MustParsePrefix("203.0.113.8/32")
	type attempt struct {
		source   netip.Prefix
		after    time.Duration
		attempts int
		replayed bool
	}
	for _, tc := range []struct {
		name     string
		attempts []attempt
		cause    string
		prefix   netip.Prefix
		want     time.Duration // before the ban; negative: not known
	}{
		{"the first of them", []attempt{{source, 0, 1, false}, {other, time.Minute, 1, false}, {source, 2 * time.Minute, 1, false}}, guard.CauseAttempts, source, time.Hour},
		{"what is no attempt", []attempt{{source, 0, 0, false}, {source, 50 * time.Minute, 1, false}}, guard.CauseAttempts, source, 10 * time.Minute},
		{"nothing was seen", nil, guard.CauseAttempts, source, -1},
		{"no source", []attempt{{netip.Prefix{}, 0, 1, false}}, guard.CauseAttempts, source, -1},
		{"one of many", []attempt{{source, 30 * time.Minute, 1, false}}, guard.CauseDistributed, source, 30 * time.Minute},
		{"a network", []attempt{{netip.MustParsePrefix("203.0.113.0/32"), 0, 1, false}}, guard.CauseEscalation, netip.MustParsePrefix("203.0.113.0/24"), -1},
		{"by hand", []attempt{{source, 0, 1, false}}, guard.CauseManual, source, -1},
		{"silent for long", []attempt{{source, -30 * time.Hour, 1, false}, {source, 0, 1, false}}, guard.CauseAttempts, source, time.Hour},
		{"slow, never silent", []attempt{{source, -40 * time.Hour, 1, false}, {source, -20 * time.Hour, 1, false}, {source, 0, 1, false}}, guard.CauseAttempts, source, 41 * time.Hour},
		{"read again, lately", []attempt{{source, 55 * time.Minute, 1, true}, {source, 59 * time.Minute, 1, false}}, guard.CauseAttempts, source, 5 * time.Minute},
		{"read again, a ban may stand between", []attempt{{source, 0, 1, true}, {source, 59 * time.Minute, 1, false}}, guard.CauseAttempts, source, -1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var o onsets
			for _, a := range tc.attempts {
				o.add(&guard.Outcome{Attempts: a.attempts}, a.source, t0.Add(a.after), a.replayed)
			}
			ban := lease.Lease{Prefix: tc.prefix, Cause: tc.cause, From: t0.Add(time.Hour)}
			own := func(l lease.Lease) bool { return l.Prefix.IsSingleIP() }
			var want []store.Onset
			if tc.want >= 0 {
				want = []store.Onset{{Prefix: tc.prefix, Begun: ban.From, First: ban.From.Add(-tc.want)}}
			}
			got := o.take(nil, []lease.Lease{ban}, 10*time.Minute, own)
			if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
				t.Error(diff)
			}
			if again := o.take(nil, []lease.Lease{ban}, 10*time.Minute, own); tc.want >= 0 && len(again) > 0 {
				t.Errorf("told twice: %v", again)
			}
		})
	}
}

func TestOnsetsAreBounded(t *testing.T) {
	var o onsets
	at := time.Now()
	for i := range 5 * maxOnsets {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		o.add(&guard.Outcome{Attempts: 1}, netip.PrefixFrom(a, 32), at, false)
		o.add(&guard.Outcome{Attempts: 1}, netip.MustParsePrefix("192.0.2.1/32"), at.Add(time.Second), false) // who goes on is kept
	}
	if len(o.young)+len(o.old) > 2*maxOnsets {
		t.Errorf("%d are held", len(o.young)+len(o.old))
	}
	got := o.take(nil, []lease.Lease{{Prefix: netip.MustParsePrefix("192.0.2.1/32"), Cause: guard.CauseAttempts, From: at.Add(time.Minute)}}, time.Minute, func(lease.Lease) bool { return true })
	if len(got) != 1 || got[0].First.Unix() != at.Add(time.Second).Unix() {
		t.Errorf("%v", got)
	}
}

func TestLocated(t *testing.T) {
	f := follow(t, dryFiles+"log: {source: files, files: [DIR/a]}\n")
	f.start(t)
	jp := netip.MustParseAddr("133.242.0.9")
	country := func() string {
		f.Daemon.mu.Lock()
		defer f.Daemon.mu.Unlock()
		return f.located.country(jp)
	}
	f.locate()
	if f.located.places != nil {
		t.Error("an index was made for nobody")
	}
	if got := country(); got != "" {
		t.Errorf("%q", got)
	}
	f.locate()
	if got := country(); got != "JP" {
		t.Errorf("%q", got)
	}
	f.Daemon.mu.Lock()
	f.located.asked = time.Now().Add(-2 * keepPlaces)
	f.Daemon.mu.Unlock()
	f.locate()
	if f.located.places != nil {
		t.Error("it is kept though nobody attacks")
	}
}

// TestTheIndexIsMadeOnce: it takes much memory to make, so those who ask at the same time wait for one.
func TestTheIndexIsMadeOnce(t *testing.T) {
	f := follow(t, dryFiles+"log: {source: files, files: [DIR/a]}\n")
	f.start(t)
	var got [4]*report.Places
	var all sync.WaitGroup
	for i := range got {
		all.Go(func() {
			var err error
			if got[i], err = f.index(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, p := range got {
		if p == nil || p != got[0] {
			t.Errorf("more than one: %p", got)
		}
	}
}
