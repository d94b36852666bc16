package securitygroup

import (
	"context"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// pace bounds the calls of one action at one place, where EC2 has a bucket of tokens for
// each: a burst is free, and then so many come back each second, which nobody tells. Until
// a call is refused nothing is bounded. Then the rate is cut to a part of what went through,
// and grows with each call that does, the faster the longer none was refused; after a
// minute without a refusal there is no bound any more.
//
// The SDK's own (retry.AdaptiveMode of v1.47.7) does as well in a burst. But it never lets
// go: of a program that lives on, and was refused once, it takes each first call after a
// silence for a rate of next to nothing, and has the second wait for two seconds.
type pace struct {
	turns slots // at most as many wait for their time or are in flight

	mu     sync.Mutex
	rate   float64   // calls a second; 0: no bound
	next   time.Time // when the next may go
	cut    time.Time // when the rate was cut last
	window time.Time // when counting began
	before int       // what went through in the second before it; -1: that was not counted
	now    int       // and since
}

const (
	slowest    = 0.5             // calls a second
	saved      = 2 * time.Second // of silence that may be made up for at once
	forgiven   = time.Minute
	firstCut   = 0.5
	laterCut   = 0.7
	growth     = 0.01 // and once more for each second without a refusal
	pauseAtCut = 500 * time.Millisecond
)

func newPace(inFlight int) *pace { return &pace{turns: make(slots, inFlight), before: -1} }

// wait returns when a call may be made; done is to be told how that ended.
func (p *pace) wait(ctx context.Context) (done func(throttled bool), _ error) {
	if err := p.turns.acquire(ctx); err != nil {
		return nil, err
	}
	if d := p.turn(time.Now()); d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			p.turns.release()
			return nil, &aws.RequestCanceledError{Err: ctx.Err()}
		}
	}
	began := time.Now()
	return func(throttled bool) {
		p.ended(began, time.Now(), throttled)
		p.turns.release()
	}, nil
}

// turn is how long whoever comes now has to wait.
func (p *pace) turn(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.cut) > forgiven {
		p.rate = 0
	}
	if p.rate == 0 {
		return 0
	}
	at := p.next
	if early := now.Add(-saved); at.Before(early) {
		at = early
	}
	p.next = at.Add(time.Duration(float64(time.Second) / p.rate))
	return max(at.Sub(now), 0)
}

func (p *pace) ended(began, now time.Time, throttled bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !throttled {
		p.counted(now)
		if p.rate > 0 {
			p.rate += growth * (2 + now.Sub(p.cut).Seconds()) // for each call: by a part of itself each second
		}
		return
	}
	if !began.After(p.cut) {
		return // it was on the way when another was refused
	}
	if p.rate == 0 {
		p.rate = firstCut * p.through(now)
	} else {
		p.rate *= laterCut
	}
	p.rate = max(p.rate, slowest)
	p.cut = now
	if pause := now.Add(pauseAtCut); p.next.Before(pause) { // those who wait have their times
		p.next = pause
	}
}

// counted counts a call that went through.
func (p *pace) counted(now time.Time) {
	switch since := now.Sub(p.window); {
	case since > 2*time.Second:
		p.window, p.before, p.now = now, -1, 0
	case since > time.Second:
		p.window, p.before, p.now = p.window.Add(time.Second), p.now, 0
	}
	p.now++
}

// through is how many calls a second went through lately.
func (p *pace) through(now time.Time) float64 {
	n, seconds := float64(p.now), now.Sub(p.window).Seconds()
	if p.before >= 0 {
		n, seconds = n+float64(p.before), seconds+1
	}
	return n / max(seconds, 1)
}
