package country

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// apnic is a small file of statistics with everything that real ones have.
const apnic = `# what follows is made up
2.3|apnic|20260928|9|19830613|20260928|+1000
apnic|*|asn|*|1|summary
apnic|*|ipv4|*|6|summary
apnic|*|ipv6|*|2|summary
apnic|JP|asn|173|1|20020801|allocated|A91A7381
apnic|JP|ipv4|1.0.16.0|4096|20110412|allocated|A92D9378|e-stats
apnic|KR|ipv4|1.0.32.0|768|20110412|assigned|A92D9379
apnic|JP|ipv4|1.0.35.64|448|20110412|assigned|A92D9378
apnic||ipv4|1.1.0.0|768||reserved|
apnic|ZZ|ipv4|1.2.0.0|256|20110412|allocated|A92D9378
apnic|JP|ipv4|1.3.0.0|256||available|
apnic|JP|ipv6|2001:200::|32|19990813|allocated|A91A7381

apnic||ipv6|2001:204::|30||available|
`

func TestReadDelegated(t *testing.T) {
	var b Builder
	info, err := b.Read(strings.NewReader(apnic))
	if err != nil {
		t.Fatal(err)
	}
	want := Info{Format: Delegated, Registry: "apnic", Time: time.Date(2026, 9, 28, 0, 0, 0, 0, time.UTC), Entries: 4, Skipped: 4}
	if diff := cmp.Diff(want, info); diff != "" {
		t.Errorf("info (-want +got):\n%s", diff)
	}
	table, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	d := data(t, table, Meta{})
	wantRanges := []string{
		"JP 1.0.16.0-1.0.31.255", "JP 1.0.35.64-1.0.36.255", "JP 2001:200::-2001:200:ffff:ffff:ffff:ffff:ffff:ffff",
		"KR 1.0.32.0-1.0.34.255",
	}
	if diff := cmp.Diff(wantRanges, ranges(t, d)); diff != "" {
		t.Errorf("ranges (-want +got):\n%s", diff)
	}
	set, err := d.Set(code("JP"))
	if err != nil {
		t.Fatal(err)
	}
	var prefixes []string
	for _, p := range set.Prefixes() {
		prefixes = append(prefixes, p.String())
	}
	wantPrefixes := []string{"1.0.16.0/20", "1.0.35.64/26", "1.0.35.128/25", "1.0.36.0/24", "2001:200::/32"}
	if diff := cmp.Diff(wantPrefixes, prefixes); diff != "" {
		t.Errorf("prefixes (-want +got):\n%s", diff)
	}
}

func TestReadOthers(t *testing.T) {
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	io.WriteString(w, "JP\t1.0.16.0/20\nJP\t2001:200::/32\n")
	w.Close()
	tests := []struct {
		name, text string
		want       Info
	}{
		{"list", "JP\t1.0.16.0/20\n# a remark\n\n??\t1.0.0.0/24\n", Info{Format: List, Entries: 1, Skipped: 1}},
		{"gzipped list", zipped.String(), Info{Format: List, Entries: 2}},
		{"lines of DOS", "JP\t1.0.16.0/20\r\nKR\t1.0.32.0/24\r\n", Info{Format: List, Entries: 2}},
		{"csv", "1.0.0.0,1.0.0.255,JP\n2400::,2400::ffff,KR\n", Info{Format: CSV, Entries: 2}},
		{"mmdb", string(mmdb(map[string]string{"1.0.16.0/20": "JP", "2400::/32": "KR", "1.1.0.0/16": ""}, nested)), Info{Format: MMDB, Time: time.Unix(1790000000, 0).UTC(), Entries: 2, Skipped: 1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var b Builder
			info, err := b.Read(strings.NewReader(test.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, info); diff != "" {
				t.Errorf("info (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadMMDB(t *testing.T) {
	for _, form := range []mmdbForm{nested, flat} {
		var b Builder
		if _, err := b.Read(bytes.NewReader(mmdb(map[string]string{"1.0.16.0/20": "JP", "2400::/32": "KR", "2a00::/20": "UK"}, form))); err != nil {
			t.Fatal(err)
		}
		table, err := b.Table()
		if err != nil {
			t.Fatal(err)
		}
		want := []string{
			"GB 2a00::-2a00:fff:ffff:ffff:ffff:ffff:ffff:ffff",
			"JP 1.0.16.0-1.0.31.255",
			"KR 2400::-2400:0:ffff:ffff:ffff:ffff:ffff:ffff",
		}
		if diff := cmp.Diff(want, ranges(t, data(t, table, Meta{}))); diff != "" {
			t.Errorf("form %d: ranges (-want +got):\n%s", form, diff)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	zip := func(s string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		io.WriteString(w, s)
		w.Close()
		return b.String()
	}
	whole := zip(strings.Repeat("JP\t1.0.16.0/20\n", 1000))
	header := "2|apnic|20260928|1|19830613|20260928|+1000\n"
	tests := []struct{ name, text, want string }{
		{"nothing", "", "empty"},
		{"nothing, gzipped", zip(""), "empty"},
		{"remarks only", "# nothing\n\n", "no addresses"},
		{"a web page", "<!DOCTYPE html>\n<html>", "web page"},
		{"a web page with a mark", "\xef\xbb\xbf \n<html>", "web page"},
		{"a web page, gzipped", zip("<html>"), "web page"},
		{"words", "Service Unavailable\n", "no known form"},
		{"cut off in a line", "JP\t1.0.16.0/20\nJP\t1.0.32.0/2", "line 2 does not end"},
		{"gzip cut off", whole[:len(whole)-10], "cut off"},
		{"gzip's head only", whole[:5], "gunzip"},
		{"gzip damaged", whole[:40] + "xxx" + whole[43:], "flate"},
		{"something behind gzip", whole + "and then something more", "invalid header"},
		{"gzip in gzip", zip(whole), "neither text nor"},
		{"a long line", "JP\t1.0.16.0/20\n" + strings.Repeat("x", 5000) + "\n", "line 2 is longer"},
		{"a long first line", strings.Repeat("x", 5000), "line 1 is longer"},
		{"NUL", "JP\t1.0.16.0/20\x00\n", "neither text nor"},
		{"NUL far in", strings.Repeat("JP\t1.0.16.0/20\n", 100) + "\x00\n", "line 101 has a control character"},
		{"escape", "JP\t1.0.16.0/20\x1b[2J\n", "control character"},
		{"everything", "JP\t0.0.0.0/0\n", "wider than a /7"},
		{"all of IPv6", "JP\t::/0\n", "wider than a /7"},
		{"a half of it", "JP\t2000::/4\n", "wider than a /7"},
		{"not canonical", "JP\t1.0.16.1/20\n", "is it 1.0.16.0/20?"},
		{"no prefix", "JP\t1.0.16.0\n", "not a prefix"},
		{"a zone", "JP\tfe80::%eth0/64\n", "not a prefix"},
		{"IPv4 as IPv6", "JP\t::ffff:1.0.16.0/116\n", "written as IPv6"},
		{"three fields", "JP\t1.0.16.0/20\tx\n", "not a prefix"},
		{"one field", "JP\t1.0.16.0/20\nJP 1.0.16.0/20\n", "not a code, a tab"},
		{"small letters", "jp\t1.0.16.0/20\n", `"jp" is not the code`},
		{"a long code", "JAPAN\t1.0.16.0/20\n", "is not the code"},
		{"csv backwards", "1.0.0.255,1.0.0.0,JP\n", "not a range"},
		{"csv of both families", "1.0.0.0,2400::,JP\n", "not a range"},
		{"csv of everything", "0.0.0.0,255.255.255.255,JP\n", "wider than a /7"},
		{"csv number too large", "0,340282366920938463463374607431768211456,JP\n", "not an address"},
		{"csv number with a zero", "016777216,16777471,JP\n", "not an address"},
		{"csv with a head", "start,end,country\n", "not the code"},
		{"csv with four fields", "1.0.0.0,1.0.0.255,JP\n1.0.1.0,1.0.1.255,JP,x\n", "not the code"},
		{"no header", "apnic|JP|ipv4|1.0.16.0|4096|20110412|allocated\n", "not a header"},
		{"version 1", "1|apnic|20260928|1|19830613|20260928|+1000\n", "not a header"},
		{"no registry", "2|example|20260928|1|19830613|20260928|+1000\n", "none of the five"},
		{"too few records", header, "has 0 records; its header promises 1"},
		{"too many records", header + "apnic|JP|asn|1|1|20110412|allocated\napnic|JP|asn|2|1|20110412|allocated\n", "has 2 records"},
		{"too few by its summary", header + "apnic|*|ipv4|*|1|summary\napnic|JP|asn|1|1|20110412|allocated\n", "its summary promises 1"},
		{"two summaries", header + "apnic|*|ipv4|*|1|summary\napnic|*|ipv4|*|1|summary\n", "not a summary"},
		{"another registry's record", header + "arin|JP|ipv4|1.0.16.0|4096|20110412|allocated\n", "in a file of apnic"},
		{"a record cut short", header + "apnic|JP|ipv4|1.0.16.0|4096|20110412\n", "not a record"},
		{"an unknown type", header + "apnic|JP|ipv5|1.0.16.0|4096|20110412|allocated\n", "not a type"},
		{"an unknown status", header + "apnic|JP|ipv4|1.0.16.0|4096|20110412|stolen\n", "not a status"},
		{"no addresses", header + "apnic|JP|ipv4|1.0.16.0|0|20110412|allocated\n", "not a number of addresses"},
		{"past the end", header + "apnic|JP|ipv4|255.255.255.0|257|20110412|allocated\n", "not a number of addresses"},
		{"a negative number", header + "apnic|JP|ipv4|1.0.16.0|-1|20110412|allocated\n", "not a number of addresses"},
		{"all addresses", header + "apnic|JP|ipv4|0.0.0.0|4294967296|20110412|allocated\n", "wider than a /7"},
		{"all of IPv6, as a record", header + "apnic|JP|ipv6|::|0|20110412|allocated\n", "wider than a /7"},
		{"a length too long", header + "apnic|JP|ipv6|2001:200::|129|20110412|allocated\n", "not the length"},
		{"bits behind the length", header + "apnic|JP|ipv6|2001:200::1|32|20110412|allocated\n", "is it 2001:200::/32?"},
		{"the other family", header + "apnic|JP|ipv4|2001:200::|32|20110412|allocated\n", "not an ipv4 address"},
		{"binary", "\x00\x01\x02", "neither text nor"},
		{"mmdb cut off", string(mmdb(map[string]string{"1.0.16.0/20": "JP"}, nested)[:200]), "neither text nor"},
		{"mmdb of everything", string(mmdb(map[string]string{"::/1": "JP"}, nested)), "wider than a /7"},
		{"mmdb with a bad code", string(mmdb(map[string]string{"1.0.16.0/20": "J"}, nested)), "is not the code"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var b Builder
			_, err := b.Read(strings.NewReader(test.text))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Read() = %v, want %q", err, test.want)
			}
		})
	}
}

// A gzip bomb ends at the limit, without having been held in memory.
func TestReadBomb(t *testing.T) {
	var bomb bytes.Buffer
	w, err := gzip.NewWriterLevel(&bomb, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	line := bytes.Repeat([]byte("#"+strings.Repeat(" ", 1000)+"\n"), 1<<10)
	for range maxPlain/len(line) + 1 {
		w.Write(line)
	}
	w.Close()
	var b Builder
	if _, err := b.Read(&bomb); err == nil || !strings.Contains(err.Error(), "256 MiB when unpacked") {
		t.Errorf("Read() = %v", err)
	}
}

// What never ends is not held in memory either.
func TestReadTooManyEntries(t *testing.T) {
	var b Builder
	b.read = maxEntries
	if _, err := b.Read(strings.NewReader("JP\t1.0.16.0/20\n")); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("Read() = %v", err)
	}
}

// Whatever is read: no panic, and what comes of it stands the way through the
// compact form.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		apnic, "JP\t1.0.16.0/20\n", "1.0.0.0,1.0.0.255,JP\n", "16777216,16777471,JP\n", "2400::,2400::ffff,KR\n", "<html>", "",
		string(mmdb(map[string]string{"1.0.16.0/20": "JP", "2400::/32": "KR"}, nested)),
		string(mmdb(map[string]string{"1.0.16.0/20": "JP"}, flat)),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var b Builder
		info, err := b.Read(bytes.NewReader(text))
		if err != nil {
			if len(err.Error()) > 1000 || strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' && r != '\n' }) {
				t.Errorf("an error that should not be printed: %q", err)
			}
			return
		}
		if info.Entries != b.read {
			t.Errorf("%d entries, %d read", info.Entries, b.read)
		}
		table, err := b.Table()
		if err != nil {
			return
		}
		content, err := table.Encode(Meta{Source: "fuzz"})
		if err != nil {
			t.Fatal(err)
		}
		d, err := Open(content)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range d.Codes() {
			set, err := d.Set(c)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range set.Ranges() {
				got, _, ok, err := d.Lookup(r.From())
				if err != nil || !ok || got != c || !r.From().IsGlobalUnicast() || r.From().IsPrivate() {
					t.Errorf("Lookup(%s) = %s, %v, %v; want %s", r.From(), got, ok, err, c)
				}
			}
		}
	})
}

// The parsers one by one: what they read is what the standard library reads.
func FuzzParseAddr(f *testing.F) {
	for _, s := range []string{"1.0.0.0", "16777216", "2400::", "340282366920938463463374607431768211455", "::ffff:1.2.3.4", "", "00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := parseAddr(s)
		if err != nil {
			return
		}
		if want, err := netip.ParseAddr(s); err == nil && want != a {
			t.Errorf("parseAddr(%q) = %s, want %s", s, a, want)
		}
		if n, ok := parseNumber(s); ok && a != n.addr(familyOf(a)) {
			t.Errorf("parseAddr(%q) = %s", s, a)
		}
	})
}

func FuzzParseMD5(f *testing.F) {
	for _, s := range []string{
		"0bb8d65f1ff9d820f4bb56844f9948be  delegated-arin-extended-20260928\n",
		"MD5 (delegated-apnic-extended-latest) = 0bb8d65f1ff9d820f4bb56844f9948be\n",
		"0bb8d65f1ff9d820f4bb56844f9948be",
		"<html>",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		sum, err := parseMD5(text)
		if (err == nil) != (len(sum) == 16) {
			t.Errorf("parseMD5(%q) = %x, %v", text, sum, err)
		}
	})
}

func list(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "JP\t%s/24\n", number{0, 1<<24 + uint64(i)<<9}.addr(v4))
	}
	return b.String()
}

func BenchmarkRead200k(b *testing.B) {
	text := list(200_000)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		var builder Builder
		if _, err := builder.Read(strings.NewReader(text)); err != nil {
			b.Fatal(err)
		}
		if _, err := builder.Table(); err != nil {
			b.Fatal(err)
		}
	}
}
