// Command lambda is Sekisho as an AWS Lambda function. What it does goes by what it is sent:
// a request of a function URL or of API Gateway is the gate's, which opens security groups
// for people who show who they are; anything else, which is a schedule's event, has it take
// out of the groups the rules of ours that are past their end. README.md says how it is
// built and deployed.
package main

import (
	"context"
	"encoding/json"
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
	f, err := newFunction(log)
	if err != nil {
		refuse(log, err)
		os.Exit(1)
	}
	lambda.Start(f)
}

// function is kept between invocations, with its connections and the roles' credentials.
type function struct {
	*reaper
	*gateway // nil: the configuration has no gate.serve
}

// newFunction reads the configuration. It speaks to nobody.
func newFunction(log *slog.Logger) (*function, error) {
	cfg, from, err := configuration()
	if err != nil {
		return nil, err
	}
	f := &function{}
	if f.reaper, err = newReaper(cfg, log); err != nil {
		return nil, err
	}
	if f.gateway, err = newGateway(cfg, log); err != nil {
		return nil, err
	}
	log.Info("ready", "configuration", from, "places", f.places, "gate", cfg.Gate.URL, "serves", f.gateway != nil)
	return f, nil
}

// Invoke answers one event.
func (f *function) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-toTell))
		defer cancel()
	}
	e, is, err := readEvent(payload)
	if err != nil {
		return nil, err
	}
	if is {
		return f.answer(ctx, e)
	}
	found, err := f.reap(ctx)
	if err != nil {
		return nil, err
	}
	return json.Marshal(found)
}

// reap is one look. It fails where something is stuck, or could not be looked at; what
// could not be taken away just now is tried again by the next.
func (r *reaper) reap(ctx context.Context) (access.Reaped, error) {
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
