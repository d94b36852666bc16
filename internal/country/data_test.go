package country

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"
	"time"
)

// The embedded snapshot is whole, known, and about the size that the world has.
func TestEmbedded(t *testing.T) {
	if _, err := Open(snapshot); err != nil {
		t.Fatal(err)
	}
	d, err := Embedded()
	if err != nil {
		t.Fatal(err)
	}
	if !d.Embedded || d.Time.Before(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)) || d.Notice == "" {
		t.Errorf("meta: %+v", d.Meta)
	}
	if len(snapshot) > 900<<10 {
		t.Errorf("the snapshot has %d bytes", len(snapshot))
	}
	countries := 0
	for _, c := range d.Codes() {
		set, err := d.Set(c)
		if err != nil {
			t.Fatal(err)
		}
		v4, v6 := d.Count(c)
		if len(set.Ranges()) != v4+v6 || set.IsEmpty() || c.Name() == "" {
			t.Errorf("%s: %d ranges, counted %d and %d", c, len(set.Ranges()), v4, v6)
		}
		countries++
	}
	if countries < 240 {
		t.Errorf("%d countries", countries)
	}
	jp, err := d.Set(code("JP"))
	if err != nil {
		t.Fatal(err)
	}
	if v4, _ := jp.Size(); v4 < 100_000_000 || v4 > 300_000_000 {
		t.Errorf("JP has %d IPv4 addresses", v4)
	}
	// The registries' own and well-known networks.
	for a, want := range map[string]string{
		"133.11.0.1":        "JP", // the University of Tokyo
		"202.12.27.33":      "JP", // m.root-servers.net
		"240b:10::1":        "JP",
		"8.8.8.8":           "US",
		"193.0.6.139":       "NL", // ripe.net
		"114.114.114.114":   "CN",
		"2001:4860:4860::1": "US",
		"10.1.2.3":          "",
		"::1":               "",
		"ff02::1":           "",
		// The data set says AU here, which is wrong: it is KDDI's, in Japan.
		"2001:268::1": "",
	} {
		got, r, ok, err := d.Lookup(addr(a))
		if err != nil || ok != (want != "") || ok && (got.String() != want || !r.Contains(addr(a))) {
			t.Errorf("Lookup(%s) = %s in %s, %v, %v; want %q", a, got, r, ok, err, want)
		}
	}
	if _, _, ok, err := d.Lookup(addr("::ffff:133.11.0.1")); !ok || err != nil {
		t.Errorf("an IPv4 address written as IPv6 is not found: %v", err)
	}
}

func TestSetOfSeveral(t *testing.T) {
	d := data(t, build(t, "1.0.0.0,1.0.0.255,JP\n1.0.1.0,1.0.1.255,KR\n1.0.2.0,1.0.2.255,US\n"), Meta{})
	set, err := d.Set(code("KR"), code("JP"), code("JP"), code("QQ"))
	if err != nil {
		t.Fatal(err)
	}
	if got := set.Prefixes(); len(got) != 1 || got[0].String() != "1.0.0.0/23" {
		t.Errorf("Set() = %v", got)
	}
	if empty, err := d.Set(code("QQ")); err != nil || !empty.IsEmpty() {
		t.Errorf("an unknown country has %v, %v", empty.Ranges(), err)
	}
}

// Any byte changed, any length: it is seen.
func TestOpenDamaged(t *testing.T) {
	content, err := build(t, apnicList).Encode(Meta{Source: "test"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range content {
		if _, err := Open(content[:i]); !errors.Is(err, errDamaged) {
			t.Fatalf("cut at %d: %v", i, err)
		}
		bad := bytes.Clone(content)
		bad[i] ^= 0x10
		if _, err := Open(bad); !errors.Is(err, errDamaged) {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
}

const apnicList = "1.0.0.0,1.0.0.255,JP\n1.0.1.0,1.0.1.255,KR\n2400::,2400:0:ffff:ffff:ffff:ffff:ffff:ffff,JP\n"

// What somebody made on purpose, checksum and all, neither crashes nor fills the
// memory, and what can be read is in order.
func FuzzOpen(f *testing.F) {
	content, err := build(f, apnicList).Encode(Meta{Source: "test"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content[:len(content)-sha256.Size])
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, body []byte) {
		sum := sha256.Sum256(body)
		d, err := Open(append(bytes.Clone(body), sum[:]...))
		if err != nil {
			return
		}
		for _, s := range d.index {
			both, err := s.spans()
			if err != nil {
				continue
			}
			for _, spans := range both {
				for i, s := range spans {
					if s.last.less(s.first) || i > 0 && !spans[i-1].last.less(s.first) {
						t.Fatalf("spans out of order: %v", spans)
					}
				}
			}
		}
	})
}

func BenchmarkEmbeddedSetJP(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		d, err := Embedded()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := d.Set(Code{'J', 'P'}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEmbeddedLookup(b *testing.B) {
	a := addr("133.11.0.1")
	b.ReportAllocs()
	for b.Loop() {
		d, err := Embedded()
		if err != nil {
			b.Fatal(err)
		}
		if _, _, ok, err := d.Lookup(a); !ok || err != nil {
			b.Fatal(err)
		}
	}
}
