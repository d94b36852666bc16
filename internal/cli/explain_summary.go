package cli

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sekisho/internal/guard"
	"sekisho/internal/lease"
	"sekisho/internal/printable"
	"sekisho/internal/sshlog"
)

// The summary's bounds: a log of any length and hostility takes no more.
const (
	maxSources  = 100_000 // distinct sources that are told apart
	maxBans     = 50_000  // would-be bans that are kept
	maxUnknown  = 200     // distinct unknown messages
	shownBans   = 25
	shownOthers = 15
)

// summary is what explain tells people at the end.
type summary struct {
	policy    guard.Policy
	sshd      int64
	from, to  int64 // Unix nanoseconds
	kinds     map[string]*kindSum
	byKind    [256][8]*kindSum // the same, found without hashing: kind, method
	attempts  int64
	sources   []sourceSum
	byIPv4    map[uint32]uint32     // index in sources; apart, for such a map is small and fast
	byAddr    map[netip.Addr]uint32 // likewise, of all other addresses
	crowded   bool                  // there were more sources than are told apart
	logins    map[netip.Addr]int
	bans      []lease.Lease  // the first
	banned    []netip.Prefix // all, these included, up to maxBans
	moreBans  int
	unknown   map[string]*unknownSum
	moreKinds int64 // unknown messages past the bound
	bare      int64
}

type kindSum struct {
	word            string
	lines, attempts int64
}

type sourceSum struct {
	addr     netip.Addr
	attempts int
}

type unknownSum struct {
	example string
	lines   int64
}

func newSummary(p guard.Policy) *summary {
	return &summary{
		policy: p, kinds: map[string]*kindSum{}, byIPv4: map[uint32]uint32{}, byAddr: map[netip.Addr]uint32{}, logins: map[netip.Addr]int{},
		unknown: map[string]*unknownSum{},
	}
}

func (s *summary) add(l *sshlog.Line, out *guard.Outcome) {
	s.sshd++
	if l.Time != 0 {
		if s.from == 0 {
			s.from = l.Time
		}
		s.to = max(s.to, l.Time)
	}
	if l.Bare {
		s.bare++
	}
	ev := &out.Event
	if ev.Kind == sshlog.None {
		return
	}
	sum := s.byKind[ev.Kind][ev.Method&7]
	if sum == nil {
		word := ev.Word()
		if sum = s.kinds[word]; sum == nil {
			sum = &kindSum{word: word}
			s.kinds[word] = sum
		}
		s.byKind[ev.Kind][ev.Method&7] = sum
	}
	sum.lines++
	sum.attempts += int64(out.Attempts)
	if out.Attempts > 0 {
		s.addSource(out.Addr, out.Attempts)
	}
	switch ev.Kind {
	case sshlog.Accepted:
		if len(s.logins) < maxSources {
			s.logins[out.Addr]++
		}
	case sshlog.Unknown:
		s.addUnknown(l.Message)
	}
	for i := range out.Bans {
		if len(s.bans) < shownBans {
			s.bans = append(s.bans, out.Bans[i])
		}
		if len(s.banned) < maxBans {
			s.banned = append(s.banned, out.Bans[i].Prefix)
		} else {
			s.moreBans++
		}
	}
}

func (s *summary) addSource(a netip.Addr, attempts int) {
	s.attempts += int64(attempts)
	if a.Is4() {
		b := a.As4()
		addSource(s, s.byIPv4, binary.BigEndian.Uint32(b[:]), a, attempts)
	} else {
		addSource(s, s.byAddr, a, a, attempts)
	}
}

func addSource[K comparable](s *summary, by map[K]uint32, k K, a netip.Addr, attempts int) {
	i, ok := by[k]
	if !ok {
		if len(s.sources) >= maxSources {
			s.crowded = true
			return
		}
		i = uint32(len(s.sources))
		by[k] = i
		s.sources = append(s.sources, sourceSum{addr: a})
	}
	s.sources[i].attempts += attempts
}

// addUnknown groups unknown messages by their shape: digits do not count.
func (s *summary) addUnknown(message []byte) {
	if len(message) > 160 {
		message = message[:160]
	}
	shape := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return '#'
		}
		return r
	}, string(message))
	if sum := s.unknown[shape]; sum != nil {
		sum.lines++
		return
	}
	if len(s.unknown) >= maxUnknown {
		s.moreKinds++
		return
	}
	s.unknown[shape] = &unknownSum{example: string(message), lines: 1}
}

// report writes the summary.
func (s *summary) report(u *ui, read, dropped int64) {
	rows := [][]string{{"lines", fmt.Sprintf("%s read, %s of sshd", printable.Grouped(read), printable.Grouped(s.sshd))}}
	if dropped > 0 {
		rows = append(rows, []string{"too long", printable.Grouped(dropped) + " lines over the limit, not looked at"})
	}
	if s.from != 0 {
		rows = append(rows, []string{"from, to", when(s.from) + "  " + when(s.to)})
	}
	sources := printable.Grouped(int64(len(s.sources)))
	if s.crowded {
		sources = "more than " + sources
	}
	rows = append(rows,
		[]string{"attempts", fmt.Sprintf("%s from %s sources", printable.Grouped(s.attempts), sources)},
		[]string{"judged as", fmt.Sprintf("mode %s, %d attempts in %s, then %s", s.policy.Mode, s.policy.MaxRetry, shortDuration(s.policy.FindTime), shortDuration(s.policy.BanTime))},
		[]string{"would ban", fmt.Sprintf("%s times", printable.Grouped(int64(len(s.banned)+s.moreBans)))})
	u.table(rows)
	if s.sshd == 0 && read > 0 {
		u.line("")
		u.line("No line is sshd's. If this is what sshd -E or -e wrote (no date, no program), try --bare.")
	}
	s.printKinds(u)
	s.printBans(u)
	s.printTop(u)
	s.printUnknown(u)
	if s.bare > 0 {
		u.line("")
		u.warn(fmt.Sprintf("%s lines have no envelope: a client can forge such lines, so none was counted", printable.Grouped(s.bare)), "have sshd log to syslog or the journal (no -E, no -e)")
	}
}

func (s *summary) printKinds(u *ui) {
	if len(s.kinds) == 0 {
		return
	}
	kinds := make([]*kindSum, 0, len(s.kinds))
	for _, k := range s.kinds {
		kinds = append(kinds, k)
	}
	slices.SortFunc(kinds, func(a, b *kindSum) int {
		return cmp.Or(cmp.Compare(b.lines, a.lines), strings.Compare(a.word, b.word))
	})
	rows := [][]string{{"EVENT", "LINES", "ATTEMPTS"}}
	for _, k := range kinds {
		rows = append(rows, []string{k.word, printable.Grouped(k.lines), printable.Grouped(k.attempts)})
	}
	u.line("")
	u.table(rows)
}

func (s *summary) printBans(u *ui) {
	if len(s.bans) == 0 {
		return
	}
	rows := [][]string{{"WOULD BAN", "FROM", "UNTIL", "ATTEMPTS", "CAUSE"}}
	for _, b := range s.bans {
		until := "for ever"
		if !b.Until.IsZero() {
			until = b.Until.Format("2006-01-02 15:04:05")
		}
		rows = append(rows, []string{printable.Prefix(b.Prefix), b.From.Format("2006-01-02 15:04:05"), until, fmt.Sprint(b.Attempts), b.Cause})
	}
	u.line("")
	u.table(rows)
	if more := len(s.banned) + s.moreBans - len(s.bans); more > 0 {
		u.line(fmt.Sprintf("... and %s more: see all with --json --bans", printable.Grouped(int64(more))))
	}
	both := s.alsoLoggedIn()
	if len(both) > 0 {
		u.line("")
		u.warn("would have been banned, but also logged in: likely a person who mistyped", "put them into admins or guard.ignore if you know them: "+strings.Join(both[:min(len(both), shownOthers)], ", "))
	}
}

// alsoLoggedIn names who logged in from an address that would have been banned.
func (s *summary) alsoLoggedIn() (both []string) {
	var lengths []int
	for _, p := range s.banned {
		if !slices.Contains(lengths, p.Bits()) {
			lengths = append(lengths, p.Bits())
		}
	}
	from := map[netip.Prefix]bool{} // where logins came from, and whether it was banned: the bans are many more
	prefixes := func(addr netip.Addr, yield func(netip.Prefix)) {
		for _, bits := range lengths {
			if p, err := addr.Prefix(bits); err == nil {
				yield(p)
			}
		}
	}
	for addr := range s.logins {
		prefixes(addr, func(p netip.Prefix) { from[p] = false })
	}
	for _, p := range s.banned {
		if _, ok := from[p]; ok {
			from[p] = true
		}
	}
	for addr, n := range s.logins {
		banned := false
		prefixes(addr, func(p netip.Prefix) { banned = banned || from[p] })
		if banned {
			both = append(both, fmt.Sprintf("%s (%d logins)", addr, n))
		}
	}
	slices.Sort(both)
	return both
}

func (s *summary) printTop(u *ui) {
	if len(s.sources) == 0 {
		return
	}
	order := func(a, b sourceSum) int {
		return cmp.Or(cmp.Compare(b.attempts, a.attempts), a.addr.Compare(b.addr))
	}
	top := make([]sourceSum, 0, shownOthers+1)
	for _, source := range s.sources { // a heap would be no faster: few ever enter
		if len(top) == shownOthers && order(source, top[shownOthers-1]) > 0 {
			continue
		}
		at, _ := slices.BinarySearchFunc(top, source, order)
		top = slices.Insert(top, at, source)
		top = top[:min(len(top), shownOthers)]
	}
	rows := [][]string{{"SOURCE", "ATTEMPTS"}}
	for _, source := range top {
		rows = append(rows, []string{source.addr.String(), printable.Grouped(int64(source.attempts))})
	}
	u.line("")
	u.table(rows)
}

func (s *summary) printUnknown(u *ui) {
	if len(s.unknown) == 0 {
		return
	}
	unknown := make([]*unknownSum, 0, len(s.unknown))
	for _, m := range s.unknown {
		unknown = append(unknown, m)
	}
	slices.SortFunc(unknown, func(a, b *unknownSum) int {
		return cmp.Or(cmp.Compare(b.lines, a.lines), strings.Compare(a.example, b.example))
	})
	rows := [][]string{{"UNKNOWN MESSAGE OF SSHD'S (never counted)", "LINES"}}
	for _, m := range unknown[:min(shownOthers, len(unknown))] {
		rows = append(rows, []string{sanitize(m.example), printable.Grouped(m.lines)})
	}
	u.line("")
	u.table(rows)
	if more := int64(max(0, len(unknown)-shownOthers)) + s.moreKinds; more > 0 {
		u.line(fmt.Sprintf("... and %s more", printable.Grouped(more)))
	}
}

func when(nanos int64) string { return time.Unix(0, nanos).Format("2006-01-02 15:04:05") }
