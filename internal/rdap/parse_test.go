package rdap

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sekisho/internal/notify"
)

var (
	addr = netip.MustParseAddr
	pfx  = netip.MustParsePrefix
)

var byValue = cmp.Options{cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{}), cmpopts.EquateEmpty()}

func sample(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestParseRDAP(t *testing.T) {
	for _, tt := range []struct {
		name, file string
		addr       string
		want       notify.Owner
	}{
		{"RIPE: the organisation, not its maintainer", "rdap-ripe.json", "192.0.2.7", notify.Owner{
			Name: "Example Networks B.V.", Network: "EXAMPLE-NET", Prefix: pfx("192.0.2.0/24"), Country: "NL", Abuse: []string{"abuse@example.net"},
		}},
		{"APNIC: the description, where there is no organisation", "rdap-apnic.json", "2001:db8::1", notify.Owner{
			Name: "Example Network Service", Network: "EXAMPLENET-JP", Prefix: pfx("2001:db8::/32"), Country: "JP", Abuse: []string{"abuse@example.jp", "cert@example.jp"},
		}},
		{"ARIN: abuse is of the registrant's people", "rdap-arin.json", "198.51.100.7", notify.Owner{
			Name: "Example Cloud, Inc.", Network: "EXAMPLE-1", Prefix: pfx("198.51.100.0/25"), ASN: 64496, Country: "US", Abuse: []string{"abuse@example.com"},
		}},
		{"ARIN: the part that has the address", "rdap-arin.json", "198.51.100.190", notify.Owner{
			Name: "Example Cloud, Inc.", Network: "EXAMPLE-1", Prefix: pfx("198.51.100.128/26"), ASN: 64496, Country: "US", Abuse: []string{"abuse@example.com"},
		}},
		{"LACNIC: no name but a handle, a range but no prefixes", "rdap-lacnic.json", "203.0.113.9", notify.Owner{
			Name: "Exemplo Telecomunicações Ltda", Network: "203.0.113.0/24", Prefix: pfx("203.0.113.0/24"), ASN: 64500, Country: "BR", Abuse: []string{"abuse@example.com.br"},
		}},
		{"AFRINIC: members of other types are left out", "rdap-afrinic.json", "203.0.113.64", notify.Owner{
			Name: "Example Africa", Network: "EXAMPLE-ZA", Prefix: pfx("203.0.113.64/26"), Country: "ZA",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseRDAP(sample(t, tt.file), addr(tt.addr))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, byValue); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// network is an RDAP answer about 192.0.2.0/24 with more members.
func network(more string) string {
	return `{"objectClassName":"ip network","startAddress":"192.0.2.0","endAddress":"192.0.2.255"` + more + `}`
}

func people(cards ...string) string {
	var b strings.Builder
	for i, c := range cards {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"roles":["registrant","abuse"],"vcardArray":["vcard",[%s]]}`, c)
	}
	return `,"entities":[` + b.String() + `]`
}

func TestParseRDAPHostile(t *testing.T) {
	mails := func(all ...string) string {
		for i, m := range all {
			all[i] = `["email",{},"text",` + strconv.Quote(m) + `]`
		}
		return strings.Join(all, ",")
	}
	for _, tt := range []struct {
		name, text string
		want       notify.Owner
	}{
		{"lines, escapes and directions in a name", network(people("[\"fn\",{},\"text\",\"Evil\\r\\nBcc: victim@example.com\\u001b[2J\\u202e\\u0007\"]")),
			notify.Owner{Name: `Evil Bcc: victim@example.com\x1b[2J\u202e\a`}},
		{"a command of mail(1)", network(`,"name":"\n~! touch /tmp/x"`), notify.Owner{Network: "! touch /tmp/x"}},
		{"a long name", network(`,"name":"` + strings.Repeat("関", 5000) + `"`), notify.Owner{Network: strings.Repeat("関", 99) + "…"}},
		{"a country that is none", network(`,"country":"<b>"`), notify.Owner{}},
		{"a country of the registries' own", network(`,"country":"EU"`), notify.Owner{}},
		{"mail that is more than one address", network(people(mails("a@example.com,b@example.com", "a@example.com b@example.com", "a@example.com\r\nBcc: c@example.com", `"a b"@example.com`, "a@b@example.com"))), notify.Owner{}},
		{"mail that is an option, a pipe, a file", network(people(mails("-oQ/tmp@example.com", "|sh@example.com", "/etc/passwd", "a@-example.com", "a@192.0.2.1", "a@[192.0.2.1]", "a@localhost", "@example.com", "a@"))), notify.Owner{}},
		{"mail in another script", network(people(mails("аbuse@example.com", "abuse@exаmple.com", "abuse@example.com\u202e"))), notify.Owner{}},
		{"much mail", network(people(mails("a1@example.com", "a2@example.com", "a3@example.com"), mails("a4@example.com", "a5@example.com", "a6@example.com"))),
			notify.Owner{Abuse: []string{"a1@example.com", "a2@example.com", "a3@example.com", "a4@example.com", "a5@example.com"}}},
		{"mail as a URI", network(people(mails("MAILTO:Abuse@Example.COM"))), notify.Owner{Abuse: []string{"Abuse@example.com"}}},
		{"a card of odd shapes", network(people(`1`, `[]`, `["fn"]`, `["fn",{},"text",{}]`, `["fn",{},"text",[]]`, `["adr",[],"text",[1,2]]`, `["adr",{"cc":7},"text",7]`)), notify.Owner{}},
		{"members of odd types", network(`,"name":7,"country":{},"cidr0_cidrs":"x","remarks":[1],"entities":{"a":1},"arin_originas0_originautnums":["x",-1,99999999999],"nicbr_autnum":"x"`), notify.Owner{}},
		{"prefixes that are none", network(`,"cidr0_cidrs":[{"v4prefix":"192.0.2.0","length":-3},{"v4prefix":"192.0.2.0","length":99},{"v4prefix":"x"},{"v6prefix":"::ffff:192.0.2.0","length":120},{}]`), notify.Owner{}},
		{"very many people", network(people(make([]string, 5000)...)), notify.Owner{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseRDAP([]byte(tt.text), addr("192.0.2.7"))
			if err != nil {
				t.Fatal(err)
			}
			tt.want.Prefix = pfx("192.0.2.0/24")
			if diff := cmp.Diff(tt.want, got, byValue); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestParseRDAPRefused(t *testing.T) {
	for _, tt := range []struct {
		name, text, want string
	}{
		{"nothing", "", "unexpected end of JSON input"},
		{"HTML", "<html>", "invalid character"},
		{"null", "null", `the object ""`},
		{"a list", "[]", `the object ""`},
		{"an error", `{"errorCode":404,"title":"\u001b[31m"}`, `the object ""`},
		{"a domain", `{"objectClassName":"domain\u001b[31m"}`, `the object "domain\x1b[31m"`},
		{"cut off", network("")[:40], "unexpected end of JSON input"},
		{"deep arrays", network(`,"entities":` + strings.Repeat("[", 100_000)), "nested more than 32 deep"},
		{"deep people", network(strings.Repeat(`,"entities":[{"x":1`, 40) + strings.Repeat(`}]`, 40)), "nested more than 32 deep"},
		{"another network", `{"objectClassName":"ip network","startAddress":"198.51.100.0","endAddress":"198.51.100.255"}`, "it knows of no such network"},
		{"the other way round", `{"objectClassName":"ip network","startAddress":"192.0.2.255","endAddress":"192.0.2.0"}`, "it knows of no such network"},
		{"two families", `{"objectClassName":"ip network","startAddress":"192.0.2.0","endAddress":"2001:db8::"}`, "it knows of no such network"},
		{"everything", `{"objectClassName":"ip network","startAddress":"0.0.0.0","endAddress":"255.255.255.255","name":"IANA-BLK"}`, "it knows of no such network"},
		{"another registry's stock", network(`,"name":"APNIC-1","entities":[{"handle":"APNIC","roles":["registrant"]}]`), "which is another registry's: it knows of no such network"},
		{"addresses that are none", `{"objectClassName":"ip network","startAddress":"\u001b[31m","endAddress":"y"}`, `the network "\x1b[31m" to`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseRDAP([]byte(tt.text), addr("192.0.2.7"))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %+v, error %v, want %q", got, err, tt.want)
			}
			if strings.Contains(tt.want, "no such network") && !errors.Is(err, ErrUnknown) {
				t.Errorf("%v is not ErrUnknown", err)
			}
		})
	}
}

func TestParseWHOIS(t *testing.T) {
	for _, tt := range []struct {
		name, file string
		addr       string
		want       said
	}{
		{"IANA refers to others", "whois-iana.txt", "192.0.2.7", said{refer: "whois.ripe.net"}},
		{"RIPE", "whois-ripe.txt", "192.0.2.7", said{owner: notify.Owner{
			Name: "Example Networks B.V.", Network: "EXAMPLE-NET", Prefix: pfx("192.0.2.0/24"), ASN: 64496, Country: "NL", Abuse: []string{"abuse@example.net"},
		}}},
		{"APNIC's copy of JPNIC's", "whois-apnic.txt", "203.0.113.200", said{refer: "whois.nic.ad.jp", owner: notify.Owner{
			Name: "Example Network Service", Network: "EXAMPLENET", Prefix: pfx("203.0.113.0/24"), Country: "JP", Abuse: []string{"hostmaster@nic.example"},
		}}},
		{"ARIN, a customer within", "whois-arin.txt", "198.51.100.7", said{owner: notify.Owner{
			Name: "Corner Shop", Network: "EXAMPLE-SMALL", Prefix: pfx("198.51.100.0/28"), Country: "CA", Abuse: []string{"abuse@example.com"},
		}}},
		{"ARIN, beside the customer", "whois-arin.txt", "198.51.100.77", said{owner: notify.Owner{
			Name: "Example Cloud, Inc.", Network: "EXAMPLE-BIG", Prefix: pfx("198.51.0.0/16"), ASN: 64497, Country: "US", Abuse: []string{"abuse@example.com"},
		}}},
		{"LACNIC, its short networks", "whois-lacnic.txt", "203.0.113.9", said{owner: notify.Owner{
			Name: "Ejemplo Telecomunicaciones S.A.", Prefix: pfx("203.0.113.0/24"), Country: "AR", Abuse: []string{"abuse@example.com.ar"},
		}}},
		{"NIC.br, no abuse contact", "whois-nicbr.txt", "203.0.113.9", said{owner: notify.Owner{
			Name: "Exemplo Telecomunicações Ltda", Prefix: pfx("203.0.113.0/24"), ASN: 64500, Country: "BR", Abuse: []string{"noc@example.com.br"},
		}}},
		{"JPNIC", "whois-jpnic.txt", "203.0.113.200", said{owner: notify.Owner{
			Name: "Example Shoten", Network: "EXAMPLE-SUB", Prefix: pfx("203.0.113.128/25"), Country: "JP", Abuse: []string{"abuse@example.jp"},
		}}},
		{"KRNIC, the customer", "whois-krnic.txt", "203.0.113.50", said{owner: notify.Owner{
			Name: "Example Bakery", Prefix: pfx("203.0.113.32/27"), Country: "KR", Abuse: []string{"abuse@example.co.kr"},
		}}},
		{"KRNIC, beside the customer", "whois-krnic.txt", "203.0.113.99", said{owner: notify.Owner{
			Name: "Example Telecom", Network: "EXAMPLENET", Prefix: pfx("203.0.113.0/24"), Country: "KR", Abuse: []string{"ip@example.co.kr"},
		}}},
		{"of another network", "whois-ripe.txt", "192.0.3.7", said{}},
		{"HTML", "whois-html.txt", "192.0.2.7", said{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, end := range []string{"\n", "\r\n"} {
				text := strings.ReplaceAll(string(sample(t, tt.file)), "\n", end)
				got := parseWHOIS([]byte(text), addr(tt.addr))
				if diff := cmp.Diff(tt.want, got, byValue, cmp.AllowUnexported(said{})); diff != "" {
					t.Errorf("with line ends %q: -want +got:\n%s", end, diff)
				}
			}
		})
	}
}

func TestParseWHOISHostile(t *testing.T) {
	const inetnum = "inetnum: 192.0.2.0 - 192.0.2.255\n"
	for _, tt := range []struct {
		name, text string
		want       said
	}{
		{"a command of mail(1)", inetnum + "descr: ~! touch /tmp/x\nnetname: ~~~", said{owner: notify.Owner{Name: "! touch /tmp/x", Prefix: pfx("192.0.2.0/24")}}},
		{"escapes and directions", inetnum + "descr: \x1b]0;x\a\u202e\u009b31m\rBcc: x", said{owner: notify.Owner{Name: `\x1b]0;x\a\u202e\u009b31m Bcc: x`, Prefix: pfx("192.0.2.0/24")}}},
		{"Latin-1", inetnum + "descr: M\xfcller \x9b\xa0GmbH", said{owner: notify.Owner{Name: `Müller \u009b GmbH`, Prefix: pfx("192.0.2.0/24")}}},
		{"one endless line", inetnum + "descr: " + strings.Repeat("a", 100_000), said{owner: notify.Owner{Name: strings.Repeat("a", 99) + "…", Prefix: pfx("192.0.2.0/24")}}},
		{"the comment has no address", "% Abuse contact for '192.0.2.0 - 192.0.2.255' is 'a@example.com', 'b@example.com'\n" + inetnum, said{owner: notify.Owner{Prefix: pfx("192.0.2.0/24")}}},
		{"the comment is of another network", "% Abuse contact for 'x' is 'a@example.com'\ninetnum: 198.51.100.0 - 198.51.100.255\n\n" + inetnum, said{owner: notify.Owner{Prefix: pfx("192.0.2.0/24")}}},
		{"no empty lines", inetnum + "netname: N\norganisation: ORG-1\norg-name: Example\ncountry: DE\nrole: R\ncountry: FR\nroute: 192.0.2.0/24\ndescr: no\n", said{owner: notify.Owner{Name: "Example", Network: "N", Country: "DE", Prefix: pfx("192.0.2.0/24")}}},
		{"everything", "inetnum: 0.0.0.0 - 255.255.255.255\nnetname: IANA-BLK\n", said{}},
		{"networks that are none", "inetnum: 192.0.2.0 -\ninetnum: - 192.0.2.255\ninetnum: 192/\ninetnum: /\ninetnum: 192.0.2.255 - 192.0.2.0\ninetnum: ::ffff:192.0.2.0/120\ndescr: no", said{}},
		{"a referral to a command", "refer: ;reboot\nReferralServer: whois://$(reboot)/\n", said{}},
		{"a referral to an address", "ReferralServer: whois://169.254.169.254\nReferralServer: whois://[::1]/\n", said{}},
		{"a referral to another port", "ReferralServer: whois://whois.example.com:22\n", said{}},
		{"a referral to another protocol", "ReferralServer: rwhois://rwhois.example.com:4321\nReferralServer: http://www.example.com/\n", said{}},
		{"a referral to its own server", "ReferralServer: whois://whois.example.com:43\n", said{refer: "whois.example.com"}},
		{"a referral to a registry", "ReferralServer: whois://whois.apnic.net\n", said{refer: "whois.apnic.net"}},
		{"NULs", strings.Repeat("\x00", 1000) + "\n" + inetnum, said{owner: notify.Owner{Prefix: pfx("192.0.2.0/24")}}},
		{"keys alone", ":\n::\n[\n]\na. [\n" + inetnum + "country:\ndescr\n[Organization]\n", said{owner: notify.Owner{Prefix: pfx("192.0.2.0/24")}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := parseWHOIS([]byte(tt.text), addr("192.0.2.7"))
			if diff := cmp.Diff(tt.want, got, byValue, cmp.AllowUnexported(said{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// checkHarmless holds an owner to what every channel may rely on.
func checkHarmless(t *testing.T, o notify.Owner, a netip.Addr) {
	t.Helper()
	for _, s := range append([]string{o.Name, o.Network, o.ASName, o.Country, o.Reverse, o.Source}, o.Abuse...) {
		if !utf8.ValidString(s) || strings.HasPrefix(s, "~") {
			t.Errorf("%q", s)
		}
		for _, r := range s {
			if !strconv.IsPrint(r) {
				t.Errorf("%q holds %q", s, r)
			}
		}
	}
	for _, s := range []string{o.Name, o.Network, o.ASName} {
		if utf8.RuneCountInString(s) > maxText {
			t.Errorf("%q is longer than %d characters", s, maxText)
		}
	}
	if len(o.Country) != 0 && (len(o.Country) != 2 || strings.Trim(o.Country, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "") {
		t.Errorf("country %q", o.Country)
	}
	if len(o.Abuse) > maxAbuse {
		t.Errorf("%d addresses of mail", len(o.Abuse))
	}
	for _, m := range o.Abuse {
		if len(m) > maxMail || strings.Count(m, "@") != 1 || strings.ContainsAny(m, " \t\r\n,;:<>()[]\"'\\|&$`") || m[0] == '-' {
			t.Errorf("mail %q", m)
		}
	}
	if o.Prefix.IsValid() && (!o.Prefix.Contains(a) || o.Prefix != o.Prefix.Masked()) {
		t.Errorf("network %s of %s", o.Prefix, a)
	}
}

func FuzzParseRDAP(f *testing.F) {
	files, err := filepath.Glob("testdata/rdap-*.json")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, file := range files {
		text := sample(f, filepath.Base(file))
		f.Add(text, "192.0.2.7")
		f.Add(text, "2001:db8::1")
	}
	f.Add([]byte(network(people(`["fn",{},"text","~\u202e"]`, `["email",{},"text","a@example.com"]`))), "192.0.2.7")
	f.Fuzz(func(t *testing.T, text []byte, of string) {
		a, err := netip.ParseAddr(of)
		if err != nil {
			return
		}
		a = plain(a)
		o, err := parseRDAP(text, a)
		if err != nil {
			if !o.Prefix.IsValid() && o.Name == "" {
				return
			}
			t.Fatalf("%+v beside %v", o, err)
		}
		if !o.Prefix.IsValid() {
			t.Error("no network, and no error")
		}
		checkHarmless(t, o, a)
	})
}

func FuzzParseWHOIS(f *testing.F) {
	files, err := filepath.Glob("testdata/whois-*.txt")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, file := range files {
		text := sample(f, filepath.Base(file))
		for _, a := range []string{"192.0.2.7", "198.51.100.7", "203.0.113.50"} {
			f.Add(text, a)
		}
	}
	f.Add([]byte("inet6num: 2001:db8::/32\nowner: \xff~\nabuse-c: X\n\nnic-hdl: X\ne-mail: a@example.com"), "2001:db8::1")
	f.Fuzz(func(t *testing.T, text []byte, of string) {
		a, err := netip.ParseAddr(of)
		if err != nil {
			return
		}
		a = plain(a)
		s := parseWHOIS(text, a)
		if s.refer != "" && hostOf(s.refer) != s.refer {
			t.Errorf("referral to %q", s.refer)
		}
		checkHarmless(t, s.owner, a)
	})
}

func BenchmarkParseRDAP(b *testing.B) {
	text := sample(b, "rdap-ripe.json")
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseRDAP(text, addr("192.0.2.7")); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseWHOIS(b *testing.B) {
	text := sample(b, "whois-ripe.txt")
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if !parseWHOIS(text, addr("192.0.2.7")).owner.Prefix.IsValid() {
			b.Fatal("nothing")
		}
	}
}

// BenchmarkHostile is the dearest answer that we read to its end.
func BenchmarkHostile(b *testing.B) {
	for _, tt := range []struct {
		name string
		text string
		read func([]byte)
	}{
		{"RDAP", network(people(make([]string, 8500)...)), func(text []byte) { parseRDAP(text, addr("192.0.2.7")) }},
		{"WHOIS", strings.Repeat("inetnum:192.0.0.0-192.255.255.254\n", maxAnswer/34), func(text []byte) { parseWHOIS(text, addr("192.0.2.7")) }},
	} {
		b.Run(tt.name, func(b *testing.B) {
			if len(tt.text) > maxAnswer {
				b.Fatal(len(tt.text))
			}
			b.ReportAllocs()
			for b.Loop() {
				tt.read([]byte(tt.text))
			}
		})
	}
}
