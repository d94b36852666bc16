package report

import (
	"cmp"
	"net/netip"
	"time"

	"sekisho/internal/config"
	"sekisho/internal/printable"
)

// view is a report as it is laid out, in a language, for every form alike. Its texts
// are printable, but not escaped for HTML.
type view struct {
	language config.Language
	title    string
	host     string
	period   string
	warnings []string
	calm     string // all is well
	facts    []fact
	charts   []chart // over the days
	sections []section
}

// fact is a figure that stands out.
type fact struct{ label, value, note string }

// chart is a figure of each day, or of each few days.
type chart struct {
	title  string
	values []float64
	labels []string // as many; what they are of
	texts  []string // as many; what they are
}

// section is a table under a title. The bar of a row stands for its first number.
type section struct {
	title   string
	note    string
	heads   []string
	numbers int  // how many of the last columns hold numbers
	short   bool // the first column holds nothing long: days, prefixes
	rows    []row
}

type row struct {
	cells []string
	bar   float64 // 0 to 1; negative: it has none
	minor bool    // what is left, rather than one of many
}

const mostColumns = 31 // of a chart; more days are put together

func (r Report) view(l config.Language) view {
	w := wordsIn(l)
	v := view{language: l, title: w.title, host: printable.Text(r.Host), period: w.period(r.From, r.To, r.Days)}
	if r.Damaged > 0 {
		v.warnings = append(v.warnings, w.damaged(r.Damaged))
	}
	if r.Crowded {
		v.warnings = append(v.warnings, w.crowded)
	}
	if r.Attempts == 0 && r.Bans.Count == 0 {
		v.calm = w.attacked
	}
	r.addFacts(&v, w)
	r.addDays(&v, w)
	add := func(s section) {
		if len(s.rows) > 0 {
			s.scale()
			v.sections = append(v.sections, s)
		}
	}
	add(r.countries(w))
	add(r.networks(w))
	add(r.sources(w))
	add(r.names(w))
	add(r.kinds(w))
	add(r.keptOut(w))
	add(r.causes(w))
	add(r.topBans(w))
	add(r.persons(w))
	return v
}

// scale makes the bars of their largest, which is 1.
func (s *section) scale() {
	most := 0.0
	for _, r := range s.rows {
		most = max(most, r.bar)
	}
	for i := range s.rows {
		if s.rows[i].bar > 0 {
			s.rows[i].bar /= most
		}
	}
}

func (r Report) addFacts(v *view, w *words) {
	v.facts = append(v.facts, fact{w.attempts, printable.Grouped(r.Attempts), w.attemptsNote(r)}, fact{w.bans, printable.Grouped(r.Bans.Count), w.bansNote(r.Bans)})
	if x := r.Bans.Reaction; x.Bans > 0 {
		v.facts = append(v.facts, fact{w.reaction, w.duration(x.Median), w.reactionNote(x)})
	}
	if len(r.Dropped) > 0 {
		var bytes uint64
		for _, d := range r.Dropped {
			bytes += d.Bytes
		}
		v.facts = append(v.facts, fact{w.dropped, printable.Grouped(r.DroppedPackets()), printable.Bytes(bytes)})
	}
	if r.LetIn > 0 {
		v.facts = append(v.facts, fact{w.letIn, printable.Grouped(r.LetIn), ""})
	}
	v.facts = append(v.facts, fact{w.logins, printable.Grouped(r.Logins.Count), ""})
}

// span is some days together.
type span struct {
	label string
	Day
}

// spans puts days together until there are no more than a chart can show.
func (r Report) spans(w *words) (out []span, each int) {
	each = 1
	for len(r.ByDay) > mostColumns*each {
		if each == 1 {
			each = 7
		} else {
			each *= 2
		}
	}
	// The last is whole, the first may be short.
	for i := 0; i < len(r.ByDay); {
		n := each
		if i == 0 && len(r.ByDay)%each != 0 {
			n = len(r.ByDay) % each
		}
		s := span{label: printable.Text(r.ByDay[i].Day), Day: Day{Day: r.ByDay[i].Day}}
		if each > 1 {
			s.label = w.weekFrom(s.label)
		}
		for _, d := range r.ByDay[i : i+n] {
			s.Attempts += d.Attempts
			s.Bans += d.Bans
			s.Logins += d.Logins
			s.Dropped += d.Dropped
		}
		out = append(out, s)
		i += n
	}
	return out, each
}

func (r Report) addDays(v *view, w *words) {
	spans, each := r.spans(w)
	s := section{title: w.byDay, short: true, heads: []string{w.day, w.countAttempts, w.countBans, w.countLogins}, numbers: 3}
	if each > 1 {
		s.title = w.byWeeks
	}
	dropped := r.DroppedPackets() > 0
	if dropped {
		s.heads, s.numbers = append(s.heads, w.countPackets), 4
	}
	charts := []chart{{title: w.attempts}, {title: w.bans}, {title: w.dropped}, {title: w.logins}}
	for _, x := range spans {
		cells := []string{x.label, printable.Grouped(x.Attempts), printable.Grouped(x.Bans), printable.Grouped(x.Logins)}
		if dropped {
			cells = append(cells, printable.Grouped(x.Dropped))
		}
		s.rows = append(s.rows, row{cells: cells, bar: float64(x.Attempts)})
		for i, n := range []float64{float64(x.Attempts), float64(x.Bans), float64(x.Dropped), float64(x.Logins)} {
			c := &charts[i]
			c.values, c.labels = append(c.values, n), append(c.labels, printable.Text(x.Day.Day))
			c.texts = append(c.texts, x.label+": "+[]string{cells[1], cells[2], printable.Grouped(x.Dropped), cells[3]}[i])
		}
	}
	for _, c := range charts {
		for _, n := range c.values {
			if n > 0 {
				v.charts = append(v.charts, c)
				break
			}
		}
	}
	s.scale()
	v.sections = append(v.sections, s)
}

// rest is the last row of a table of attempts.
func rest(w *words, n, columns, all int) row {
	cells := make([]string, columns)
	cells[0], cells[columns-2], cells[columns-1] = w.rest, printable.Grouped(n), shareOf(n, all)
	return row{cells: cells, bar: -1, minor: true}
}

func (r Report) countries(w *words) section {
	s := section{title: w.byCountry, heads: []string{w.country, w.countBans, w.countSources, w.countAttempts, w.share}, numbers: 4}
	for _, c := range r.ByCountry.Rows {
		s.rows = append(s.rows, row{
			cells: []string{w.countryName(printable.Text(c.Country)), printable.Grouped(c.Bans), printable.Grouped(c.Sources), printable.Grouped(c.Attempts), shareOf(c.Attempts, r.Attempts)},
			bar:   float64(c.Attempts), minor: c.Country == "",
		})
	}
	if r.ByCountry.Rest > 0 {
		s.rows = append(s.rows, rest(w, r.ByCountry.Rest, len(s.heads), r.Attempts))
	}
	return s
}

func prefixText(p netip.Prefix) string {
	if !p.IsValid() {
		return "?"
	}
	return printable.Prefix(p)
}

func (w *words) code(country string) string { return cmp.Or(printable.Text(country), "??") }

func (r Report) networks(w *words) section {
	s := section{title: w.byNetwork, short: true, heads: []string{w.network, w.country, w.countBans, w.countSources, w.countAttempts, w.share}, numbers: 4}
	for _, n := range r.ByNetwork.Rows {
		s.rows = append(s.rows, row{
			cells: []string{prefixText(n.Prefix), w.code(n.Country), printable.Grouped(n.Bans), printable.Grouped(n.Sources), printable.Grouped(n.Attempts), shareOf(n.Attempts, r.Attempts)},
			bar:   float64(n.Attempts),
		})
	}
	if r.ByNetwork.Rest > 0 && len(s.rows) > 0 {
		s.rows = append(s.rows, rest(w, r.ByNetwork.Rest, len(s.heads), r.Attempts))
	}
	return s
}

func (r Report) sources(w *words) section {
	s := section{title: w.bySource, short: true, heads: []string{w.source, w.country, w.countBans, w.countAttempts, w.share}, numbers: 3}
	for _, n := range r.BySource.Rows {
		s.rows = append(s.rows, row{
			cells: []string{prefixText(n.Prefix), w.code(n.Country), printable.Grouped(n.Bans), printable.Grouped(n.Attempts), shareOf(n.Attempts, r.Attempts)},
			bar:   float64(n.Attempts),
		})
	}
	if r.BySource.Rest > 0 && len(s.rows) > 0 {
		s.rows = append(s.rows, rest(w, r.BySource.Rest, len(s.heads), r.Attempts))
	}
	return s
}

func (r Report) names(w *words) section {
	s := section{title: w.byName, heads: []string{w.name, w.countAttempts, w.share}, numbers: 2}
	for _, n := range r.ByName.Rows {
		s.rows = append(s.rows, row{
			cells: []string{cmp.Or(printable.Text(n.User), w.noName), printable.Grouped(n.Attempts), shareOf(n.Attempts, r.Attempts)},
			bar:   float64(n.Attempts), minor: n.User == "",
		})
	}
	if r.ByName.Rest > 0 {
		s.rows = append(s.rows, rest(w, r.ByName.Rest, len(s.heads), r.Attempts))
	}
	return s
}

func (r Report) kinds(w *words) section {
	s := section{title: w.byKind, heads: []string{w.kind, w.countLines, w.countAttempts, w.share}, numbers: 3}
	for _, k := range r.ByKind {
		s.rows = append(s.rows, row{
			cells: []string{printable.Text(k.Kind), printable.Grouped(k.Lines), printable.Grouped(k.Attempts), shareOf(k.Attempts, r.Attempts)},
			bar:   float64(k.Attempts),
		})
	}
	return s
}

func (r Report) keptOut(w *words) section {
	s := section{title: w.kept, note: w.keptNote, heads: []string{w.by, w.countBytes, w.countPackets}, numbers: 2}
	for _, d := range r.Dropped {
		s.rows = append(s.rows, row{
			cells: []string{cmp.Or(w.keptBy[d.By], printable.Text(d.By)), printable.Bytes(d.Bytes), printable.Grouped(d.Packets)},
			bar:   float64(d.Packets),
		})
	}
	return s
}

func (r Report) causes(w *words) section {
	s := section{title: w.causes, heads: []string{w.cause, w.countBans, w.share}, numbers: 2}
	for _, c := range r.Bans.ByCause {
		s.rows = append(s.rows, row{
			cells: []string{cmp.Or(w.causeOf[c.Cause], printable.Text(c.Cause), w.unknown), printable.Grouped(c.Bans), shareOf(c.Bans, r.Bans.Count)},
			bar:   float64(c.Bans),
		})
	}
	return s
}

func (r Report) topBans(w *words) section {
	s := section{title: w.topBans, short: true, heads: []string{w.source, w.country, w.last, w.countAttempts, w.countBans}, numbers: 2}
	for _, b := range r.Bans.Top {
		s.rows = append(s.rows, row{
			cells: []string{prefixText(b.Prefix), w.code(b.Country), r.clock(b.Last), printable.Grouped(b.Attempts), printable.Grouped(b.Bans)},
			bar:   float64(b.Bans),
		})
	}
	return s
}

// clock is a time in the zone of the report.
func (r Report) clock(t time.Time) string { return t.In(r.To.Location()).Format("2006-01-02 15:04") }

func (r Report) persons(w *words) section {
	s := section{title: w.persons, heads: []string{w.person, w.country, w.last, w.countAddresses, w.countLogins}, numbers: 2}
	for _, l := range r.Logins.Rows {
		last := "-"
		if l.Last != nil {
			last = r.clock(*l.Last)
		}
		s.rows = append(s.rows, row{
			cells: []string{cmp.Or(printable.Text(l.User), w.noName), w.countryName(printable.Text(l.Country)), last, printable.Grouped(l.Addresses), printable.Grouped(l.Logins)},
			bar:   float64(l.Logins),
		})
	}
	if r.Logins.Rest > 0 {
		s.rows = append(s.rows, row{cells: []string{w.rest, "", "", "", printable.Grouped(r.Logins.Rest)}, bar: -1, minor: true})
	}
	return s
}
