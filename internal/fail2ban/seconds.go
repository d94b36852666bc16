package fail2ban

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// The lengths of fail2ban's units of time (server/mytime.py), in seconds. A month is a twelfth of a year,
// and a year has a quarter of a leap day.

const (
	secondsOfDay  = 24 * 60 * 60
	secondsOfYear = secondsOfDay * (365*3 + 366) / 4
)

func unitOf(word string) (seconds float64, ok bool) {
	switch strings.ToLower(word) {
	case "s", "ss", "se", "sec", "second", "seconds":
		return 1, true
	case "m", "mm", "mi", "min", "minute", "minutes":
		return 60, true
	case "h", "hh", "ho", "hou", "hour", "hours":
		return 60 * 60, true
	case "d", "dd", "da", "day", "days":
		return secondsOfDay, true
	case "w", "ww", "we", "wee", "week", "weeks":
		return 7 * secondsOfDay, true
	case "mo", "mon", "month", "months":
		return secondsOfYear / 12, true
	case "y", "yy", "ye", "yea", "year", "years":
		return secondsOfYear, true
	}
	return 0, false
}

var errNoTime = errors.New("it is no time")

// parseSeconds reads a time as fail2ban does: numbers of seconds, or with units (1d12h, 2 weeks),
// which is an expression of Python's with + between what only spaces divide: 24*60*60, -1,
// 1year-6mo, and a comment after #.
func parseSeconds(s string) (float64, error) {
	s, _, _ = strings.Cut(s, "#")
	p := &expression{rest: s}
	v, err := p.sum(0)
	p.next()
	if err == nil && (p.rest != "" || math.IsNaN(v) || math.IsInf(v, 0)) {
		err = errNoTime
	}
	return v, err
}

// expression is what is left to read of one.
type expression struct{ rest string }

// next is the first character that is no space; 0 at the end.
func (p *expression) next() byte {
	p.rest = strings.TrimLeft(p.rest, " \t\n")
	if p.rest == "" {
		return 0
	}
	return p.rest[0]
}

// take takes text off the rest, if it begins with it.
func (p *expression) take(text string) bool {
	p.next()
	rest, ok := strings.CutPrefix(p.rest, text)
	p.rest = rest
	return ok
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func (p *expression) sum(depth int) (float64, error) {
	v, err := p.product(depth)
	for err == nil {
		sign := 1.0
		switch c := p.next(); {
		case c == '+' || isDigit(c): // 1d 12h: a sum
			p.take("+")
		case c == '-':
			p.take("-")
			sign = -1
		default:
			return v, nil
		}
		var w float64
		w, err = p.product(depth)
		v += sign * w
	}
	return 0, err
}

func (p *expression) product(depth int) (float64, error) {
	v, err := p.factor(depth)
	for err == nil {
		divide, whole := false, false
		switch {
		case p.take("**"):
			return 0, errNoTime
		case p.take("*"):
		case p.take("//"):
			divide, whole = true, true
		case p.take("/"):
			divide = true
		default:
			return v, nil
		}
		var w float64
		w, err = p.factor(depth)
		switch {
		case err != nil:
		case divide && w == 0:
			return 0, errNoTime
		case whole:
			v = math.Floor(v / w)
		case divide:
			v /= w
		default:
			v *= w
		}
	}
	return 0, err
}

func (p *expression) factor(depth int) (float64, error) {
	if depth > 100 {
		return 0, errNoTime
	}
	switch {
	case p.take("-"):
		v, err := p.factor(depth + 1)
		return -v, err
	case p.take("+"):
		return p.factor(depth + 1)
	case p.take("("):
		v, err := p.sum(depth + 1)
		if err == nil && !p.take(")") {
			err = errNoTime
		}
		return v, err
	}
	p.next()
	n := len(p.rest) - len(strings.TrimLeft(p.rest, "0123456789."))
	v, err := strconv.ParseFloat(p.rest[:n], 64)
	if err != nil {
		return 0, errNoTime
	}
	p.rest = p.rest[n:]
	p.next()
	n = len(p.rest) - len(strings.TrimLeft(p.rest, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"))
	if n == 0 {
		return v, nil
	}
	unit, ok := unitOf(p.rest[:n])
	if !ok {
		return 0, errNoTime
	}
	p.rest = p.rest[n:]
	return v * unit, nil
}

// asDuration is a number of seconds as a duration, at most the longest.
func asDuration(seconds float64) time.Duration {
	ns := seconds * float64(time.Second)
	if ns >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(ns).Truncate(time.Second)
}
