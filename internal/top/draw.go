package top

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"sekisho/internal/daemon"
	"sekisho/internal/hardening"
	"sekisho/internal/printable"
)

// span is text of a style.
type span struct{ style, text string }

func (m *Model) line(spans ...span) string {
	l := m.newLine()
	for _, s := range spans {
		l.add(s.style, s.text)
	}
	return l.String()
}

// newLine begins a line. It leaves the last column free: what stands there is drawn
// again with every change, for terminals do not agree on what comes after it.
func (m *Model) newLine() *line {
	return &line{left: m.width - 1, ascii: m.options.ASCII, style: styleSheet{m.options.Colour}}
}

// bar is a line in reverse, over the whole width.
func (m *Model) bar(left, right string) string {
	left, right = clean(left, m.options.ASCII), clean(right, m.options.ASCII)
	room := m.width - 1 - printable.Width(right)
	if room < printable.Width(left)+1 {
		room, right = m.width-1, ""
	}
	if left = printable.Cut(left, room); m.options.ASCII {
		left = strings.ReplaceAll(left, "…", "~")
	}
	return m.line(span{reversed, left + strings.Repeat(" ", max(0, room-printable.Width(left))) + right})
}

// draw is the whole screen, height lines, and the column of the cursor on the last;
// -1: it is not shown.
func (m *Model) draw() (text string, cursor int) {
	if m.width <= 0 || m.height <= 0 {
		return "", -1
	}
	if m.width < minWidth || m.height < minHeight {
		return m.line(span{plain, fmt.Sprintf("too small: %dx%d, at least %dx%d", m.width, m.height, minWidth, minHeight)}), -1
	}
	footer, cursor := m.footer()
	var lines []string
	switch {
	case m.mode == helping:
		lines = append([]string{m.title()}, m.help()...)
	case m.mode == explaining || m.mode == asking && m.back == explaining:
		lines = append([]string{m.title()}, m.explanation(m.height-2)...)
	default:
		lines = m.head()
		lines = append(lines, m.list(m.height-1-len(lines))...)
	}
	lines = lines[:min(len(lines), m.height-1)]
	for len(lines) < m.height-1 {
		lines = append(lines, "")
	}
	return strings.Join(append(lines, footer), "\n"), cursor
}

// listHeight is how many lines of a list are shown.
func (m *Model) listHeight() int {
	if m.width < minWidth || m.height < minHeight {
		return 1
	}
	return max(1, m.height-3-len(m.head())) // the tabs, a head and the footer
}

func (m *Model) title() string {
	name := "sekisho"
	if m.options.Name != "" {
		name += " on " + m.options.Name
	}
	if m.look != nil {
		s := m.look.Status
		name += "  " + s.Mode
		switch {
		case s.Firewall.Off:
			name += "  OFF"
		case !s.Enforcing:
			name += "  DRY RUN"
		}
	}
	if m.find != "" {
		name += fmt.Sprintf("  only %q", m.find)
	}
	right := m.now.Local().Format(time.TimeOnly)
	if m.paused {
		right = "PAUSED  " + right
	}
	return m.bar(name, right)
}

// head is what stands above the lists: what is wrong first. On a low terminal some
// of it gives way to them.
func (m *Model) head() []string {
	lines := []string{m.title()}
	if m.lost != nil {
		lines = append(lines, m.line(span{red, fmt.Sprintf("no answer for %s: %s", short(m.now.Sub(m.lostAt)), m.lost)}))
		hint := hintOf(m.lost)
		if hint == "" {
			hint = "asking again every second"
		} else {
			hint += " (asking again every second)"
		}
		lines = append(lines, m.line(span{bold, "  do: "}, span{plain, hint}))
	}
	if m.look == nil {
		if m.lost == nil {
			lines = append(lines, m.line(span{plain, "looking"}))
		}
		return lines
	}
	low := m.height < 20
	lines = append(lines, m.trials(low)...)
	most := 3
	if low {
		most = 1
	}
	lines = append(lines, m.problems(most, low)...)
	lines = append(lines, m.rate(), m.sparkline())
	if !low {
		lines = append(lines, m.inForce())
	}
	if over := len(lines) - (m.height - 5); over > 0 { // the lists have three lines at least
		lines = lines[:len(lines)-over]
	}
	return lines
}

// trials are the countdowns of what is on trial, with what to type.
func (m *Model) trials(low bool) (lines []string) {
	one := func(what, how string, until time.Time) {
		left := max(0, until.Sub(m.now)).Round(time.Second)
		clock := fmt.Sprintf("%d:%02d", left/time.Minute, left%time.Minute/time.Second)
		text := [3]span{
			{bold, "ON TRIAL: " + what},
			{plain, how},
			{plain, "back at once: sekisho revert; by itself at " + until.Local().Format(time.TimeOnly)},
		}
		if low {
			lines = append(lines, m.line(span{red, clock + " "}, text[0]), m.line(span{plain, "  " + how}))
			return
		}
		for i, digits := range big(clock) {
			lines = append(lines, m.line(span{red, digits + " "}, text[i]))
		}
	}
	const type_ = ", or in one type: sekisho confirm"
	if t := m.look.Status.Firewall.Trial; t != nil {
		if t.Until.IsZero() {
			lines = append(lines, m.line(span{bold, fmt.Sprintf("ON TRIAL: rule set %d is %s", t.Generation, t.Stage)}))
		} else {
			one(fmt.Sprintf("rule set %d", t.Generation), "to keep it: a new SSH login"+type_, t.Until)
		}
	}
	if t := m.look.SSHD; t != nil {
		ports := make([]string, len(t.Ports))
		for i, p := range t.Ports {
			ports[i] = fmt.Sprint(p)
		}
		one("sshd: "+stepText(t.Step), "to keep it: a new login by port "+strings.Join(ports, " or ")+type_, t.Until)
	}
	return lines
}

func stepText(s hardening.Step) string {
	switch s {
	case hardening.Open:
		return "it listens on new ports too"
	case hardening.Close:
		return "it leaves its old ports"
	}
	return "its settings"
}

// problems are the first few, each with its remedy where there is room.
func (m *Model) problems(most int, low bool) (lines []string) {
	all := m.look.Status.Problems
	for i, p := range all {
		if i == most {
			lines = append(lines, m.line(span{bold, fmt.Sprintf("%d more: press 5", len(all)-most)}))
			break
		}
		lines = append(lines, m.line(severityOf(p), span{plain, p.What}))
		if !low && p.Remedy != "" {
			lines = append(lines, m.line(span{bold, "  do: "}, span{plain, p.Remedy}))
		}
	}
	return lines
}

func severityOf(p daemon.Problem) span {
	if p.Severity == daemon.Critical {
		return span{red, "critical: "}
	}
	return span{yellow, "warning: "}
}

// rate is how much is tried now, and what it is met with.
func (m *Model) rate() string {
	attempts := m.look.Attempts
	var ten, all uint32
	for i, n := range attempts {
		all += n
		if i >= len(attempts)-11 && i < len(attempts)-1 { // the last second is not over
			ten += n
		}
	}
	s := m.look.Status
	parts := []string{
		fmt.Sprintf("%.1f attempts/s", float64(ten)/10), fmt.Sprintf("%d in 5 min", all),
		fmt.Sprintf("%d banned", s.Bans), fmt.Sprintf("%d logged in", s.Guard.Sessions),
	}
	if n := len(s.Guard.UnderAttack); n > 0 {
		parts = append(parts, "many sources try "+strings.Join(s.Guard.UnderAttack[:min(n, 5)], ", "))
	}
	return m.line(span{bold, parts[0]}, span{plain, "  " + strings.Join(parts[1:], "  ")})
}

// sparkline draws the attempts of the last minutes.
func (m *Model) sparkline() string {
	attempts := m.look.Attempts
	if len(attempts) == 0 {
		return ""
	}
	const label = 18
	seconds := 1
	for _, s := range []int{2, 3, 5, 6, 10, 15} {
		if len(attempts)/seconds+1 > m.width-label {
			seconds = s
		}
	}
	// Columns begin at round times: the picture moves once in so many seconds.
	end := m.look.Time.Unix()
	first := end - int64(len(attempts)) + 1
	columns := make([]float64, int(end/int64(seconds)-first/int64(seconds))+1)
	most := 0.0
	for i, n := range attempts {
		c := int((first+int64(i))/int64(seconds) - first/int64(seconds))
		columns[c] += float64(n) / float64(seconds)
		most = max(most, columns[c])
	}
	return m.line(span{cyan, sparkline(columns, most, m.options.ASCII)}, span{plain, fmt.Sprintf(" at most %.1f/s", most)})
}

// inForce is which rules are in force, and how the table of connections does.
func (m *Model) inForce() string {
	s := m.look.Status
	f := s.Firewall
	var parts []string
	switch {
	case f.Off:
		parts = append(parts, "rules off")
	case f.Generation == 0:
		parts = append(parts, "no rule set, bans only")
	default:
		parts = append(parts, fmt.Sprintf("rule set %d: %s, %s", f.Generation, f.Mode, f.Exposure))
	}
	if c := f.Countries; c != nil {
		if len(c.Deny) > 0 {
			parts = append(parts, "not from "+strings.Join(c.Deny, " "))
		} else {
			parts = append(parts, "only from "+strings.Join(c.Allow, " "))
		}
	}
	if c := s.Conntrack; c != nil && c.InUse && c.Max > 0 {
		parts = append(parts, fmt.Sprintf("conntrack %d of %d (%d %%)", c.Count, c.Max, c.Count*100/c.Max))
	}
	if s.Dropped != nil {
		parts = append(parts, fmt.Sprintf("%d packets of banned dropped", *s.Dropped))
	}
	return m.line(span{plain, strings.Join(parts, "  ")})
}

// list is the chosen list in so many lines, with the tabs above it.
func (m *Model) list(height int) []string {
	lines := []string{m.tabBar()}
	if m.look == nil || height < 2 {
		return lines
	}
	rows, empty := m.rows()
	if len(rows) == 0 {
		return append(lines, m.line(span{faint, empty}))
	}
	if m.tab == problemsTab {
		return append(lines, m.allProblems(height-1)...)
	}
	heads, body := rows[0], rows[1:]
	widths := make([]int, len(heads))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], printable.Width(clean(cell, m.options.ASCII)))
		}
	}
	lines = append(lines, m.cells("  ", bold, heads, widths))
	height -= 2
	first := m.window(m.cursor[m.tab], len(body), height)
	for i := first; i < min(first+height, len(body)); i++ {
		if i == m.cursor[m.tab] {
			lines = append(lines, m.cells("> ", reversed, body[i], widths))
		} else {
			lines = append(lines, m.cells("  ", plain, body[i], widths))
		}
	}
	return lines
}

// window scrolls so that the cursor is within the lines shown.
func (m *Model) window(cursor, n, height int) (first int) {
	height = max(1, height)
	first = m.scroll[m.tab]
	first = max(min(first, cursor), cursor-height+1)
	first = max(0, min(first, n-height))
	m.scroll[m.tab] = first
	return first
}

// cells is one line of a table, whose first cell has the style: a cursor that moves is
// a few bytes.
func (m *Model) cells(mark, style string, row []string, widths []int) string {
	l := m.newLine().add(style, mark+row[0])
	for i, cell := range row {
		if i > 0 {
			l.add(plain, cell)
		}
		if i < len(row)-1 {
			l.add(plain, strings.Repeat(" ", max(0, widths[i]-printable.Width(clean(cell, m.options.ASCII)))+2))
		}
	}
	return l.String()
}

func (m *Model) tabBar() string {
	counts := [tabs]string{}
	if m.look != nil {
		s := m.look.Status
		more := func(shown, all int) string {
			if m.find != "" {
				return fmt.Sprintf(" %d of %d", shown, all)
			}
			return fmt.Sprintf(" %d", max(shown, all))
		}
		counts = [tabs]string{fmt.Sprintf(" %d", len(m.look.Sources)), more(len(m.look.Bans), s.Bans), more(len(m.look.Grants), s.Grants), "", fmt.Sprintf(" %d", len(s.Problems))}
	}
	l := m.newLine()
	for i, name := range [tabs]string{"1 Attackers", "2 Bans", "3 Grants", "4 Rules", "5 Problems"} {
		text := name + counts[i]
		if m.width < 60 {
			text = strings.Fields(text)[1] // no room for numbers
		}
		if tab(i) == m.tab {
			l.add(reversed, "["+text+"]")
		} else {
			l.add(plain, " "+text+" ")
		}
		l.add(plain, " ")
	}
	return l.String()
}

// rows are the cells of the chosen list, the heads first; none, and what to say then.
func (m *Model) rows() (rows [][]string, empty string) {
	switch look := m.look; m.tab {
	case attackersTab:
		empty = "nobody attacks"
		if len(look.Sources) > 0 {
			rows = append(rows, []string{"SOURCE", "CC", "ATTEMPTS", "LAST", "", "NAMES"})
		}
		for _, s := range look.Sources {
			state := ""
			if s.Banned {
				state = "banned"
			}
			names := strings.Join(s.Names, " ")
			if more := s.Many - len(s.Names); more > 0 {
				names += fmt.Sprintf(" and %d more", more)
			}
			rows = append(rows, []string{printable.Prefix(s.Prefix), s.Country, fmt.Sprint(s.Attempts), s.Last.Local().Format(time.TimeOnly), state, names})
		}
	case bansTab:
		empty = "nobody is banned"
		if len(look.Bans) > 0 {
			rows = append(rows, []string{"PREFIX", "CC", "SINCE", "LEFT", "ATTEMPTS", "BANS", "CAUSE", "BY"})
		}
		for _, b := range look.Bans {
			left := "for ever"
			if b.Until != nil {
				left = short(b.Until.Sub(m.now))
			}
			rows = append(rows, []string{printable.Prefix(b.Prefix), b.Country, m.moment(b.From), left, fmt.Sprint(b.Attempts), fmt.Sprint(b.Count), b.Cause, b.Holder})
		}
	case grantsTab:
		empty = "no grants"
		if len(look.Grants) > 0 {
			rows = append(rows, []string{"PREFIX", "CC", "LEFT", "BY", "REASON"})
		}
		for _, g := range look.Grants {
			rows = append(rows, []string{printable.Prefix(g.Prefix), g.Country, short(g.Until.Sub(m.now)), g.Holder, g.Reason})
		}
	case rulesTab:
		empty = "no rule of ours counts"
		rules := look.Status.Firewall.Rules()
		if len(rules) > 0 {
			rows = append(rows, []string{"CHAIN", "PACKETS", "", "RULE"})
		}
		for _, r := range rules {
			does := ""
			if r.Drops {
				does = "drop"
			}
			rows = append(rows, []string{r.Chain, fmt.Sprint(r.Packets), does, r.Rule})
		}
	case problemsTab:
		empty = "nothing is wrong"
		for _, p := range look.Status.Problems {
			rows = append(rows, []string{p.What})
		}
	}
	if m.find != "" && (m.tab == attackersTab || m.tab == bansTab || m.tab == grantsTab) {
		empty = fmt.Sprintf("nothing with %q; Esc shows all", m.find)
	}
	return rows, empty
}

// moment is a time of today, or a day.
func (m *Model) moment(t time.Time) string {
	if t = t.Local(); t.YearDay() == m.now.Local().YearDay() && t.Year() == m.now.Local().Year() {
		return t.Format(time.TimeOnly)
	}
	return t.Format("01-02 15:04")
}

// allProblems tells all of each, from the one under the cursor on.
func (m *Model) allProblems(height int) (lines []string) {
	all := m.look.Status.Problems
	for i := min(m.cursor[problemsTab], len(all)-1); i < len(all); i++ {
		label := severityOf(all[i])
		for j, text := range wrap(clean(all[i].What, m.options.ASCII), m.width-11) {
			if j > 0 {
				label.text = "          "
			}
			lines = append(lines, m.line(label, span{plain, text}))
		}
		if all[i].Remedy == "" {
			continue
		}
		for j, text := range wrap(clean(all[i].Remedy, m.options.ASCII), m.width-11) {
			label := span{bold, "      do: "}
			if j > 0 {
				label.text = "          "
			}
			lines = append(lines, m.line(label, span{plain, text}))
		}
	}
	return lines[:min(len(lines), height)]
}

// explanation is why an address is in or out, in so many lines.
func (m *Model) explanation(height int) []string {
	switch {
	case m.whyErr != nil:
		lines := []string{m.line(span{red, m.whyErr.Error()})}
		if hint := hintOf(m.whyErr); hint != "" {
			lines = append(lines, m.line(span{bold, "  do: "}, span{plain, hint}))
		}
		return lines
	case m.why == nil:
		return []string{m.line(span{plain, "asking why " + m.whyOf.String() + " is in or out"})}
	}
	var lines []string
	for _, text := range m.why {
		for _, part := range wrap(clean(text, m.options.ASCII), m.width-1) {
			lines = append(lines, m.line(span{plain, part}))
		}
	}
	m.whyScroll = max(0, min(m.whyScroll, len(lines)-height))
	return lines[m.whyScroll:min(len(lines), m.whyScroll+height)]
}

func (m *Model) help() (lines []string) {
	for _, h := range [][2]string{
		{"", ""},
		{"up down j k", "move; PgUp, PgDn, Home, End too"},
		{"tab, 1 to 5", "the next list, or that one"},
		{"w, Enter", "why is this address in or out"},
		{"u", "unban it, or end its grant (asks first)"},
		{"b", "ban an address or a prefix (asks first)"},
		{"/", "only what holds a text, an address, a country's code"},
		{"Esc", "all again"},
		{"p", "pause, and go on"},
		{"r", "look at once"},
		{"Ctrl-L", "draw anew"},
		{"Ctrl-Z", "to the shell; fg comes back"},
		{"q, Ctrl-C", "leave"},
		{"", ""},
		{"", "Attackers: who tried in the last minute. What is shown is asked for once"},
		{"", "a second; nothing of it is kept. Any key leaves this."},
	} {
		lines = append(lines, m.line(span{bold, fmt.Sprintf("  %-12s ", h[0])}, span{plain, h[1]}))
	}
	return lines
}

// footer is the last line: a question, what is typed, what an act came to, or keys.
func (m *Model) footer() (text string, cursor int) {
	typing := func(label string) (string, int) {
		label, typed := clean(label, m.options.ASCII), clean(m.typed, m.options.ASCII)
		for printable.Width(label)+printable.Width(typed) >= m.width-1 { // the end is what is typed on
			_, n := utf8.DecodeRuneInString(typed)
			typed = typed[n:]
		}
		return m.line(span{bold, label}, span{plain, typed}), printable.Width(label) + printable.Width(typed)
	}
	told := m.told != "" && m.now.Sub(m.toldAt) < tellFor
	switch {
	case m.mode == asking:
		return m.line(span{bold, m.question + " y/N "}), -1
	case told && m.failed:
		return m.line(span{red, m.told}), -1
	case m.mode == filtering:
		return typing("only what holds: ")
	case m.mode == banning:
		return typing("ban whom: ")
	case told:
		return m.line(span{green, m.told}), -1
	case m.mode == helping:
		return m.line(span{faint, "any key goes back"}), -1
	case m.mode == explaining:
		return m.line(span{faint, "Esc back  up down scroll  u unban  b ban  r again"}), -1
	}
	return m.line(span{faint, "? help  tab list  w why  u unban  b ban  / filter  p pause  q quit"}), -1
}

func hintOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Hint
	}
	return ""
}

// short is a duration so coarse that it seldom changes: over a slow line every
// figure that does costs time.
func short(d time.Duration) string {
	d = max(0, d)
	for _, unit := range []struct {
		length time.Duration
		below  time.Duration
		name   string
	}{
		{time.Second, 2 * time.Minute, "s"}, {time.Minute, 2 * time.Hour, "m"}, {time.Hour, 48 * time.Hour, "h"},
	} {
		if d < unit.below {
			return fmt.Sprintf("%d%s", d/unit.length, unit.name)
		}
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}
