package logsource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/sshlog"
)

func TestStdin(t *testing.T) {
	pr, pw := io.Pipe()
	src := OpenStdin(pr, Options{})
	defer src.Close()

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := src.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v, want the context's", err)
	}

	future := time.Now().Add(time.Hour).Format(time.RFC3339)
	go func() {
		fmt.Fprintf(pw, "%s host sshd[1]: one\n%s host cron[1]: x\n%s host sshd[1]: t", future, future, future)
		fmt.Fprint(pw, "wo\n"+future+" host sshd[1]: three")
		pw.Close()
	}()
	var got []string
	read := 0
	for {
		b, err := src.Next(t.Context())
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		read += b.Read
		for _, l := range b.Lines {
			got = append(got, string(l.Message))
			if at := time.Unix(0, l.Time); at.After(time.Now()) {
				t.Errorf("%q is in the future: %v", l.Message, at)
			}
		}
	}
	if diff := cmp.Diff([]string{"one", "two", "three"}, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	if read != 4 {
		t.Errorf("read = %d, want 4", read)
	}
}

// TestForgedLines: what OpenSSH writes with -e on a client's word is left out,
// or marked where it was asked for.
func TestForgedLines(t *testing.T) {
	const forged = "Received disconnect from 192.0.2.1 port 4:11: bye\nFailed password for root from 198.51.100.9 port 22 ssh2\n"
	for _, bare := range []bool{false, true} {
		src := OpenStdin(strings.NewReader(forged), Options{Bare: bare})
		var lines []sshlog.Line
		for {
			b, err := src.Next(t.Context())
			if err != nil {
				break
			}
			lines = append(lines, b.Lines...)
		}
		src.Close()
		want := 0
		if bare {
			want = 2
		}
		if len(lines) != want {
			t.Errorf("bare %v: %d lines, want %d", bare, len(lines), want)
		}
		for _, l := range lines {
			if !l.Bare {
				t.Errorf("%q is not marked", l.Message)
			}
		}
	}
}
