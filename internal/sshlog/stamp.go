package sshlog

import (
	"bytes"
	"time"
)

// layout is how a time stamp is written.
type layout uint8

const (
	noStamp       layout = iota
	bsdStamp             // "Nov  2 03:04:05", "Nov 02 03:04:05.123456"
	bsdShortStamp        // "Nov 2 03:04:05"
	bsdYearStamp         // "Nov  2 2026 03:04:05"
	yearLastStamp        // "Mon Nov  2 03:04:05 2026"
	yearBSDStamp         // "2026 Nov  2 03:04:05"
	isoStamp             // "2026-11-02T03:04:05.123456+09:00", "2026-11-02 03:04:05,123"
	fullStamp            // "Mon 2026-11-02 03:04:05 JST"
	unixStamp            // "1793588645.123456"
)

// maxYear is the last whole one that 64 bits of nanoseconds hold.
const maxYear = 2261

// cutStamp splits a line into its time stamp and what follows the blank behind
// it. It looks at the outline only: a line of another program is not worth more.
func cutStamp(b []byte) (lay layout, stamp, rest []byte) {
	if len(b) < 16 {
		return noStamp, nil, nil
	}
	if b[3] == ' ' && b[6] == ' ' && b[9] == ':' && b[12] == ':' { // the commonest first
		if b[15] == ' ' {
			return bsdStamp, b[:15], b[16:]
		}
		return cutAt(bsdStamp, b, 15)
	}
	switch {
	case b[4] == '-' && b[7] == '-' && b[13] == ':' && len(b) > 19 && b[16] == ':':
		return cutISO(b)
	case b[3] == ' ' && len(b) > 23 && b[8] == '-' && b[11] == '-' && b[17] == ':' && b[20] == ':':
		_, stamp, rest = cutAt(isoStamp, b[4:], 19)
		zone := bytes.IndexByte(rest, ' ')
		if zone <= 0 {
			return noStamp, nil, nil
		}
		return fullStamp, b[4 : 4+len(stamp)+1+zone], rest[zone+1:]
	case b[3] == ' ' && len(b) > 20 && b[6] == ' ' && b[11] == ' ' && b[14] == ':' && b[17] == ':':
		return cutAt(bsdYearStamp, b, 20)
	case b[4] == ' ' && b[8] == ' ' && len(b) > 20 && b[11] == ' ' && b[14] == ':' && b[17] == ':':
		return cutAt(yearBSDStamp, b, 20)
	case b[3] == ' ' && b[5] == ' ' && b[8] == ':' && b[11] == ':':
		return cutAt(bsdShortStamp, b, 14)
	case b[3] == ' ' && b[7] == ' ' && len(b) > 24 && b[10] == ' ' && b[13] == ':' && b[19] == ' ' && b[24] == ' ':
		return yearLastStamp, b[:24], b[25:]
	case b[10] == '.' && b[0] >= '0' && b[0] <= '9':
		return cutAt(unixStamp, b, 11)
	}
	return noStamp, nil, nil
}

// cutAt splits at the first blank from n on.
func cutAt(lay layout, b []byte, n int) (layout, []byte, []byte) {
	i := bytes.IndexByte(b[n:], ' ')
	if i < 0 {
		return noStamp, nil, nil
	}
	return lay, b[:n+i], b[n+i+1:]
}

// cutISO also takes a zone that stands apart, as in "03:04:05.123 +0900".
func cutISO(b []byte) (layout, []byte, []byte) {
	lay, stamp, rest := cutAt(isoStamp, b, 19)
	if lay != noStamp && len(rest) > 6 && (rest[0] == '+' || rest[0] == '-') {
		if i := bytes.IndexByte(rest, ' '); i > 0 {
			if _, ok := zoneOffset(rest[:i]); ok {
				return isoStamp, b[:len(stamp)+1+i], rest[i+1:]
			}
		}
	}
	return lay, stamp, rest
}

// time reads a time stamp. keep says whether the year of one without is
// remembered for the next line.
func (d *Decoder) time(lay layout, b []byte, keep bool) (unixNano int64, ok bool) {
	switch lay {
	case bsdStamp:
		return d.bsdTime(b, keep)
	case bsdShortStamp: // some syslog daemons do not pad, and copies lose the blank
		var padded [40]byte
		if len(b) >= len(padded) {
			return 0, false
		}
		copy(padded[:], b[:4])
		padded[4] = ' '
		n := copy(padded[5:], b[4:])
		return d.bsdTime(padded[:5+n], keep)
	case yearLastStamp:
		return d.yearTime(b[4:11], b[20:], b[11:19])
	case bsdYearStamp:
		return d.yearTime(b[:7], b[7:11], b[12:])
	case yearBSDStamp:
		return d.yearTime(b[5:12], b[:4], b[12:])
	case isoStamp:
		return d.isoTime(b)
	case fullStamp:
		i := bytes.LastIndexByte(b, ' ')
		return d.isoFrom(b[:i], b[i+1:])
	case unixStamp:
		seconds, isNumber := parseUint(b[:10], 1<<32-1)
		nanos, rest := fraction(b[10:])
		return int64(seconds)*int64(time.Second) + nanos, isNumber && len(rest) == 0
	}
	return 0, false
}

// bsdTime reads "Nov  2 03:04:05[.fraction]".
func (d *Decoder) bsdTime(b []byte, keep bool) (int64, bool) {
	second, ok := twoDigits(b[13:], 60)
	if !ok {
		return 0, false
	}
	var nanos int64
	if len(b) > 15 {
		var rest []byte
		if nanos, rest = fraction(b[15:]); len(rest) > 0 {
			return 0, false
		}
	}
	if !keep || string(d.bsdMinute.text[:12]) != string(b[:12]) {
		month, day, okDay := monthDay(b)
		hour, okHour := twoDigits(b[7:], 23)
		min, okMin := twoDigits(b[10:], 59)
		if !okDay || !okHour || !okMin {
			return 0, false
		}
		year, ok := d.yearOf(month, day, hour, min, keep)
		if !ok {
			return 0, false
		}
		unix := time.Date(year, month, day, hour, min, 0, 0, d.location).Unix()
		if !keep {
			return (unix+int64(second))*int64(time.Second) + nanos, true
		}
		d.bsdMinute.unix = unix
		copy(d.bsdMinute.text[:], b[:12])
	}
	return (d.bsdMinute.unix+int64(second))*int64(time.Second) + nanos, true
}

// yearOf tells the year of a time stamp without one: at first the latest in
// which it is not after the reference, then the last line's, one more when the
// months wrap round. A small step back, which logs have, changes nothing, also
// over New Year.
func (d *Decoder) yearOf(month time.Month, day, hour, min int, keep bool) (int, bool) {
	year := d.year
	switch step := int(month) - int(d.month); {
	case !keep || year == 0:
		year = d.latestYear(month, day, hour, min)
	case step <= -6:
		year++
	case step == 11: // a late line of December
		return year - 1, day <= daysIn(month, year-1)
	}
	if year > 0 && day > daysIn(month, year) { // a 29 February that the year does not have: the year is wrong
		year = d.latestYear(month, day, hour, min)
	}
	if keep && year > 0 {
		d.year, d.month = year, month
	}
	return year, year > 0
}

func (d *Decoder) latestYear(month time.Month, day, hour, min int) int {
	last := d.latest.In(d.location).Year()
	for year := last; year > last-9; year-- { // a leap year is at most eight years away
		if day <= daysIn(month, year) && !time.Date(year, month, day, hour, min, 0, 0, d.location).After(d.latest) {
			return year
		}
	}
	return 0
}

// yearTime reads a BSD time stamp that has its year: "Nov  2 ", "2026",
// "03:04:05[.fraction]".
func (d *Decoder) yearTime(date, year, clock []byte) (int64, bool) {
	month, day, okDay := monthDay(date)
	y, okYear := parseUint(year, maxYear)
	if len(clock) < 8 || clock[2] != ':' || clock[5] != ':' {
		return 0, false
	}
	hour, okHour := twoDigits(clock, 23)
	min, okMin := twoDigits(clock[3:], 59)
	second, okSecond := twoDigits(clock[6:], 60)
	nanos, rest := fraction(clock[8:])
	if !okDay || !okYear || !okHour || !okMin || !okSecond || len(rest) > 0 || y < 1970 || day > daysIn(month, int(y)) {
		return 0, false
	}
	return time.Date(int(y), month, day, hour, min, second, int(nanos), d.location).UnixNano(), true
}

// isoTime reads a time stamp of 19 bytes or more with its fraction and zone.
func (d *Decoder) isoTime(b []byte) (int64, bool) {
	if len(b) < 19 {
		return 0, false
	}
	n := 19
	if n < len(b) && (b[n] == '.' || b[n] == ',') {
		for n++; n < len(b) && b[n] >= '0' && b[n] <= '9'; n++ {
		}
	}
	zone := b[n:]
	if len(zone) > 0 && zone[0] == ' ' {
		zone = zone[1:]
	}
	return d.isoFrom(b[:n], zone)
}

// isoFrom reads "2026-11-02T03:04:05[.fraction]" in a zone: "", "Z", an offset,
// or a name, of which only UTC's are sure.
func (d *Decoder) isoFrom(b, zone []byte) (int64, bool) {
	if b[4] != '-' || b[7] != '-' || b[10] != 'T' && b[10] != ' ' || b[13] != ':' || b[16] != ':' {
		return 0, false
	}
	second, ok := twoDigits(b[17:], 60)
	nanos, rest := fraction(b[19:])
	if !ok || len(rest) > 0 {
		return 0, false
	}
	offset, location, known := 0, time.UTC, &d.utcMinute
	switch {
	case len(zone) == 0:
		location, known = d.location, &d.locMinute
	case zone[0] == '+' || zone[0] == '-':
		if offset, ok = zoneOffset(zone); !ok {
			return 0, false
		}
	case string(zone) == "Z" || string(zone) == "UTC" || string(zone) == "GMT":
	default:
		for _, c := range zone {
			if c < 'A' || c > 'Z' {
				return 0, false
			}
		}
		location, known = d.location, &d.locMinute
	}
	if string(known.text[:]) != string(b[:16]) {
		year, okYear := parseUint(b[:4], maxYear)
		month, okMonth := twoDigits(b[5:], 12)
		day, okDay := twoDigits(b[8:], 31)
		hour, okHour := twoDigits(b[11:], 23)
		min, okMin := twoDigits(b[14:], 59)
		if !okYear || !okMonth || !okDay || !okHour || !okMin || year < 1970 || month < 1 || day < 1 || day > daysIn(time.Month(month), int(year)) {
			return 0, false
		}
		known.unix = time.Date(int(year), time.Month(month), day, hour, min, 0, 0, location).Unix()
		copy(known.text[:], b[:16])
	}
	return (known.unix-int64(offset)+int64(second))*int64(time.Second) + nanos, true
}

// zoneOffset reads "+09:00", "+0900" or "+09" in seconds.
func zoneOffset(b []byte) (int, bool) {
	if len(b) < 3 {
		return 0, false
	}
	hours, ok := twoDigits(b[1:], 23)
	minutes := 0
	switch rest := b[3:]; {
	case len(rest) == 0:
	case len(rest) == 3 && rest[0] == ':':
		var isMinutes bool
		minutes, isMinutes = twoDigits(rest[1:], 59)
		ok = ok && isMinutes
	case len(rest) == 2:
		var isMinutes bool
		minutes, isMinutes = twoDigits(rest, 59)
		ok = ok && isMinutes
	default:
		return 0, false
	}
	offset := (hours*60 + minutes) * 60
	switch b[0] {
	case '+':
	case '-':
		offset = -offset
	default:
		return 0, false
	}
	return offset, ok
}

// fraction reads ".123456" or ",123" in nanoseconds, and leaves what is none.
func fraction(b []byte) (nanos int64, rest []byte) {
	if len(b) < 2 || b[0] != '.' && b[0] != ',' || b[1] < '0' || b[1] > '9' {
		return 0, b
	}
	b = b[1:]
	n := 0
	for ; n < len(b) && b[n] >= '0' && b[n] <= '9'; n++ {
		if n < len(powers) {
			nanos += int64(b[n]-'0') * powers[n]
		}
	}
	return nanos, b[n:]
}

// powers are the digits' places behind the point, in nanoseconds. Never written to.
var powers = [...]int64{1e8, 1e7, 1e6, 1e5, 1e4, 1e3, 1e2, 1e1, 1}

// twoDigits reads b[0:2], " 2" being 2, as a number of at most limit.
func twoDigits(b []byte, limit int) (int, bool) {
	tens, ones := b[0]-'0', b[1]-'0'
	if b[0] == ' ' {
		tens = 0
	}
	n := int(tens)*10 + int(ones)
	return n, tens <= 9 && ones <= 9 && n <= limit
}

// monthDay reads "Nov  2".
func monthDay(b []byte) (month time.Month, day int, ok bool) {
	switch string(b[:4]) {
	case "Jan ":
		month = time.January
	case "Feb ":
		month = time.February
	case "Mar ":
		month = time.March
	case "Apr ":
		month = time.April
	case "May ":
		month = time.May
	case "Jun ":
		month = time.June
	case "Jul ":
		month = time.July
	case "Aug ":
		month = time.August
	case "Sep ":
		month = time.September
	case "Oct ":
		month = time.October
	case "Nov ":
		month = time.November
	case "Dec ":
		month = time.December
	default:
		return 0, 0, false
	}
	day, ok = twoDigits(b[4:], 31)
	return month, day, ok && day >= 1 && day <= daysIn(month, 2000)
}

func daysIn(month time.Month, year int) int {
	switch month {
	case time.April, time.June, time.September, time.November:
		return 30
	case time.February:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}
