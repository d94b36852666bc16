package country

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sekisho/internal/prefixset"
)

func code(s string) Code { return Code([]byte(s)) }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// build reads text and makes a table of it.
func build(t testing.TB, text string) *Table {
	t.Helper()
	var b Builder
	if _, err := b.Read(strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	table, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// data is a table in its compact form.
func data(t testing.TB, table *Table, meta Meta) *Data {
	t.Helper()
	content, err := table.Encode(meta)
	if err != nil {
		t.Fatal(err)
	}
	d, err := Open(content)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// ranges are all of d's: "JP 133.0.0.0-133.255.255.255".
func ranges(t testing.TB, d *Data) (out []string) {
	t.Helper()
	for _, c := range d.Codes() {
		set, err := d.Set(c)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range set.Ranges() {
			out = append(out, fmt.Sprintf("%s %s", c, r))
		}
	}
	return out
}

func TestTable(t *testing.T) {
	tests := []struct {
		name string
		csv  string
		want []string
	}{
		{"neighbours join", "1.0.0.0,1.0.0.255,JP\n1.0.1.0,1.0.1.255,JP\n", []string{"JP 1.0.0.0-1.0.1.255"}},
		{"in any order", "1.0.1.0,1.0.1.255,JP\n1.0.0.0,1.0.0.255,KR\n", []string{"JP 1.0.1.0-1.0.1.255", "KR 1.0.0.0-1.0.0.255"}},
		{"twice the same", "1.0.0.0,1.0.0.255,JP\n1.0.0.0,1.0.0.255,JP\n", []string{"JP 1.0.0.0-1.0.0.255"}},
		{
			"the narrower one is believed",
			"1.0.0.0,1.0.0.255,JP\n1.0.0.64,1.0.0.127,KR\n",
			[]string{"JP 1.0.0.0-1.0.0.63", "JP 1.0.0.128-1.0.0.255", "KR 1.0.0.64-1.0.0.127"},
		},
		{"of two alike the first", "1.0.0.0,1.0.0.255,KR\n1.0.0.0,1.0.0.255,JP\n", []string{"KR 1.0.0.0-1.0.0.255"}},
		{
			"crossing",
			"1.0.0.0,1.0.0.99,JP\n1.0.0.50,1.0.0.255,KR\n",
			[]string{"JP 1.0.0.0-1.0.0.99", "KR 1.0.0.100-1.0.0.255"},
		},
		{"private addresses are nobody's", "9.255.255.0,11.0.0.255,US\n", []string{"US 9.255.255.0-9.255.255.255", "US 11.0.0.0-11.0.0.255"}},
		{"UK is GB", "1.0.0.0,1.0.0.255,UK\n", []string{"GB 1.0.0.0-1.0.0.255"}},
		{"nobody knows", "1.0.0.0,1.0.0.255,ZZ\n1.0.1.0,1.0.1.255,??\n1.0.2.0,1.0.2.255,EU\n", []string{"EU 1.0.2.0-1.0.2.255"}},
		{"numbers", "16777216,16777471,JP\n42540528726795050063891204319802818560,42540528806023212578155541913346768895,JP\n", []string{"JP 1.0.0.0-1.0.0.255", "JP 2001:200::-2001:200:ffff:ffff:ffff:ffff:ffff:ffff"}},
		{"to the ends", "223.255.255.255,223.255.255.255,AU\n3ffe:ffff::,3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff,AU\n", []string{"AU 223.255.255.255-223.255.255.255", "AU 3ffe:ffff::-3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := ranges(t, data(t, build(t, test.csv), Meta{}))
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("ranges (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTableRefuses(t *testing.T) {
	var contradictions, nested strings.Builder
	for i := range 101 {
		fmt.Fprintf(&contradictions, "1.0.%d.0,1.0.%d.255,JP\n1.0.%d.0,1.0.%d.255,KR\n", i, i, i, i)
		fmt.Fprintf(&nested, "1.0.0.%d,1.0.0.%d,JP\n", i, 255-i)
	}
	tests := []struct{ name, csv, want string }{
		{"contradictions", contradictions.String(), "101 of 202 entries contradict others"},
		{"a deep nest", nested.String(), "too many entries inside of each other"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var b Builder
			if _, err := b.Read(strings.NewReader(test.csv)); err != nil {
				t.Fatal(err)
			}
			if _, err := b.Table(); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Table() = %v, want %q", err, test.want)
			}
		})
	}
}

// Whatever the entries are: each address belongs to the narrowest of those around
// it, the one read first of two alike; in the table, and in its compact form.
func TestTableHoldsToModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := rapid.SampledFrom([]string{"1.0.0.0", "2400::", "2400::ffff:ffff:ffff:ff80"}).Draw(t, "base")
		at := func(i int) netip.Addr {
			a, f := addr(base), familyOf(addr(base))
			n, _ := numberOf(a).add(number{0, uint64(i)})
			return n.addr(f)
		}
		var want [256]Code
		var width [256]int
		var b Builder
		for range rapid.IntRange(0, 12).Draw(t, "entries") {
			first := rapid.IntRange(0, 255).Draw(t, "first")
			last := rapid.IntRange(first, 255).Draw(t, "last")
			c := code(rapid.SampledFrom([]string{"JP", "KR", "US"}).Draw(t, "code"))
			if err := b.add(c, at(first), at(last)); err != nil {
				t.Fatal(err)
			}
			for i := first; i <= last; i++ {
				if w := last - first + 1; width[i] == 0 || w < width[i] {
					want[i], width[i] = c, w
				}
			}
		}
		table, err := b.Table()
		if err != nil {
			t.Fatal(err)
		}
		content, err := table.Encode(Meta{})
		if err != nil {
			t.Fatal(err)
		}
		d, err := Open(content)
		if err != nil {
			t.Fatal(err)
		}
		sets := make(map[Code]prefixset.Set)
		for _, c := range []Code{code("JP"), code("KR"), code("US")} {
			if sets[c], err = d.Set(c); err != nil {
				t.Fatal(err)
			}
		}
		for i := range want {
			got, r, ok, err := d.Lookup(at(i))
			if err != nil || ok != (want[i] != Code{}) || got != want[i] || ok && !r.Contains(at(i)) {
				t.Fatalf("Lookup(%s) = %s in %s, %v, %v; want %s", at(i), got, r, ok, err, want[i])
			}
			for c, set := range sets {
				if set.Contains(at(i)) != (want[i] == c) {
					t.Fatalf("Set(%s).Contains(%s) = %v", c, at(i), set.Contains(at(i)))
				}
			}
		}
	})
}

// Any number of addresses from anywhere is covered exactly, however many prefixes
// it takes.
func TestRangesToPrefixes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first := rapid.Uint32Range(0x01000000, 0x08000000).Draw(t, "first")
		count := rapid.Uint32Range(1, 1<<24).Draw(t, "count")
		text := fmt.Sprintf("2|apnic|x|1|x|20260101|+0\napnic|JP|ipv4|%s|%d|20200101|allocated\n", number{0, uint64(first)}.addr(v4), count)
		var b Builder
		if _, err := b.Read(strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		table, err := b.Table()
		if err != nil {
			t.Fatal(err)
		}
		content, err := table.Encode(Meta{})
		if err != nil {
			t.Fatal(err)
		}
		d, err := Open(content)
		if err != nil {
			t.Fatal(err)
		}
		set, err := d.Set(code("JP"))
		if err != nil {
			t.Fatal(err)
		}
		next := uint64(first)
		for _, p := range set.Prefixes() {
			if got := numberOf(p.Addr()).lo; got != next {
				t.Fatalf("%s begins at %d, want %d", p, got, next)
			}
			next += 1 << (32 - p.Bits())
		}
		if next != uint64(first)+uint64(count) {
			t.Fatalf("the prefixes end at %d, want %d", next, uint64(first)+uint64(count))
		}
	})
}

func TestCoarse(t *testing.T) {
	tests := []struct {
		name string
		csv  string
		want []string
	}{
		{"whole blocks stay", "1.0.0.0,1.0.1.255,JP\n", []string{"JP 1.0.0.0-1.0.1.255"}},
		{"a hole goes to whom the most of it is", "1.0.0.0,1.0.0.255,JP\n1.0.0.0,1.0.0.7,KR\n", []string{"JP 1.0.0.0-1.0.0.255"}},
		{"the most may be in pieces", "1.0.0.0,1.0.0.79,JP\n1.0.0.80,1.0.0.179,KR\n1.0.0.180,1.0.0.255,JP\n", []string{"JP 1.0.0.0-1.0.0.255"}},
		{"a part is the whole", "1.0.0.16,1.0.0.31,JP\n", []string{"JP 1.0.0.0-1.0.0.255"}},
		{
			"begins and ends within blocks",
			"1.0.0.128,1.0.3.127,JP\n1.0.3.128,1.0.3.255,KR\n1.0.4.0,1.0.4.255,KR\n",
			[]string{"JP 1.0.0.0-1.0.3.255", "KR 1.0.4.0-1.0.4.255"},
		},
		{
			"begins where another ends",
			"1.0.0.0,1.0.1.99,JP\n1.0.1.100,1.0.2.255,KR\n",
			[]string{"JP 1.0.0.0-1.0.0.255", "KR 1.0.1.0-1.0.2.255"},
		},
		{"IPv6", "2400::,2400::ffff,KR\n2400:0:0:1::,2400:0:1:ffff:ffff:ffff:ffff:ffff,JP\n", []string{"JP 2400::-2400:0:1:ffff:ffff:ffff:ffff:ffff"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := ranges(t, data(t, build(t, test.csv).Coarse(24, 48), Meta{}))
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("ranges (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDrop(t *testing.T) {
	table := build(t, "1.0.0.0,1.0.3.255,AU\n1.0.4.0,1.0.4.255,JP\n")
	table.Drop(code("AU"), netip.MustParsePrefix("1.0.1.0/24"), netip.MustParsePrefix("1.0.4.0/24"))
	want := []string{"AU 1.0.0.0-1.0.0.255", "AU 1.0.2.0-1.0.3.255", "JP 1.0.4.0-1.0.4.255"}
	if diff := cmp.Diff(want, ranges(t, data(t, table, Meta{}))); diff != "" {
		t.Errorf("ranges (-want +got):\n%s", diff)
	}
}
