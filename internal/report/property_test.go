package report

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sekisho/internal/lease"
	"sekisho/internal/sshlog"
	"sekisho/internal/store"
)

// agree is that however attempts are told apart, they are the same attempts.
func agree(r Report) error {
	var days, dayBans, dayLogins, kinds, lines, causes, logins int
	var dropped uint64
	for _, d := range r.ByDay {
		days += d.Attempts
		dayBans += d.Bans
		dayLogins += d.Logins
		dropped += d.Dropped
	}
	countries, networks, sources, names := r.ByCountry.Rest, r.ByNetwork.Rest, r.BySource.Rest, r.ByName.Rest
	for _, c := range r.ByCountry.Rows {
		countries += c.Attempts
	}
	for _, n := range r.ByNetwork.Rows {
		networks += n.Attempts
	}
	for _, s := range r.BySource.Rows {
		sources += s.Attempts
	}
	for _, n := range r.ByName.Rows {
		names += n.Attempts
	}
	for _, k := range r.ByKind {
		kinds += k.Attempts
		lines += k.Lines
	}
	for _, c := range r.Bans.ByCause {
		causes += c.Bans
	}
	logins = r.Logins.Rest
	for _, l := range r.Logins.Rows {
		logins += l.Logins
	}
	for _, x := range []struct {
		what      string
		got, want int
	}{
		{"days", days, r.Attempts}, {"countries", countries, r.Attempts}, {"networks", networks, r.Attempts}, {"sources", sources, r.Attempts},
		{"names", names, r.Attempts}, {"kinds", kinds, r.Attempts}, {"lines of kinds", lines, r.Lines}, {"bans of days", dayBans, r.Bans.Count},
		{"causes", causes, r.Bans.Count}, {"logins", logins, r.Logins.Count}, {"logins of days", dayLogins, r.Logins.Count}, {"drops of days", int(dropped), int(r.DroppedPackets())},
	} {
		if x.got != x.want {
			return fmt.Errorf("%s come to %d, not %d", x.what, x.got, x.want)
		}
	}
	for _, rest := range []int{r.ByCountry.Rest, r.ByNetwork.Rest, r.BySource.Rest, r.ByName.Rest, r.Logins.Rest} {
		if rest < 0 {
			return fmt.Errorf("a rest of %d", rest)
		}
	}
	if b := r.Bans; b.Repeated > b.Count || b.Prefixes > b.Count || b.WithoutEnd > b.Count || b.Reaction.Median > b.Reaction.P90 {
		return fmt.Errorf("bans %+v", b)
	}
	return nil
}

// Whatever is in the store, the tables agree, with what was put in too; also past the
// bound of what is told apart.
func TestSumsAgree(t *testing.T) {
	text := rapid.OneOf(rapid.SampledFrom(append([]string{"", "root", "JP", "US", "accepted", "failed", "closed"}, hostile...)), rapid.StringN(0, 70, 200))
	day := rapid.IntRange(-3, 40)
	small := rapid.IntRange(0, 5)
	addr := rapid.Custom(func(t *rapid.T) netip.Addr {
		switch n := rapid.Byte().Draw(t, "n"); small.Draw(t, "family") {
		case 0:
			return netip.Addr{}
		case 1:
			return netip.MustParseAddr(fmt.Sprintf("2001:db8:%x::", n))
		default:
			return netip.AddrFrom4([4]byte{50, 0, byte(small.Draw(t, "net")), n})
		}
	})
	dir, n := t.TempDir(), 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		s, _, err := store.Open(t.Context(), filepath.Join(dir, fmt.Sprint(n), "state.db"), store.Options{})
		if err != nil {
			rt.Fatal(err)
		}
		defer s.Close()
		days := rapid.IntRange(1, 40).Draw(rt, "days")
		first := noon.AddDate(0, 0, 1-days).Format(time.DateOnly)
		today := noon.Format(time.DateOnly)
		var e store.Effects
		attempts := 0
		for range rapid.IntRange(0, 60).Draw(rt, "counts") {
			c := store.Count{
				Day: noon.AddDate(0, 0, -day.Draw(rt, "day")).Format(time.DateOnly), Source: addr.Draw(rt, "source"), User: text.Draw(rt, "user"),
				Country: text.Draw(rt, "country"), Kind: text.Draw(rt, "kind"), Lines: small.Draw(rt, "lines"), Attempts: small.Draw(rt, "attempts"),
			}
			e.Counts = append(e.Counts, c)
			if first <= c.Day && c.Day <= today {
				attempts += c.Attempts
			}
		}
		for range rapid.IntRange(0, 20).Draw(rt, "bans") {
			l := lease.Lease{
				Verdict: lease.Deny, Cause: text.Draw(rt, "cause"), Reason: text.Draw(rt, "reason"), Count: small.Draw(rt, "count"), Attempts: small.Draw(rt, "tried"),
				From: noon.AddDate(0, 0, -day.Draw(rt, "from")).Add(-time.Duration(small.Draw(rt, "hours")) * time.Hour),
			}
			if a := addr.Draw(rt, "banned"); a.IsValid() {
				l.Prefix, _ = a.Prefix(rapid.IntRange(8, a.BitLen()).Draw(rt, "bits"))
			}
			e.Bans = append(e.Bans, l)
			e.Onsets = append(e.Onsets, store.Onset{Prefix: l.Prefix, Begun: l.From, First: l.From.Add(time.Duration(small.Draw(rt, "first")-3) * time.Minute)})
		}
		for range rapid.IntRange(0, 20).Draw(rt, "logins") {
			e.Logins = append(e.Logins, sshlog.Login{Addr: addr.Draw(rt, "peer"), User: text.Draw(rt, "login"), Time: noon.AddDate(0, 0, -day.Draw(rt, "at"))})
		}
		for range rapid.IntRange(0, 20).Draw(rt, "rules") {
			e.Rules = append(e.Rules, store.RuleCount{
				Day: noon.AddDate(0, 0, -day.Draw(rt, "read")).Format(time.DateOnly), Chain: rapid.SampledFrom([]string{"raw", "ssh", "input"}).Draw(rt, "chain"),
				Rule: rapid.SampledFrom([]string{"not in JP", "everything else", "\x1b[2J"}).Draw(rt, "rule"), Drops: small.Draw(rt, "drops") > 0,
				Packets: uint64(small.Draw(rt, "packets")), Fresh: true,
			})
		}
		if err := s.Commit(t.Context(), e); err != nil {
			rt.Fatal(err)
		}
		bound := rapid.SampledFrom([]int{2, 3, 7, 1 << 15}).Draw(rt, "bound")
		r, err := Make(t.Context(), s, Options{Days: days, Now: noon, Host: text.Draw(rt, "host"), Places: places(), Top: rapid.IntRange(1, 12).Draw(rt, "top"), distinct: bound})
		if err != nil {
			rt.Fatal(err)
		}
		if r.Attempts != attempts {
			rt.Fatalf("%d attempts, not %d", r.Attempts, attempts)
		}
		if err := agree(r); err != nil {
			rt.Fatal(err)
		}
		if len(r.ByDay) != days {
			rt.Fatalf("%d days", len(r.ByDay))
		}
		for _, l := range languages {
			check(t, forms(t, r, l))
		}
		if t.Failed() {
			rt.Fatal("a form is not what it should be")
		}
	})
}

func TestSumsOfTheMonthAgree(t *testing.T) {
	s := fresh(t)
	month(t, s)
	for _, days := range []int{1, 7, 30, MaxDays} {
		if err := agree(made(t, s, Options{Days: days})); err != nil {
			t.Errorf("%d days: %v", days, err)
		}
	}
	if r := made(t, s, Options{Days: 30, distinct: 64}); !r.Crowded || agree(r) != nil {
		t.Errorf("crowded: %v, %v", r.Crowded, agree(r))
	}
}

// Past the bound the greatest stay, short of little.
func TestTopsKeepTheGreatest(t *testing.T) {
	tp := newTops[int](1000)
	for i := range 1_000_000 {
		tp.add(1_000+i, 1)
		if i%100 == 0 {
			tp.add(i/100%10, 7)
		}
	}
	if len(tp.by) > 1000 || !tp.folded {
		t.Errorf("%d are held", len(tp.by))
	}
	for _, k := range tp.greatest(10, func(a, b int) int { return a - b }) {
		if k >= 10 || tp.by[k] < 7000*9/10 {
			t.Errorf("%d has %d", k, tp.by[k])
		}
	}
}

// What rotted on the disk is left out, and told.
func TestBrokenRows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := open(t, path)
	month(t, s)
	whole := made(t, s, Options{Days: 30})
	s.Close()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rotten := bytes.ReplaceAll(file, []byte("<i>scans</i>"), []byte("<i>sc@ns</i>"))
	if bytes.Equal(file, rotten) {
		t.Fatal("nothing to rot")
	}
	if err := os.WriteFile(path, rotten, 0o600); err != nil {
		t.Fatal(err)
	}
	r := made(t, open(t, path), Options{Days: 30})
	if r.Damaged != 3 || r.Bans.Count != whole.Bans.Count-3 {
		t.Errorf("%d rows are told, %d of %d bans are there", r.Damaged, r.Bans.Count, whole.Bans.Count)
	}
	if err := agree(r); err != nil {
		t.Error(err)
	}
	if text := r.Text(languages[0]); !strings.Contains(text, "* 3 rows of the state file could not be read and were left out.") {
		t.Error(text)
	}
}

// FuzzForms writes what attackers and broken daemons can have put into a report.
func FuzzForms(f *testing.F) {
	for i, s := range hostile {
		f.Add(s, hostile[(i+1)%len(hostile)], i*i*i)
	}
	f.Add(strings.Repeat("関", 300), strings.Repeat("x", 300), -1)
	f.Fuzz(func(t *testing.T, a, b string, n int) {
		r := Report{
			Host: a, From: noon, To: noon, Days: n, Attempts: n, Crowded: n%2 == 0, Damaged: n,
			ByDay:     []Day{{Day: a, Attempts: n}, {Day: b, Bans: n, Dropped: uint64(n)}},
			ByCountry: Table[Country]{Rows: []Country{{Country: a, Attempts: n}, {Country: b, Sources: n}}, Rest: n},
			ByNetwork: Table[Network]{Rows: []Network{{Country: a, Attempts: n}}, Rest: n},
			BySource:  Table[Source]{Rows: []Source{{Country: b, Bans: n}}},
			ByName:    Table[NameRow]{Rows: []NameRow{{a, n}, {b, -n}}, Rest: n},
			ByKind:    []Kind{{a, n, n}, {b, 1, -1}},
			Bans: Bans{
				Count: n, Repeated: 1, ByCause: []Cause{{a, n}, {b, 1}}, Top: []Banned{{Country: a, Bans: n}}, Reaction: Reaction{Bans: n, Median: time.Duration(n), P90: -time.Duration(n)},
			},
			Dropped: []Drops{{By: a, Packets: uint64(n)}, {By: b, Bytes: uint64(n)}},
			Logins:  Logins{Count: n, Rows: []Login{{User: a, Country: b, Logins: n}, {User: b, Last: &noon}}, Rest: n},
		}
		for _, l := range languages {
			check(t, forms(t, r, l))
		}
	})
}

// 1,000,000 counts, more than Prune leaves of a year.
func BenchmarkMillion(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "state.db"))
	const n = 1_000_000
	for day := range 100 {
		var e store.Effects
		date := noon.AddDate(0, 0, -day).Format(time.DateOnly)
		for i := range n / 100 {
			e.Counts = append(e.Counts, store.Count{
				Day: date, Source: netip.AddrFrom4([4]byte{byte(45 + i%17), byte(day), byte(i >> 8), byte(i)}), User: fmt.Sprintf("user%d", i), Country: "CN", Kind: "failed", Lines: 2, Attempts: 1 + i%7,
			})
		}
		commit(b, s, e)
	}
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		r := made(b, s, Options{Days: 100, Places: places()})
		runtime.GC()
		runtime.ReadMemStats(&after)
		if r.Lines != 2*n || agree(r) != nil {
			b.Fatalf("%d lines: %v", r.Lines, agree(r))
		}
		b.ReportMetric(float64(after.HeapSys-before.HeapSys)/1e6, "MB-heap-grown")
	}
}
