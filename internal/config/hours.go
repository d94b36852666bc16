package config

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // zones on a machine that has no files of them
)

// Allow reports whether t is within the hours. What counts is what a clock on the wall of
// a span's zone shows: an hour that is there twice when summer time ends is within the
// span both times, one that is left out when it begins is not there.
func (h Hours) Allow(t time.Time) bool {
	return len(h) == 0 || slices.ContainsFunc(h, func(s Span) bool { return s.holds(t) })
}

// Next is when the next allowed time begins, at or after t; t itself only where it is a
// beginning. Zero: none begins, as nothing is ever allowed, or everything is already.
func (h Hours) Next(t time.Time) time.Time {
	begins := func(u time.Time) bool { return h.Allow(u) && !h.Allow(u.Add(-time.Nanosecond)) }
	if begins(t) {
		return t
	}
	return h.first(t, begins)
}

// End is when the allowed time that holds t ends: the first moment that is not allowed any
// more. Spans that touch or overlap are one. It is t where t is not allowed; zero: it never
// ends.
func (h Hours) End(t time.Time) time.Time {
	if !h.Allow(t) {
		return t
	}
	return h.first(t, func(u time.Time) bool { return !h.Allow(u) })
}

// Spans recur every week, but for the days on which clocks change. Spans of two zones move
// against each other then, so that a gap may be there for a few weeks of the year only.
const (
	lookAhead = 400 * day
	lookStep  = 9 * day // a week, and what a change of clocks takes
)

// first is the first moment after t, of those at which something may begin or end, that is
// as asked; zero if there is none.
func (h Hours) first(t time.Time, asked func(time.Time) bool) time.Time {
	for from := t; from.Before(t.Add(lookAhead)); from = from.Add(lookStep) {
		var moments []time.Time
		for _, s := range h {
			moments = s.changes(moments, from, from.Add(lookStep))
		}
		slices.SortFunc(moments, time.Time.Compare)
		for _, u := range slices.CompactFunc(moments, time.Time.Equal) {
			if u.After(t) && asked(u) {
				return u.In(t.Location())
			}
		}
	}
	return time.Time{}
}

// Equal reports whether the spans are the same, their zones by name.
func (s Span) Equal(o Span) bool {
	return s.Days == o.Days && s.From == o.From && s.To == o.To && s.zone().String() == o.zone().String()
}

func (s Span) zone() *time.Location {
	if s.Zone == nil {
		return time.UTC
	}
	return s.Zone
}

func (s Span) holds(t time.Time) bool {
	t = t.In(s.zone())
	hour, minute, second := t.Clock()
	clock := time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute + time.Duration(second)*time.Second + time.Duration(t.Nanosecond())
	today := t.Weekday()
	if s.From < s.To {
		return s.Days[today] && s.From <= clock && clock < s.To
	}
	return s.Days[today] && s.From <= clock || s.Days[(today+6)%7] && clock < s.To
}

// changes appends every moment from begin to end at which holds may change, and others: a
// midnight, From or To on the wall with any of the zone's offsets at that time, and the
// zone's own changes.
func (s Span) changes(moments []time.Time, begin, end time.Time) []time.Time {
	z := s.zone()
	var offsets []time.Duration
	for t := begin.Add(-2 * day).In(z); ; {
		if _, offset := t.Zone(); !slices.Contains(offsets, time.Duration(offset)*time.Second) {
			offsets = append(offsets, time.Duration(offset)*time.Second)
		}
		_, next := t.ZoneBounds()
		if next.IsZero() || next.After(end.Add(2*day)) {
			break
		}
		moments, t = append(moments, next), next
	}
	// A wall clock differs from UTC's by less than two days.
	for midnight := begin.UTC().Truncate(day).Add(-2 * day); midnight.Before(end.Add(2 * day)); midnight = midnight.Add(day) {
		for _, clock := range [...]time.Duration{0, s.From, s.To} {
			for _, offset := range offsets {
				if u := midnight.Add(clock - offset); !u.Before(begin) && !u.After(end) {
					moments = append(moments, u)
				}
			}
		}
	}
	return moments
}

// week is the days of the week as the file has them, Monday first.
var week = [...]string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}

// weekday is the i-th day of week.
func weekday(i int) time.Weekday { return time.Weekday((i + 1) % 7) }

// String writes the span as the file has it: mon-fri 09:00-18:00 Asia/Tokyo.
func (s Span) String() string {
	var days []string
	for i := 0; i < len(week); i++ {
		last := i
		for last+1 < len(week) && s.Days[weekday(i)] && s.Days[weekday(last+1)] {
			last++
		}
		switch {
		case !s.Days[weekday(i)]:
			continue
		case last-i == len(week)-1:
			days = append(days, "daily")
		case last > i+1:
			days = append(days, week[i]+"-"+week[last])
		default:
			days = append(days, week[i:last+1]...)
		}
		i = last
	}
	clock := func(t time.Duration) string { return fmt.Sprintf("%02d:%02d", t/time.Hour, t%time.Hour/time.Minute) }
	return strings.Join(days, ",") + " " + clock(s.From) + "-" + clock(s.To) + " " + s.zone().String()
}

// hours are spans of the week.
type hours struct{ p *Hours }

// maxSpans is how many spans anybody keeps in mind.
const maxSpans = 32

func (v hours) text() string {
	spans := *v.p
	if len(spans) == 1 {
		return Quote(spans[0].String())
	}
	return flow(spans, func(s Span) string { return Quote(s.String()) })
}

func (v hours) grammar() string {
	return "days, times and zone, as `\"mon-fri 09:00-18:00 Asia/Tokyo\"`, or a list of such texts"
}

func (v hours) schema() object {
	const days, clock = "(mon|tue|wed|thu|fri|sat|sun)(-(mon|tue|wed|thu|fri|sat|sun))?", "[0-2][0-9]:[0-5][0-9]"
	span := object{"type": "string", "pattern": "^(daily|" + days + "(," + days + ")*) +" + clock + "-" + clock + "( +[A-Za-z0-9/_+-]+)?$"}
	return object{"anyOf": []any{span, object{"type": []string{"array", "null"}, "items": span, "maxItems": maxSpans}}}
}

func (v hours) decode(d *decoder, path string, n *node) {
	items := n.items
	if n.kind == scalar {
		items = []*node{n}
	} else if n.kind == mapping {
		d.refuse(path, n.place, "put it in quotes: "+spanExample, "a mapping where hours are wanted")
		return
	}
	if len(items) > maxSpans {
		d.refuse(path, items[maxSpans].place, "", "more than %d spans", maxSpans)
		return
	}
	var res Hours
	for _, item := range items {
		if !scalarOf(d, path, item, "a span such as "+spanExample, "always") {
			continue
		}
		s, hint, wrong := d.span(item.text)
		switch {
		case wrong != "":
			d.refuse(path, item.place, hint, "%s", wrong)
		case slices.ContainsFunc(res, s.Equal):
			d.refuse(path, item.place, "keep one", "%s is there twice", quote(s.String()))
		default:
			res = append(res, s)
		}
	}
	if !d.bad[path] {
		*v.p = res
	}
}

const spanExample = `"mon-fri 09:00-18:00 Asia/Tokyo"`

// span reads one span, or says what is wrong with it, and what to do.
func (d *decoder) span(text string) (s Span, hint, wrong string) {
	words := strings.Fields(text)
	if len(words) < 2 || len(words) > 3 {
		return Span{}, "write days, times and the zone: " + spanExample, quote(text) + " is no span of the week"
	}
	if s.Days, hint, wrong = daysOf(words[0]); wrong != "" {
		return Span{}, hint, wrong
	}
	if s.From, s.To, hint, wrong = clocksOf(words[1]); wrong != "" {
		return Span{}, hint, wrong
	}
	s.Zone = time.UTC
	if len(words) == 3 {
		if s.Zone, hint, wrong = d.zone(words[2]); wrong != "" {
			return Span{}, hint, wrong
		}
	}
	return s, "", ""
}

// daysOf reads daily, mon-fri, sat,sun.
func daysOf(text string) (days [7]bool, hint, wrong string) {
	if text == "daily" {
		for i := range days {
			days[i] = true
		}
		return days, "", ""
	}
	const write = "the days are mon, tue, wed, thu, fri, sat, sun; write mon-fri, sat,sun or daily"
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, to := slices.Index(week[:], first), slices.Index(week[:], last)
		if from < 0 || to < 0 {
			return days, write, quote(part) + " is no day"
		}
		if isRange && from == to {
			return days, "write " + first + ", or daily for all days", quote(part) + " is one day, or all of them"
		}
		for i := from; ; i = (i + 1) % len(week) {
			if days[weekday(i)] {
				return days, "name each day once", week[i] + " is there twice"
			}
			if days[weekday(i)] = true; i == to {
				break
			}
		}
	}
	return days, "", ""
}

var clocksPattern = regexp.MustCompile(`^([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})$`)

// clocksOf reads 09:00-18:00.
func clocksOf(text string) (from, to time.Duration, hint, wrong string) {
	m := clocksPattern.FindStringSubmatch(text)
	if m == nil {
		return 0, 0, "write times as 09:00-18:00, of 24 hours", quote(text) + " is no span of a day"
	}
	var clocks [2]time.Duration
	for i := range clocks {
		hour, _ := strconv.Atoi(m[2*i+1])
		minute, _ := strconv.Atoi(m[2*i+2])
		clocks[i] = time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute
		if minute > 59 || clocks[i] > day {
			return 0, 0, "times are from 00:00 to 24:00", quote(m[2*i+1]+":"+m[2*i+2]) + " is no time of day"
		}
	}
	from, to = clocks[0], clocks[1]
	switch {
	case from == day:
		return 0, 0, "write 00:00 and name the day after", quote(text) + " begins when the day is over"
	case from == to:
		return 0, 0, "for the whole day write 00:00-24:00", quote(text) + " ends where it begins"
	case to == 0:
		to = day
	}
	return from, to, "", ""
}

var zoneName = regexp.MustCompile(`^[A-Z][A-Za-z0-9_+-]*(/[A-Z][A-Za-z0-9_+-]*)+$`)

// zone finds a zone by its IANA name. Those that are called by an abbreviation are not
// taken: EST is what New York has in winter alone, and is so all the year.
func (d *decoder) zone(name string) (z *time.Location, hint, wrong string) {
	const write = "write it by a city, such as Asia/Tokyo or Europe/Berlin, or UTC"
	if name == "UTC" {
		return time.UTC, "", ""
	}
	if !zoneName.MatchString(name) {
		return nil, write, quote(name) + " is no name of a zone"
	}
	z, known := d.zones[name]
	if !known {
		z, _ = time.LoadLocation(name) // nil: not known
		if d.zones == nil {
			d.zones = map[string]*time.Location{}
		}
		d.zones[name] = z
	}
	if z == nil {
		return nil, write, quote(name) + " is not known among the zones"
	}
	return z, "", ""
}
