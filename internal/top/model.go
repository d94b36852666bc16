package top

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"
	"unicode/utf8"

	tea "charm.land/bubbletea/v2"

	"sekisho/internal/config"
	"sekisho/internal/printable"
)

// tab is one of the lists.
type tab int

const (
	attackersTab tab = iota
	bansTab
	grantsTab
	rulesTab
	problemsTab
	tabs int = iota
)

// mode is what keys mean.
type mode int

const (
	browsing  mode = iota
	asking         // a question: y or anything else
	filtering      // what to look for is typed
	banning        // whom to ban is typed
	helping
	explaining // why an address is in or out
)

// Model is the screen as data. It is a tea.Model; it does nothing by itself, and what
// its commands do goes through its Host. Not safe for concurrent use.
type Model struct {
	host    Host
	options Options
	ctx     context.Context

	width, height int
	now           time.Time

	look    *Look     // the last; nil: none yet
	lost    error     // why the last look failed
	lostAt  time.Time // since when looks fail
	looking bool      // one is under way
	again   bool      // and another is to follow it at once
	paused  bool

	tab    tab
	cursor [tabs]int
	chosen [tabs]string // the key of the line under the cursor: lists change
	scroll [tabs]int
	find   string

	mode     mode
	back     mode // where a question came from
	typed    string
	question string
	act      func(context.Context) (string, error) // what a yes does

	told   string // what an act came to
	failed bool
	toldAt time.Time

	why       []string
	whyOf     netip.Addr
	whyErr    error
	whyScroll int
}

// The messages, beside bubbletea's own.
type (
	tickMsg time.Time
	lookMsg struct {
		find string
		look Look
		err  error
	}
	whyMsg struct {
		addr  netip.Addr
		lines []string
		err   error
	}
	doneMsg struct {
		text string
		err  error
	}
)

// New makes the screen of a host. ctx bounds what its commands do.
func New(ctx context.Context, host Host, options Options) *Model {
	if options.Now == nil {
		options.Now = time.Now
	}
	return &Model{host: host, options: options, ctx: ctx, now: options.Now()}
}

// Init looks for the first time.
func (m *Model) Init() tea.Cmd { return tea.Batch(m.lookNow(), tick()) }

func tick() tea.Cmd {
	return tea.Every(lookEvery, func(t time.Time) tea.Msg { return tickMsg(t) })
}

// lookNow looks, or once more after the look that is under way.
func (m *Model) lookNow() tea.Cmd {
	if m.looking {
		m.again = true
		return nil
	}
	m.looking, m.again = true, false
	host, find, ctx := m.host, m.find, m.ctx
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(ctx, lookWithin)
		defer cancel()
		look, err := host.Look(ctx, find)
		return lookMsg{find, look, err}
	}
}

// Update takes in what happened.
func (m *Model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.ResumeMsg:
		m.now = m.options.Now()
		return m, m.lookNow()
	case tickMsg:
		// The clock goes on with what is seen, so that there is one picture a second; by
		// itself where nothing is seen.
		if m.paused || m.looking {
			m.now = m.options.Now()
			return m, tick()
		}
		return m, tea.Batch(tick(), m.lookNow())
	case lookMsg:
		return m, m.looked(msg)
	case whyMsg:
		if msg.addr == m.whyOf {
			m.why, m.whyErr = msg.lines, msg.err
		}
	case doneMsg:
		m.tell(msg.text, msg.err)
		return m, m.lookNow()
	case tea.PasteMsg:
		if m.mode == filtering || m.mode == banning {
			m.write(msg.Content)
		}
	case tea.KeyPressMsg:
		return m, m.key(msg)
	}
	return m, nil
}

// looked takes a look over.
func (m *Model) looked(msg lookMsg) tea.Cmd {
	m.looking = false
	m.now = m.options.Now()
	switch {
	case msg.err != nil:
		if m.lost == nil {
			m.lostAt = m.now
		}
		m.lost = msg.err
	default:
		m.lost = nil
		if msg.find == m.find && (!m.paused || m.look == nil) {
			m.look = &msg.look
			m.keepChosen()
		}
	}
	if m.again {
		return m.lookNow()
	}
	return nil
}

// tell shows what an act came to.
func (m *Model) tell(text string, err error) {
	m.told, m.failed, m.toldAt = text, err != nil, m.options.Now()
	if err != nil {
		m.told = err.Error()
		if hint := hintOf(err); hint != "" {
			m.told += "; " + hint
		}
	}
}

// keys are what names each line of a list.
func (m *Model) keys(t tab) []string {
	var keys []string
	if m.look == nil {
		return nil
	}
	switch t {
	case attackersTab:
		for _, s := range m.look.Sources {
			keys = append(keys, s.Prefix.String())
		}
	case bansTab:
		for _, b := range m.look.Bans {
			keys = append(keys, b.Prefix.String())
		}
	case grantsTab:
		for _, g := range m.look.Grants {
			keys = append(keys, g.Prefix.String())
		}
	case rulesTab:
		for _, r := range m.look.Status.Firewall.Rules() {
			keys = append(keys, fmt.Sprint(r.Chain, " ", r.Drops, " ", r.Rule))
		}
	case problemsTab:
		for _, p := range m.look.Status.Problems {
			keys = append(keys, p.What)
		}
	}
	return keys
}

// keepChosen keeps the cursors on their lines, wherever these have gone to.
func (m *Model) keepChosen() {
	for t := range tabs {
		keys := m.keys(tab(t))
		if i := slices.Index(keys, m.chosen[t]); i >= 0 {
			m.cursor[t] = i
		}
		m.cursor[t] = max(0, min(m.cursor[t], len(keys)-1))
		m.choose(tab(t), keys)
	}
}

func (m *Model) choose(t tab, keys []string) {
	m.chosen[t] = ""
	if i := m.cursor[t]; i > 0 && i < len(keys) { // on the first line it stays there, so that news are seen
		m.chosen[t] = keys[i]
	}
}

// move moves the cursor.
func (m *Model) move(by int) {
	keys := m.keys(m.tab)
	m.cursor[m.tab] = max(0, min(m.cursor[m.tab]+by, len(keys)-1))
	m.choose(m.tab, keys)
}

// selected is the prefix under the cursor.
func (m *Model) selected() (netip.Prefix, bool) {
	if m.look == nil {
		return netip.Prefix{}, false
	}
	i := m.cursor[m.tab]
	switch {
	case m.tab == attackersTab && i < len(m.look.Sources):
		return m.look.Sources[i].Prefix, true
	case m.tab == bansTab && i < len(m.look.Bans):
		return m.look.Bans[i].Prefix, true
	case m.tab == grantsTab && i < len(m.look.Grants):
		return m.look.Grants[i].Prefix, true
	}
	return netip.Prefix{}, false
}

// key obeys one key.
func (m *Model) key(k tea.KeyPressMsg) tea.Cmd {
	switch k.String() {
	case "ctrl+c":
		return tea.Quit
	case "ctrl+z":
		return tea.Suspend
	case "ctrl+l":
		return tea.ClearScreen
	}
	switch m.mode {
	case asking:
		return m.answer(k)
	case filtering, banning:
		return m.typing(k)
	case helping:
		m.mode = browsing
		return nil
	case explaining:
		return m.explain(k)
	case browsing:
	}
	return m.browse(k)
}

func (m *Model) browse(k tea.KeyPressMsg) tea.Cmd {
	page := max(1, m.listHeight()-1)
	switch key := k.String(); key {
	case "q":
		return tea.Quit
	case "?", "h":
		m.mode = helping
	case "up", "k":
		m.move(-1)
	case "down", "j":
		m.move(1)
	case "pgup", "ctrl+b":
		m.move(-page)
	case "pgdown", "ctrl+f", "space":
		m.move(page)
	case "home", "g":
		m.move(-1 << 30)
	case "end", "G":
		m.move(1 << 30)
	case "tab", "right", "l":
		m.tab = (m.tab + 1) % tab(tabs)
	case "shift+tab", "left":
		m.tab = (m.tab + tab(tabs) - 1) % tab(tabs)
	case "1", "2", "3", "4", "5":
		m.tab = tab(key[0] - '1')
	case "p":
		m.paused = !m.paused
		if !m.paused {
			return m.lookNow()
		}
	case "r":
		return m.lookNow()
	case "/":
		m.mode, m.typed, m.told = filtering, m.find, ""
	case "esc":
		m.told = ""
		if m.find != "" {
			m.find = ""
			return m.lookNow()
		}
	case "u":
		m.askUnban(browsing)
	case "b":
		m.mode, m.typed, m.told = banning, "", ""
		if p, ok := m.selected(); ok && m.tab != grantsTab {
			m.typed = printable.Prefix(p)
		}
	case "w", "enter":
		if p, ok := m.selected(); ok {
			return m.askWhy(p.Addr())
		}
	}
	return nil
}

// askUnban asks whether to take away what is under the cursor.
func (m *Model) askUnban(back mode) {
	host := m.host
	if back == explaining {
		p := netip.PrefixFrom(m.whyOf, m.whyOf.BitLen())
		m.ask("unban "+printable.Prefix(p)+"?", back, func(ctx context.Context) (string, error) { return host.Unban(ctx, p) })
		return
	}
	p, ok := m.selected()
	switch {
	case !ok:
		m.tell("", fmt.Errorf("choose a ban, a source or a grant first"))
	case m.tab == grantsTab:
		m.ask("end the grant of "+printable.Prefix(p)+"?", back, func(ctx context.Context) (string, error) { return host.EndGrant(ctx, p) })
	default:
		m.ask("unban "+printable.Prefix(p)+"?", back, func(ctx context.Context) (string, error) { return host.Unban(ctx, p) })
	}
}

// ask asks before it acts.
func (m *Model) ask(question string, back mode, act func(context.Context) (string, error)) {
	m.mode, m.back, m.question, m.act = asking, back, question, act
}

// answer takes the answer to a question: only a yes is one.
func (m *Model) answer(k tea.KeyPressMsg) tea.Cmd {
	act := m.act
	m.mode, m.act = m.back, nil
	if s := k.String(); s != "y" && s != "Y" {
		m.tell("nothing was done", nil)
		return nil
	}
	m.tell("doing it", nil)
	ctx := m.ctx
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(ctx, actWithin)
		defer cancel()
		text, err := act(ctx)
		return doneMsg{text, err}
	}
}

// typing edits what is typed.
func (m *Model) typing(k tea.KeyPressMsg) tea.Cmd {
	m.told = ""
	switch k.String() {
	case "esc":
		m.mode = browsing
	case "ctrl+u":
		m.typed = ""
	case "backspace", "ctrl+h":
		_, n := utf8.DecodeLastRuneInString(m.typed)
		m.typed = m.typed[:len(m.typed)-n]
	case "enter":
		if m.mode == filtering {
			m.mode, m.find = browsing, m.typed
			return m.lookNow()
		}
		p, hint, err := config.ParsePrefix(m.typed)
		if err != nil {
			m.tell("", &Error{err, hint})
			return nil
		}
		host := m.host
		m.ask("ban "+printable.Prefix(p)+" for the time that guard.ban_time says?", browsing, func(ctx context.Context) (string, error) { return host.Ban(ctx, p) })
	default:
		m.write(k.Text)
	}
	return nil
}

// write appends what a line may hold.
func (m *Model) write(text string) {
	for _, r := range text {
		if utf8.RuneCountInString(m.typed) < maxTyped && r != utf8.RuneError && printable.Rune(r, string(r)) == string(r) {
			m.typed += string(r)
		}
	}
}

// askWhy opens the pane that tells why.
func (m *Model) askWhy(addr netip.Addr) tea.Cmd {
	m.mode, m.whyOf, m.why, m.whyErr, m.whyScroll = explaining, addr, nil, nil, 0
	host, ctx := m.host, m.ctx
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(ctx, lookWithin)
		defer cancel()
		lines, err := host.Why(ctx, addr)
		return whyMsg{addr, lines, err}
	}
}

func (m *Model) explain(k tea.KeyPressMsg) tea.Cmd {
	page := max(1, m.height-4)
	switch k.String() {
	case "q", "esc", "w", "enter", "left":
		m.mode = browsing
	case "up", "k":
		m.whyScroll--
	case "down", "j":
		m.whyScroll++
	case "pgup":
		m.whyScroll -= page
	case "pgdown", "space":
		m.whyScroll += page
	case "home", "g":
		m.whyScroll = 0
	case "end", "G":
		m.whyScroll = 1 << 30
	case "r":
		scroll := m.whyScroll
		cmd := m.askWhy(m.whyOf)
		m.whyScroll = scroll
		return cmd
	case "u":
		m.askUnban(explaining)
	case "b":
		m.mode, m.typed, m.told = banning, m.whyOf.String(), ""
	}
	return nil
}
