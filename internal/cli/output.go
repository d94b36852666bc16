package cli

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
)

// output is standard output, which remembers the first error of writing to it: a command
// whose words are lost has not done all that it was asked for. Safe for concurrent use.
type output struct {
	w    io.Writer
	mu   sync.Mutex
	lost error
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	if err != nil && !errors.Is(err, syscall.EPIPE) { // who reads and leaves, as head does, has what they want
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.lost == nil {
			o.lost = err
		}
	}
	return n, err
}

// failed is what the command that ended with err ends with: where not all of its output was
// written, and nothing else is wrong that is not told, that.
func (o *output) failed(err error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.lost == nil || err != nil && !errors.Is(err, errTold) && !errors.Is(err, o.lost) {
		return err
	}
	code, hint := exitFailure, "make room, or write it elsewhere"
	if err == nil {
		hint = "all is done but to tell of it; " + hint
	}
	if coded, ok := errors.AsType[*exitError](err); ok && !errors.Is(err, errChanges) {
		code = coded.code
	}
	return &exitError{code, withHint(o.lost, hint)}
}

// fileOf is the file that w writes to, if it is one.
func fileOf(w io.Writer) (f *os.File, ok bool) {
	if o, is := w.(*output); is {
		w = o.w
	}
	f, ok = w.(*os.File)
	return f, ok
}
