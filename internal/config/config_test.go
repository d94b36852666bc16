package config

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sekisho/internal/sshlog"
)

var comparePrefixes = cmp.Options{
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	cmpopts.EquateEmpty(),
}

func TestDefaultIsConsistent(t *testing.T) {
	got, err := Parse("x", []byte("version: 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), got, comparePrefixes); diff != "" {
		t.Errorf("(-default +got):\n%s", diff)
	}
}

func TestParse(t *testing.T) {
	prefixes := func(texts ...string) (ps []netip.Prefix) {
		for _, s := range texts {
			ps = append(ps, netip.MustParsePrefix(s))
		}
		return ps
	}
	for _, tt := range []struct {
		name, src string
		change    func(c *Config)
	}{
		{"one port", "ssh: {port: 51921}", func(c *Config) { c.SSH.Ports = []uint16{51921} }},
		{"ports", "ssh:\n  port:\n  - 22\n  - 51921\n", func(c *Config) { c.SSH.Ports = []uint16{22, 51921} }},
		{"a group with nothing in it", "guard:\n  # enforce: no\nlog:\n", func(*Config) {}},
		{"a list with nothing in it", "admins:\n#  - 1.2.3.4\n", func(*Config) {}},
		{"admins", "admins: [1.2.3.4, 10.0.0.0/8, '2001:db8::/48', ::1, fc00::/7]\n", func(c *Config) {
			c.Admins = prefixes("1.2.3.4/32", "10.0.0.0/8", "2001:db8::/48", "::1/128", "fc00::/7")
		}},
		{"IPv6 without quotes, everywhere", "guard: {ignore: [::1, 2001:db8::/32, fe80::, 1.2.3.4]}\nadmins:\n- ::2\n- 2001:db8::1\n", func(c *Config) {
			c.Guard.Ignore = prefixes("::1/128", "2001:db8::/32", "fe80::/128", "1.2.3.4/32")
			c.Admins = prefixes("::2/128", "2001:db8::1/128")
		}},
		{"as JSON", `"ssh": {"port":[22,23]}`, func(c *Config) { c.SSH.Ports = []uint16{22, 23} }},
		{"as JSON, text", `"guard": {"mode":"extra","ban_time":"2h","max_retry":6}`, func(c *Config) {
			c.Guard.Mode, c.Guard.BanTime, c.Guard.MaxRetry = ModeExtra, 2*time.Hour, 6
		}},
		{"booleans", "guard: {enforce: off, spare_sessions: no, distributed: false, cut_connections: on}", func(c *Config) {
			c.Guard.Enforce, c.Guard.SpareSessions, c.Guard.Distributed, c.Guard.CutConnections = false, false, false, true
		}},
		{"durations", "guard: {find_time: 1h30m, ban_time: 1.5d, growth: {max: 2w, forget: 30d}, known: {for: 0s}}", func(c *Config) {
			c.Guard.FindTime, c.Guard.BanTime = 90*time.Minute, 36*time.Hour
			c.Guard.Growth.Max, c.Guard.Known.For = 14*day, 0
		}},
		{"quoted text stays text", "guard: {mode: \"extra\", ban_time: '2h'}", func(c *Config) {
			c.Guard.Mode, c.Guard.BanTime = ModeExtra, 2*time.Hour
		}},
		{"no growth", "guard: {ban_time: 30d, growth: {factor: 1}}", func(c *Config) {
			c.Guard.BanTime, c.Guard.Growth.Factor = 30*day, 1
		}},
		{"factor with a fraction", "guard: {growth: {factor: 1.5}}", func(c *Config) { c.Guard.Growth.Factor = 1.5 }},
		{"no escalation", "guard: {escalate: {hosts: 0}, prefix: {ipv4: 24, ipv6: 48}}", func(c *Config) {
			c.Guard.Escalate.Hosts, c.Guard.Prefix = 0, PrefixLengths{24, 48}
		}},
		{"weights", "guard: {weights: {failed: 3, no_identification: 0}}", func(c *Config) {
			c.Guard.Weights = map[sshlog.Kind]int{sshlog.Failed: 3, sshlog.NoIdentification: 0}
		}},
		{"files", "log: {source: files, files: [/var/log//auth.log, /x], forgeable: yes}", func(c *Config) {
			c.Log = Log{Source: SourceFiles, Files: []string{"/var/log/auth.log", "/x"}, Forgeable: true}
		}},
		{"metrics", "metrics: {listen: '[::1]:9222'}", func(c *Config) { c.Metrics.Listen = netip.MustParseAddrPort("[::1]:9222") }},
		{"no metrics", "metrics: {listen: ''}", func(*Config) {}},
		{"drop", "guard: {drop: ssh}", func(c *Config) { c.Guard.Drop = DropSSH }},
		{"exposure", "exposure: fixed\nadmins: [192.0.2.1]", func(c *Config) { c.Exposure, c.Admins = ExposureFixed, prefixes("192.0.2.1/32") }},
		{"on request", "exposure: on_request\nadmins: [::1, 2001:db8::1]", func(c *Config) {
			c.Exposure, c.Admins = ExposureOnRequest, prefixes("::1/128", "2001:db8::1/128")
		}},
		{"lockdown", "firewall:\n  mode: lockdown\n  forward: yes\n  track: no\n  ipv6: off\n  open: [443/tcp, 8000-8100/tcp, 53/udp, 80/tcp, {port: 5432/tcp, from: [192.168.0.0/16, 10.0.0.0/8, ::1]}]\n", func(c *Config) {
			c.Firewall.Mode, c.Firewall.Forward, c.Firewall.Track, c.Firewall.IPv6 = FirewallLockdown, true, false, false
			c.Firewall.Open = []Service{
				{Proto: "tcp", First: 80, Last: 80}, {Proto: "tcp", First: 443, Last: 443},
				{Proto: "tcp", First: 5432, Last: 5432, From: prefixes("10.0.0.0/8", "192.168.0.0/16", "::1/128")},
				{Proto: "tcp", First: 8000, Last: 8100}, {Proto: "udp", First: 53, Last: 53},
			}
		}},
		{"the same port for different addresses", "firewall: {mode: lockdown, open: [{port: 1-100/udp, from: [10.0.0.0/8]}, 53/udp, {port: 50-200/udp, from: [::/0]}]}\n", func(c *Config) {
			c.Firewall.Mode = FirewallLockdown
			c.Firewall.Open = []Service{
				{Proto: "udp", First: 1, Last: 100, From: prefixes("10.0.0.0/8")}, {Proto: "udp", First: 50, Last: 200, From: prefixes("::/0")}, {Proto: "udp", First: 53, Last: 53},
			}
			slices.SortFunc(c.Firewall.Open, func(a, b Service) int { return int(a.First) - int(b.First) })
		}},
		{"SSH's port over UDP", "firewall: {mode: lockdown, open: [22/udp]}\n", func(c *Config) {
			c.Firewall.Mode, c.Firewall.Open = FirewallLockdown, []Service{{Proto: "udp", First: 22, Last: 22}}
		}},
		{"countries", "firewall: {countries: [kr, JP]}", func(c *Config) { c.Firewall.Countries.Allow = []string{"JP", "KR"} }},
		{"Norway", "firewall: {countries: [NO]}", func(c *Config) { c.Firewall.Countries.Allow = []string{"NO"} }},
		{"countries allowed", "firewall: {countries: {allow: [JP]}}", func(c *Config) { c.Firewall.Countries.Allow = []string{"JP"} }},
		{"countries denied", "firewall: {countries: {deny: [RU, KP]}}", func(c *Config) { c.Firewall.Countries.Deny = []string{"KP", "RU"} }},
		{"no countries", "firewall: {countries: {deny: []}}\nexposure: public", func(*Config) {}},
		{"rate", "firewall: {rate: {per_minute: 30, burst: 10}}", func(c *Config) { c.Firewall.Rate = Rate{30, 10} }},
		{"burst alone", "firewall: {rate: {burst: 10}}", func(c *Config) { c.Firewall.Rate = Rate{2, 10} }},
		{"no rate", "firewall: {rate: no}", func(c *Config) { c.Firewall.Rate = Rate{} }},
		{"country data elsewhere", "country:\n  source: csv\n  every: 12h\n  urls:\n  - https://example.com/{ipv4,ipv6}.csv\n  - \"https://example.net/x-{4,6}.csv?token=a\"\n", func(c *Config) {
			c.Country = Country{Source: CountryCSV, Every: 12 * time.Hour, URLs: []string{"https://example.com/{ipv4,ipv6}.csv", "https://example.net/x-{4,6}.csv?token=a"}}
		}},
		{"country data as it is", "country: {every: no}", func(c *Config) { c.Country.Every = 0 }},
		{"sshd's settings", "ssh: {profile: strict, root_login: keys, password_login: yes, settings: {x11forwarding: yes, MAXSTARTUPS: 20:30:100, LoginGraceTime: as_is, maxauthtries: 3, UseDNS: false, Banner: '\"/etc/my issue#1\"', Ciphers: '^aes256-gcm@openssh.com'}}", func(c *Config) {
			c.SSH.Profile, c.SSH.RootLogin, c.SSH.PasswordLogin = ProfileStrict, RootLoginKeys, PasswordLoginYes
			c.SSH.Settings = map[string]string{
				"X11Forwarding": "yes", "MaxStartups": "20:30:100", "LoginGraceTime": AsIs, "MaxAuthTries": "3", "UseDNS": "no",
				"Banner": `"/etc/my issue#1"`, "Ciphers": "^aes256-gcm@openssh.com",
			}
		}},
		{"sshd's settings, quoted", "ssh: {root_login: 'no', settings: {PermitTunnel: 'true', PasswordAuthentication: no}}", func(c *Config) {
			c.SSH.RootLogin, c.SSH.Settings = RootLoginNo, map[string]string{"PermitTunnel": "true", "PasswordAuthentication": "no"}
		}},
		{"settings with nothing in them", "ssh:\n  settings:\n    # UseDNS: no\n", func(*Config) {}},
		{"line ends of Windows, a byte order mark", "ssh:\r\n  port: 23\r\n", func(c *Config) { c.SSH.Ports = []uint16{23} }},
		{"a document header and end", "ssh: {port: 23}\n...\n", func(c *Config) { c.SSH.Ports = []uint16{23} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, head := range []string{"version: 1\n", "\ufeff---\nversion: 1 # ours\n"} {
				want := Default()
				want.SSH.PortSet = strings.Contains(tt.src, "port:") && strings.HasPrefix(tt.src, "ssh") || strings.Contains(tt.src, `"port":`)
				tt.change(want)
				got, err := Parse("x.yaml", []byte(head+tt.src))
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, got, comparePrefixes); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestCountryFiles(t *testing.T) {
	for _, tt := range []struct {
		name string
		urls []string
		want [][]string
	}{
		{"none", nil, nil},
		{"one file, two mirrors", []string{"https://a/x", "https://b/x"}, [][]string{{"https://a/x", "https://b/x"}}},
		{"two files, two mirrors", []string{"https://a/{4,6}.csv", "https://b/v{4,6}"}, [][]string{{"https://a/4.csv", "https://b/v4"}, {"https://a/6.csv", "https://b/v6"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Country{URLs: tt.urls}.Files()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestMistakes: one file, its mistakes as "line:column message | hint".
func TestMistakes(t *testing.T) {
	for _, tt := range []struct {
		name, src string
		want      []string
	}{
		{"empty", "", []string{"1:1 the file says nothing | write `version: 1`; every other key has a default"}},
		{"comments alone", "# nothing\n", []string{"1:1 the file says nothing | write `version: 1`; every other key has a default"}},
		{"null", "---\n", []string{"1:1 the file says nothing | write `version: 1`; every other key has a default"}},
		{"a list", "- 1\n", []string{"1:1 the file holds a list where keys are wanted | begin with `version: 1`"}},
		{"a word", "hello\n", []string{"1:1 the file holds \"hello\" where keys are wanted | begin with `version: 1`"}},
		{"no version", "admins: []\n", []string{"1:1 the version is missing | write `version: 1` as the first line"}},
		{"another version, and nothing else is told", "version: 2\nfoo: bar\n", []string{"1:10 version: 2 is no version that is known here | this program reads version 1; a newer sekisho may read this file"}},
		{"version as text", "version: \"1\"\n", []string{"1:10 version: the text \"1\" where a number is wanted | leave out the quotes"}},
		{"version of no kind", "version: one\n", []string{"1:10 version: \"one\" is no version | write `version: 1`"}},
		{"version of another spelling", "version: 0x1\n", []string{"1:10 version: \"0x1\" is no version | write `version: 1`"}},

		{"unknown key, nearly known", "version: 1\nguadr: {}\n", []string{`2:1 there is no key "guadr" | did you mean guard?`}},
		{"known elsewhere", "version: 1\nmaxretry: 5\nport: 22\n", []string{
			`2:1 there is no key "maxretry" | did you mean guard.max_retry?`,
			`3:1 there is no key "port" | did you mean ssh.port?`}},
		{"fail2ban's words", "version: 1\nguard: {bantime: 1h, find-time: 1h, ignoreip: []}\n", []string{
			`2:9 there is no key "guard.bantime" | did you mean ban_time?`,
			`2:22 there is no key "guard.find-time" | did you mean find_time?`,
			`2:37 there is no key "guard.ignoreip" | did you mean ignore?`}},
		{"unknown key", "version: 1\nlog: {colour: red}\n", []string{`2:7 there is no key "log.colour" | the keys here are source, files, forgeable`}},
		{"key twice", "version: 1\nguard:\n  mode: extra\n  enforce: no\n  mode: ddos\n", []string{`5:3 "guard.mode" is there twice | keep one; the first is on line 3`}},
		{"group twice", "version: 1\nlog: {}\nlog: {}\n", []string{`3:1 "log" is there twice | keep one; the first is on line 2`}},
		{"group with a value", "version: 1\nlog: journald\n", []string{`2:6 log: "journald" where keys are wanted | write its keys below it, indented: source, files, forgeable`}},

		{"number", "version: 1\nguard: {max_retry: five, max_sources: 1.5, known: {max_retry: \"9\"}}\n", []string{
			`2:20 guard.max_retry: "five" is no whole number | write a number from 1 to 1000`,
			`2:39 guard.max_sources: "1.5" is no whole number | write a number from 1000 to 10000000`,
			`2:63 guard.known.max_retry: the text "9" where a number is wanted | leave out the quotes`}},
		{"number out of range", "version: 1\nguard: {max_retry: 0, escalate: {hosts: 1}, prefix: {ipv4: 33, ipv6: 99999999999999999999}}\n", []string{
			`2:20 guard.max_retry: 0 is out of range | write a number from 1 to 1000`,
			`2:41 guard.escalate.hosts: 1 is out of range | write a number from 2 to 1000, or 0: off`,
			`2:60 guard.prefix.ipv4: 33 is out of range | write a number from 16 to 32`,
			`2:70 guard.prefix.ipv6: "99999999999999999999" is no whole number | write a number from 32 to 128`}},
		{"number of another spelling", "version: 1\nguard: {max_retry: 0x10, max_sources: 1_000_000}\n", []string{
			`2:20 guard.max_retry: "0x10" is no whole number | write a number from 1 to 1000`,
			`2:39 guard.max_sources: "1_000_000" is no whole number | write a number from 1000 to 10000000`}},
		{"factor", "version: 1\nguard: {growth: {factor: .inf}}\n", []string{`2:26 guard.growth.factor: ".inf" is no number | write a number from 1 to 100, also 1.5`}},
		{"factor out of range", "version: 1\nguard: {growth: {factor: 0.5}}\n", []string{`2:26 guard.growth.factor: 0.5 is out of range | write a number from 1 to 100, also 1.5`}},
		{"boolean", "version: 1\nguard: {enforce: No, distributed: \"yes\", cut_connections: 1, spare_sessions: [yes]}\n", []string{
			`2:18 guard.enforce: "No" is neither yes nor no | write yes or no (on, off, true and false are taken too)`,
			`2:35 guard.distributed: the text "yes" where yes or no is wanted | leave out the quotes`,
			`2:59 guard.cut_connections: "1" is neither yes nor no | write yes or no (on, off, true and false are taken too)`,
			`2:78 guard.spare_sessions: a list where yes or no is wanted`}},
		{"no value", "version: 1\nguard:\n  mode:\n", []string{`3:9 guard.mode: there is no value; want one of normal, ddos, extra, aggressive | write one, or leave the key out: it is aggressive then`}},
		{"no space after a colon", "version: 1\nguard: {mode:extra}\n", []string{`2:9 there is no key "guard.mode:extra" | write a space after the colon`}},
		{"an address that ends in a colon", "version: 1\nadmins:\n- 2001:db8::\n", []string{`3:3 admins: a mapping where an address or prefix is wanted | put it in quotes`}},
		{"choice", "version: 1\nguard: {mode: aggressiv, drop: everything}\n", []string{
			`2:15 guard.mode: "aggressiv" is not known | did you mean aggressive?`,
			`2:32 guard.drop: "everything" is not known | write one of all, ssh`}},
		{"duration", "version: 1\nguard: {find_time: 600, ban_time: 10 minutes, growth: {forget: 30}, known: {for: -1h}}\n", []string{
			`2:20 guard.find_time: 600 has no unit | write 600s or 10m`,
			`2:35 guard.ban_time: "10 minutes" is no duration | write it like 30s, 10m, 1h30m or 7d; the units are w, d, h, m, s and ms`,
			`2:64 guard.growth.forget: 30 has no unit | write 30s or 30m`,
			`2:82 guard.known.for: "-1h" is no duration | write it like 30s, 10m, 1h30m or 7d; the units are w, d, h, m, s and ms`}},
		{"duration out of range", "version: 1\nguard: {find_time: 8d, ban_time: forever}\n", []string{
			`2:20 guard.find_time: 8d is out of range | write a duration from 1s to 7d`,
			`2:34 guard.ban_time: "forever" is no duration | the longest is 365d; what ends by itself cannot lock anyone out for good`}},
		{"ports", "version: 1\nssh: {port: [22, 22, 0, 65536, \"x\", [1]]}\n", []string{
			`2:18 ssh.port: port 22 is there twice | keep one`,
			`2:22 ssh.port: 0 is out of range | write a number from 1 to 65535`,
			`2:25 ssh.port: 65536 is out of range | write a number from 1 to 65535`,
			`2:32 ssh.port: the text "x" where a number is wanted | leave out the quotes`,
			`2:37 ssh.port: a list where a number is wanted`}},
		{"no ports", "version: 1\nssh: {port: []}\n", []string{`2:13 ssh.port: the list is empty | write sshd's port`}},
		{"sshd's keywords", "version: 1\nssh:\n  settings:\n    MaxAuthTrys: 3\n    Port: 23\n    match: all\n    X: 1\n    UseDNS: no\n    usedns: yes\n    PubkeyAcceptedKeyTypes: ssh-ed25519\n    pubkeyacceptedalgorithms: ssh-ed25519\n    UsePAM:yes: x\n", []string{
			`4:5 ssh.settings: sshd has no keyword "MaxAuthTrys" | did you mean MaxAuthTries?`,
			`5:5 ssh.settings: Port cannot be set here | use ssh.port`,
			`6:5 ssh.settings: Match cannot be set here | write the block into sshd_config itself: what is named here holds for everybody`,
			`7:5 ssh.settings: sshd has no keyword "X" | the keywords are those of sshd_config(5)`,
			`9:5 ssh.settings: "usedns" is there twice | keep one; the first is on line 8`,
			`11:5 ssh.settings: "PubkeyAcceptedKeyTypes" and "pubkeyacceptedalgorithms" are one setting | keep one; the first is on line 10`,
			`12:5 ssh.settings: sshd has no keyword "UsePAM:yes" | write a space after the colon`}},
		{"sshd's values", "version: 1\nssh:\n  settings:\n    UsePAM:\n    MaxStartups: [10, 30, 60]\n    Banner: \"a\\nb\"\n    UseDNS: ' no'\n    LogLevel: as-is\n    IPQoS: \"\"\n    ForceCommand: '\"a b'\n    PidFile: '/run/x #y'\n    MACs: " + strings.Repeat("x", 4097) + "\n", []string{
			`4:12 ssh.settings.UsePAM: there is no value | write one, or as_is: it is left alone then`,
			`5:18 ssh.settings.MaxStartups: a list where a value on one line is wanted`,
			`6:13 ssh.settings.Banner: "a\nb" is not one line of plain text | write it on one line, with nothing in it that cannot be seen`,
			`7:13 ssh.settings.UseDNS: " no" is empty, or has spaces around it | write the value alone, or leave the keyword out`,
			`8:15 ssh.settings.LogLevel: "as-is" is not known | write as_is`,
			`9:12 ssh.settings.IPQoS: "" is empty, or has spaces around it | write the value alone, or leave the keyword out`,
			`10:19 ssh.settings.ForceCommand: ""a b" has a quote that is not closed | sshd reads the value as words, in quotes where they hold spaces: 'internal-sftp -d "/my files"'`,
			`11:14 ssh.settings.PidFile: "/run/x #y" holds a comment, which sshd does not read | sshd reads the value as words, in quotes where they hold spaces: 'internal-sftp -d "/my files"'`,
			`12:11 ssh.settings.MACs: is longer than 4096 bytes`}},
		{"settings of no kind", "version: 1\nssh: {settings: [UseDNS], profile: hard}\n", []string{
			`2:17 ssh.settings: a list where keywords and values are wanted | write it in braces: {X11Forwarding: no}`,
			`2:36 ssh.profile: "hard" is not known | write one of none, basic, strict`}},
		{"sshd's settings said twice", "version: 1\nssh:\n  root_login: no\n  password_login: yes\n  settings: {PermitRootLogin: as_is, challengeresponseauthentication: no}\n", []string{
			`5:14 ssh.root_login is no, and ssh.settings says it again with PermitRootLogin | keep one of the two: leave PermitRootLogin out, or ssh.root_login`,
			`5:38 ssh.password_login is yes, and ssh.settings says it again with ChallengeResponseAuthentication | keep one of the two: leave ChallengeResponseAuthentication out, or ssh.password_login`}},
		{"addresses", "version: 1\nadmins:\n- 1.2.3.4/24\n- fe80::1%eth0\n- ::ffff:1.2.3.4\n- example.com\n- 1.2.3\n- 192.168.010.1\n- ::ffff:1.2.3.0/120\n- 1.2.3.4/33\n", []string{
			`3:3 admins: "1.2.3.4/24" has bits set beyond its /24 | write 1.2.3.0/24 for the network, or 1.2.3.4 for the one address`,
			`4:3 admins: "fe80::1%eth0" has a zone | write fe80::1; a zone says nothing about a peer`,
			`5:3 admins: "::ffff:1.2.3.4" is an IPv4 address written as IPv6 | write 1.2.3.4`,
			`6:3 admins: "example.com" is no address or prefix | write an address (203.0.113.7, 2001:db8::1) or a prefix (203.0.113.0/24); a name can be turned elsewhere by whoever runs its DNS`,
			`7:3 admins: "1.2.3" is no address or prefix | write an address (203.0.113.7, 2001:db8::1) or a prefix (203.0.113.0/24); a name can be turned elsewhere by whoever runs its DNS`,
			`8:3 admins: "192.168.010.1" is no address or prefix | write an address (203.0.113.7, 2001:db8::1) or a prefix (203.0.113.0/24); a name can be turned elsewhere by whoever runs its DNS`,
			`9:3 admins: "::ffff:1.2.3.0/120" is an IPv4 prefix written as IPv6 | write it as IPv4`,
			`10:3 admins: "1.2.3.4/33" is no prefix | write a prefix as 203.0.113.0/24 or 2001:db8::/48`}},
		{"everyone", "version: 1\nadmins: [0.0.0.0/0, ::/0]\nguard: {ignore: [128.0.0.0/1, 2000::/3]}\n", []string{
			`2:10 admins: 0.0.0.0/0 would switch the guard off for too much of the internet | to decide and tell but never ban, set guard.enforce: no`,
			`2:21 admins: ::/0 would switch the guard off for too much of the internet | to decide and tell but never ban, set guard.enforce: no`,
			`3:18 guard.ignore: 128.0.0.0/1 would switch the guard off for too much of the internet | to decide and tell but never ban, set guard.enforce: no`,
			`3:31 guard.ignore: 2000::/3 would switch the guard off for too much of the internet | to decide and tell but never ban, set guard.enforce: no`}},
		{"an address outside a list", "version: 1\nadmins: 1.2.3.4\n", []string{`2:9 admins: "1.2.3.4" where a list is wanted | write it in brackets: [203.0.113.7, 2001:db8::/48]`}},
		{"weights", "version: 1\nguard: {weights: {faild: 1, failed: 16, closed: 1, closed: 2, accepted: 1}}\n", []string{
			`2:19 guard.weights: "faild" is no kind of message that can count | did you mean failed?`,
			`2:37 guard.weights: 16 is out of range | write a number from 0 to 15`,
			`2:52 guard.weights: "closed" is there twice | keep one; the first is on line 2`,
			`2:63 guard.weights: "accepted" is no kind of message that can count | the kinds are ` + strings.Join(kindNames(), ", ")}},
		{"weights as a list", "version: 1\nguard: {weights: [failed]}\n", []string{`2:18 guard.weights: a list where kinds and weights are wanted | write it in braces: {failed: 1}`}},
		{"paths", "version: 1\nlog: {source: files, files: [auth.log, /, /x, //x]}\n", []string{
			`2:30 log.files: "auth.log" is no absolute path of a file | write the whole path, such as /var/log/auth.log`,
			`2:40 log.files: "/" is no absolute path of a file | write the whole path, such as /var/log/auth.log`,
			`2:47 log.files: "/x" is there twice | keep one`}},
		{"listen", "version: 1\nmetrics: {listen: 0.0.0.0:9222}\n", []string{`2:19 metrics.listen: 0.0.0.0:9222 can be reached from outside | write 127.0.0.1:9222; to let others ask, put a proxy with a password in front`}},
		{"listen at a name", "version: 1\nmetrics: {listen: localhost:9222}\n", []string{`2:19 metrics.listen: "localhost:9222" is no address and port | write it like 127.0.0.1:9222 or [::1]:9222`}},

		{"prefixes that overlap", "version: 1\nadmins: [10.1.0.0/16, 192.0.2.1, 10.0.0.0/8, 10.1.2.3, 192.0.2.1/32]\nguard: {ignore: [2001:db8:1::/48, 2001:db8::/32]}\n", []string{
			`2:10 admins: 10.1.0.0/16 is within 10.0.0.0/8 | leave one of them out; 10.0.0.0/8 is on line 2`,
			`2:46 admins: 10.1.2.3/32 is within 10.0.0.0/8 | leave one of them out; 10.0.0.0/8 is on line 2`,
			`2:56 admins: 192.0.2.1/32 is there twice | keep one; the first is on line 2`,
			`3:18 guard.ignore: 2001:db8:1::/48 is within 2001:db8::/32 | leave one of them out; 2001:db8::/32 is on line 3`}},
		{"exposure", "version: 1\nexposure: onrequest\n", []string{`2:11 exposure: "onrequest" is not known | did you mean on_request?`}},
		{"nobody left", "version: 1\nexposure: fixed\nadmins: [127.0.0.1, ::1]\n", []string{
			`2:11 nobody could come in: exposure is fixed, and admins names nobody elsewhere | put your own fixed address under admins, or set exposure: public`}},
		{"nobody to give the first grant", "version: 1\nexposure: on_request\n", []string{
			`2:11 nobody could come in for the first time: exposure is on_request, and admins names nobody elsewhere | put your own fixed address under admins: a grant is given on this host, and whoever has none cannot get there to give one`}},
		{"no IPv6 for those who have nothing else", "version: 1\nfirewall: {ipv6: no}\nadmins: [127.0.0.1, 2001:db8::1]\n", []string{
			`2:18 no admin could come in: firewall.ipv6 is no, and all of admins is IPv6 | put an IPv4 address under admins too, or leave firewall.ipv6 out`}},
		{"open", "version: 1\nfirewall:\n  mode: lockdown\n  open:\n  - 80\n  - 80/icmp\n  - http/tcp\n  - 0/tcp\n  - 65536/tcp\n  - 90-80/udp\n  - 1-2-3/tcp\n  - -5/tcp\n  - [80/tcp]\n  - +1/tcp\n", []string{
			`5:5 firewall.open: "80" has no protocol | write 80/tcp or 80/udp`,
			`6:5 firewall.open: "icmp" is no protocol that is known here | write 80/tcp or 80/udp`,
			`7:5 firewall.open: "http/tcp" is no port with its protocol | write it like 80/tcp or 8000-8100/udp`,
			`8:5 firewall.open: "0/tcp" is out of range | ports are numbers from 1 to 65535`,
			`9:5 firewall.open: "65536/tcp" is out of range | ports are numbers from 1 to 65535`,
			`10:5 firewall.open: "90-80/udp" begins after its end | write 80-90/udp`,
			`11:5 firewall.open: "1-2-3/tcp" is no port with its protocol | write it like 80/tcp or 8000-8100/udp`,
			`12:5 firewall.open: "-5/tcp" is no port with its protocol | write it like 80/tcp or 8000-8100/udp`,
			`13:5 firewall.open: a list where a port with its protocol is wanted`,
			`14:5 firewall.open: "+1/tcp" is no port with its protocol | write it like 80/tcp or 8000-8100/udp`}},
		{"open to some", "version: 1\nfirewall:\n  mode: lockdown\n  open:\n  - {port: 5432/tcp, from: [10.0.0.1/8]}\n  - {port: 5433/tcp}\n  - {from: [::1]}\n  - {port: 5434/tcp, from: []}\n  - {port: 5435/tcp, from: [10.0.0.0/8, 10.1.1.1]}\n  - {ports: 1/tcp, from: [::1]}\n", []string{
			`5:29 firewall.open.from: "10.0.0.1/8" has bits set beyond its /8 | write 10.0.0.0/8 for the network, or 10.0.0.1 for the one address`,
			`6:6 firewall.open: from is missing | write 5433/tcp alone to open it to everybody`,
			`7:6 firewall.open: there is no port | write it like {port: 5432/tcp, from: [10.0.0.0/8]}`,
			`8:28 firewall.open.from: names nobody | name the addresses; to open it to everybody, write the port alone`,
			`9:41 firewall.open.from: 10.1.1.1/32 is within 10.0.0.0/8 | leave one of them out; 10.0.0.0/8 is on line 9`,
			`10:6 there is no key "firewall.open.ports" | did you mean port?`,
			`10:6 firewall.open: there is no port | write it like {port: 5432/tcp, from: [10.0.0.0/8]}`}},
		{"open already", "version: 1\nfirewall:\n  mode: lockdown\n  open:\n  - 8080/tcp\n  - 80-90/tcp\n  - 80/udp\n  - 80/tcp\n  - 85-95/tcp\n  - 8000-8100/tcp\n  - {port: 81/tcp, from: [10.0.0.0/8]}\n  - {port: 7/tcp, from: [10.0.0.0/8]}\n  - {port: 7/tcp, from: [10.2.0.0/16]}\n  - 80/udp\n", []string{
			`5:5 firewall.open: 8080/tcp is open already by 8000-8100/tcp on line 10 | leave it out`,
			`8:5 firewall.open: 80/tcp is open already by 80-90/tcp on line 6 | leave it out`,
			`9:5 firewall.open: 85-95/tcp overlaps 80-90/tcp | write one range: 80-95/tcp`,
			`11:6 firewall.open: 81/tcp is open already by 80-90/tcp on line 6 | leave it out`,
			`13:6 firewall.open: 7/tcp is open already by 7/tcp on line 12 | leave it out`,
			`14:5 firewall.open: 80/udp is open already by 80/udp on line 7 | leave it out`}},
		{"SSH opened twice", "version: 1\nssh: {port: [22, 2222]}\nfirewall: {mode: lockdown, open: [2000-3000/tcp, 22/tcp]}\n", []string{
			`3:35 2000-3000/tcp would not open SSH's port 2222 | leave SSH's port out of the range; exposure says who may reach SSH`,
			`3:50 22/tcp would not open SSH's port 22 | leave it out; exposure says who may reach SSH`}},
		{"lockdown's keys in guard", "version: 1\nfirewall: {open: [80/tcp], forward: yes}\n", []string{
			`2:18 firewall.open would open nothing: firewall.mode is guard, which closes nothing but SSH | set firewall.mode: lockdown, or leave firewall.open out`,
			`2:37 firewall.forward has no meaning: firewall.mode is guard, which never touches what is forwarded | set firewall.mode: lockdown, or leave firewall.forward out`}},
		{"too much open", "version: 1\nfirewall: {open: [" + strings.Repeat("1/tcp,", 257) + "]}\n", []string{`2:18 firewall.open: more than 256 | open ranges, as 8000-8100/tcp`}},
		{"countries", "version: 1\nfirewall: {countries: [JP, UK, Germny, jp, \"\", [FR]]}\n", []string{
			`2:28 firewall.countries: "UK" is not the code of a country | the United Kingdom's code is GB`,
			`2:32 firewall.countries: "Germny" is not the code of a country | did you mean DE (Germany)?`,
			`2:40 firewall.countries: JP is there twice | keep one; the first is on line 2`,
			`2:44 firewall.countries: "" is not the code of a country | a code is two letters (ISO 3166-1), for example JP`,
			`2:48 firewall.countries: a list where the code of a country is wanted`}},
		{"a country outside a list", "version: 1\nfirewall: {countries: jp}\n", []string{`2:23 firewall.countries: "jp" where a list is wanted | write it in brackets: [JP]`}},
		{"no countries, or Norway", "version: 1\nfirewall: {countries: no}\n", []string{`2:23 firewall.countries: "no" where a list is wanted | write [] for all countries, or [NO] for Norway`}},
		{"countries allowed and denied", "version: 1\nfirewall: {countries: {allow: [JP], deny: [KP]}}\n", []string{`2:24 firewall.countries: both allow and deny | keep one: whoever is not allowed is denied`}},
		{"no country allowed", "version: 1\nfirewall: {countries: {allow: []}}\n", []string{`2:31 firewall.countries.allow: names no country | leave it out to let in everybody`}},
		{"rate", "version: 1\nfirewall: {rate: {per_minute: 0, burst: 10001, per_hour: 1}}\n", []string{
			`2:31 firewall.rate.per_minute: 0 is out of range | write a number from 1 to 10000`,
			`2:41 firewall.rate.burst: 10001 is out of range | write a number from 1 to 10000`,
			`2:48 there is no key "firewall.rate.per_hour" | the keys here are per_minute, burst`}},
		{"rate of no kind", "version: 1\nfirewall: {rate: yes}\n", []string{`2:18 firewall.rate: "yes" where a rate or no is wanted | write rate: {per_minute: 2, burst: 5}, or rate: no`}},
		{"rate as iptables has it", "version: 1\nfirewall: {rate: 2/minute}\n", []string{`2:18 firewall.rate: "2/minute" where a rate or no is wanted | write rate: {per_minute: 2, burst: 5}, or rate: no`}},
		{"URLs", "version: 1\ncountry:\n  source: csv\n  urls: [http://example.com/a, 'https://u:p@example.com/a', ftp://example.com/a, 'https:///a', 'https://example.com/a#b', 'https://example.com/{a', 'https://example.com/{a}{b}', 'https://example.com/a', 'https://example.com/a', 'https://example.com/{a,b}', 'https://{a,b:x}', 'https://example.com/a b']\n", []string{
			`4:10 country.urls: "http://example.com/a" is not https | write https://; whoever is on the way could let anybody in otherwise`,
			`4:32 country.urls: "https://u:p@example.com/a" holds a password | leave the name and the password out: addresses of sources are shown and logged`,
			`4:61 country.urls: "ftp://example.com/a" is no https URL | write it like https://example.com/countries.csv, or with braces for several files: https://example.com/{ipv4,ipv6}.csv`,
			`4:82 country.urls: "https:///a" is no https URL | write it like https://example.com/countries.csv, or with braces for several files: https://example.com/{ipv4,ipv6}.csv`,
			`4:96 country.urls: "https://example.com/a#b" has a fragment | leave out what follows the #`,
			`4:123 country.urls: "https://example.com/{a" is no URL | write it like https://example.com/countries.csv, or with braces for several files: https://example.com/{ipv4,ipv6}.csv`,
			`4:149 country.urls: "https://example.com/{a}{b}" is no URL | write it like https://example.com/countries.csv, or with braces for several files: https://example.com/{ipv4,ipv6}.csv`,
			`4:204 country.urls: "https://example.com/a" is there twice | keep one`,
			`4:229 country.urls: "https://example.com/{a,b}" stands for 2 files, the one before it for 1 | mirrors hold the same files; write as many words in the braces of each`,
			`4:258 country.urls: "https://{a,b:x}" is no URL | write it like https://example.com/countries.csv, or with braces for several files: https://example.com/{ipv4,ipv6}.csv`,
			`4:277 country.urls: "https://example.com/a b" is no URL | write it like https://example.com/countries.csv, or with braces for several files: https://example.com/{ipv4,ipv6}.csv`}},
		{"URLs for nothing", "version: 1\ncountry: {urls: ['https://example.com/a']}\n", []string{`2:17 country.urls would not be read: country.source is registries | set country.source to what they hold (list, csv or mmdb), or leave country.urls out`}},
		{"no URLs", "version: 1\ncountry: {source: mmdb}\n", []string{`2:19 country.source is mmdb, but country.urls names nothing | name where it is: urls: [https://example.com/countries.csv]`}},
		{"every", "version: 1\ncountry: {every: yes}\n", []string{`2:18 country.every: "yes" is no duration | write 1d, or no`}},
		{"too often", "version: 1\ncountry: {every: 5m}\n", []string{`2:18 country.every: 5m is out of range | write a duration from 1h to 30d`}},
		{"never", "version: 1\ncountry: {every: never}\n", []string{`2:18 country.every: "never" is no duration | write no`}},

		{"ban_time beyond the longest", "version: 1\nguard: {ban_time: 8d}\n", []string{`2:19 bans of 8d (guard.ban_time) are longer than the longest, 7d (guard.growth.max) | raise guard.growth.max, or set guard.growth.factor: 1 for bans that do not grow`}},
		{"forgotten too soon", "version: 1\nguard: {growth: {forget: 1d}}\n", []string{`2:26 bans are forgotten after 1d (guard.growth.forget), while one of up to 7d (guard.growth.max) may still hold | raise guard.growth.forget to guard.growth.max or more`}},
		{"known judged harder", "version: 1\nguard: {max_retry: 50}\n", []string{`2:20 who logged in lately would be banned sooner than a stranger: guard.known.max_retry is below guard.max_retry | raise guard.known.max_retry to guard.max_retry or more, or set guard.known.for: 0s`}},
		{"network no larger than a source", "version: 1\nguard: {prefix: {ipv4: 24, ipv6: 48}}\n", []string{
			`2:24 a network (guard.escalate.ipv4) must be larger than a source (guard.prefix.ipv4) | make guard.escalate.ipv4 smaller than guard.prefix.ipv4, or set guard.escalate.hosts: 0`,
			`2:34 a network (guard.escalate.ipv6) must be larger than a source (guard.prefix.ipv6) | make guard.escalate.ipv6 smaller than guard.prefix.ipv6, or set guard.escalate.hosts: 0`}},
		{"no files", "version: 1\nlog: {source: files}\n", []string{`2:15 log.source is files, but log.files names none | name them: files: [/var/log/auth.log]`}},
		{"files for nothing", "version: 1\nlog: {files: [/x]}\n", []string{`2:14 log.files would not be read: log.source is auto | set log.source: files, or leave log.files out`}},
		{"forgeable for nothing", "version: 1\nlog: {source: journald, forgeable: yes}\n", []string{`2:36 log.forgeable has no meaning for journald, which keeps each message whole | leave log.forgeable out`}},
		{"what was refused is not judged again", "version: 1\nlog: {source: file, files: [/x]}\n", []string{`2:15 log.source: "file" is not known | did you mean files?`}},

		{"anchors and the like", "version: 1\nadmins: &a [1.2.3.4]\nguard:\n  ignore: *a\n  <<: *a\n  mode: !!str extra\n", []string{
			`2:9 an anchor (&) is not taken here | write the value out; a text that begins with & needs quotes`,
			`4:11 an alias (*) is not taken here | write the value out; a text that begins with * needs quotes`,
			`5:3 a merge key (<<) is not taken here | write the keys out`,
			`5:7 an alias (*) is not taken here | write the value out; a text that begins with * needs quotes`,
			`6:9 a tag (!) is not taken here | leave it out; a text that begins with ! needs quotes`}},
		{"directive", "%YAML 1.2\n---\nversion: 1\n", []string{
			"1:1 a directive (%) is not taken here | leave it out",
			"2:1 a second document | keep everything in one document; leave out this ---"}},
		{"two documents", "version: 1\n---\nversion: 1\n", []string{"2:1 a second document | keep everything in one document; leave out this ---"}},
		{"complex key", "? version\n: 1\n", []string{"1:1 a complex key (?) is not taken here | write `key: value`"}},
		{"tab", "version: 1\nguard:\n\tenforce: no\n \tmode: extra\n", []string{
			"3:1 a tab in the indentation | indent with spaces", "4:2 a tab in the indentation | indent with spaces"}},
		{"not UTF-8", "version: 1\n# caf\xe9\n", []string{"2:6 is not UTF-8: byte 0xe9 | save the file as UTF-8"}},
		{"NUL", "version: 1\n\x00\n", []string{"2:1 a NUL byte | is this a text file? Save it as UTF-8"}},
		{"control character", "version: 1\n# \x1b[2J\n", []string{"2:3 a control character, U+001B | delete it"}},
		{"old Macintosh", "version: 1\rguard: {}\r", []string{"1:11 a control character, U+000D | delete it"}},
		{"indented too deep", "version: 1\n" + strings.Repeat(" ", 201) + "x: 1\n", []string{"2:202 is indented too deep | indent with two spaces a level"}},
		{"not YAML", "version: 1\nadmins: [1.2.3.4\nguard: {}\n", []string{"3:1 is not valid YAML: ',' or ']' must be specified | look for a missing quote, bracket, colon or space at this place or just before it"}},
		{"nested too deep", "version: 1\nadmins: " + strings.Repeat("[", 17), []string{"2:25 is nested too deep"}},
		{"dashes too deep", "version: 1\nadmins:\n" + strings.Repeat("- ", 17), []string{"3:33 is nested too deep"}},
		{"too many keys", "version: 1\n" + strings.Repeat("a: 1\n", 5001), []string{"5001:2 has too many keys | is this the right file?"}},
		{"too many keys, on many levels", "version: 1\n" + strings.Repeat("a:\n  b: 1\n  c: 1\n  d: 1\n  e: 1\n  f: 1\n", 4200), []string{"25001:4 has too many keys | is this the right file?"}},
		{"too large", strings.Repeat("#", 1<<20+1), []string{"0:0 is larger than 1048576 bytes | a configuration has a few kilobytes; is this the right file?"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, mistakesOf(t, tt.src)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// mistakesOf returns the mistakes of a file as "line:column message | hint".
func mistakesOf(t *testing.T, src string) []string {
	t.Helper()
	_, err := Parse("x.yaml", []byte(src))
	var wrong Errors
	if !errors.As(err, &wrong) {
		t.Fatalf("got error %v, want Errors", err)
	}
	var got []string
	for _, e := range wrong {
		text := strings.TrimPrefix(e.Place(), "x.yaml:")
		if e.Line == 0 {
			text = "0:0"
		}
		text += " " + e.Message
		if e.Hint != "" {
			text += " | " + e.Hint
		}
		got = append(got, text)
	}
	return got
}

func TestMistakesAreBounded(t *testing.T) {
	_, err := Parse("x.yaml", []byte("version: 1\nadmins:\n"+strings.Repeat("- x\n", 1000)))
	var wrong Errors
	if !errors.As(err, &wrong) || len(wrong) != maxErrors+1 {
		t.Fatalf("got %d errors, want %d", len(wrong), maxErrors+1)
	}
	if got, want := wrong[maxErrors].Error(), "x.yaml: 980 more errors are not shown"; got != want {
		t.Errorf("last error = %q, want %q", got, want)
	}
}

func TestErrorText(t *testing.T) {
	for _, tt := range []struct{ name, src, want string }{
		{"excerpt", "version: 1\nguard:\n  find_time: 600\n", `x.yaml:3:14: guard.find_time: 600 has no unit
    3 |   find_time: 600
      |              ^
hint: write 600s or 10m`},
		{"wide characters before the place", "version: 1\nguard: {関所: 1, mode: x}\n", `x.yaml:2:9: there is no key "guard.関所"
    2 | guard: {関所: 1, mode: x}
      |         ^
hint: the keys here are ` + strings.Join(guardKeys(), ", ") + `

x.yaml:2:22: guard.mode: "x" is not known
    2 | guard: {関所: 1, mode: x}
      |                        ^
hint: write one of normal, ddos, extra, aggressive`},
		{"hostile", "version: 1\nguard: {mode: \"\u202e\u2028\"}\n", `x.yaml:2:15: guard.mode: "\u202e\u2028" is not known
    2 | guard: {mode: "\u202e\u2028"}
      |               ^
hint: write one of normal, ddos, extra, aggressive`},
		{"a long line is cut", "version: 1\nadmins: [" + manyAddresses(1, "%s, ") + "x" + manyAddresses(2, ", %s") + "]\n",
			`x.yaml:2:1002: admins: "x" is no address or prefix
    2 | …2.1.95, 1.2.1.96, 1.2.1.97, 1.2.1.98, 1.2.1.99, 1.2.1.100, x, 1.2.2.1, 1.2.2.2, 1.2.2.3, 1.2.2.4, 1…
      |                                                             ^
hint: write an address (203.0.113.7, 2001:db8::1) or a prefix (203.0.113.0/24); a name can be turned elsewhere by whoever runs its DNS`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("x.yaml", []byte(tt.src))
			if err == nil {
				t.Fatal("no error")
			}
			if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// manyAddresses are a hundred of 1.2.n.0/24, each in a frame.
func manyAddresses(n int, frame string) string {
	var b strings.Builder
	for i := range 100 {
		fmt.Fprintf(&b, frame, fmt.Sprintf("1.2.%d.%d", n, i+1))
	}
	return b.String()
}

func guardKeys() []string {
	for _, k := range table(Default()) {
		if k.name == "guard" {
			return k.value.(group).names()
		}
	}
	return nil
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sekisho.yaml")
	if _, err := Load(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load(nothing) = %v, want fs.ErrNotExist", err)
	}
	if _, err := LoadOrDefault(path, true); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("LoadOrDefault(nothing, explicit) = %v, want fs.ErrNotExist", err)
	}
	got, err := LoadOrDefault(path, false)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), got, comparePrefixes); diff != "" {
		t.Errorf("LoadOrDefault(nothing) (-default +got):\n%s", diff)
	}
	if err := os.WriteFile(path, []byte("version: 1\nguard: {max_retry: x}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var wrong Errors
	if _, err := LoadOrDefault(path, false); !errors.As(err, &wrong) || wrong[0].Place() != path+":2:20" {
		t.Errorf("LoadOrDefault(wrong) = %v", err)
	}
	if _, err := Load(dir); !errors.As(err, &wrong) || wrong[0].Error() != dir+": cannot be read: is a directory" {
		t.Errorf("Load(directory) = %v", err)
	}
	if _, err := Load("/dev/zero"); !errors.As(err, &wrong) || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("Load(/dev/zero) = %v", err)
	}
}

func TestDuration(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     time.Duration
		text     string // "": an error
	}{
		{"seconds", "90s", 90 * time.Second, "1m30s"},
		{"days", "7d", 7 * day, "7d"},
		{"weeks", "1w", 7 * day, "7d"},
		{"mixed", "1h30m", 90 * time.Minute, "1h30m"},
		{"fraction", "1.5d", 36 * time.Hour, "1d12h"},
		{"milliseconds", "1500ms", 1500 * time.Millisecond, "1s500ms"},
		{"zero", "0s", 0, "0s"},
		{"longest exact", "365d", 365 * day, "365d"},
		{"empty", "", 0, ""},
		{"bare", "600", 0, ""},
		{"bare zero", "0", 0, ""},
		{"negative", "-1h", 0, ""},
		{"signed", "+1h", 0, ""},
		{"unknown unit", "1y", 0, ""},
		{"word", "10min", 0, ""},
		{"space", "10 m", 0, ""},
		{"too long", "99999999999w", 0, ""},
		{"dots", "1..5h", 0, ""},
		{"dot first", ".5h", 0, ""},
		{"dot last", "1.h", 0, ""},
		{"unit alone", "h", 0, ""},
		{"a number at the end", "1h30", 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseDuration(tt.in)
			if (err != nil) != (tt.text == "") || got != tt.want {
				t.Fatalf("ParseDuration(%q) = %v, %v, want %v", tt.in, got, err, tt.want)
			}
			pattern := regexp.MustCompile(duration{p: &got}.schema()["pattern"].(string))
			if tt.name != "too long" && pattern.MatchString(tt.in) != (err == nil) {
				t.Errorf("the schema's pattern and ParseDuration(%q) are of two minds", tt.in)
			}
			if err == nil && FormatDuration(got) != tt.text {
				t.Errorf("FormatDuration(%v) = %q, want %q", got, FormatDuration(got), tt.text)
			}
		})
	}
}

func TestNearest(t *testing.T) {
	names := []string{"max_retry", "find_time", "ban_time", "for", "max", "mode"}
	for _, tt := range []struct{ name, in, want string }{
		{"letter left out", "max_rety", "max_retry"},
		{"swapped", "mdoe", "mode"},
		{"without underscore", "bantime", "ban_time"},
		{"with a hyphen, in capitals", "Find-Time", "find_time"},
		{"too far", "window", ""},
		{"short names are not guessed", "fog", "for"},
		{"nothing alike", "xyz", ""},
		{"empty", "", ""},
		{"endless", strings.Repeat("x", 1<<16), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Nearest(tt.in, names); got != tt.want {
				t.Errorf("Nearest(%.20q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

// TestDistance holds distance to the whole table of the definition.
func TestDistance(t *testing.T) {
	whole := func(a, b string) int {
		d := make([][]int, len(a)+1)
		for i := range d {
			d[i] = make([]int, len(b)+1)
			for j := range d[i] {
				if i == 0 || j == 0 {
					d[i][j] = i + j
					continue
				}
				change := 1
				if a[i-1] == b[j-1] {
					change = 0
				}
				d[i][j] = min(d[i-1][j-1]+change, d[i-1][j]+1, d[i][j-1]+1)
				if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
					d[i][j] = min(d[i][j], d[i-2][j-2]+1)
				}
			}
		}
		return min(tooFar, d[len(a)][len(b)])
	}
	r := rand.New(rand.NewPCG(1, 2))
	word := func() string {
		b := make([]byte, r.IntN(9))
		for i := range b {
			b[i] = "ab"[r.IntN(2)]
		}
		return string(b)
	}
	for range 20000 {
		if a, b := word(), word(); distance(a, b) != whole(a, b) {
			t.Fatalf("distance(%q, %q) = %d, want %d", a, b, distance(a, b), whole(a, b))
		}
	}
}

// TestWeighable holds the kinds that can be weighed to those that count at all.
func TestWeighable(t *testing.T) {
	doc, err := os.ReadFile("../../docs/kinds.md")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|.*\\| (.*) \\|$").FindAllStringSubmatch(string(doc), -1) {
		if !strings.HasPrefix(row[2], "never") {
			want = append(want, row[1])
		}
	}
	if diff := cmp.Diff(want, kindNames(), cmpopts.SortSlices(strings.Compare)); diff != "" {
		t.Errorf("(-docs/kinds.md +kindNames):\n%s", diff)
	}
}
