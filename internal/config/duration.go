package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// unit is one unit of time; units are in falling order.
type unit struct {
	name   string
	length time.Duration
}

var units = [...]unit{{"w", 7 * day}, {"d", day}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}, {"ms", time.Millisecond}}

// ParseDuration reads a duration as time.ParseDuration does, with d for 24 hours
// and w for 7 of those, without signs and without units below ms: 90s, 1h30m,
// 1.5d. A bare number is an error, also 0.
func ParseDuration(s string) (time.Duration, error) {
	fail := func(why string) (time.Duration, error) {
		return 0, fmt.Errorf("%q is no duration: %s", s, why)
	}
	if s == "" {
		return fail("it is empty")
	}
	var total float64
	for rest := s; rest != ""; {
		n := len(rest) - len(strings.TrimLeft(rest, "0123456789."))
		count, err := strconv.ParseFloat(rest[:n], 64)
		if err != nil || rest[0] == '.' || rest[n-1] == '.' {
			return fail("it must be numbers with units")
		}
		rest = rest[n:]
		n = len(rest) - len(strings.TrimLeft(rest, "abcdefghijklmnopqrstuvwxyz"))
		length, err := unitLength(rest[:n])
		if err != nil {
			return fail(err.Error())
		}
		rest = rest[n:]
		total += count * float64(length)
	}
	if total >= math.MaxInt64 {
		return fail("it is too long")
	}
	return time.Duration(math.Round(total)), nil
}

func unitLength(name string) (time.Duration, error) {
	for _, u := range units {
		if u.name == name {
			return u.length, nil
		}
	}
	return 0, errors.New("the units are w, d, h, m, s and ms")
}

// FormatDuration writes d, which is not negative, as ParseDuration reads it, in
// days and below: 7d, 1h30m, 0s. What is under a millisecond is left out.
func FormatDuration(d time.Duration) string {
	var b strings.Builder
	for _, u := range units[1:] {
		if n := d / u.length; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, u.name)
			d %= u.length
		}
	}
	if b.Len() == 0 {
		return "0s"
	}
	return b.String()
}
