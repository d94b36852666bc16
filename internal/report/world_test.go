package report

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"sekisho/internal/country"
	"sekisho/internal/lease"
	"sekisho/internal/sshlog"
	"sekisho/internal/store"
)

// The host of the tests stands in Tokyo, where it is shortly after noon.
var (
	tokyo = time.FixedZone("JST", 9*3600)
	noon  = time.Date(2026, 11, 29, 12, 34, 56, 0, tokyo)
)

func open(t testing.TB, path string) *store.Store {
	t.Helper()
	s, _, err := store.Open(t.Context(), path, store.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func fresh(t testing.TB) *store.Store { return open(t, filepath.Join(t.TempDir(), "state.db")) }

func commit(t testing.TB, s *store.Store, e store.Effects) {
	t.Helper()
	if err := s.Commit(t.Context(), e); err != nil {
		t.Fatal(err)
	}
}

// hostile are names that attackers try on whoever shows them.
var hostile = []string{
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, "\x1b[2J\x1b[31mroot", "root\r\nBcc: everybody@example.com",
	"\u202egnp.exe", "管理者", "tab\there", "\xff\xfe", `'; DROP TABLE counts; --`, "{{.}}", "a&amp;b", "%s%n", "](javascript:alert(1))",
}

// countries are those of the tests: each a /8 from 45.0.0.0 on, and a few places more.
var countries = []string{"CN", "US", "RU", "NL", "BR", "VN", "IN", "KR", "SG", "DE", "FR", "HK", "ID", "GB", "TW", "IR", "PL"}

func places() *Places {
	p := &Places{}
	var v4 []stretch[uint32]
	for i, code := range countries {
		p.codes = append(p.codes, country.Code([]byte(code)))
		v4 = append(v4, stretch[uint32]{uint32(45+i) << 24, uint32(46+i)<<24 - 1, uint16(len(p.codes))})
	}
	p.codes = append(p.codes, country.Code{'J', 'P'})
	japan := uint16(len(p.codes))
	home := v4Number(netip.MustParseAddr("198.51.100.0"))
	p.v4 = indexed(append(v4, stretch[uint32]{home, home + 255, japan}), 1<<32-1)
	there := upperHalf(netip.MustParseAddr("2001:db8::"))
	p.v6 = indexed([]stretch[uint64]{{there, there + 7<<16 - 1, 10}, {there + 7<<16, there + 8<<16 - 1, japan}}, 1<<64-1)
	return p
}

// month is what a server on the open internet sees in thirty days, and what is written
// by those who know that it will be shown.
func month(t testing.TB, s *store.Store) {
	t.Helper()
	rng := rand.New(rand.NewPCG(7, 11))
	names := []string{"root", "root", "root", "root", "admin", "admin", "ubuntu", "test", "oracle", "postgres", "git", "pi", "user", "ec2-user", "minecraft", ""}
	kinds := []string{"failed", "failed", "failed", "invalid_user", "max_attempts", "bad_identification", "no_identification"}
	for back := 29; back >= 0; back-- {
		day := noon.AddDate(0, 0, -back)
		date := day.Format(time.DateOnly)
		var e store.Effects
		busy := 40 + rng.IntN(60)
		if back == 9 {
			busy = 400
		}
		for i := range busy {
			n := rng.IntN(rng.IntN(300) + 1)
			a := netip.AddrFrom4([4]byte{byte(45 + (n*n)%17), byte(n % 7), byte(n / 40), byte(n)})
			if n%11 == 0 {
				a = netip.MustParseAddr(fmt.Sprintf("2001:db8:%x:%x::", n%3, n))
			}
			kind := kinds[rng.IntN(len(kinds))]
			user := names[rng.IntN(len(names))]
			if kind == "bad_identification" || kind == "no_identification" {
				user = ""
			}
			attempts := 1 + rng.IntN(12)
			e.Counts = append(e.Counts, store.Count{Day: date, Source: a, User: user, Country: countries[(n*n)%17], Kind: kind, Lines: 2 * attempts, Attempts: attempts})
			if i%3 == 0 {
				from := day.Add(-time.Duration(rng.IntN(11*3600)) * time.Second)
				l := lease.Lease{
					Prefix: sourceOf(a), Verdict: lease.Deny, Cause: "attempts", Holder: "guard", Reason: "5 attempts in 10m",
					From: from, Until: from.Add(time.Hour), Attempts: attempts, Count: 1 + rng.IntN(2),
				}
				if i%30 == 0 {
					l.Cause = "escalation"
					l.Prefix, _ = a.Prefix(map[bool]int{true: 24, false: 48}[a.Is4()])
				} else {
					e.Onsets = append(e.Onsets, store.Onset{Prefix: l.Prefix, Begun: from, First: from.Add(-time.Duration(rng.IntN(90_000)) * time.Millisecond)})
				}
				e.Bans = append(e.Bans, l)
			}
		}
		for i, name := range hostile {
			attempts := 5 + i
			if i < 6 { // these are told by name
				attempts = 30 + i
			}
			e.Counts = append(e.Counts, store.Count{Day: date, Source: netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), User: name, Country: "<b>", Kind: "failed", Lines: 50, Attempts: attempts})
		}
		e.Counts = append(e.Counts,
			store.Count{Day: date, Kind: "closed", Country: "CN", Lines: 100, Attempts: 30}, // past the bound
			store.Count{Day: date, Source: netip.MustParseAddr("198.51.100.7"), User: "hanako", Country: "JP", Kind: "accepted", Lines: 2},
			store.Count{Day: date, Source: netip.MustParseAddr("2001:db8:7::"), User: "タロウ", Country: "JP", Kind: "accepted", Lines: 1})
		e.Logins = []sshlog.Login{
			{Addr: netip.MustParseAddr("198.51.100.7"), User: "hanako", Time: day},
			{Addr: netip.MustParseAddr(fmt.Sprintf("198.51.100.%d", 100+back%4)), User: "hanako", Time: day.Add(-time.Hour)},
			{Addr: netip.MustParseAddr("2001:db8:7::5"), User: "タロウ", Time: day.Add(-2 * time.Hour)},
		}
		if back%10 == 0 {
			e.Unbans = []store.Unban{{Prefix: netip.MustParsePrefix("45.0.0.0/32"), At: day.Add(-time.Minute), By: "root"}}
			e.Bans = append(e.Bans, lease.Lease{
				Prefix: netip.MustParsePrefix(fmt.Sprintf("192.0.2.%d/32", back)), Verdict: lease.Deny, Cause: "manual", Holder: "root", Reason: "<i>scans</i>", From: day.Add(-2 * time.Minute), Count: 1,
			})
		}
		packets := uint64(30-back) * 1000
		for i, c := range []store.RuleCount{
			{Chain: "raw", Rule: "banned IPv4 hosts", Drops: true, Packets: 3 * packets, Bytes: 180 * packets},
			{Chain: "raw", Rule: "banned IPv6 /64s", Drops: true, Packets: packets / 100, Bytes: packets},
			{Chain: "ssh", Rule: "not in JP", Drops: true, Packets: 5 * packets, Bytes: 300 * packets},
			{Chain: "ssh", Rule: "more than 2 new connections a minute (burst 5) from one address", Drops: true, Packets: packets / 7, Bytes: 60 * packets / 7},
			{Chain: "input", Rule: "everything else", Drops: true, Packets: packets / 2, Bytes: 40 * packets},
			{Chain: "ssh-pass", Rule: "let in to SSH", Packets: packets / 50, Bytes: packets},
		} {
			c.Day, c.Fresh = date, i > 0 || back < 29
			e.Rules = append(e.Rules, c)
		}
		commit(t, s, e)
	}
}

// made is the report of a store.
func made(t testing.TB, s Keeper, o Options) Report {
	t.Helper()
	if o.Now.IsZero() {
		o.Now = noon
	}
	if o.Places == nil {
		o.Places = places()
	}
	if o.Host == "" {
		o.Host = "web-1"
	}
	r, err := Make(t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
