package sshlog_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sekisho/internal/sshlog"
)

func at(s string) int64 {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		panic(err)
	}
	return t.UnixNano()
}

var tokyo = time.FixedZone("JST", 9*3600)

func TestDecode(t *testing.T) {
	msg := []byte("Connection closed by 203.0.113.9 port 4")
	line := func(when, host string, pid int32, program sshlog.Program) *sshlog.Line {
		l := &sshlog.Line{PID: pid, Program: program, Message: msg}
		if when != "" {
			l.Time = at(when)
		}
		if host != "" {
			l.Host = []byte(host)
		}
		return l
	}
	const sshd, session, auth = sshlog.ProgramSSHD, sshlog.ProgramSession, sshlog.ProgramAuth
	tests := []struct {
		name string
		raw  string // ends before the message
		want *sshlog.Line
	}{
		{"RFC 3164", "Nov  2 03:04:05 host sshd[123]: ", line("2026-11-02T03:04:05+09:00", "host", 123, sshd)},
		{"RFC 3164, day of two digits", "Oct 12 03:04:05 host sshd[123]: ", line("2026-10-12T03:04:05+09:00", "host", 123, sshd)},
		{"RFC 3164, day with a zero", "Nov 02 03:04:05 host sshd[123]: ", line("2026-11-02T03:04:05+09:00", "host", 123, sshd)},
		{"RFC 3164, last year's", "Dec 31 23:59:59 host sshd[123]: ", line("2025-12-31T23:59:59+09:00", "host", 123, sshd)},
		{"RFC 3164, a day ahead of the reference", "Nov 23 08:00:00 host sshd[123]: ", line("2026-11-23T08:00:00+09:00", "host", 123, sshd)},
		{"RFC 3164, two days ahead of the reference", "Nov 24 20:00:00 host sshd[123]: ", line("2025-11-24T20:00:00+09:00", "host", 123, sshd)},
		{"RFC 3164, 29 February", "Feb 29 03:04:05 host sshd[123]: ", line("2024-02-29T03:04:05+09:00", "host", 123, sshd)},
		{"RFC 3164 with priority", "<38>Nov  2 03:04:05 host sshd[123]: ", line("2026-11-02T03:04:05+09:00", "host", 123, sshd)},
		{"RFC 3164 with year", "Nov  2 2023 03:04:05 host sshd[123]: ", line("2023-11-02T03:04:05+09:00", "host", 123, sshd)},
		{"RFC 3164 after the year", "2023 Nov  2 03:04:05 host sshd[123]: ", line("2023-11-02T03:04:05+09:00", "host", 123, sshd)},
		{"journalctl short-precise", "Nov 02 03:04:05.123456 host sshd[123]: ", line("2026-11-02T03:04:05.123456+09:00", "host", 123, sshd)},
		{"journalctl short-iso", "2026-11-02T03:04:05+0900 host sshd[123]: ", line("2026-11-02T03:04:05+09:00", "host", 123, sshd)},
		{"journalctl short-iso-precise", "2026-11-02T03:04:05.123456-07:30 host sshd-session[123]: ", line("2026-11-02T03:04:05.123456-07:30", "host", 123, session)},
		{"journalctl short-full", "Mon 2026-11-02 03:04:05 UTC host sshd[123]: ", line("2026-11-02T03:04:05Z", "host", 123, sshd)},
		{"journalctl short-full, here", "Mon 2026-11-02 03:04:05 JST host sshd[123]: ", line("2026-11-02T03:04:05+09:00", "host", 123, sshd)},
		{"journalctl short-full, nameless zone", "Mon 2026-11-02 03:04:05 +03 host sshd[123]: ", line("2026-11-02T03:04:05+03:00", "host", 123, sshd)},
		{"journalctl short-unix", "1793588645.123456 host sshd[123]: ", line("2026-11-02T03:04:05.123456Z", "host", 123, sshd)},
		{"rsyslog's default", "2026-11-02T03:04:05.123456+09:00 host sshd[123]: ", line("2026-11-02T03:04:05.123456+09:00", "host", 123, sshd)},
		{"ISO in UTC", "2026-11-02T03:04:05.5Z host sshd[123]: ", line("2026-11-02T03:04:05.5Z", "host", 123, sshd)},
		{"ISO without zone", "2026-11-02T03:04:05 host sshd[123]: ", line("2026-11-02T03:04:05+09:00", "host", 123, sshd)},
		{"ISO with blank and comma", "2026-11-02 03:04:05,123 host sshd[123]: ", line("2026-11-02T03:04:05.123+09:00", "host", 123, sshd)},
		{"ISO with its zone apart", "2026-11-02 03:04:05.123 +0100 host sshd[123]: ", line("2026-11-02T03:04:05.123+01:00", "host", 123, sshd)},
		{"RFC 5424", "<38>1 2026-11-02T03:04:05.123456+09:00 host sshd 123 - - ", line("2026-11-02T03:04:05.123456+09:00", "host", 123, sshd)},
		{"RFC 5424 without priority", "1 2026-11-02T03:04:05Z host sshd-auth 123 - - ", line("2026-11-02T03:04:05Z", "host", 123, auth)},
		{"RFC 5424 with a byte order mark", "<38>1 2026-11-02T03:04:05Z host sshd 123 - - \xef\xbb\xbf", line("2026-11-02T03:04:05Z", "host", 123, sshd)},
		{"RFC 5424 with structured data", `<38>1 2026-11-02T03:04:05Z host sshd 123 ID [a@1 b="] sshd 1 - - \"x\" \]"][c d="\\"] `, line("2026-11-02T03:04:05Z", "host", 123, sshd)},
		{"RFC 5424 with nothing known", "<38>1 - - sshd - - - ", line("", "", 0, sshd)},
		{"one letter for a host", "Nov  2 03:04:05 h sshd[123]: ", line("2026-11-02T03:04:05+09:00", "h", 123, sshd)},
		{"address for a host", "Nov  2 03:04:05 2001:db8:: sshd[123]: ", line("2026-11-02T03:04:05+09:00", "2001:db8::", 123, sshd)},
		{"host called sshd", "Nov  2 03:04:05 sshd sshd[123]: ", line("2026-11-02T03:04:05+09:00", "sshd", 123, sshd)},
		{"no host", "Nov  2 03:04:05 sshd[123]: ", line("2026-11-02T03:04:05+09:00", "", 123, sshd)},
		{"no pid", "Nov  2 03:04:05 host sshd: ", line("2026-11-02T03:04:05+09:00", "host", 0, sshd)},
		{"PAM's name in the tag", "Nov  2 03:04:05 host sshd(pam_unix)[123]: ", line("2026-11-02T03:04:05+09:00", "host", 123, sshd)},
		{"no blank before the message", "Nov  2 03:04:05 host sshd[123]:", line("2026-11-02T03:04:05+09:00", "host", 123, sshd)},
		{"RFC 3164, day not padded", "Nov 2 03:04:05 host sshd[123]: ", line("2026-11-02T03:04:05+09:00", "host", 123, sshd)},
		{"day not padded, fraction", "Nov 2 03:04:05.25 host sshd[123]: ", line("2026-11-02T03:04:05.25+09:00", "host", 123, sshd)},
		{"OpenWrt's logread", "Mon Nov  2 03:04:05 2026 auth.info sshd[123]: ", line("2026-11-02T03:04:05+09:00", "auth.info", 123, sshd)},
		{"busybox", "Nov  2 03:04:05 host auth.info sshd[123]: ", line("2026-11-02T03:04:05+09:00", "host", 123, sshd)},
		{"AIX", "Nov  2 03:04:05 host auth|security:info sshd[123]: ", line("2026-11-02T03:04:05+09:00", "host", 123, sshd)},
		{"Solaris", "Nov  2 03:04:05 host sshd[123]: [ID 800047 auth.info] ", line("2026-11-02T03:04:05+09:00", "host", 123, sshd)},
		{"FreeBSD, verbose", "Nov  2 03:04:05 <4.6> host sshd[123]: ", line("2026-11-02T03:04:05+09:00", "host", 123, sshd)},
		{"FreeBSD, more verbose", "Nov  2 03:04:05 <auth.info> host sshd[123]: ", line("2026-11-02T03:04:05+09:00", "host", 123, sshd)},
		{"macOS", "2026-11-02 03:04:05.123456+0900  localhost sshd[123]: ", line("2026-11-02T03:04:05.123456+09:00", "localhost", 123, sshd)},
		{"leap second", "2016-12-31T23:59:60Z host sshd[123]: ", line("2017-01-01T00:00:00Z", "host", 123, sshd)},

		{"another program", "Nov  2 03:04:05 host sudo[123]: ", nil},
		{"another program that begins alike", "Nov  2 03:04:05 host sshd-foo[123]: ", nil},
		{"another program, longer", "Nov  2 03:04:05 host sshdx[123]: ", nil},
		{"another program, path", "Nov  2 03:04:05 host /sshd[123]: ", nil},
		{"message with a tag", "Nov  2 03:04:05 host sudo: sshd[123]: ", nil},
		{"message with a tag, no host", "Nov  2 03:04:05 sudo[5]: sshd[123]: ", nil},
		{"message with a line", "Nov  2 03:04:05 host web[5]: Nov  2 03:04:05 host sshd[123]: ", nil},
		{"message with a line, ISO", "2026-11-02T03:04:05Z host web[5]: 2026-11-02T03:04:05Z host sshd[123]: ", nil},
		{"message with a line, RFC 5424", "<38>1 2026-11-02T03:04:05Z host web 5 - - <38>1 2026-11-02T03:04:05Z host sshd 123 - - ", nil},
		{"structured data with a tag", `<38>1 2026-11-02T03:04:05Z host web 5 - [a b="x"] sshd[1]: `, nil},
		{"structured data without an end", `<38>1 2026-11-02T03:04:05Z host sshd 5 - [a b="x" `, nil},
		{"message with a tag after a priority", "Nov  2 03:04:05 host sudo: auth.info sshd[123]: ", nil},
		{"a tag that begins like a priority", "Nov  2 03:04:05 host auth: sshd[123]: ", nil},
		{"a tag that begins like a priority, with a level", "Nov  2 03:04:05 host auth.info: sshd[123]: ", nil},
		{"a priority that is none", "Nov  2 03:04:05 host kern.info sshd[123]: ", nil},
		{"a message's angle brackets", "Nov  2 03:04:05 <web>: sshd[123]: ", nil},
		{"continued line", "    host sshd[123]: ", nil},
		{"indented line", " Nov  2 03:04:05 host sshd[123]: ", nil},
		{"no envelope", "", nil},
		{"pid of letters", "Nov  2 03:04:05 host sshd[x]: ", nil},
		{"pid too high", "Nov  2 03:04:05 host sshd[4294967296]: ", nil},
		{"no colon", "Nov  2 03:04:05 host sshd[123] ", nil},
		{"no such month", "Nix  2 03:04:05 host sshd[123]: ", nil},
		{"no such day", "Nov 31 03:04:05 host sshd[123]: ", nil},
		{"no such hour", "Nov  2 24:04:05 host sshd[123]: ", nil},
		{"no such date", "2026-02-29T03:04:05Z host sshd[123]: ", nil},
		{"no such zone", "2026-11-02T03:04:05+9 host sshd[123]: ", nil},
		{"no time", "host sshd[123]: ", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := sshlog.NewDecoder(sshlog.DecoderOptions{Location: tokyo, Reference: time.Date(2026, 11, 22, 12, 0, 0, 0, tokyo)})
			var l sshlog.Line
			if got := d.Decode([]byte(tt.raw+string(msg)), &l); got != (tt.want != nil) {
				t.Fatalf("Decode = %v, want %v", got, tt.want != nil)
			} else if !got {
				return
			}
			if diff := cmp.Diff(*tt.want, l); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeBare(t *testing.T) {
	d := sshlog.NewDecoder(sshlog.DecoderOptions{Location: time.UTC, Reference: time.Unix(at("2026-11-22T00:00:00Z")/1e9, 0), Bare: true})
	for _, tt := range []struct {
		raw  string
		want sshlog.Line
	}{
		{"Server listening on 0.0.0.0 port 22.\r", sshlog.Line{Program: sshlog.ProgramSSHD, Bare: true, Message: []byte("Server listening on 0.0.0.0 port 22.")}},
		{"sshd-session: Invalid user a from 203.0.113.9 port 4\r", sshlog.Line{Program: sshlog.ProgramSession, Bare: true, Message: []byte("Invalid user a from 203.0.113.9 port 4")}},
		// What a client has put in with a newline of its own.
		{"Nov  2 03:04:05 host sshd[1]: Failed", sshlog.Line{Time: at("2026-11-02T03:04:05Z"), Host: []byte("host"), PID: 1, Program: sshlog.ProgramSSHD, Bare: true, Message: []byte("Failed")}},
	} {
		var l sshlog.Line
		if !d.Decode([]byte(tt.raw), &l) {
			t.Fatalf("%q: not sshd's", tt.raw)
		}
		if diff := cmp.Diff(tt.want, l); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.raw, diff)
		}
	}
	var l sshlog.Line
	for _, raw := range []string{"", "\r", "Nov  2 03:04:05 host cron[1]: sshd: x"} {
		if d.Decode([]byte(raw), &l) {
			t.Errorf("%q: got %+v", raw, l)
		}
	}
}

func TestDecodeYears(t *testing.T) {
	tests := []struct {
		name      string
		reference string
		stamps    []string // RFC 3164
		want      []string
	}{
		{"over New Year", "2026-01-05T00:00:00Z",
			[]string{"Nov 20 00:00:00", "Dec 31 23:59:59", "Jan  1 00:00:00", "Jan  5 00:00:00"},
			[]string{"2025-11-20T00:00:00Z", "2025-12-31T23:59:59Z", "2026-01-01T00:00:00Z", "2026-01-05T00:00:00Z"}},
		{"while it is followed, two of them", "2026-11-22T00:00:00Z",
			[]string{"Nov 22 00:00:00", "Jan  1 00:00:00", "Jul  1 00:00:00", "Jan  1 00:00:00"},
			[]string{"2026-11-22T00:00:00Z", "2027-01-01T00:00:00Z", "2027-07-01T00:00:00Z", "2028-01-01T00:00:00Z"}},
		{"a small step back", "2026-11-22T00:00:00Z",
			[]string{"Nov  1 00:00:01", "Oct 31 23:59:59", "Nov  1 00:00:02"},
			[]string{"2026-11-01T00:00:01Z", "2026-10-31T23:59:59Z", "2026-11-01T00:00:02Z"}},
		{"a small step back over New Year", "2026-11-22T00:00:00Z",
			[]string{"Dec 31 23:59:58", "Jan  1 00:00:00", "Dec 31 23:59:59", "Jan  1 00:00:01"},
			[]string{"2025-12-31T23:59:58Z", "2026-01-01T00:00:00Z", "2025-12-31T23:59:59Z", "2026-01-01T00:00:01Z"}},
		{"to a leap year", "2025-01-01T00:00:00Z",
			[]string{"Feb 28 00:00:00", "Feb 29 00:00:00", "Mar  1 00:00:00"},
			[]string{"2024-02-28T00:00:00Z", "2024-02-29T00:00:00Z", "2024-03-01T00:00:00Z"}},
		{"a leap day that the year does not have", "2025-11-22T00:00:00Z",
			[]string{"Feb 28 00:00:00", "Feb 29 00:00:00", "Mar  1 00:00:00"},
			[]string{"2025-02-28T00:00:00Z", "2024-02-29T00:00:00Z", "2024-03-01T00:00:00Z"}},
		{"only a leap day", "2103-01-01T00:00:00Z", []string{"Feb 29 00:00:00"}, []string{"2096-02-29T00:00:00Z"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := sshlog.NewDecoder(sshlog.DecoderOptions{Location: time.UTC, Reference: time.Unix(0, at(tt.reference))})
			for i, stamp := range tt.stamps {
				var l sshlog.Line
				if !d.Decode([]byte(stamp+" host sshd[1]: x"), &l) {
					t.Fatalf("%s: not decoded", stamp)
				}
				if l.Time != at(tt.want[i]) {
					t.Errorf("%s: got %v, want %s", stamp, time.Unix(0, l.Time).UTC(), tt.want[i])
				}
			}
		})
	}
}

func TestTime(t *testing.T) {
	d := sshlog.NewDecoder(sshlog.DecoderOptions{Location: time.UTC, Reference: time.Unix(0, at("2026-11-22T00:00:00Z"))})
	for raw, want := range map[string]string{
		"Nov  2 03:04:05 host cron[1]: x":                    "2026-11-02T03:04:05Z",
		"Dec  2 03:04:05 host cron[1]: x":                    "2025-12-02T03:04:05Z",
		"<13>2026-11-02T03:04:05.5+09:00 host kernel: x":     "2026-11-01T18:04:05.5Z",
		"<13>1 2026-11-02T03:04:05Z host cron 1 - - x":       "2026-11-02T03:04:05Z",
		"Mon 2026-11-02 03:04:05 UTC host ssh.service[1]: x": "2026-11-02T03:04:05Z",
		"no time stamp here, but long enough":                "",
		"":                                                   "",
	} {
		got, ok := d.Time([]byte(raw))
		if ok != (want != "") || ok && got != at(want) {
			t.Errorf("Time(%q) = %v, %v, want %s", raw, time.Unix(0, got).UTC(), ok, want)
		}
	}
}

// The remembered minutes change nothing.
func TestDecodeTimesAreThoseOfPackageTime(t *testing.T) {
	zones := []*time.Location{time.UTC, tokyo}
	if berlin, err := time.LoadLocation("Europe/Berlin"); err == nil {
		zones = append(zones, berlin)
	}
	rapid.Check(t, func(t *rapid.T) {
		zone := rapid.SampledFrom(zones).Draw(t, "zone")
		d := sshlog.NewDecoder(sshlog.DecoderOptions{Location: zone, Reference: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)})
		for range rapid.IntRange(1, 10).Draw(t, "lines") {
			when := time.Unix(rapid.Int64Range(1e9, 4e9).Draw(t, "unix"), 123e6).In(zone)
			layout := rapid.SampledFrom([]string{"2006-01-02T15:04:05.000Z07:00", "2006-01-02T15:04:05-0700", "2006-01-02 15:04:05,000", "Jan _2 2006 15:04:05"}).Draw(t, "layout")
			stamp := when.Format(layout)
			var l sshlog.Line
			if !d.Decode([]byte(stamp+" host sshd[1]: x"), &l) {
				t.Fatalf("%s: not decoded", stamp)
			}
			want, err := time.ParseInLocation(layout, stamp, zone)
			if err != nil {
				t.Fatal(err)
			}
			if l.Time != want.UnixNano() {
				t.Fatalf("%s: got %v, want %v", stamp, time.Unix(0, l.Time).In(zone), want)
			}
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		"Nov  2 03:04:05 host sshd[123]: Invalid user a from 203.0.113.9 port 4", "2026-11-02T03:04:05.123456+09:00 host sshd-session[123]: x",
		`<38>1 2026-11-02T03:04:05.123456+09:00 host sshd 123 - [a@1 b="]"] ` + "\xef\xbb\xbfx", "Mon 2026-11-02 03:04:05 UTC host sshd[1]: x", "1793588645.123456 host sshd[123]: x",
		"Nov  2 2026 03:04:05 host sshd: x", "2026 Nov  2 03:04:05 host sshd(pam_unix)[1]: x", "2026-11-02 03:04:05,123 +0900 host sshd[1]: x", "sshd-auth: x\r",
	} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, raw []byte, bare bool) {
		d := sshlog.NewDecoder(sshlog.DecoderOptions{Location: time.UTC, Reference: time.Unix(1793588645, 0), Bare: bare})
		var l sshlog.Line
		d.Time(raw)
		ok := d.Decode(raw, &l)
		if !ok {
			return
		}
		if l.Program == 0 || l.PID < 0 || !bare && l.Bare || !bytes.Contains(raw, l.Message) || !bytes.Contains(raw, l.Host) {
			t.Fatalf("Decode(%q) = %+v", raw, l)
		}
		if !l.Bare {
			// The tag stands before the message, and no other tag before it.
			head := string(raw[:len(raw)-len(l.Message)])
			if !strings.Contains(head, "sshd") || strings.Count(head, "]: ") > 1 && !strings.Contains(head, "=\"") {
				t.Fatalf("Decode(%q) found its tag too deep: %+v", raw, l)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	for _, bb := range []struct{ name, raw string }{
		{"BSD", "Nov  2 03:04:05 web-prod-1 sshd[12345]: Failed password for invalid user admin from 203.0.113.9 port 40022 ssh2"},
		{"ISO", "2026-11-02T03:04:05.123456+09:00 web-prod-1 sshd[12345]: Failed password for invalid user admin from 203.0.113.9 port 40022 ssh2"},
		{"RFC5424", "<38>1 2026-11-02T03:04:05.123456+09:00 web-prod-1 sshd 12345 - - Failed password for invalid user admin from 203.0.113.9 port 40022 ssh2"},
		{"OtherBSD", "Nov  2 03:04:05 web-prod-1 CRON[12345]: pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)"},
		{"OtherISO", "2026-11-02T03:04:05.123456+09:00 web-prod-1 CRON[12345]: pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)"},
	} {
		raw := []byte(bb.raw)
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			d := sshlog.NewDecoder(sshlog.DecoderOptions{Location: tokyo, Reference: time.Date(2026, 11, 22, 12, 0, 0, 0, tokyo)})
			var l sshlog.Line
			for b.Loop() {
				d.Decode(raw, &l)
			}
		})
	}
}

func TestDecodeDoesNotAllocate(t *testing.T) {
	d := sshlog.NewDecoder(sshlog.DecoderOptions{Location: tokyo, Reference: time.Date(2026, 11, 22, 12, 0, 0, 0, tokyo)})
	for _, stamp := range []string{"Nov  2 03:04:05", "2026-11-02T03:04:05.123456+09:00", "2026-11-02 03:04:05,123", "Mon 2026-11-02 03:04:05 UTC"} {
		for _, tag := range []string{"sshd[123]: x", "cron[123]: x"} {
			raw := []byte(stamp + " host " + tag)
			if n := testing.AllocsPerRun(10, func() {
				var l sshlog.Line
				d.Decode(raw, &l)
			}); n != 0 {
				t.Errorf("%q: %v allocations", raw, n)
			}
		}
	}
}
