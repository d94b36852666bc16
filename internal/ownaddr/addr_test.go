package ownaddr

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name   string
		family Family
		text   string
		want   string // an address, or part of an error
	}{
		{"an address", IPv4, "203.0.113.7", "203.0.113.7"},
		{"with a line's end", IPv4, "203.0.113.7\r\n", "203.0.113.7"},
		{"white space around it", IPv4, " \t\n203.0.113.7 \n\n", "203.0.113.7"},
		{"IPv6", IPv6, "2001:db8::7\n", "2001:db8::7"},
		{"IPv6 in capitals", IPv6, "2001:DB8:0:0::7\n", "2001:db8::7"},
		{"nothing", IPv4, "", "not one plain address"},
		{"white space", IPv4, " \n", "not one plain address"},
		{"a page", IPv4, "<html>\n<body>203.0.113.7</body></html>", "not one plain address"},
		{"a list, as of X-Forwarded-For", IPv4, "203.0.113.7, 198.51.100.6", "not one plain address"},
		{"two lines", IPv4, "203.0.113.7\n198.51.100.6\n", "not one plain address"},
		{"JSON", IPv4, `{"ip": "203.0.113.7"}`, "not one plain address"},
		{"a prefix", IPv4, "203.0.113.7/32", "not one plain address"},
		{"a wide prefix", IPv4, "0.0.0.0/0", "not one plain address"},
		{"a port", IPv4, "203.0.113.7:80", "not one plain address"},
		{"brackets", IPv6, "[2001:db8::7]", "not one plain address"},
		{"leading zeros", IPv4, "203.0.113.007", "not one plain address"},
		{"short for 127.0.0.1", IPv4, "127.1", "not one plain address"},
		{"a number", IPv4, "3405803783", "not one plain address"},
		{"mapped", IPv6, "::ffff:203.0.113.7", "not one plain address"},
		{"mapped, for IPv4", IPv4, "::ffff:203.0.113.7", "not one plain address"},
		{"a zone", IPv6, "2001:db8::7%eth0", "not one plain address"},
		{"a zero byte", IPv4, "203.0.113.7\x00", "not one plain address"},
		{"the other family", IPv4, "2001:db8::7", "not IPv4"},
		{"the other family's", IPv6, "203.0.113.7", "not IPv6"},
		{"private", IPv4, "192.168.1.7", "nobody's"},
		{"a carrier's", IPv4, "100.64.0.7", "nobody's"},
		{"loopback", IPv4, "127.0.0.1", "nobody's"},
		{"all", IPv4, "0.0.0.0", "nobody's"},
		{"all of IPv6", IPv6, "::", "nobody's"},
		{"link-local", IPv6, "fe80::7", "nobody's"},
		{"unique local", IPv6, "fd00::7", "nobody's"},
		{"as long as may be", IPv4, "203.0.113.7" + strings.Repeat(" ", maxAnswer-11), "203.0.113.7"},
		{"longer", IPv4, "203.0.113.7" + strings.Repeat(" ", maxAnswer-10), "more than 256 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parse(tt.family, []byte(tt.text))
			if err != nil {
				if _, wrong := netip.ParseAddr(tt.want); wrong == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("error %v, want %q", err, tt.want)
				}
				if strings.ContainsAny(err.Error(), "\n\x00") || len(err.Error()) > 200 {
					t.Errorf("the error is not fit to be shown: %q", err)
				}
				return
			}
			if got.String() != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"203.0.113.7\n", "2001:db8::7", "::ffff:203.0.113.7", "fe80::1%eth0", "1.2.3.4, 5.6.7.8", "<html>", "10.0.0.1", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, family := range []Family{IPv4, IPv6} {
			a, err := parse(family, []byte(text))
			if err != nil {
				if a.IsValid() {
					t.Fatalf("%s, and an error: %v", a, err)
				}
				continue
			}
			if FamilyOf(a) != family || a.Is4In6() || a.Zone() != "" || !Public(a) || a.IsLoopback() || a.IsPrivate() || a.IsUnspecified() {
				t.Fatalf("%q of %s is %s", text, family, a)
			}
			if again, err := parse(family, []byte(a.String())); err != nil || again != a {
				t.Fatalf("%s is %s, %v, the second time", a, again, err)
			}
			if words := strings.Fields(text); len(words) != 1 {
				t.Fatalf("%q has %d words", text, len(words))
			}
		}
	})
}

func TestPublic(t *testing.T) {
	for _, tt := range []struct {
		name  string
		addrs string
		want  bool
	}{
		{"the internet's", "8.8.8.8 1.1.1.1 223.255.255.254 2606:4700::1111 2001:4860:4860::8888", true},
		{"documentation", "192.0.2.1 198.51.100.1 203.0.113.1 2001:db8::1 3fff::1", true},
		{"an IPv4 address in IPv6's form", "::ffff:8.8.8.8", true},
		{"private", "10.0.0.1 172.16.0.1 172.31.255.255 192.168.0.1 fc00::1 fd12::1 ::ffff:10.0.0.1", false},
		{"beside private", "172.15.255.255 172.32.0.0 11.0.0.0 192.169.0.0 100.63.255.255 100.128.0.0", true},
		{"a carrier's", "100.64.0.0 100.127.255.255", false},
		{"this machine's", "127.0.0.1 127.255.0.1 ::1 0.0.0.0 0.1.2.3 ::", false},
		{"link-local", "169.254.169.254 fe80::1 fec0::1", false},
		{"multicast and beyond", "224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 ff02::1", false},
		{"relayed: 6to4, Teredo, and what is beside", "192.88.99.1 2002:808:808::1 2001::1 2001:20::1", false},
		{"beside what is relayed", "192.88.98.1 2001:200::1 2003::1", true},
		{"translated, discarded, reserved", "64:ff9b::1 100::1 4000::1 198.18.0.1 192.0.0.8", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for a := range strings.FieldsSeq(tt.addrs) {
				if got := Public(netip.MustParseAddr(a)); got != tt.want {
					t.Errorf("%s: got %v", a, got)
				}
			}
		})
	}
	if Public(netip.Addr{}) {
		t.Error("no address is public")
	}
}

func TestDistinct(t *testing.T) {
	var in, want []netip.Addr
	for _, s := range []string{"2001:db8::1", "203.0.113.1", "::ffff:203.0.113.1", "fe80::1%eth0", "fe80::1%eth1", "2001:db8::1", "198.51.100.1"} {
		in = append(in, netip.MustParseAddr(s))
	}
	for _, s := range []string{"2001:db8::1", "203.0.113.1", "fe80::1", "198.51.100.1"} {
		want = append(want, netip.MustParseAddr(s))
	}
	if d := cmp.Diff(want, distinct(in), cmpopts.EquateComparable(netip.Addr{})); d != "" {
		t.Error(d)
	}
}

func TestResolve(t *testing.T) {
	for _, tt := range []struct{ name, host, want string }{
		{"an address", "203.0.113.7", "203.0.113.7"},
		{"of IPv6", "2001:db8::7", "2001:db8::7"},
		{"mapped", "::ffff:203.0.113.7", "203.0.113.7"},
		{"with a zone", "fe80::7%eth0", "fe80::7"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Resolve(t.Context(), tt.host)
			if err != nil || len(got) != 1 || got[0].String() != tt.want {
				t.Errorf("got %v, %v, want %s", got, err, tt.want)
			}
		})
	}
	if got, err := Resolve(t.Context(), ""); err == nil {
		t.Errorf("got %v for no name", got)
	}
	if got, err := Resolve(t.Context(), "localhost"); err != nil || !got[0].IsLoopback() {
		t.Errorf("localhost: got %v, %v", got, err)
	}
	if got, err := Resolve(t.Context(), "no-such-host.invalid"); err == nil || !strings.Contains(err.Error(), "no-such-host.invalid") {
		t.Errorf("got %v, %v", got, err)
	}
}
