package top

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sekisho/internal/daemon"
	"sekisho/internal/guard"
	"sekisho/internal/hardening"
	"sekisho/internal/printable"
	"sekisho/internal/trial"
)

var update = flag.Bool("update", false, "write the goldens")

// host is a Host in memory, whose bans come and go.
type host struct {
	look  Look
	err   error
	asked []string
}

func (h *host) Look(_ context.Context, find string) (Look, error) {
	h.asked = append(h.asked, "look "+find)
	return h.look, h.err
}

func (h *host) Why(_ context.Context, a netip.Addr) ([]string, error) {
	h.asked = append(h.asked, "why "+a.String())
	return []string{a.String() + " is banned", "ban  \x1b[2J" + strings.Repeat("long ", 40)}, h.err
}

func (h *host) Ban(_ context.Context, p netip.Prefix) (string, error) {
	h.asked = append(h.asked, "ban "+p.String())
	if h.err != nil {
		return "", h.err
	}
	return p.String() + " is banned", nil
}

func (h *host) Unban(_ context.Context, p netip.Prefix) (string, error) {
	h.asked = append(h.asked, "unban "+p.String())
	for i, b := range h.look.Bans {
		if b.Prefix == p {
			h.look.Bans = append(h.look.Bans[:i:i], h.look.Bans[i+1:]...)
			return p.String() + " is no longer banned", nil
		}
	}
	return "", &Error{errors.New("not banned"), "see the list"}
}

func (h *host) EndGrant(_ context.Context, p netip.Prefix) (string, error) {
	h.asked = append(h.asked, "end "+p.String())
	return "1 grant ended", nil
}

var noon = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// aLook is a host under attack, with everything that a screen can show.
func aLook() Look {
	l := Look{}
	l.Time = noon
	for i := range 300 {
		l.Attempts = append(l.Attempts, uint32(i/15%9))
	}
	until, dropped, confirmed := noon.Add(59*time.Minute), uint64(123456), noon.Add(-time.Hour)
	l.Status = daemon.Status{
		Version: "1.2.3", Mode: "aggressive", Enforcing: true, Bans: 340, Grants: 2, Dropped: &dropped,
		Problems: []daemon.Problem{
			{What: "no log is read: open /var/log/secure: permission denied", Remedy: "mend log.source or log.files, then `sekisho reload`", Severity: daemon.Critical},
			{What: "the country data is of 2026-09-01", Remedy: "sekisho country update", Severity: daemon.Warning},
		},
		Guard:     guard.Stats{Sessions: 1, UnderAttack: []string{"root", "管理者"}},
		Conntrack: &daemon.ConntrackStatus{InUse: true, Count: 3000, Max: 4000},
		Firewall: daemon.FirewallStatus{
			Generation: 7, Mode: "lockdown", Exposure: "public", Confirmed: &confirmed, Applied: true,
			Countries: &daemon.CountryStatus{Allow: []string{"JP"}},
			Counters: []daemon.CounterStatus{
				{Chain: "ssh", Rule: "not in JP", Drops: true, Packets: 15}, {Chain: "ssh", Rule: "not in JP", Drops: true, Packets: 2}, {Chain: "ssh", Rule: "from JP", Packets: 7},
			},
		},
	}
	source := func(p string, cc string, n, many int, banned bool, names ...string) {
		l.Sources = append(l.Sources, daemon.LiveSource{Prefix: netip.MustParsePrefix(p), Country: cc, Attempts: n, First: noon, Last: noon.Add(-2 * time.Second), Names: names, Many: many, Banned: banned})
	}
	source("203.0.113.7/32", "CN", 12, 9, true, "root", "管理者", "\x1b[2J\x1b]0;x\a", "\u202eabc")
	source("2001:db8:1:2::/64", "", 3, 1, false, "admin")
	source("198.51.100.9/32", "US", 1, 1, false, "z\u0301\u0301\u0301a\u1160l")
	ban := func(p string, from time.Time, until *time.Time, cause string) {
		l.Bans = append(l.Bans, daemon.LiveBan{Ban: daemon.Ban{Prefix: netip.MustParsePrefix(p), From: from, Until: until, Attempts: 5, Cause: cause, Holder: "guard", Count: 1}, Country: "CN"})
	}
	ban("203.0.113.7/32", noon.Add(-time.Minute), &until, "attempts")
	ban("198.51.100.0/24", noon.Add(-48*time.Hour), nil, "manual")
	for i := range 40 {
		ban(fmt.Sprintf("192.0.2.%d/32", i), noon.Add(-time.Hour), &until, "distributed")
	}
	l.Grants = []daemon.LiveGrant{
		{Grant: daemon.Grant{Prefix: netip.MustParsePrefix("192.0.2.200/32"), From: noon, Until: noon.Add(3*time.Hour + time.Minute), Reason: "夜勤 night shift", Holder: "hanako"}, Country: "JP"},
		{Grant: daemon.Grant{Prefix: netip.MustParsePrefix("2001:db8::/64"), From: noon, Until: noon.Add(90 * time.Second), Holder: "root"}},
	}
	return l
}

// screen is a Model that runs its commands at once, but for the clock's.
type screen struct {
	*Model
	t    testing.TB
	host *host
	now  time.Time
}

func open(t testing.TB, width, height int, look Look) *screen {
	s := &screen{t: t, host: &host{look: look}, now: noon}
	s.Model = New(t.Context(), s.host, Options{Name: "web-1", Now: func() time.Time { return s.now }})
	s.send(tea.WindowSizeMsg{Width: width, Height: height})
	s.run(s.lookNow())
	return s
}

func (s *screen) send(msg tea.Msg) {
	_, cmd := s.Update(msg)
	s.run(cmd)
}

func (s *screen) run(cmd tea.Cmd) {
	if cmd == nil {
		return
	}
	switch msg := cmd().(type) {
	case lookMsg, whyMsg, doneMsg:
		s.send(msg)
	}
}

// second lets the clock go on.
func (s *screen) second() {
	s.now = s.now.Add(time.Second)
	s.Update(tickMsg(s.now)) // the look that it asks for, and no next tick
	s.looking = false
	s.run(s.lookNow())
}

// press presses keys, each a name or a character.
func (s *screen) press(keys ...string) {
	names := map[string]rune{"enter": tea.KeyEnter, "esc": tea.KeyEscape, "tab": tea.KeyTab, "up": tea.KeyUp, "down": tea.KeyDown, "backspace": tea.KeyBackspace, "end": tea.KeyEnd, "pgdown": tea.KeyPgDown}
	for _, key := range keys {
		if code, ok := names[key]; ok {
			s.send(tea.KeyPressMsg{Code: code})
			continue
		}
		for _, r := range key {
			s.send(tea.KeyPressMsg{Code: r, Text: string(r)})
		}
	}
}

func (s *screen) shows() string {
	text, _ := s.draw()
	return ansi.Strip(text)
}

func (s *screen) expect(texts ...string) {
	s.t.Helper()
	for _, want := range texts {
		if got := s.shows(); !strings.Contains(got, want) {
			s.t.Errorf("%q is not shown, but:\n%s", want, got)
		}
	}
}

// TestScreens: what is drawn, to the letter (-update writes it).
func TestScreens(t *testing.T) {
	t.Setenv("TZ", "UTC")
	time.Local = time.UTC
	onTrial := aLook()
	onTrial.Status.Firewall.Trial = &trial.Event{Stage: trial.Armed, Generation: 8, Until: noon.Add(42 * time.Second)}
	onTrial.SSHD = &hardening.Pending{Step: hardening.Open, Ports: []uint16{51921}, Until: noon.Add(90 * time.Second)}
	quiet := Look{LiveReply: daemon.LiveReply{Time: noon, Attempts: make([]uint32, 300), Status: daemon.Status{Mode: "normal", Enforcing: true, Firewall: daemon.FirewallStatus{Generation: 1, Mode: "guard", Exposure: "fixed"}}}}
	for _, test := range []struct {
		name          string
		width, height int
		look          Look
		with          func(s *screen)
	}{
		{"attackers", 80, 24, aLook(), nil},
		{"bans", 80, 24, aLook(), func(s *screen) { s.press("2", "down", "down", "down") }},
		{"grants", 80, 24, aLook(), func(s *screen) { s.press("3") }},
		{"rules", 80, 24, aLook(), func(s *screen) { s.press("4") }},
		{"problems", 80, 24, aLook(), func(s *screen) { s.press("5") }},
		{"trial", 80, 24, onTrial, nil},
		{"trial_wide", 120, 40, onTrial, func(s *screen) { s.press("2") }},
		{"trial_low", 60, 12, onTrial, nil},
		{"least", 40, 10, onTrial, nil},
		{"too_small", 39, 9, onTrial, nil},
		{"ascii", 80, 24, aLook(), func(s *screen) { s.options.ASCII = true }},
		{"colour", 80, 24, aLook(), func(s *screen) { s.options.Colour = true }},
		{"quiet", 80, 24, quiet, nil},
		{"why", 80, 24, aLook(), func(s *screen) { s.press("w") }},
		{"help", 80, 24, aLook(), func(s *screen) { s.press("?") }},
		{"ask", 80, 24, aLook(), func(s *screen) { s.press("2", "u") }},
		{"lost", 80, 24, aLook(), func(s *screen) {
			s.host.err = &Error{errors.New("the daemon does not answer on /run/sekisho/sekisho.sock"), "start it: systemctl start sekisho, or sekisho run"}
			for range 12 {
				s.second()
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := open(t, test.width, test.height, test.look)
			if test.with != nil {
				test.with(s)
			}
			got, _ := s.draw()
			got = strings.ReplaceAll(got, "\x1b", "␛") + "\n"
			name := filepath.Join("testdata", test.name+".screen")
			if *update {
				if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestKeys: what keys do, and that nothing is done without a yes.
func TestKeys(t *testing.T) {
	for _, test := range []struct {
		name  string
		keys  []string
		asked string // the last thing that the host was asked, but for looks
		shown string
	}{
		{"a ban is lifted", []string{"2", "u", "y"}, "unban 203.0.113.7/32", "203.0.113.7/32 is no longer banned"},
		{"only a yes is one", []string{"2", "u", "enter"}, "", "nothing was done"},
		{"n is no yes", []string{"2", "u", "n"}, "", "nothing was done"},
		{"a source's ban", []string{"down", "u", "y"}, "unban 2001:db8:1:2::/64", "not banned; see the list"},
		{"a grant ends", []string{"3", "down", "u", "y"}, "end 2001:db8::/64", "1 grant ended"},
		{"nothing is there", []string{"4", "u"}, "", "choose a ban, a source or a grant first"},
		{"a source is banned", []string{"down", "b", "enter", "y"}, "ban 2001:db8:1:2::/64", "2001:db8:1:2::/64 is banned"},
		{"an address is typed", []string{"4", "b", "203.0.113.0/24", "enter", "y"}, "ban 203.0.113.0/24", "is banned"},
		{"it is no address", []string{"4", "b", "203.0.113", "enter"}, "", "203.0.113"},
		{"what was typed is edited", []string{"4", "b", "203.0.113.99", "backspace", "enter", "y"}, "ban 203.0.113.9/32", "is banned"},
		{"why", []string{"w"}, "why 203.0.113.7", `ban  \x1b[2Jlong`},
		{"why, and unban", []string{"2", "down", "w", "u", "y"}, "unban 198.51.100.0/32", "not banned"},
		{"q leaves the pane only", []string{"w", "q"}, "why 203.0.113.7", "1 Attackers"},
		{"tabs go round", []string{"tab", "tab", "tab", "tab", "tab"}, "", "[1 Attackers"},
		{"help", []string{"?"}, "", "leave"},
		{"pause", []string{"p"}, "", "PAUSED"},
		{"a ban is left with Esc", []string{"b", "esc"}, "", "? help"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := open(t, 80, 24, aLook())
			s.press(test.keys...)
			s.expect(test.shown)
			last := ""
			for _, asked := range s.host.asked {
				if !strings.HasPrefix(asked, "look") {
					last = asked
				}
			}
			if last != test.asked {
				t.Errorf("asked %q, want %q", last, test.asked)
			}
		})
	}
}

// TestLeaving: q and Ctrl-C leave, Ctrl-Z suspends, and letters that are typed do not.
func TestLeaving(t *testing.T) {
	s := open(t, 80, 24, aLook())
	result := func(k tea.KeyPressMsg) tea.Msg {
		if _, cmd := s.Update(k); cmd != nil {
			return cmd()
		}
		return nil
	}
	if _, ok := result(tea.KeyPressMsg{Code: 'z', Mod: tea.ModCtrl}).(tea.SuspendMsg); !ok {
		t.Error("Ctrl-Z does not suspend")
	}
	s.press("/", "q")
	s.expect("only what holds: q")
	s.send(tea.PasteMsg{Content: "a\x1b[2J\nb"})
	s.expect("only what holds: qa[2Jb")
	if _, ok := result(tea.KeyPressMsg{Code: 'c', Mod: tea.ModCtrl}).(tea.QuitMsg); !ok {
		t.Error("Ctrl-C does not leave")
	}
	s.press("esc")
	s.send(tea.PasteMsg{Content: "uy"}) // what is pasted is no key
	if _, ok := result(tea.KeyPressMsg{Code: 'q', Text: "q"}).(tea.QuitMsg); !ok {
		t.Error("q does not leave")
	}
	for _, asked := range s.host.asked {
		if strings.HasPrefix(asked, "unban") {
			t.Error(asked)
		}
	}
}

// TestFilter: what is looked for goes to the daemon, which has all of it.
func TestFilter(t *testing.T) {
	s := open(t, 80, 24, aLook())
	s.press("2", "/", "JP", "enter")
	s.expect(`only "JP"`)
	if last := s.host.asked[len(s.host.asked)-1]; last != "look JP" {
		t.Errorf("asked %q", last)
	}
	s.press("esc")
	if last := s.host.asked[len(s.host.asked)-1]; last != "look " {
		t.Errorf("asked %q", last)
	}
}

// TestCursorStays: a list changes under the cursor, and what is unbanned is what was
// under it.
func TestCursorStays(t *testing.T) {
	s := open(t, 80, 24, aLook())
	s.press("2", "down", "down") // 192.0.2.0
	fresh := s.host.look.Bans[0]
	for i := range 5 {
		fresh.Prefix = netip.MustParsePrefix(fmt.Sprintf("198.18.0.%d/32", i))
		s.host.look.Bans = append([]daemon.LiveBan{fresh}, s.host.look.Bans...)
	}
	s.second()
	s.expect("> 192.0.2.0 ")
	s.press("u")
	s.expect("unban 192.0.2.0? y/N")
	s.press("y")
	s.second()
	if asked := strings.Join(s.host.asked, ","); !strings.Contains(asked, "unban 192.0.2.0/32") {
		t.Error(asked)
	}
	s.expect("> 192.0.2.1 ") // it is gone: what came after it is there
	s.press("end")
	s.expect("> 192.0.2.39 ")
	s.host.look.Bans = s.host.look.Bans[:1]
	s.second()
	s.expect("> 198.18.0.4 ")
	// On the first line the cursor stays there: news are seen.
	fresh.Prefix = netip.MustParsePrefix("198.18.0.77/32")
	s.host.look.Bans = append([]daemon.LiveBan{fresh}, s.host.look.Bans...)
	s.second()
	s.expect("> 198.18.0.77 ")
}

// TestLost: a daemon that goes away is told of, with what was known last, and forgotten
// when it is back.
func TestLost(t *testing.T) {
	s := open(t, 80, 24, aLook())
	s.host.err = errors.New("the daemon does not answer\x1b[2J")
	s.second()
	s.expect(`no answer for 0s: the daemon does not answer\x1b[2J`, "203.0.113.7")
	for range 65 {
		s.second()
	}
	s.expect("no answer for 65s", "12:01:06")
	s.host.err = nil
	s.second()
	if strings.Contains(s.shows(), "no answer") {
		t.Error("it is back, and not believed")
	}
}

// TestPaused: while it is paused nothing moves but the clock and the countdown.
func TestPaused(t *testing.T) {
	look := aLook()
	look.Status.Firewall.Trial = &trial.Event{Stage: trial.Armed, Generation: 8, Until: noon.Add(42 * time.Second)}
	s := open(t, 60, 15, look)
	s.expect("0:42 ON TRIAL")
	s.press("p")
	s.host.look.Sources = nil
	s.now = s.now.Add(3 * time.Second)
	s.Update(tickMsg(s.now))
	s.expect("0:39 ON TRIAL", "203.0.113.7", "PAUSED")
	s.press("p")
	s.expect("nobody attacks")
}

// TestOneLookAtATime: a slow daemon is not asked again and again.
func TestOneLookAtATime(t *testing.T) {
	s := open(t, 80, 24, aLook())
	first, second, third := s.lookNow(), s.lookNow(), s.lookNow()
	if first == nil || second != nil || third != nil {
		t.Fatal("asked again while it was being asked")
	}
	before := len(s.host.asked)
	s.run(first)
	if n := len(s.host.asked) - before; n != 2 {
		t.Errorf("asked %d times, want one more after the first", n)
	}
}

// allowed are the sequences that a screen may hold: styles.
var allowed = regexp.MustCompile("\x1b\\[[0-9;]*m")

// fits holds a screen to its size, and to text that no terminal obeys.
func fits(t interface{ Errorf(string, ...any) }, text string, width, height int) {
	lines := strings.Split(text, "\n")
	if len(lines) != height && !(width < minWidth || height < minHeight) {
		t.Errorf("%d lines of %d", len(lines), height)
	}
	for _, line := range lines {
		shown := allowed.ReplaceAllString(line, "")
		if printable.Text(shown) != shown {
			t.Errorf("a terminal would obey %q", shown)
		}
		if w := ansi.StringWidth(shown); w > width || w != ansi.StringWidthWc(shown) || w != printable.Width(shown) {
			t.Errorf("%q has %d columns (%d, %d) of %d", shown, w, ansi.StringWidthWc(shown), printable.Width(shown), width)
		}
	}
}

// TestHostile: whatever others wrote, on whatever terminal and after whatever keys,
// the screen keeps to its size and holds nothing that a terminal obeys.
func TestHostile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"\x1b[2J", "\x9b2J", "\u202e", "z\u0301\u0302", "👨\u200d👩\u200d👧", "🇯🇵", "管理者", "\xff\xfe", "ᄀ\u1160\u11a8", "\u0e33", "\t\r\n"}))
		look := aLook()
		look.Sources[0].Names = rapid.SliceOfN(text, 0, 8).Draw(t, "names")
		look.Bans[0].Holder, look.Bans[0].Cause = text.Draw(t, "holder"), text.Draw(t, "cause")
		look.Grants[0].Reason = text.Draw(t, "reason")
		look.Status.Problems[0].What, look.Status.Problems[1].Remedy = text.Draw(t, "what"), text.Draw(t, "remedy")
		look.Status.Mode, look.Status.Firewall.Counters[0].Rule = text.Draw(t, "mode"), text.Draw(t, "rule")
		look.Status.Guard.UnderAttack = []string{text.Draw(t, "attacked")}
		if rapid.Bool().Draw(t, "trial") {
			look.Status.Firewall.Trial = &trial.Event{Until: noon.Add(time.Minute)}
		}
		width, height := rapid.IntRange(1, 130).Draw(t, "width"), rapid.IntRange(1, 50).Draw(t, "height")
		h := &host{look: look}
		m := New(context.Background(), h, Options{Name: text.Draw(t, "host"), Now: func() time.Time { return noon }, Colour: rapid.Bool().Draw(t, "colour"), ASCII: rapid.Bool().Draw(t, "ascii")})
		s := &screen{Model: m, host: h, now: noon}
		s.send(tea.WindowSizeMsg{Width: width, Height: height})
		s.run(s.lookNow())
		keys := []string{"1", "2", "3", "4", "5", "down", "up", "end", "pgdown", "w", "u", "b", "/", "?", "esc", "enter", "tab", "p", "管", "y"}
		for range rapid.IntRange(0, 12).Draw(t, "keys") {
			s.press(rapid.SampledFrom(keys).Draw(t, "key"))
			if rapid.Bool().Draw(t, "paste") {
				s.send(tea.PasteMsg{Content: text.Draw(t, "pasted")})
			}
			drawn, cursor := s.draw()
			fits(t, drawn, width, height)
			if cursor > width {
				t.Errorf("the cursor is at %d of %d", cursor, width)
			}
		}
	})
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"", "root", "\x1b[2J", "管理者", "z\u0301\u0302", "👨\u200d👩\u200d👧", "🇯🇵", "\xff", "ᄀ\u1160\u11a8", "é", "\u00ad", "\u3164"} {
		f.Add(s, 10)
	}
	f.Fuzz(func(t *testing.T, s string, columns int) {
		for _, ascii := range []bool{false, true} {
			c := clean(s, ascii)
			if clean(c, ascii) != c {
				t.Errorf("%q becomes %q, which becomes %q", s, c, clean(c, ascii))
			}
			if ascii && !printable.IsPlain(c) {
				t.Errorf("%q is not ASCII", c)
			}
			fits(t, c, printable.Width(c), 1)
			columns = max(1, min(columns, 200))
			for _, line := range wrap(c, columns) {
				if printable.Width(line) > max(columns, 2) {
					t.Errorf("%q is wider than %d", line, columns)
				}
			}
			if got := strings.ReplaceAll(strings.Join(wrap(c, columns), ""), " ", ""); got != strings.ReplaceAll(c, " ", "") {
				t.Errorf("%q was lost of %q", got, c)
			}
		}
		if !utf8.ValidString(clean(s, false)) {
			t.Error("not UTF-8")
		}
	})
}

// TestShort: the coarser the longer.
func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{-time.Second: "0s", 119 * time.Second: "119s", 2 * time.Minute: "2m", 119 * time.Minute: "119m", 2 * time.Hour: "2h", 47 * time.Hour: "47h", 49 * time.Hour: "2d"} {
		if got := short(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

// BenchmarkFrame is one picture in a flood, with a look taken over.
func BenchmarkFrame(b *testing.B) {
	look := aLook()
	for i := range 200 {
		s := look.Sources[0]
		s.Prefix = netip.PrefixFrom(netip.AddrFrom4([4]byte{20, 0, 0, byte(i)}), 32)
		look.Sources = append(look.Sources, s)
	}
	for _, size := range [][2]int{{80, 24}, {120, 40}} {
		b.Run(fmt.Sprintf("%dx%d", size[0], size[1]), func(b *testing.B) {
			s := open(b, size[0], size[1], look)
			b.ReportAllocs()
			for b.Loop() {
				s.now = s.now.Add(time.Second)
				s.Update(lookMsg{look: look})
				s.View()
			}
		})
	}
}

func TestWrap(t *testing.T) {
	for _, test := range []struct {
		text    string
		columns int
		want    string
	}{
		{"", 5, ""},
		{"one two three", 7, "one two|three"},
		{"one two three", 3, "one|two|thr|ee"},
		{"abcdefgh", 3, "abc|def|gh"},
		{"管理者 root", 4, "管理|者|root"},
		{"管理", 1, "管|理"},
		{"a  b", 2, "a |b"}, {"a  b", 1, "a| |b"},
	} {
		if got := strings.Join(wrap(test.text, test.columns), "|"); got != test.want {
			t.Errorf("%q in %d columns: %q, want %q", test.text, test.columns, got, test.want)
		}
	}
}
