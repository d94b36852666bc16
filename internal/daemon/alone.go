package daemon

import (
	"context"
	"errors"
	"net/netip"

	"sekisho/internal/trial"
)

// Plan is what `apply` would change, as found out without a daemon: it reads the
// configuration, the snapshot, the country data and the kernel, and changes nothing.
// peer is the asker's own SSH client; zero: a console.
func Plan(ctx context.Context, o Options, peer netip.AddrPort) (PlanReply, error) {
	return PlanReply{}, errSoon
}

// Apply tries the configuration where no daemon runs: a Daemon of this process
// guards, answers on o.Socket and reads the log for as long as the trial takes. It
// survives everything but ctx's end, which reverts. who asks; an *Error has a hint.
func Apply(ctx context.Context, o Options, q ApplyRequest, who string, progress func(trial.Event)) error {
	return errSoon
}

// Boot puts in force what was confirmed last, with the bans and grants that the store
// holds and the country data at hand: no network is needed. Where the confirmed rule
// set cannot be read the host is left as it is, and that is an error. A daemon that
// runs already is left alone; after Off nothing is done.
func Boot(ctx context.Context, o Options) error { return errSoon }

// Off takes our table and the confirmed rule set away where no daemon runs, until the
// next apply.
func Off(ctx context.Context, o Options) error { return errSoon }

var errSoon = errors.New("not there yet")
