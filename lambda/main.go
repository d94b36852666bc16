// Command lambda is the reaper as an AWS Lambda function on a schedule: it takes the rules
// of ours that are past their end out of the security groups that the configuration names.
// README.md says how it is built and deployed.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"

	"sekisho/internal/access"
)

// toTell is how long before the function's deadline it stops, to tell what it did.
const toTell = 2 * time.Second

func main() {
	log := slog.New(slog.NewJSONHandler(os.Stdout, nil))
	r, err := newReaper(log)
	if err != nil {
		refuse(log, err)
		os.Exit(1)
	}
	lambda.Start(r.reap)
}

// reap is one look. It fails where something is stuck, or could not be looked at; what
// could not be taken away just now is tried again by the next.
func (r *reaper) reap(ctx context.Context) (access.Reaped, error) {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-toTell))
		defer cancel()
	}
	found := r.Reap(ctx, r.places)
	level, err := slog.LevelInfo, error(nil)
	if n := len(found.Stuck); n > 0 {
		e := found.Stuck[0]
		err = hinted(fmt.Errorf("%d rules are past their end for more than %v and cannot be taken away; the first: %s in %s: %s", n, access.StuckAfter, e.Rule, e.Group, e.Error), access.Hint(e.Err()))
	}
	for _, f := range found.Failed {
		err = errors.Join(err, hinted(fmt.Errorf("look at %s: %s", f.Place, f.Error), f.Hint))
	}
	if err != nil {
		level = slog.LevelError
	}
	r.log.Log(ctx, level, "looked for rules past their end", "reaped", found, "error", err)
	return found, err
}
