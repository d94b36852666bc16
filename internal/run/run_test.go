package run

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestStart(t *testing.T) {
	tests := []struct {
		name    string
		args    []string
		wantOut string
		wantErr string
	}{
		{name: "output", args: []string{"printf", "%s", "$(id); a b"}, wantOut: "$(id); a b"},
		{name: "no such program", args: []string{"sekisho-no-such-program"}, wantErr: "start sekisho-no-such-program: "},
		{name: "exit code and complaint", args: []string{"ls", "/no/such/file"}, wantErr: "No such file or directory"},
		{name: "no argv", wantErr: "no argv"},
		{name: "endless output", args: []string{"yes"}, wantErr: "wrote more than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, err := Output(t.Context(), tt.args...)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("err = %v, want it to hold %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := string(out); got != tt.wantOut {
				t.Errorf("got %q, want %q", got, tt.wantOut)
			}
		})
	}
}

func TestNotFound(t *testing.T) {
	if _, err := Output(t.Context(), "sekisho-no-such-program"); !errors.Is(err, ErrNotFound) {
		t.Errorf("err = %v, want ErrNotFound", err)
	}
}

func TestCancelEndsChild(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	child, err := Start(ctx, Command{Args: []string{"cat"}, Stdin: neverEnds(t)})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.ReadAll(child.Stdout); err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(); err == nil {
		t.Error("a killed child ended without an error")
	}
	if err := syscall.Kill(child.PID(), 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the child is still there: %v", err)
	}
}

func TestProcessGroup(t *testing.T) {
	for _, tt := range []struct {
		name     string
		terminal bool
	}{
		{name: "its own"},
		{name: "ours, where the terminal is", terminal: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			child, err := Start(ctx, Command{Args: []string{"cat"}, Stdin: neverEnds(t), Terminal: tt.terminal})
			if err != nil {
				t.Fatal(err)
			}
			pgid, err := syscall.Getpgid(child.PID())
			if err != nil {
				t.Fatal(err)
			}
			want := child.PID()
			if tt.terminal {
				want = syscall.Getpgrp()
			}
			if pgid != want {
				t.Errorf("process group = %d, want %d", pgid, want)
			}
			cancel()
			_, _ = io.Copy(io.Discard, child.Stdout)
			_ = child.Wait()
		})
	}
}

func TestTailIsBounded(t *testing.T) {
	var tl tail
	for range 100 {
		tl.Write(bytes.Repeat([]byte("x"), 1000))
	}
	tl.Write([]byte("\nthe end\n"))
	if got := len(tl.String()); got > stderrLimit {
		t.Errorf("kept %d bytes, want at most %d", got, stderrLimit)
	}
	if got, want := tl.lastLine(), "the end"; got != want {
		t.Errorf("last line = %q, want %q", got, want)
	}
}

// neverEnds is standard input that stays open until the test's end.
func neverEnds(t *testing.T) *os.File {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r
}
