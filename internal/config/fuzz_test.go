package config

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// FuzzParse: whatever the file holds, there is no panic, and either a whole
// configuration that meets its own rules, or errors fit for a terminal.
func FuzzParse(f *testing.F) {
	example, err := os.ReadFile("../../contrib/sekisho.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	f.Add([]byte(accessExample))
	f.Add([]byte(shortExample))
	f.Add([]byte(notifyExample))
	f.Add([]byte(gateExample))
	f.Add([]byte(secretFileOf))
	for _, s := range []string{
		"version: 1\n", "version: 1\nguard: {weights: {failed: 1}}\n", "version: 1\nadmins: [::1, {a: b}, [c]]\n",
		"version: 1\nlog: {source: files, files: [\"/a\\x00b\"]}\n", "a: &x [*x]\n", "? - : - ?\n", "{[{[", "a: |\n  b\n c", "--- >\n",
		"version: 1\nguard: {growth: {factor: 1e400}}", "version: 1\n\u2028: 1\n", "\"\\u202e\": 1", "version:1", "{a:b:c::d,::e}", "- - -\n-", "a: 'b\n\n c'",
		"version: 1\nexposure: fixed\nadmins: [10.0.0.0/8, ::1]\n", "version: 1\nexposure: on_request\nadmins: [2001:db8::1]\nfirewall: {ipv6: no}\n",
		"version: 1\nfirewall: {mode: lockdown, open: [80/tcp, 8000-8100/udp, {port: 5432/tcp, from: [10.0.0.0/8, ::1]}, {}], forward: yes}\n",
		"version: 1\nssh: {port: 1, profile: basic, root_login: no, settings: {usepam: on, MaxStartups: 1:2:3, Banner: '\"x', port: 1, \"\\u0130\": as_is}}\n",
		"version: 1\naws: {endpoint: 'http://[::1]:1', reap: 1m, address_services: [], accounts: {\"a.b\": {id: \"000000000001\", role: 'arn:aws-cn:iam::000000000001:role/a/b', external_id: 'a:b', regions: [cn-north-1]}, null: {}}}\n",
		"version: 1\npeople: {a: {fixed: [10.0.0.0/24, ::2], former: [10.0.0.1], keys: [ssh-ed25519 AAAA, \"-----BEGIN PRIVATE KEY-----\"], groups: [a, b]}, b: {}}\ntargets: {a.b: {aws: , host: [], allow: [{who: c}, b, {}], hours: mon-sun 01:00-00:00 Etc/GMT+9, exposure: public, ipv6: /64}}\n",
		"version: 1\nnotify: {private: [10.0.0.0/8, ::1], mail: {to: a@b.c, tls: no, smtp: '[::1]:465', quiet: daily 22:00-07:00, events: [all]}, webhook: {url: 'http://localhost:0x/#'}, slack: no, discord: {url_file: /x}}\n",
		"version: 1\nnotify: {telegram: {token: \"123456:aaaaaaaaaaaaaaaaaaaaaaaa\", chat: -1}, ntfy: {url: https://10.0.0.1/a/b, token: x}, command: {argv: [/x, 1, \"\"], timeout: 1s}, mail:\n}\n",
		"version: 1\nnotify:\n  mail: {to: [\"a@b\\r\\nc\", a, <a@b>], password:x, 'x\n",
		"version: 1\ngate: {url: 'http://[::1]:80', identity: ~/x, serve: {listen: ['[::]:1', '0.0.0.0:1'], tls: {cert: /c}, proxies: [::1], forwarded: no, database: 'postgres://a:b@/', oidc: {issuer: 'https://a', client_id: \"\\u202e\", groups: {no: x, \"#\": y}}}}\n",
		"version: 1\npeople: {a: {groups: [b], login: é}}\ntargets: {c: {agent: \"no\", allow: [{who: b, approval: no, reason: no}, {who: a, approval: [b]}], approval: a, break_glass: [b], reason: on}, d: {agent: x, aws: {}}}\n",
		"version: 1\nfirewall: {countries: [JP, no], rate: no, track: no}\n", "version: 1\nfirewall: {countries: {deny: [KP], allow: []}, rate: {per_minute: 9}}\n",
		"version: 1\ncountry: {source: csv, every: no, urls: [\"https://example.com/{4,6}.csv\", 'https://a/{b', 'https://[::1/{,}']}\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		cfg, err := Parse("x.yaml", src)
		if (cfg == nil) == (err == nil) {
			t.Fatalf("Parse = %v, %v", cfg, err)
		}
		if err == nil {
			d := &decoder{places: map[string]place{}, bad: map[string]bool{}}
			if d.check(cfg); len(d.found) > 0 || len(cfg.SSH.Ports) == 0 {
				t.Fatalf("a configuration against the rules: %+v", cfg)
			}
			for _, s := range cfg.Firewall.Open {
				if s.First == 0 || s.First > s.Last || s.Proto != "tcp" && s.Proto != "udp" {
					t.Errorf("a service of no port: %+v", s)
				}
			}
			for k, text := range cfg.SSH.Settings {
				if !slices.Contains(keywords, k) || text == "" || strings.ContainsAny(text, "\x00\r\n") {
					t.Errorf("a setting that breaks out of its line: %q: %q", k, text)
				}
			}
			for name, tg := range cfg.Targets {
				if len(tg.Host) == 0 || tg.Port == 0 || len(tg.Allow) == 0 || tg.AtMost < time.Minute || (tg.AWS.Group == "" || tg.AWS.Region == "") != (tg.Agent != "") {
					t.Errorf("a target that opens nothing: %s: %+v", name, tg)
				}
				if tg.Agent != "" {
					continue
				}
				if _, ok := cfg.AWS.Accounts[tg.AWS.Account]; ok != (tg.AWS.Account != "") || !ok && len(cfg.AWS.Accounts) > 0 {
					t.Errorf("a target in no account: %s: %+v", name, tg)
				}
			}
			for name, p := range cfg.People {
				for _, k := range p.Keys {
					if _, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(k)); err != nil || len(options)+len(rest) > 0 {
						t.Errorf("no key of %s: %q", name, k)
					}
				}
			}
			back, err := Parse("back.yaml", fmt.Appendf(nil, "version: 1\naws: {accounts: %s}\npeople: %s\ntargets: %s\ngate: {url: %s, ca: %s, identity: %s, serve: %s}\n",
				Text(cfg, "aws.accounts"), Text(cfg, "people"), Text(cfg, "targets"), Text(cfg, "gate.url"), Text(cfg, "gate.ca"), Text(cfg, "gate.identity"), Text(cfg, "gate.serve")))
			if err != nil {
				t.Fatalf("what is shown is not read back: %v", err)
			}
			if diff := cmp.Diff([]any{cfg.AWS.Accounts, cfg.People, cfg.Targets, cfg.Gate}, []any{back.AWS.Accounts, back.People, back.Targets, back.Gate}, comparePrefixes); diff != "" {
				t.Errorf("what is shown is read back as something else (-want +got):\n%s", diff)
			}
			checkNotify(t, cfg)
			for _, files := range cfg.Country.Files() {
				if len(files) != len(cfg.Country.URLs) {
					t.Errorf("a file without one of its mirrors: %q", cfg.Country.URLs)
				}
			}
			return
		}
		var wrong Errors
		if !errors.As(err, &wrong) || len(wrong) == 0 || len(wrong) > maxErrors+1 {
			t.Fatalf("Parse = %#v", err)
		}
		lines := strings.Count(string(src), "\n") + 1
		for _, e := range wrong {
			if e.Line < 0 || e.Line > lines || e.Message == "" {
				t.Errorf("error without a place or a text: %+v", e)
			}
			for _, r := range e.Place() + e.Message + e.Source + e.Hint {
				if !strconv.IsPrint(r) {
					t.Errorf("%q is not fit for a terminal: %q", r, e.Error())
				}
			}
		}
	})
}

// checkNotify: nobody is told by a channel that is half there, and what is shown is read back,
// but for secrets.
func checkNotify(t *testing.T, cfg *Config) {
	n := &cfg.Notify
	if m := n.Mail; m != nil {
		host, port, err := net.SplitHostPort(m.SMTP)
		if err != nil || host == "" || port == "" || len(m.To) == 0 || m.TLS == "" || m.TLS == TLSNone && !thisHost(host) {
			t.Errorf("mail to nobody, or in the clear: %+v", m)
		}
		for _, a := range append([]string{"x@" + host}, m.To...) {
			if strings.ContainsAny(a, "\r\n<>, \"\x00") {
				t.Errorf("more than an address: %q", a)
			}
		}
	}
	for _, h := range []*Hook{n.Slack, n.Discord} {
		if h != nil && (h.URL == "") == (h.URLFile == "") {
			t.Errorf("a chat without one URL: %+v", h)
		}
	}
	if c := n.Command; c != nil && (len(c.Argv) == 0 || !strings.HasPrefix(c.Argv[0], "/")) {
		t.Errorf("no command: %q", c.Argv)
	}
	var limits []Limits
	keys := "version: 1\nnotify:\n"
	for _, k := range n.table() {
		keys += "  " + k.name + ": " + k.value.text() + "\n"
	}
	if n.Mail != nil {
		limits = append(limits, n.Mail.Limits)
	}
	if n.Command != nil {
		limits = append(limits, n.Command.Limits)
	}
	for _, l := range limits {
		if len(l.Events) == 0 || l.PerHour < 1 || l.Digest == "" {
			t.Errorf("limits that let nothing through: %+v", l)
		}
	}
	if strings.Contains(keys, hidden) {
		return
	}
	back, err := Parse("back.yaml", []byte(keys))
	if err != nil {
		t.Fatalf("what is shown is not read back: %v\n%s", err, keys)
	}
	if diff := cmp.Diff(cfg.Notify, back.Notify, comparePrefixes, showSecrets); diff != "" {
		t.Errorf("what is shown is read back as something else (-want +got):\n%s", diff)
	}
}

// TestDurationRoundTrip: what FormatDuration writes, ParseDuration reads.
func TestDurationRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := time.Duration(rapid.Int64Range(0, int64(3650*day/time.Millisecond)).Draw(t, "ms")) * time.Millisecond
		if got, err := ParseDuration(FormatDuration(want)); err != nil || got != want {
			t.Errorf("ParseDuration(FormatDuration(%v)) = %v, %v", want, got, err)
		}
	})
}

// open draws services that are apart from each other.
var open = rapid.Custom(func(t *rapid.T) []Service {
	var res []Service
	for _, proto := range []string{"tcp", "udp"} {
		ends := rapid.SliceOfNDistinct(rapid.Uint16Range(1, 65535), 0, 6, rapid.ID).Draw(t, proto)
		slices.Sort(ends)
		for ; len(ends) > 1; ends = ends[2:] {
			s := Service{Proto: proto, First: ends[0], Last: ends[rapid.IntRange(0, 1).Draw(t, "range")]}
			if rapid.Bool().Draw(t, "from") {
				s.From = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::1/128")}
			}
			res = append(res, s)
		}
	}
	return res
})

// TestTextRoundTrip: what a key shows of a value, it reads back the same.
func TestTextRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var want Config
		want.Guard.MaxRetry = rapid.IntRange(1, 1000).Draw(t, "max_retry")
		port := rapid.Uint16Range(1, 65535)
		want.SSH.Ports = rapid.SliceOfNDistinct(port, 1, maxPorts, rapid.ID).Draw(t, "ports")
		want.Guard.Enforce = rapid.Bool().Draw(t, "enforce")
		want.Guard.FindTime = time.Duration(rapid.Int64Range(1, int64(7*day/time.Second)).Draw(t, "find_time")) * time.Second
		want.Guard.Growth.Factor = rapid.Float64Range(1, 100).Draw(t, "factor")
		want.Firewall.Rate = rapid.SampledFrom([]Rate{{}, {1, 1}, {2, 5}, {maxRate, maxRate}}).Draw(t, "rate")
		want.Firewall.Countries = rapid.SampledFrom([]Countries{{}, {Allow: []string{"JP", "NO"}}, {Deny: []string{"KP"}}}).Draw(t, "countries")
		want.Firewall.Open = open.Draw(t, "open")
		want.Country.Every = rapid.SampledFrom([]time.Duration{0, time.Hour, 36 * time.Hour}).Draw(t, "every")
		want.Country.URLs = rapid.SampledFrom([][]string{nil, {"https://a/{4,6}.csv", "https://b/v{4,6}?x=a&y=%20"}, {"https://[::1]:8443/関"}}).Draw(t, "urls")
		want.SSH.Settings = rapid.MapOf(rapid.SampledFrom(keywords[:90]),
			rapid.OneOf(rapid.StringMatching(`[ -!#-&(-~é関]{1,20}`).Filter(func(s string) bool {
				return s == strings.TrimSpace(s) && malformed(s) == "" && !strings.EqualFold(s, "as-is")
			}), rapid.SampledFrom([]string{"yes", "no", "true", "off", "null", "~", "1", "10:30:60", AsIs, `"a b"`, "'c'", `\"`}))).Draw(t, "settings")
		want.Log.Files = rapid.SliceOfNDistinct(rapid.StringMatching(`/[a-z0-9 :#"'\\,{}é関-]{1,20}x`), 0, 3, rapid.ID).Draw(t, "files")
		for _, of := range []func(*Config) value{
			func(c *Config) value { return number{p: &c.Guard.MaxRetry, min: 1, max: 1000} },
			func(c *Config) value { return settings{&c.SSH.Settings} },
			func(c *Config) value { return ports{&c.SSH.Ports} },
			func(c *Config) value { return boolean{&c.Guard.Enforce} },
			func(c *Config) value { return duration{&c.Guard.FindTime, 0, 7 * day} },
			func(c *Config) value { return factor{&c.Guard.Growth.Factor, 1, 100} },
			func(c *Config) value { return paths{&c.Log.Files} },
			func(c *Config) value { return rate{&c.Firewall.Rate} },
			func(c *Config) value { return countries{&c.Firewall.Countries} },
			func(c *Config) value { return services{&c.Firewall.Open} },
			func(c *Config) value { return every{&c.Country.Every, time.Hour, 30 * day} },
			func(c *Config) value { return urls{&c.Country.URLs} },
		} {
			text := of(&want).text()
			d := &decoder{places: map[string]place{}, bad: map[string]bool{}}
			root := readRaw(&d.mistakes, []byte("x: "+text+"\n"))
			var got Config // nothing of want's
			if root != nil {
				of(&got).decode(d, "x", root.entries[0].value)
			}
			if err := d.errors("x.yaml", []byte("x: "+text)); err != nil {
				t.Fatalf("%s is not read back: %v", text, err)
			}
			if back := of(&got).text(); back != text {
				t.Errorf("%s is read back as %s", text, back)
			}
		}
	})
}

// numbered repeats a line with numbers from 0.
func numbered(line string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, line, i)
	}
	return b.String()
}

// fullHouse is a file of as many people, each with a key, and as many targets as there may
// be.
func fullHouse(t *testing.T) string {
	var b strings.Builder
	b.WriteString("version: 1\npeople:\n")
	for i := range maxPeople {
		seed := make([]byte, ed25519.SeedSize)
		binary.BigEndian.PutUint32(seed, uint32(i))
		key, err := ssh.NewPublicKey(ed25519.NewKeyFromSeed(seed).Public())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "  person%d:\n    fixed: [10.0.%d.%d]\n    former: [10.1.%[2]d.%[3]d]\n    keys: [\"%s\"]\n    groups: [ops]\n    login: p%[1]d@example.com\n", i, i/250, i%250, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))))
	}
	b.WriteString("targets:\n")
	for i := range maxTargets {
		fmt.Fprintf(&b, "  t%d:\n    aws: {region: eu-central-1, group: sg-%08x, via: rules}\n    host: [t%[1]d.example.com, u%[1]d]\n    port: 22\n    exposure: on_request\n    allow: [ops]\n    reason: yes\n    approval: person1\n    at_most: 8h\n    hours: \"mon-fri 09:00-18:00 Asia/Tokyo\"\n    close: at_exit\n    ipv6: 64\n", i, i)
	}
	if _, err := Parse("x.yaml", []byte(b.String())); err != nil {
		t.Fatalf("a full house is not taken: %v", err)
	}
	return b.String()
}

// TestCost: bad files within the bounds are refused, or read, in no time that
// anyone would notice, though the YAML parser's own cost grows with the square.
func TestCost(t *testing.T) {
	const size = maxSize / 4
	var deep, distinct strings.Builder
	for i := range maxIndent {
		deep.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	for i := range maxLevel {
		distinct.WriteString("k" + strconv.Itoa(i) + ": 1\n")
	}
	for _, tt := range []struct{ name, src string }{
		{"brackets", strings.Repeat("[", size)},
		{"dashes", strings.Repeat("- ", size/2)},
		{"keys", strings.Repeat("a:\n", maxLevel)},
		{"distinct keys", distinct.String()},
		{"keys on two levels", numbered("k%d:\n  a:\n  b:\n  c:\n  d:\n", maxKeys/5)},
		{"keys on few levels", numbered("k%d:\n"+strings.Repeat("  x:\n", maxLevel-1), maxKeys/maxLevel)},
		{"indentation", deep.String()},
		{"indentation again and again", strings.Repeat(deep.String(), min(maxKeys/maxIndent, maxSize/deep.Len()))},
		{"comments", strings.Repeat("#\n", size/2)},
		{"a long list", "version: 1\nadmins:\n" + strings.Repeat("- 1.2.3.4\n", size/10-2)},
		{"a long wrong list", "version: 1\nadmins:\n" + strings.Repeat("- x\n", size/4-10)},
		{"a long list on a line", "version: 1\nadmins: [" + strings.Repeat("1.2.3.4,", size/8-5) + "]"},
		{"a long wrong list on a line", "version: 1\nadmins: [" + strings.Repeat("x,", size/2-15) + "]"},
		{"as many people and targets as there may be", fullHouse(t)},
		{"wrong names, each looked for among thousands", "version: 1\npeople:\n" + numbered("  "+strings.Repeat("p", 50)+"%d: {}\n", maxPeople) + "targets:\n" +
			numbered("  t%d: {aws: {region: eu-central-1, group: sg-12345678, account: x}, allow: ["+strings.Repeat("p", 50)+"x]}\n", maxTargets)},
		{"unknown keys inside", "version: 1\npeople:\n  a:\n" + numbered("    fixe%d: 1\n", maxLevel)},
		{"zones that nobody knows", "version: 1\ntargets:\n  a:\n    hours:\n" + numbered("    - daily 08:00-09:00 Asia/X%d\n", maxSpans) +
			"  b:\n    allow:\n" + numbered("    - {who: a%d, hours: [daily 08:00-09:00 A/B, daily 08:00-09:00 Asia/Tokyo]}\n", maxAllow)},
		{"a long wrong list of recipients", "version: 1\nnotify:\n  mail:\n    to:\n" + strings.Repeat("    - x\n", size/10-20)},
		{"a long wrong line of notify", "version: 1\nnotify: {mail: {to: [" + strings.Repeat("x, ", size/3-20) + "]}}"},
		{"a long line with keys that nobody knows", "version: 1\nnotify: {" + numbered("x%d: 1, ", maxLevel-10) + "}"},
		{"colons", "{" + strings.Repeat("a:b", size/3-1)},
		{"quotes", strings.Repeat("\"", size)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if len(tt.src) > maxSize {
				t.Fatalf("%d bytes: nothing is measured", len(tt.src))
			}
			// What others on the machine do is not the file's cost.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			begun := threadTime(t)
			_, _ = Parse("x.yaml", []byte(tt.src))
			spent := threadTime(t) - begun
			t.Log(spent)
			if spent > 10*time.Second { // generous: a slow machine, -race
				t.Errorf("took %v", spent)
			}
		})
	}
}

// threadTime is what the thread that calls has spent on its processor.
func threadTime(t *testing.T) time.Duration {
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
