package relay

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Gone returns when whoever reads what is written to f is gone: a pipe's reader, the other
// end of a socket, a terminal. It returns ctx's cause where that ends first, and soon
// after it does.
func Gone(ctx context.Context, f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	const often = 200 // milliseconds, of looking whether ctx has ended
	for ctx.Err() == nil {
		n := 0
		var pollErr error
		err := raw.Control(func(fd uintptr) { // POLLERR and POLLHUP are told unasked
			n, pollErr = unix.Poll([]unix.PollFd{{Fd: int32(fd)}}, often)
		})
		switch {
		case err != nil:
			return err
		case errors.Is(pollErr, unix.EINTR):
		case pollErr != nil:
			return pollErr
		case n > 0:
			return nil
		}
	}
	return context.Cause(ctx)
}
