package securitygroup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"
)

// httpClient has one transport for all places, and honours HTTPS_PROXY and its kin.
func httpClient(o Options) *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().WithTimeout(o.attempt).WithTransportOptions(func(t *http.Transport) {
		t.MaxConnsPerHost = o.InFlight
		t.MaxIdleConnsPerHost = o.InFlight
		t.IdleConnTimeout = 30 * time.Second
		t.TLSHandshakeTimeout = 5 * time.Second
	})
}

// whole sends each request with its body in memory. The SDK's own body (smithy-go v1.28.8,
// transport/http/internal/io/safe.go) is closed when the answer is there, and net/http may
// be about to see then that nothing follows: what it is told makes it close the connection
// in the middle of the answer (transfer.go, writeBody). Where the endpoint is near, every
// tenth call failed so, after it had succeeded, and was made again.
type whole struct{ aws.HTTPClient }

func (w whole) Do(r *http.Request) (*http.Response, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return w.HTTPClient.Do(r)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	sent := r.WithContext(r.Context()) // a copy: the SDK closes the body of its own
	sent.ContentLength = int64(len(body))
	sent.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	sent.Body, _ = sent.GetBody()
	return w.HTTPClient.Do(sent)
}

const (
	attempts       = 8
	skewThreshold  = 4 * time.Minute // as the SDK has it: what it does not correct
	firstBackoff   = 50 * time.Millisecond
	firstWhenPaced = 500 * time.Millisecond
	longestBackoff = 5 * time.Second
)

// retryer says what is tried again, and when. How many calls are made is not its affair:
// that is the pace of the place.
func retryer() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = attempts
		o.RateLimiter = ratelimit.None
		o.Backoff = retry.BackoffDelayerFunc(backoff)
	})
}

// backoff is a random part of a time that doubles, at least half of it.
func backoff(attempt int, err error) (time.Duration, error) {
	first := firstBackoff
	if isThrottle(err) {
		first = firstWhenPaced
	}
	d := min(time.Duration(float64(first)*math.Pow(2, float64(attempt-1))), longestBackoff)
	return d/2 + rand.N(d/2+1), nil
}

func isThrottle(err error) bool {
	return retry.IsErrorThrottles(retry.DefaultThrottles).IsErrorThrottle(err) == aws.TrueTernary
}

// slots are the calls that may be in flight at a time.
type slots chan struct{}

func (s slots) acquire(ctx context.Context) error {
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return &aws.RequestCanceledError{Err: ctx.Err()}
	}
}

func (s slots) release() { <-s }

// middleware holds a slot for each attempt from just before it is signed until its answer
// has been read, so when its credentials are there: to get those takes a slot too. at has
// the paces and the clock of the place; nil where the call is not EC2's.
func (s slots) middleware(at *place) func(*middleware.Stack) error {
	return func(stack *middleware.Stack) error {
		return stack.Finalize.Insert(middleware.FinalizeMiddlewareFunc("InFlight", func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (out middleware.FinalizeOutput, md middleware.Metadata, err error) {
			if at != nil {
				// In this order: who waits for its turn at one place takes no slot from others.
				done, waited := at.pace(awsmiddleware.GetOperationName(ctx), cap(s)).wait(ctx)
				if waited != nil {
					return out, md, waited
				}
				defer func() { done(isThrottle(err)) }()
			}
			if err := s.acquire(ctx); err != nil {
				return out, md, err
			}
			defer s.release()
			out, md, err = next.HandleFinalize(ctx, in)
			if at != nil {
				at.clock.hear(md)
				err = corrected(ctx, at.clock.skew(), err)
			}
			return out, md, err
		}), "Signing", middleware.Before)
	}
}

// clock is a place's clock. The zero value has heard nothing.
type clock struct {
	mu    sync.Mutex
	said  time.Time // a whole second
	heard time.Time // here, when it said so
}

func (c *clock) now() (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.heard.IsZero() {
		return time.Now(), false
	}
	return c.said.Add(time.Since(c.heard)), true
}

// skew is how far the place's clock was ahead of ours when it was last heard; 0 before.
func (c *clock) skew() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.said.Sub(c.heard.Round(0))
}

// hear takes the time from an answer.
func (c *clock) hear(md middleware.Metadata) {
	said, ok := awsmiddleware.GetServerTime(md)
	heard, ok2 := awsmiddleware.GetResponseAt(md)
	if ok && ok2 {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.said, c.heard = said, heard
	}
}

// corrected has a call tried once more where it may have been signed with a wrong clock.
// The SDK corrects the clock of each attempt by the answer to the one before, but it tries
// again for other codes only than EC2's, which is that of a session that is over, too.
func corrected(ctx context.Context, skew time.Duration, err error) error {
	once, ok := ctx.Value(onceKey{}).(*bool)
	if api, is := errors.AsType[smithy.APIError](err); ok && !*once && is && api.ErrorCode() == "RequestExpired" && skew.Abs() > skewThreshold {
		*once = true
		return &skewed{err}
	}
	return err
}

// onceKey is of a *bool: whether the call was tried again for the clock.
type onceKey struct{}

// skewed is an error of a request that was signed with a wrong clock.
type skewed struct{ error }

func (e *skewed) Unwrap() error        { return e.error }
func (e *skewed) RetryableError() bool { return true }

// call is around all attempts of a call: it logs it when it has ended.
func (c *Cloud) call(p Place) func(*middleware.Stack) error {
	return func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("Call", func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
			ctx = context.WithValue(ctx, onceKey{}, new(bool))
			if !c.options.Logger.Enabled(ctx, slog.LevelDebug) {
				return next.HandleInitialize(ctx, in)
			}
			began := time.Now()
			out, md, err := next.HandleInitialize(ctx, in)
			id, _ := awsmiddleware.GetRequestIDMetadata(md)
			tries, _ := retry.GetAttemptResults(md)
			attrs := []slog.Attr{
				slog.String("action", awsmiddleware.GetOperationName(ctx)), slog.String("account", p.Account), slog.String("region", p.Region),
				slog.String("request", id), slog.Int("attempts", len(tries.Results)), slog.Duration("took", time.Since(began)),
			}
			if api, ok := errors.AsType[smithy.APIError](err); ok {
				attrs = append(attrs, slog.String("code", api.ErrorCode()))
			}
			c.options.Logger.LogAttrs(ctx, slog.LevelDebug, "called AWS", attrs...)
			return out, md, err
		}), middleware.Before)
	}
}

// logf makes what the SDK has to say itself a part of the log: it would write to standard
// error.
func (c *Cloud) logf(_ logging.Classification, format string, v ...any) {
	c.options.Logger.Debug("AWS SDK", slog.String("says", fmt.Sprintf(format, v...)))
}

// action is the API's name of the call whose input is an I.
func action[I any]() string { return strings.TrimSuffix(reflect.TypeFor[I]().Name(), "Input") }
