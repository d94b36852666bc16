package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sekisho/internal/trial"
)

// maxSteps is more than a trial has.
const maxSteps = 64

// reminders are when, before its end, a trial is told of once more where no line
// can be redrawn.
var reminders = [...]time.Duration{30 * time.Second, 10 * time.Second}

// trialView tells a trial as it goes.
type trialView struct {
	g    *globals
	u    *ui
	live *liveLine

	noWait bool // confirmed at once: nothing to do for anybody
	forced bool // in spite of refusals: no login confirms by itself

	last     trial.Event
	told     time.Duration // what was left when it was told of last
	reverted bool          // it was asked to go back
}

func newTrialView(g *globals, u *ui) *trialView {
	return &trialView{g: g, u: u, live: u.liveLine()}
}

// follow runs try and tells what it reports. When interrupted ends, it calls
// revert, again where that fails, and goes on until try returns or it has been
// asking for long. What is written to a terminal that nobody reads any more waits;
// try does not.
func (v *trialView) follow(interrupted <-chan struct{}, try func(progress func(trial.Event)) error, revert func() error) error {
	events, over := make(chan trial.Event, maxSteps), make(chan error, 1)
	go func() {
		over <- try(func(e trial.Event) {
			select {
			case events <- e:
			default:
			}
		})
	}()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	var giveUp <-chan time.Time
	var asked error
	goBack := func() {
		if asked = revert(); asked == nil {
			v.reverted = true
		}
	}
	for {
		select {
		case e := <-events:
			v.event(e)
		case now := <-second.C:
			if giveUp != nil && !v.reverted {
				goBack()
			}
			v.tick(now)
		case <-interrupted:
			interrupted, giveUp = nil, time.After(revertWithin)
			v.live.show("")
			v.u.say("going back to the rules before")
			goBack()
		case <-giveUp:
			v.live.show("")
			return withHint(errors.Join(errors.New("the daemon did not go back"), asked), v.kernelsTurn())
		case err := <-over:
			for len(events) > 0 {
				v.event(<-events)
			}
			v.live.show("")
			return v.end(err)
		}
	}
}

// event tells one step.
func (v *trialView) event(e trial.Event) {
	before := v.last
	v.last = e
	if v.g.json {
		_ = v.u.json(e) // whoever reads it may have gone; the trial goes on
		return
	}
	switch e.Stage {
	case trial.Loading:
		v.live.show("loading the rules ...")
	case trial.Armed:
		if v.noWait {
			return
		}
		v.live.show("")
		if before.Stage == trial.Armed || before.Stage == trial.Login {
			if e.By != "" {
				v.u.say(e.By)
			}
			v.u.say("still on trial, until " + e.Until.Local().Format(time.TimeOnly))
		} else {
			v.instruct(e.Until)
		}
		v.told = time.Until(e.Until)
		v.tick(time.Now())
	case trial.Login:
		v.live.show("")
		v.u.say("a new login came through the new rules: " + e.By)
		v.live.show("it is watched for a few seconds ...")
	case trial.Confirmed, trial.Reverted:
		v.live.show("")
		if e.Warning != "" {
			v.u.say("warning: " + e.Warning)
		}
	}
}

// instruct tells what to do now.
func (v *trialView) instruct(until time.Time) {
	at := until.Local().Format(time.TimeOnly)
	v.u.say("On trial until " + at + ". Leave this session open, and")
	if v.forced {
		v.u.say("  - log in anew in another way that the new rules let in, and type `sekisho confirm` there: it was forced, so no login confirms it by itself.")
	} else {
		v.u.say("  - log in anew from another terminal: that confirms it by itself;")
		v.u.say("  - or type `sekisho confirm` there.")
	}
	v.u.say("Do nothing, and the kernel goes back to the rules before at " + at + ". Ctrl-C goes back now.")
}

// tick counts down.
func (v *trialView) tick(now time.Time) {
	if v.g.json || v.last.Stage != trial.Armed {
		return
	}
	left := v.last.Until.Sub(now)
	if v.live.draw {
		v.live.show(shortDuration(left) + " left to confirm")
		return
	}
	for _, r := range reminders {
		if left <= r && v.told > r {
			v.u.say(shortDuration(r) + " left to confirm")
			break
		}
	}
	v.told = left
}

// end tells how it ended.
func (v *trialView) end(err error) error {
	switch {
	case v.last.Stage == trial.Confirmed && err == nil:
		if !v.g.json {
			v.u.line(fmt.Sprintf("rule set %d is in force, confirmed by %s", v.last.Generation, v.last.By))
		}
		return nil
	case errors.Is(err, errCutOff) && v.last.Stage == "":
		return withHint(err, "see whether it runs, and which rules are in force: sekisho status")
	case errors.Is(err, errCutOff):
		return withHint(err, v.kernelsTurn())
	case v.reverted && (err == nil || errors.Is(err, context.Canceled)):
		return errors.New("reverted: the rules before are in force")
	case v.last.Stage == trial.Reverted:
		text := fmt.Sprintf("reverted by %s; the rules before are in force", v.last.By)
		return withHint(errors.New(text), "`sekisho why ADDR` tells what the rules do with an address; more time: sekisho apply --within 5m")
	case err == nil:
		return withHint(errors.New("it ended without a word"), v.kernelsTurn())
	}
	return err
}

// kernelsTurn is what happens without us.
func (v *trialView) kernelsTurn() string {
	if v.last.Until.IsZero() {
		return "see which rules are in force: sekisho status"
	}
	return fmt.Sprintf("unless it was confirmed, the kernel goes back to the rules before by itself at %s; see `sekisho status`", v.last.Until.Local().Format(time.TimeOnly))
}
