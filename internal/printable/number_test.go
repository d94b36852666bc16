package printable

import (
	"math"
	"testing"
)

func TestNumbers(t *testing.T) {
	for _, tt := range []struct{ name, got, want string }{
		{"grouped", Grouped(1234567), "1,234,567"},
		{"grouped short", Grouped(999), "999"},
		{"grouped by one digit", Grouped(1000), "1,000"},
		{"grouped negative", Grouped(-123456), "-123,456"},
		{"grouped negative by one digit", Grouped(-1234), "-1,234"},
		{"grouped nothing", Grouped(0), "0"},
		{"grouped least", Grouped(int64(math.MinInt64)), "-9,223,372,036,854,775,808"},
		{"grouped most", Grouped(uint64(math.MaxUint64)), "18,446,744,073,709,551,615"},
		{"ordinal", Ordinal(1), "1st"},
		{"ordinal of two", Ordinal(1002), "1,002nd"},
		{"ordinal of three", Ordinal(23), "23rd"},
		{"ordinal of eleven", Ordinal(111), "111th"},
		{"ordinal of thirteen", Ordinal(13), "13th"},
		{"ordinal of ten", Ordinal(10), "10th"},
		{"bytes", Bytes(999), "999 B"},
		{"kilobytes", Bytes(1000), "1.0 kB"},
		{"megabytes", Bytes(12_345_678), "12.3 MB"},
		{"most bytes", Bytes(uint64(math.MaxUint64)), "18.4 EB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.got != tt.want {
				t.Errorf("%q, want %q", tt.got, tt.want)
			}
		})
	}
}
