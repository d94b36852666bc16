package loggen_test

import (
	"bytes"
	"crypto/sha256"
	"io"
	"net/netip"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/bench/loggen"
)

func TestGenerate(t *testing.T) {
	tests := []struct {
		name string
		opts loggen.Options
		line string // what every line matches
	}{
		{
			name: "rfc 3164",
			opts: loggen.Options{Lines: 20_000},
			line: `^Nov [ 1]\d \d\d:\d\d:\d\d web1 [a-zA-Z/-]+(\[\d+\])?: .+$`,
		},
		{
			name: "iso",
			opts: loggen.Options{Lines: 20_000, ISO: true, Seed: 7},
			line: `^2026-11-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00 web1 [a-zA-Z/-]+(\[\d+\])?: .+$`,
		},
		{
			name: "one generation",
			opts: loggen.Options{Lines: 20_000, Generation: loggen.OpenSSH98, SSHDShare: 1},
			line: `^Nov .* web1 (sshd\[812\]|sshd-session\[\d+\]): .+$`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			got, err := loggen.Generate(&log, tt.opts)
			if err != nil {
				t.Fatal(err)
			}
			want := regexp.MustCompile(tt.line)
			lines := bytes.Split(bytes.TrimSuffix(log.Bytes(), []byte("\n")), []byte("\n"))
			sshd := 0
			for _, line := range lines {
				if !want.Match(line) {
					t.Fatalf("line %q does not match %s", line, tt.line)
				}
				if bytes.Contains(line, []byte(" web1 sshd")) {
					sshd++
				}
			}
			if diff := cmp.Diff(loggen.Stats{Lines: tt.opts.Lines, SSHD: sshd, Attempts: got.Attempts, Bytes: int64(log.Len())}, got); diff != "" {
				t.Errorf("stats (-counted +reported):\n%s", diff)
			}
			if got.Attempts == 0 {
				t.Error("no attempt in the log")
			}
			again := sha256.New()
			if _, err := loggen.Generate(again, tt.opts); err != nil {
				t.Fatal(err)
			}
			if first := sha256.Sum256(log.Bytes()); !bytes.Equal(first[:], again.Sum(nil)) {
				t.Error("the same options gave another log")
			}
		})
	}
}

func TestAppendFailure(t *testing.T) {
	at := time.Date(2026, 11, 2, 3, 4, 5, 6000, time.UTC)
	got := string(loggen.AppendFailure(nil, at, false, "web1", "root", netip.MustParseAddr("192.0.2.7"), 4242, 17))
	want := "Nov  2 03:04:05 web1 sshd[17]: Failed password for root from 192.0.2.7 port 4242 ssh2\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	got = string(loggen.AppendFailure(nil, at, true, "web1", "root", netip.MustParseAddr("2001:db8::7"), 4242, 17))
	want = "2026-11-02T03:04:05.000006+00:00 web1 sshd[17]: Failed password for root from 2001:db8::7 port 4242 ssh2\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func BenchmarkGenerate(b *testing.B) {
	stats, err := loggen.Generate(io.Discard, loggen.Options{Lines: max(b.N, 1)})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(stats.Bytes / int64(stats.Lines))
}
