package report

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"sekisho/internal/country"
)

func embedded(t testing.TB) *country.Data {
	data, err := country.NewUpdater(country.Options{StateDir: t.TempDir()}).Load()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Each answer is that of the data.
func TestPlaces(t *testing.T) {
	data := embedded(t)
	p, err := NewPlaces(data)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d and %d stretches", len(p.v4.from), len(p.v6.from))
	addrs := []netip.Addr{
		{}, netip.MustParseAddr("0.0.0.0"), netip.MustParseAddr("255.255.255.255"), netip.MustParseAddr("::"), netip.MustParseAddr("ffff:ffff::ffff"),
		netip.MustParseAddr("::ffff:133.242.0.1"), netip.MustParseAddr("127.0.0.1"),
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], rng.Uint32())
		addrs = append(addrs, netip.AddrFrom4(b))
		var c [16]byte
		binary.BigEndian.PutUint64(c[:8], 0x2000<<48|rng.Uint64()>>4)
		addrs = append(addrs, netip.AddrFrom16(c))
	}
	known := 0
	for _, a := range addrs {
		want := ""
		code, _, ok, err := data.Lookup(a)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			want = code.String()
			known++
		}
		if got := p.Country(a); got != want {
			t.Errorf("%v: got %q, want %q", a, got, want)
		}
	}
	if known < 40 {
		t.Errorf("only %d of %d are anybody's", known, len(addrs))
	}
	if got := (*Places)(nil).Country(addrs[1]); got != "" {
		t.Errorf("nobody knows, but %q", got)
	}
}

func BenchmarkPlaces(b *testing.B) {
	data := embedded(b)
	b.Run("new", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := NewPlaces(data); err != nil {
				b.Fatal(err)
			}
		}
	})
	p, err := NewPlaces(data)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("one", func(b *testing.B) {
		var n uint32
		for b.Loop() {
			n += 2654435761
			p.Country(netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}))
		}
	})
}
