package rdap

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestOriginName(t *testing.T) {
	for _, tt := range []struct{ addr, want string }{
		{"192.0.2.7", "7.2.0.192.origin.asn.cymru.com."},
		{"2001:db8:1234:5678:9abc::1", "8.7.6.5.4.3.2.1.8.b.d.0.1.0.0.2.origin6.asn.cymru.com."},
	} {
		if got := originName(addr(tt.addr)); got != tt.want {
			t.Errorf("originName(%s) = %s, want %s", tt.addr, got, tt.want)
		}
	}
}

func TestParseOrigin(t *testing.T) {
	for _, tt := range []struct {
		name  string
		texts []string
		want  origin
	}{
		{"one", []string{"64496 | 192.0.2.0/24 | JP | apnic | 2001-02-03"}, origin{prefix: pfx("192.0.2.0/24"), asn: 64496, country: "JP"}},
		{"of two systems", []string{"64496 64497 | 192.0.2.0/24 | JP | apnic | "}, origin{prefix: pfx("192.0.2.0/24"), asn: 64496, country: "JP"}},
		{"the narrowest", []string{"64496 | 192.0.0.0/16 | JP | apnic | ", "64497 | 192.0.2.0/24 | DE | ripencc | ", "64498 | 192.0.0.0/20 | US | arin | "}, origin{prefix: pfx("192.0.2.0/24"), asn: 64497, country: "DE"}},
		{"no country", []string{"64496 | 192.0.2.0/24 |  | other | "}, origin{prefix: pfx("192.0.2.0/24"), asn: 64496}},
		{"of another network", []string{"64496 | 198.51.100.0/24 | JP | apnic | "}, origin{}},
		{"of everything", []string{"64496 | 0.0.0.0/0 | JP | apnic | "}, origin{}},
		{"no number", []string{"NA | 192.0.2.0/24 | JP | apnic | ", "0 | 192.0.2.0/24 | JP | apnic | ", "99999999999 | 192.0.2.0/24 | JP | apnic | "}, origin{}},
		{"other text", []string{"v=spf1 -all", "", "||||", " | | | "}, origin{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := parseOrigin(tt.texts, addr("192.0.2.7"))
			if got != tt.want || ok != (tt.want != origin{}) {
				t.Errorf("got %+v, %v, want %+v", got, ok, tt.want)
			}
		})
	}
}

func FuzzOrigin(f *testing.F) {
	f.Add("64496 64497 | 192.0.2.0/24 | JP | apnic | 2001-02-03")
	f.Add("64496 | JP | apnic | 2001-02-03 | EXAMPLE ~!x\x1b[2J, JP")
	f.Fuzz(func(t *testing.T, s string) {
		a := addr("192.0.2.7")
		if o, ok := parseOrigin(strings.Split(s, "\n"), a); ok && (o.asn == 0 || !o.prefix.Contains(a) || o.prefix != o.prefix.Masked()) {
			t.Errorf("%+v", o)
		}
		if name := parseASName([]string{s}, 64496); utf8.RuneCountInString(name) > maxText || strings.ContainsAny(name, "\r\n\x1b") {
			t.Errorf("%q", name)
		}
	})
}

func TestOrigin(t *testing.T) {
	d := newDNS(t)
	d.text("7.2.0.192.origin.asn.cymru.com", "64496 | 192.0.2.0/24 | JP | apnic | 2001-02-03")
	d.text("as64496.asn.cymru.com", "64497 | JP | apnic | 2001-02-03 | OTHER", "64496 | JP | apnic | 2001-02-03 | EXAMPLE-AS Example\x1b[2J | Inc., JP")
	d.text("0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.origin6.asn.cymru.com", "64500 | 2001:db8::/32 | NL | ripencc | 2001-02-03")
	asker := dnsAsker{d.resolver()}

	got, err := asker.origin(t.Context(), addr("192.0.2.7"))
	if err != nil {
		t.Fatal(err)
	}
	want := origin{prefix: pfx("192.0.2.0/24"), asn: 64496, name: `EXAMPLE-AS Example\x1b[2J | Inc., JP`, country: "JP"}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(origin{}), byValue); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	// Its system has no name: what is known is enough.
	got, err = asker.origin(t.Context(), addr("2001:db8::1"))
	if want := (origin{prefix: pfx("2001:db8::/32"), asn: 64500, country: "NL"}); err != nil || got != want {
		t.Errorf("got %+v, error %v, want %+v", got, err, want)
	}
	if got, err := asker.origin(t.Context(), addr("192.0.2.8")); err == nil || !strings.Contains(err.Error(), "8.2.0.192.origin.asn.cymru.com") {
		t.Errorf("of one that nobody announces: %+v, %v", got, err)
	}
}

func TestName(t *testing.T) {
	const six = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
	for _, tt := range []struct {
		name, addr string
		set        func(*dnsServer)
		want       string
	}{
		{"verified", "192.0.2.7", func(d *dnsServer) {
			d.reverse("7.2.0.192.in-addr.arpa", "Host.Example.com.")
			d.host("host.example.com", "198.51.100.1", "192.0.2.7")
		}, "host.example.com"},
		{"verified, IPv6", "2001:db8::1", func(d *dnsServer) {
			d.reverse(six, "host.example.com.")
			d.host("host.example.com", "2001:db8::1")
		}, "host.example.com"},
		{"the second of them", "192.0.2.7", func(d *dnsServer) {
			d.reverse("7.2.0.192.in-addr.arpa", "bank.example.", "host.example.com.")
			d.host("host.example.com", "192.0.2.7")
		}, "host.example.com"},
		{"of somebody else", "192.0.2.7", func(d *dnsServer) {
			d.reverse("7.2.0.192.in-addr.arpa", "www.bank.example.")
			d.host("www.bank.example", "198.51.100.1")
		}, ""},
		{"absent there", "192.0.2.7", func(d *dnsServer) { d.reverse("7.2.0.192.in-addr.arpa", "www.bank.example.") }, ""},
		{"none", "192.0.2.7", func(*dnsServer) {}, ""},
		{"no host's", "192.0.2.7", func(d *dnsServer) {
			d.reverse("7.2.0.192.in-addr.arpa", "<script>.example.com.", "-x.example.com.", "com.")
			d.host("<script>.example.com", "192.0.2.7")
			d.host("-x.example.com", "192.0.2.7")
			d.host("com", "192.0.2.7")
		}, ""},
		{"too many", "192.0.2.7", func(d *dnsServer) {
			d.reverse("7.2.0.192.in-addr.arpa", "a.example.", "b.example.", "c.example.", "host.example.com.")
			d.host("host.example.com", "192.0.2.7")
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDNS(t)
			tt.set(d)
			got, err := dnsAsker{d.resolver()}.name(t.Context(), addr(tt.addr))
			if err != nil || got != tt.want {
				t.Errorf("got %q, error %v, want %q", got, err, tt.want)
			}
		})
	}
}
