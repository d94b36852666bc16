package country

import (
	"fmt"
	"strings"
	"testing"
)

// ofSize has n ranges of JP of 2^bits IPv4 addresses each, and one IPv6 prefix.
func ofSize(t *testing.T, n, bits int, v6 string) *Data {
	t.Helper()
	var b strings.Builder
	for i := range n {
		first := number{0, 1<<24 + uint64(i)<<(bits+1)}
		fmt.Fprintf(&b, "JP\t%s/%d\n", first.addr(v4), 32-bits)
	}
	if v6 != "" {
		fmt.Fprintf(&b, "JP\t%s\n", v6)
	}
	b.WriteString("US\t8.0.0.0/8\n")
	return data(t, build(t, b.String()), Meta{})
}

func TestCheck(t *testing.T) {
	tests := []struct {
		name        string
		last, fresh *Data
		snapshot    bool
		want        string // a part of the reason; empty: accepted
	}{
		{"the same", ofSize(t, 1000, 12, "2400::/20"), ofSize(t, 1000, 12, "2400::/20"), false, ""},
		{"39 % fewer", ofSize(t, 1000, 12, ""), ofSize(t, 610, 12, ""), false, ""},
		{"41 % fewer", ofSize(t, 1000, 12, ""), ofSize(t, 590, 12, ""), false, "JP: 41 % fewer IPv4 addresses (2416640, before 4096000); at most 40 % are believed"},
		{"49 % more", ofSize(t, 1000, 12, ""), ofSize(t, 1490, 12, ""), false, ""},
		{"51 % more", ofSize(t, 1000, 12, ""), ofSize(t, 1510, 12, ""), false, "JP: 51 % more IPv4 addresses"},
		{"fewer, over the snapshot", ofSize(t, 1000, 12, ""), ofSize(t, 590, 12, ""), true, "JP: 41 % fewer IPv4"},
		{"as many in fewer ranges", ofSize(t, 1000, 12, ""), ofSize(t, 62, 16, ""), false, "JP: too few ranges (62, before 1000)"},
		{"a few ranges fewer", ofSize(t, 101, 12, ""), ofSize(t, 98, 12, ""), false, ""},
		{"nothing left", ofSize(t, 1000, 12, ""), ofSize(t, 0, 12, ""), false, "JP: there is no address in it"},
		{"an island", ofSize(t, 3, 8, ""), ofSize(t, 2, 8, ""), false, ""},
		{"an island, suddenly large", ofSize(t, 3, 8, ""), ofSize(t, 300, 12, ""), false, "more IPv4 addresses"},
		{"IPv6 is gone", ofSize(t, 1000, 12, "2400::/20"), ofSize(t, 1000, 12, ""), false, "100 % fewer IPv6"},
		{"IPv6 is gone, over the snapshot", ofSize(t, 1000, 12, "2400::/20"), ofSize(t, 1000, 12, ""), true, "100 % fewer IPv6"},
		{"half of IPv6", ofSize(t, 1000, 12, "2400::/20"), ofSize(t, 1000, 12, "2400::/21"), false, "50 % fewer IPv6"},
		{"half of IPv6, over the snapshot", ofSize(t, 1000, 12, "2400::/20"), ofSize(t, 1000, 12, "2400::/21"), true, ""},
		{"twice the IPv6", ofSize(t, 1000, 12, "2400::/21"), ofSize(t, 1000, 12, "2400::/20"), false, "100 % more IPv6"},
		{"twice the IPv6, over the snapshot", ofSize(t, 1000, 12, "2400::/21"), ofSize(t, 1000, 12, "2400::/20"), true, ""},
		{"IPv6 is new", ofSize(t, 1000, 12, ""), ofSize(t, 1000, 12, "2400::/20"), false, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			last := *test.last
			last.Embedded = test.snapshot
			err := Needs{Allow: []Code{code("JP")}}.check(&last, test.fresh)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("check() = %v, want %q", err, test.want)
			}
			if err := (Needs{Allow: []Code{code("JP")}, Force: true}).check(&last, test.fresh); err != nil {
				t.Errorf("forced: %v", err)
			}
		})
	}
}
