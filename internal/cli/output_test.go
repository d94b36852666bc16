package cli

import (
	"errors"
	"syscall"
	"testing"
)

// failing is a file that cannot be written.
type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// TestLostOutput: what could not be written is an error, beside which another that is not
// told yet goes first.
func TestLostOutput(t *testing.T) {
	full, other := syscall.ENOSPC, errors.New("other")
	for _, tt := range []struct {
		name       string
		write, err error
		want       error
		code       int
	}{
		{name: "all is written", err: other, want: other},
		{name: "nothing is wrong", write: full, want: full, code: exitFailure},
		{name: "it was told", write: full, err: &exitError{exitNoReply, errTold}, want: full, code: exitNoReply},
		{name: "it was not told", write: full, err: &exitError{exitUsage, other}, want: other, code: exitUsage},
		{name: "the command noticed", write: full, err: full, want: full, code: exitFailure},
		{name: "a plan's 2 is no error's", write: full, err: &exitError{exitChanges, errChanges}, want: full, code: exitFailure},
		{name: "the reader left", write: syscall.EPIPE},
		{name: "the reader left, and more is wrong", write: syscall.EPIPE, err: other, want: other},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := &output{w: failing{tt.write}}
			for range 2 {
				_, _ = o.Write([]byte("line\n"))
			}
			got := o.failed(tt.err)
			if !errors.Is(got, tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
			coded, _ := errors.AsType[*exitError](got)
			if tt.code != 0 && (coded == nil || coded.code != tt.code) {
				t.Errorf("%#v, want code %d", got, tt.code)
			}
		})
	}
}
