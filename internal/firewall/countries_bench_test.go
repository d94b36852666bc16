package firewall

import (
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"go4.org/netipx"

	countries "sekisho/internal/country"
	"sekisho/internal/prefixset"
)

// country is like a country's addresses: n4 and n6 ranges, scattered, and others for
// each seed.
func country(tb testing.TB, n4, n6, seed int) prefixset.Set {
	tb.Helper()
	var b netipx.IPSetBuilder
	for i := range n4 {
		first := uint32(1<<24 + i*4096 + seed*256)
		b.AddPrefix(netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(first >> 24), byte(first >> 16), byte(first >> 8), 0}), 22+i%3))
	}
	for i := range n6 {
		b.AddPrefix(netip.PrefixFrom(netip.AddrFrom16([16]byte{0x24, byte(seed), byte(i >> 16), byte(i >> 8), byte(i), 0x80}), 48))
	}
	s, err := b.IPSet()
	if err != nil {
		tb.Fatal(err)
	}
	set, err := prefixset.OfRanges(s.Ranges()...)
	if err != nil {
		tb.Fatal(err)
	}
	return set
}

func BenchmarkSetCountriesJP(b *testing.B)   { benchCountries(b, japans(b)) }
func BenchmarkSetCountries200k(b *testing.B) { benchCountries(b, twoOf(b, 120_000, 80_000)) }

// japans is Japan's addresses, and nearly those: both families differ.
func japans(b *testing.B) []prefixset.Set {
	jp := embedded(b, countries.Code{'J', 'P'})
	return []prefixset.Set{jp, jp.Union(setOf(b, "198.51.100.0/24", "2001:db8::/48"))}
}

func twoOf(b *testing.B, n4, n6 int) []prefixset.Set {
	return []prefixset.Set{country(b, n4, n6, 0), country(b, n4, n6, 1)}
}

func benchCountries(b *testing.B, sets []prefixset.Set) {
	k := newKernel(b, newNamespace(b))
	r := publicFor(b, 7, []string{"JP"})
	r.Countries = sets[0]
	if err := k.Ensure(b.Context(), stateOf(r)); err != nil {
		b.Fatal(err)
	}
	debug.FreeOSMemory()
	b.ReportAllocs()
	for i := 1; b.Loop(); i++ {
		if err := k.SetCountries(b.Context(), sets[i%2]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(resident(b), "RSS-MB")
	if missing, err := k.Intact(b.Context()); err != nil || len(missing) > 0 {
		b.Fatal(missing, err)
	}
}

// resident is the most that this process ever had in memory.
func resident(tb testing.TB) float64 {
	tb.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := time.ParseDuration(strings.Fields(rest)[0] + "ns")
			if err != nil {
				tb.Fatal(err)
			}
			return float64(kb) / 1024
		}
	}
	return 0
}

func BenchmarkIntact200k(b *testing.B) {
	k := newKernel(b, newNamespace(b))
	r := publicFor(b, 7, []string{"JP"})
	r.Countries = country(b, 120_000, 80_000, 0)
	if err := k.Ensure(b.Context(), stateOf(r)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if missing, err := k.Intact(b.Context()); err != nil || len(missing) > 0 {
			b.Fatal(missing, err)
		}
	}
}

func BenchmarkBanDuringSwapJP(b *testing.B)   { benchBanDuringSwap(b, japans(b)) }
func BenchmarkBanDuringSwap200k(b *testing.B) { benchBanDuringSwap(b, twoOf(b, 120_000, 80_000)) }

// benchBanDuringSwap is a ban while country sets are swapped without a pause.
func benchBanDuringSwap(b *testing.B, sets []prefixset.Set) {
	k := newKernel(b, newNamespace(b))
	r := publicFor(b, 7, []string{"JP"})
	r.Countries = sets[0]
	if err := k.Ensure(b.Context(), stateOf(r)); err != nil {
		b.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan error)
	go func() {
		for i := 1; ; i++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if err := k.SetCountries(b.Context(), sets[i%2]); err != nil {
				done <- err
				return
			}
		}
	}()
	runtime.GC()
	var took []time.Duration
	one := make([]Ban, 1)
	for i := 0; b.Loop(); i++ {
		one[0] = Ban{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32), time.Hour}
		start := time.Now()
		if err := k.Ban(b.Context(), one); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
		<-time.After(time.Millisecond)
	}
	close(stop)
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2].Seconds()*1e3, "p50-ms")
	b.ReportMetric(took[len(took)*99/100].Seconds()*1e3, "p99-ms")
	b.ReportMetric(took[len(took)-1].Seconds()*1e3, "max-ms")
	b.ReportMetric(0, "ns/op")
}
