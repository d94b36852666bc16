package config

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// spansOf reads hours as the file has them.
func spansOf(t interface{ Fatalf(string, ...any) }, texts ...string) Hours {
	var h Hours
	d := &decoder{}
	for _, text := range texts {
		s, _, wrong := d.span(text)
		if wrong != "" {
			t.Fatalf("%s: %s", text, wrong)
		}
		h = append(h, s)
	}
	return h
}

// TestHours: times are RFC 3339; "": zero. 2026-11-23 is a Monday. Clocks change in Berlin
// on 2026-03-29 and 2026-10-25, in New York on 2026-03-08 and 2026-11-01.
func TestHours(t *testing.T) {
	const never = ""
	for _, tt := range []struct {
		name      string
		hours     []string
		at        string
		allow     bool
		next, end string
	}{
		{"always", nil, "2026-11-23T12:00:00Z", true, never, never},
		{"every minute of the week", []string{"daily 00:00-24:00"}, "2026-11-23T12:00:00Z", true, never, never},
		{"every minute of the week, in pieces", []string{"mon-fri 00:00-12:00", "mon-fri 12:00-00:00", "fri-sun 12:00-11:00", "sat-mon 10:00-12:30"}, "2026-11-23T12:00:00Z", true, never, never},

		{"before", []string{"mon-fri 09:00-18:00 Asia/Tokyo"}, "2026-11-23T08:59:59+09:00", false, "2026-11-23T09:00:00+09:00", "2026-11-23T08:59:59+09:00"},
		{"the beginning", []string{"mon-fri 09:00-18:00 Asia/Tokyo"}, "2026-11-23T09:00:00+09:00", true, "2026-11-23T09:00:00+09:00", "2026-11-23T18:00:00+09:00"},
		{"within", []string{"mon-fri 09:00-18:00 Asia/Tokyo"}, "2026-11-23T12:34:56.789+09:00", true, "2026-11-24T09:00:00+09:00", "2026-11-23T18:00:00+09:00"},
		{"the last moment", []string{"mon-fri 09:00-18:00 Asia/Tokyo"}, "2026-11-23T17:59:59.999999999+09:00", true, "2026-11-24T09:00:00+09:00", "2026-11-23T18:00:00+09:00"},
		{"the end", []string{"mon-fri 09:00-18:00 Asia/Tokyo"}, "2026-11-27T18:00:00+09:00", false, "2026-11-30T09:00:00+09:00", "2026-11-27T18:00:00+09:00"},
		{"asked from another zone", []string{"mon-fri 09:00-18:00 Asia/Tokyo"}, "2026-11-29T16:00:00-08:00", true, "2026-11-29T16:00:00-08:00", "2026-11-30T01:00:00-08:00"},
		{"once a week", []string{"mon 09:00-10:00"}, "2026-11-23T10:00:00Z", false, "2026-11-30T09:00:00Z", "2026-11-23T10:00:00Z"},
		{"once a week, within", []string{"mon 09:00-10:00"}, "2026-11-23T09:00:01Z", true, "2026-11-30T09:00:00Z", "2026-11-23T10:00:00Z"},

		{"over midnight, before it", []string{"sat,sun 22:00-06:00"}, "2026-11-28T23:00:00Z", true, "2026-11-29T22:00:00Z", "2026-11-29T06:00:00Z"},
		{"over midnight, after it, on a day that is not named", []string{"sat,sun 22:00-06:00"}, "2026-11-30T05:59:59Z", true, "2026-12-05T22:00:00Z", "2026-11-30T06:00:00Z"},
		{"over midnight, the morning of the first day", []string{"sat,sun 22:00-06:00"}, "2026-11-28T05:00:00Z", false, "2026-11-28T22:00:00Z", "2026-11-28T05:00:00Z"},
		{"to midnight", []string{"mon 22:00-00:00"}, "2026-11-23T23:59:59Z", true, "2026-11-30T22:00:00Z", "2026-11-24T00:00:00Z"},
		{"to midnight, past it", []string{"mon 22:00-24:00"}, "2026-11-24T00:00:00Z", false, "2026-11-30T22:00:00Z", "2026-11-24T00:00:00Z"},
		{"over the week's end", []string{"fri-mon 22:00-06:00"}, "2026-11-24T03:00:00Z", true, "2026-11-27T22:00:00Z", "2026-11-24T06:00:00Z"},

		{"spans that touch", []string{"mon 09:00-12:00", "mon 12:00-14:00"}, "2026-11-23T09:30:00Z", true, "2026-11-30T09:00:00Z", "2026-11-23T14:00:00Z"},
		{"spans that overlap, of two zones", []string{"mon 09:00-12:00", "mon 20:00-23:00 Asia/Tokyo"}, "2026-11-23T09:30:00Z", true, "2026-11-30T09:00:00Z", "2026-11-23T14:00:00Z"},
		{"days that touch", []string{"sat,sun 00:00-24:00"}, "2026-11-28T09:30:00Z", true, "2026-12-05T00:00:00Z", "2026-11-30T00:00:00Z"},

		{"Berlin, an hour is left out: within it nothing is", []string{"sun 02:15-02:45 Europe/Berlin"}, "2026-03-29T01:30:00+01:00", false, "2026-04-05T02:15:00+02:00", "2026-03-29T01:30:00+01:00"},
		{"Berlin, an hour is left out: what begins in it begins after it", []string{"sun 02:30-05:00 Europe/Berlin"}, "2026-03-29T01:30:00+01:00", false, "2026-03-29T03:00:00+02:00", "2026-03-29T01:30:00+01:00"},
		{"Berlin, an hour is left out: what ends in it ends at it", []string{"sun 01:00-02:30 Europe/Berlin"}, "2026-03-29T01:30:00+01:00", true, "2026-04-05T01:00:00+02:00", "2026-03-29T03:00:00+02:00"},
		{"Berlin, an hour is left out: over midnight", []string{"sat 22:00-06:00 Europe/Berlin"}, "2026-03-28T23:00:00+01:00", true, "2026-04-04T22:00:00+02:00", "2026-03-29T06:00:00+02:00"},
		{"Berlin, an hour is there twice: so is what it holds", []string{"sun 02:15-02:45 Europe/Berlin"}, "2026-10-25T02:30:00+02:00", true, "2026-10-25T02:15:00+01:00", "2026-10-25T02:45:00+02:00"},
		{"Berlin, an hour is there twice: the second time", []string{"sun 02:15-02:45 Europe/Berlin"}, "2026-10-25T02:30:00+01:00", true, "2026-11-01T02:15:00+01:00", "2026-10-25T02:45:00+01:00"},
		{"Berlin, an hour is there twice: what ends in it begins again", []string{"sun 01:00-02:30 Europe/Berlin"}, "2026-10-25T02:40:00+02:00", false, "2026-10-25T02:00:00+01:00", "2026-10-25T02:40:00+02:00"},
		{"Berlin, an hour is there twice: what holds it is longer", []string{"sun 01:00-04:00 Europe/Berlin"}, "2026-10-25T01:00:00+02:00", true, "2026-10-25T01:00:00+02:00", "2026-10-25T04:00:00+01:00"},

		{"New York, an hour is left out", []string{"daily 02:00-03:00 America/New_York"}, "2026-03-08T01:59:59-05:00", false, "2026-03-09T02:00:00-04:00", "2026-03-08T01:59:59-05:00"},
		{"New York, the day stays what it is on the wall", []string{"mon-fri 09:00-17:00 America/New_York"}, "2026-03-06T17:00:00-05:00", false, "2026-03-09T09:00:00-04:00", "2026-03-06T17:00:00-05:00"},
		{"New York, an hour is there twice", []string{"sun 01:00-02:00 America/New_York"}, "2026-11-01T01:30:00-04:00", true, "2026-11-08T01:00:00-05:00", "2026-11-01T02:00:00-05:00"},
		{"Tokyo, where clocks do not change", []string{"sun 02:00-03:00 Asia/Tokyo"}, "2026-03-29T02:30:00+09:00", true, "2026-04-05T02:00:00+09:00", "2026-03-29T03:00:00+09:00"},

		// Noon in Berlin is 06:00 in New York, but for the weeks in which one of the two has changed its clocks.
		{"two zones that leave no gap for most of the year", []string{"daily 00:00-12:00 Europe/Berlin", "daily 06:00-18:00 America/New_York"}, "2026-05-01T00:00:00Z", true, "2026-10-25T23:00:00Z", "2026-10-25T22:00:00Z"},
		{"half an hour of summer", []string{"sun 01:45-02:15 Australia/Lord_Howe"}, "2026-04-05T01:50:00+11:00", true, "2026-04-05T01:45:00+10:30", "2026-04-05T01:30:00+10:30"},
		{"a day that was left out", []string{"fri 10:00-11:00 Pacific/Apia"}, "2011-12-29T12:00:00-10:00", false, "2012-01-06T10:00:00+14:00", "2011-12-29T12:00:00-10:00"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := spansOf(t, tt.hours...)
			at, err := time.Parse(time.RFC3339Nano, tt.at)
			if err != nil {
				t.Fatal(err)
			}
			if got := h.Allow(at); got != tt.allow {
				t.Errorf("Allow = %v, want %v", got, tt.allow)
			}
			same := func(name string, got time.Time, text string) {
				t.Helper()
				var want time.Time
				if text != "" {
					if want, err = time.Parse(time.RFC3339Nano, text); err != nil {
						t.Fatal(err)
					}
				}
				if !got.Equal(want) {
					t.Errorf("%s = %v, want %v", name, got, want)
				}
			}
			same("Next", h.Next(at), tt.next)
			same("End", h.End(at), tt.end)
		})
	}
}

func TestSpanString(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"days", "mon-fri 09:00-18:00 Asia/Tokyo", "mon-fri 09:00-18:00 Asia/Tokyo"},
		{"UTC is said", "daily 08:00-20:00", "daily 08:00-20:00 UTC"},
		{"every day", "tue-mon 08:00-20:00", "daily 08:00-20:00 UTC"},
		{"two days", "sun,sat 22:00-06:00 UTC", "sat,sun 22:00-06:00 UTC"},
		{"over the week's end", "fri-mon 22:00-06:00", "mon,fri-sun 22:00-06:00 UTC"},
		{"one by one", "mon,wed,thu,fri,sun 00:00-24:00", "mon,wed-fri,sun 00:00-24:00 UTC"},
		{"midnight", "mon 22:30-00:00 UTC", "mon 22:30-24:00 UTC"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			span := spansOf(t, tt.in)[0]
			if got := span.String(); got != tt.want {
				t.Errorf("String = %q, want %q", got, tt.want)
			}
			if back := spansOf(t, span.String())[0]; !back.Equal(span) {
				t.Errorf("%q is read back as %q", span, back)
			}
		})
	}
}

// drawHours draws spans on the hour and the half hour, where clocks change too.
var drawHours = rapid.Custom(func(t *rapid.T) Hours {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Span {
		var s Span
		for i := range s.Days {
			s.Days[i] = rapid.IntRange(0, 2).Draw(t, "day") > 0
		}
		s.Days[rapid.IntRange(0, 6).Draw(t, "one day")] = true
		s.From = time.Duration(rapid.IntRange(0, 47).Draw(t, "from")) * 30 * time.Minute
		s.To = time.Duration(rapid.IntRange(1, 48).Filter(func(to int) bool { return time.Duration(to)*30*time.Minute != s.From }).Draw(t, "to")) * 30 * time.Minute
		s.Zone = zone(rapid.SampledFrom([]string{"UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca"}).Draw(t, "zone"))
		return s
	}), 1, 4).Draw(t, "hours")
})

// TestHoursByTheMinute: Next and End say what asking Allow of minute after minute says.
func TestHoursByTheMinute(t *testing.T) {
	changes := []string{"2026-03-28T00:00:00Z", "2026-10-24T00:00:00Z", "2026-03-07T00:00:00Z", "2026-10-31T00:00:00Z", "2026-04-04T00:00:00Z", "2026-06-01T00:00:00Z", "2026-02-14T00:00:00Z"}
	rapid.Check(t, func(t *rapid.T) {
		h := drawHours.Draw(t, "hours")
		begin, err := time.Parse(time.RFC3339, rapid.SampledFrom(changes).Draw(t, "about"))
		if err != nil {
			t.Fatal(err)
		}
		at := begin.Add(time.Duration(rapid.IntRange(0, 3*24*60).Draw(t, "minutes")) * time.Minute)
		var next, end time.Time
		if !h.Allow(at) {
			end = at
		}
		before := h.Allow(at.Add(-time.Minute))
		for u := at; u.Before(at.Add(8*day)) && (next.IsZero() || end.IsZero()); u = u.Add(time.Minute) {
			now := h.Allow(u)
			if now && !before && next.IsZero() {
				next = u
			}
			if !now && end.IsZero() {
				end = u
			}
			before = now
		}
		for _, tt := range []struct {
			name      string
			got, want time.Time
		}{{"Next", h.Next(at), next}, {"End", h.End(at), end}} {
			switch {
			case tt.want.IsZero() && !tt.got.IsZero() && tt.got.Before(at.Add(8*day)):
				t.Errorf("%s(%v) = %v, want none in these 8 days", tt.name, at, tt.got)
			case !tt.want.IsZero() && !tt.got.Equal(tt.want):
				t.Errorf("%s(%v) = %v, want %v", tt.name, at, tt.got, tt.want)
			}
		}
	})
}

// FuzzSpan: what is taken is read back the same, and can be asked.
func FuzzSpan(f *testing.F) {
	for _, s := range []string{"mon-fri 09:00-18:00 Asia/Tokyo", "sat,sun 22:00-06:00 UTC", "daily 08:00-20:00", "fri-mon 22:00-00:00", "mon 24:00-24:00", "x", "mon-,tue 1:2-3:4 A/B", "daily 00:00-24:00 Pacific/Apia"} {
		f.Add(s, int64(1_790_000_000))
	}
	f.Fuzz(func(t *testing.T, text string, at int64) {
		d := &decoder{}
		s, hint, wrong := d.span(text)
		if wrong != "" {
			if hint == "" {
				t.Errorf("%q: %s, and nothing is said to do", text, wrong)
			}
			return
		}
		if s.From == s.To || s.From < 0 || s.From >= day || s.To <= 0 || s.To > day || s.Days == [7]bool{} {
			t.Fatalf("%q: a span of nothing: %+v", text, s)
		}
		if back := spansOf(t, s.String())[0]; !back.Equal(s) {
			t.Errorf("%q is %q, and that is %q", text, s, back)
		}
		now := time.Unix(at%(1<<33), 0)
		h := Hours{s}
		if next := h.Next(now); !next.IsZero() && (next.Before(now) || !h.Allow(next)) {
			t.Errorf("%s: Next(%v) = %v", s, now, next)
		}
		if end := h.End(now); !end.IsZero() && (end.Before(now) || h.Allow(end)) {
			t.Errorf("%s: End(%v) = %v", s, now, end)
		}
	})
}

func BenchmarkHours(b *testing.B) {
	h := spansOf(b, "mon-fri 09:00-18:00 Asia/Tokyo", "sat,sun 22:00-06:00 Europe/Berlin")
	at := time.Date(2026, 11, 23, 1, 0, 0, 0, time.UTC)
	for b.Loop() {
		h.Next(h.End(at))
	}
}
