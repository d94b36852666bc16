package printable

import (
	"fmt"
	"strings"
)

type integer interface{ int | int64 | uint64 }

// Grouped writes 1234567 as 1,234,567.
func Grouped[N integer](n N) string {
	s := fmt.Sprint(n)
	first := len(s) - len(strings.TrimLeft(s, "-")) // a sign stays with its digits
	for i := len(s) - 3; i > first; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Ordinal writes 1st, 2nd, 1,000th.
func Ordinal(n int) string {
	suffix := "th"
	switch {
	case n%100 >= 11 && n%100 <= 13:
	case n%10 == 1:
		suffix = "st"
	case n%10 == 2:
		suffix = "nd"
	case n%10 == 3:
		suffix = "rd"
	}
	return Grouped(n) + suffix
}

// Bytes writes a number of bytes: 999 B, 12.3 MB. A kB is 1000 bytes.
func Bytes[N integer](n N) string {
	const prefixes = "kMGTPE"
	value, unit := float64(n), 0
	for value >= 1000 && unit < len(prefixes) {
		value /= 1000
		unit++
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %cB", value, prefixes[unit-1])
}
