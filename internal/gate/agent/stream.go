package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"sekisho/internal/gate/api"
)

// event is what the stream says.
type event struct {
	change
	clock
	sooner time.Duration // by this much the grants that there are end sooner than they were said to
}

// clock is when a line was written, as time.Now would have had it, and slept, when it was read.
type clock struct {
	written time.Time
	slept   time.Duration
}

// listen keeps a stream until ctx ends.
func (a *Agent) listen(ctx context.Context) error {
	backoff := leastBackoff
	var told time.Time
	for streams := int64(0); ; {
		began := time.Now()
		heard, err := a.stream(ctx, streams)
		if ctx.Err() != nil {
			return nil
		}
		if heard {
			streams++
		}
		a.lost(heard, err)
		if now := time.Now(); heard || told.IsZero() || now.Sub(told) >= time.Minute {
			told = now
			a.log.Warn("there is no stream from the gate; grants end by themselves", "gate", a.o.URL, "error", err, "hint", hintOf(err))
		}
		if heard && time.Since(began) >= a.beat { // else it is one that only begins
			backoff = leastBackoff
		}
		wait := backoff/2 + rand.N(backoff)
		if e, ok := errors.AsType[*api.Error](err); ok {
			switch e.Code {
			case api.Unknown, api.Forbidden, api.Disabled, api.NotFound: // until somebody does something
				wait = mostBackoff/2 + rand.N(mostBackoff)
			}
			if e.After > 0 {
				wait = max(wait, min(time.Duration(min(e.After, int64(mostAfter/time.Second)))*time.Second, mostAfter))
			}
		}
		backoff = min(2*backoff, mostBackoff)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// lost notes that there is no stream, and why.
func (a *Agent) lost(was bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ticket, a.hangUp, a.client = "", nil, nil
	if was {
		a.status.Connected, a.status.Since = false, time.Now()
	}
	a.status.Error, a.status.Hint = said(err), hintOf(err)
}

// begun notes that there is a stream.
func (a *Agent) begun(ticket string, client *http.Client, hangUp context.CancelFunc, earlier int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ticket, a.client, a.hangUp = ticket, client, hangUp
	a.status.Connected, a.status.Since, a.status.Reconnects = true, time.Now(), earlier
	a.status.Error, a.status.Hint = "", ""
	a.seenDue = a.seenDue || len(a.seen) > 0 // this may be another gate
}

var (
	errSilent = errors.New("the gate has said nothing for too long")
	errEnded  = errors.New("the gate has ended the stream")
	errTicket = errors.New("the gate knows this stream no longer")
)

// stream is one of them, from its beginning to its end. heard: it began with a snapshot.
func (a *Agent) stream(ctx context.Context, earlier int64) (heard bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// A line must be whole by then: bytes that only trickle are no sign of life.
	watchdog := time.AfterFunc(deadBeats*a.beat, func() { cancel(errSilent) })
	defer watchdog.Stop()
	defer func() {
		if cause := context.Cause(ctx); errors.Is(cause, errSilent) || errors.Is(cause, errTicket) {
			err = cause
		}
	}()
	client, err := a.o.client()
	if err != nil {
		return false, err
	}
	defer client.CloseIdleConnections()
	q, err := a.o.request(ctx, http.MethodGet, "/hosts/stream", nil)
	if err != nil {
		return false, err
	}
	res, err := client.Do(q)
	if err != nil {
		return false, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return false, errorOf(res)
	}
	lines := newLineReader(res.Body)
	pace, late, began := pace{}, lateness{}, time.Now()
	for {
		text, err := lines.next()
		read, slept := time.Now(), a.o.slept()
		switch {
		case errors.Is(err, io.EOF):
			return heard, errEnded
		case err != nil:
			return heard, fmt.Errorf("read the stream: %w", err)
		}
		watchdog.Reset(deadBeats * a.beat)
		c, err := parse(text)
		switch {
		case err != nil:
			return heard, err
		case !heard && c.Snapshot == nil:
			return false, errors.New("the stream does not begin with a snapshot")
		case c.Snapshot != nil && c.Snapshot.Host != a.o.Name:
			return heard, fmt.Errorf("the gate takes this host for %.80q, which was enrolled as %q", c.Snapshot.Host, a.o.Name)
		case !heard:
			heard = true
			a.begun(c.Snapshot.Ticket, client, func() { cancel(errTicket) }, earlier)
			a.log.Info("connected to the gate", "gate", a.o.URL, "host", a.o.Name, "grants", len(c.Snapshot.Grants))
		}
		e, at := event{change: c}, slept+read.Sub(began)
		switch {
		case c.Beat != nil:
			if e.sooner = late.heard(*c.Beat, at); e.sooner == 0 {
				continue
			}
		case c.Snapshot != nil:
			late.heard(c.Snapshot.Now, at)
		}
		e.clock = clock{read.Add(-late.of(at)), slept}
		select {
		case a.events <- e:
		case <-ctx.Done():
			return heard, ctx.Err()
		}
		if err := pace.wait(ctx); err != nil {
			return heard, err
		}
	}
}

// pace lets maxRate changes by in a second.
type pace struct {
	began time.Time
	n     int
}

func (p *pace) wait(ctx context.Context) error {
	now := time.Now()
	if now.Sub(p.began) >= time.Second {
		*p = pace{began: now}
	}
	if p.n++; p.n < maxRate {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Until(p.began.Add(time.Second))):
		return nil
	}
}
