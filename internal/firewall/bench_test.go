package firewall

import (
	"net/netip"
	"runtime"
	"testing"
	"time"
)

// hostBans are n bans of different IPv4 hosts.
func hostBans(n int) []Ban {
	bans := make([]Ban, n)
	for i := range bans {
		bans[i] = Ban{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32), time.Hour}
	}
	return bans
}

func benchKernel(b *testing.B) *Kernel {
	k := newKernel(b, newNamespace(b))
	if err := k.Ensure(b.Context(), everything); err != nil {
		b.Fatal(err)
	}
	return k
}

// BenchmarkBanOne is one ban of a new address, as an attack makes it.
func BenchmarkBanOne(b *testing.B) {
	k := benchKernel(b)
	b.ReportAllocs()
	one := make([]Ban, 1)
	for i := 0; b.Loop(); i++ {
		one[0] = Ban{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32), time.Hour}
		if err := k.Ban(b.Context(), one); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBanAgain is one ban of an address that is banned already.
func BenchmarkBanAgain(b *testing.B) {
	k := benchKernel(b)
	b.ReportAllocs()
	one := hostBans(1)
	for b.Loop() {
		if err := k.Ban(b.Context(), one); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBanNet is one ban of a prefix beside 1,000 others.
func BenchmarkBanNet(b *testing.B) {
	k := benchKernel(b)
	bans := make([]Ban, 1000)
	for i := range bans {
		bans[i] = Ban{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24), time.Hour}
	}
	if err := k.Ban(b.Context(), bans); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := k.Ban(b.Context(), []Ban{{bans[i%1000].Prefix, time.Hour + time.Duration(i)*time.Second}}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBan10k(b *testing.B)  { benchLoad(b, 10_000) }
func BenchmarkBan100k(b *testing.B) { benchLoad(b, 100_000) }

func benchLoad(b *testing.B, n int) {
	k := benchKernel(b)
	bans := hostBans(n)
	b.ReportAllocs()
	for b.Loop() {
		if err := k.Ban(b.Context(), bans); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := k.Remove(b.Context()); err != nil {
			b.Fatal(err)
		}
		if err := k.Ensure(b.Context(), everything); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkBan100kAgain loads 100,000 bans where all of them are: a restart.
func BenchmarkBan100kAgain(b *testing.B) {
	k := benchKernel(b)
	bans := hostBans(100_000)
	if err := k.Ban(b.Context(), bans); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := k.Ban(b.Context(), bans); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBans100k reads 100,000 bans back.
func BenchmarkBans100k(b *testing.B) {
	k := benchKernel(b)
	if err := k.Ban(b.Context(), hostBans(100_000)); err != nil {
		b.Fatal(err)
	}
	runtime.GC()
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		if err := k.Bans(b.Context(), func(Ban) error { n++; return nil }); err != nil {
			b.Fatal(err)
		}
		if n != 100_000 {
			b.Fatalf("got %d bans", n)
		}
	}
}

func BenchmarkIntact(b *testing.B) {
	k := benchKernel(b)
	b.ReportAllocs()
	for b.Loop() {
		if missing, err := k.Intact(b.Context()); err != nil || len(missing) > 0 {
			b.Fatal(missing, err)
		}
	}
}
