package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sekisho/internal/access"
	"sekisho/internal/config"
	"sekisho/internal/gate/api"
	gateclient "sekisho/internal/gate/client"
	"sekisho/internal/printable"
)

// open, close and who through the gate.

// grantView is what open tells of a target that the gate opens.
type grantView struct {
	api.Grant
	By []string `json:"by"` // who said that it is our address
}

// byGate has the gate let us in to a target, by each family in which it can be reached.
func (o *opening) byGate(ctx context.Context, at *atGate, name string) error {
	if err := at.noPerson(o.person); err != nil {
		return err
	}
	length, err := o.length()
	if err != nil {
		return err
	}
	q := api.OpenRequest{Reason: o.reason, Break: o.breaks}
	if o.cmd.Flags().Changed("for") {
		q.Seconds = max(1, int64(length/time.Second))
	}
	door, err := at.door(ctx, name)
	if err != nil {
		return err
	}
	found, err := at.own(ctx, door, cmp.Or(o.ip, o.addr))
	if err != nil {
		return err
	}
	u := newUI(o.g)
	views := []grantView{}
	var failed error
	for _, own := range found {
		q.Address = own.Addr
		g, err := at.Open(ctx, door.Target, q)
		if err == nil && g.State == api.Waiting && o.wait {
			u.say(waitsFor(g, door) + "; Ctrl-C withdraws it")
			asked := g
			if g, err = at.follow(ctx, g); err != nil && ctx.Err() != nil {
				err = errors.Join(fmt.Errorf("request %s was given up", asked.ID), at.withdraw(ctx, asked))
			}
		}
		if err != nil {
			failed = at.explain(err)
			break
		}
		views = append(views, grantView{g, orEmpty(own.By)})
		if !o.g.json {
			u.granted(at, g, own.By, door)
		}
	}
	if o.g.json && (failed == nil || len(views) > 0) { // by another family it may be open
		failed = errors.Join(failed, u.json(views))
	}
	if failed == nil && slices.ContainsFunc(views, func(v grantView) bool { return v.State == api.Waiting }) {
		return &exitError{exitWaits, errTold}
	}
	return failed
}

// granted tells what became of a request.
func (u *ui) granted(at *atGate, g api.Grant, by []string, door api.Door) {
	from := printable.Prefix(g.Prefix)
	again := g.Target
	if len(by) > 0 {
		from += " (by " + strings.Join(by, ", ") + ")"
	} else if g.Prefix.IsSingleIP() { // of --ip: the next command would ask for one's own
		again += " --ip " + g.Prefix.Addr().String()
	}
	switch {
	case g.State == api.Waiting:
		u.line(fmt.Sprintf("%s, for %s, from %s", waitsFor(g, door), config.FormatDuration(time.Duration(g.Length)*time.Second), from))
		u.line(fmt.Sprintf("`sekisho open %s --wait` waits for it, `sekisho close %s` withdraws it", again, g.Target))
	case g.Foreign:
		u.line(fmt.Sprintf("%s lets in %s already, by rule %s, which is not sekisho's: nothing was opened, and nothing shuts by itself", g.Target, from, g.Rule))
	case g.State == api.Asked:
		u.line(fmt.Sprintf("%s is being opened for %s until %s", g.Target, from, clockTime(at.Here(g.Until))))
	default:
		u.line(fmt.Sprintf("%s is open for %s until %s", g.Target, from, clockTime(at.Here(g.Until))))
	}
	for _, w := range g.Warnings {
		u.warn(w, "")
	}
	if g.Error != "" {
		u.warn(g.Error, "the gate goes on trying")
	}
}

// close ends our grants at a target, or everybody's.
func (at *atGate) close(ctx context.Context, name, person string, everybody bool) error {
	if err := at.noPerson(person); err != nil {
		return err
	}
	grants, err := at.Grants(ctx, everybody)
	if err != nil {
		return at.explain(err)
	}
	theirs := mine(grants, "", name)
	if len(theirs) == 0 { // it may be its host's name
		d, err := at.door(ctx, name)
		if err != nil {
			return err
		}
		name = d.Target
		theirs = mine(grants, "", name)
	}
	u := newUI(at.g)
	closed := []api.Grant{}
	var failed []error
	for _, was := range theirs {
		g, err := at.Close(ctx, was.ID)
		if gateclient.IsCode(err, api.NotFound) { // it ended meanwhile
			continue
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		closed = append(closed, g)
		if !at.g.json {
			u.closed(was, g)
		}
	}
	err = at.explain(errors.Join(failed...))
	if at.g.json {
		return errors.Join(u.json(closed), err)
	}
	if len(closed) == 0 && err == nil {
		who := "of yours"
		if everybody {
			who = "of anybody"
		}
		u.line(fmt.Sprintf("there was no lease %s on %s", who, name))
	}
	return err
}

func (u *ui) closed(was, g api.Grant) {
	from := printable.Prefix(g.Prefix)
	switch {
	case was.State == api.Waiting:
		u.line(fmt.Sprintf("request %s of %s for %s is withdrawn", g.ID, g.Person, g.Target))
	case g.Foreign:
		u.line(fmt.Sprintf("%s still lets in %s, by rule %s, which is not sekisho's", g.Target, from, g.Rule))
	case g.State == api.Ended:
		u.line(fmt.Sprintf("%s is shut for %s (%s)", g.Target, from, g.Person))
	default:
		u.line(fmt.Sprintf("%s is being shut for %s (%s)", g.Target, from, g.Person))
		if g.Error != "" {
			u.warn(g.Error, "the gate goes on trying")
		}
	}
}

// everybodys are the grants that we may see: all of them, or our own.
func (at *atGate) everybodys(ctx context.Context) ([]api.Grant, error) {
	all, err := at.Grants(ctx, true)
	if gateclient.IsCode(err, api.Forbidden) {
		return at.Grants(ctx, false)
	}
	return all, err
}

// doors are the targets of those names, as we see them; all of them where there are none.
func (at *atGate) doors(ctx context.Context, names []string) ([]api.Door, error) {
	if len(names) == 0 {
		doors, err := at.Doors(ctx)
		return doors, at.explain(err)
	}
	var doors []api.Door
	for _, n := range names {
		d, err := at.door(ctx, n)
		if err != nil {
			return nil, err
		}
		doors = append(doors, d)
	}
	return doors, nil
}

// why tells why somebody may have a target opened, or not.
func (at *atGate) why(ctx context.Context, person, target string) error {
	d, err := at.DoorOf(ctx, person, target)
	if gateclient.IsCode(err, api.NotFound) {
		return &exitError{exitUsage, withHint(err, cmp.Or(gateclient.Hint(err), "`sekisho doors` shows what there is"))}
	}
	if err != nil {
		return at.explain(err)
	}
	dec := access.Decision{
		Person: person, Target: d.Target, Hint: d.Hint, AtMost: time.Duration(d.AtMost) * time.Second,
		Allowed: d.Allowed && !d.Needs.Reason && len(d.Needs.Approval) == 0, NeedsReason: d.Allowed && d.Needs.Reason,
	}
	if d.Allowed {
		dec.NeedsApproval = d.Needs.Approval
	}
	for _, r := range d.Reasons {
		dec.Reasons = append(dec.Reasons, access.Reason(r))
	}
	u := newUI(at.g)
	if at.g.json {
		err = u.json(d)
	} else {
		u.decision(dec, len(d.Always) > 0)
	}
	if err == nil && !d.Allowed && len(d.Always) == 0 {
		err = &exitError{exitFailure, errTold}
	}
	return err
}

// gateWhoView is what who tells of what a gate has open.
type gateWhoView struct {
	Who []api.Grant `json:"who"`
}

// who shows who is in.
func (at *atGate) who(ctx context.Context, names []string) error {
	doors, err := at.doors(ctx, names)
	if err != nil {
		return err
	}
	u := newUI(at.g)
	view := gateWhoView{Who: []api.Grant{}}
	stuck := false
	for _, d := range doors {
		for _, g := range d.Grants {
			if g.State != api.Waiting {
				view.Who = append(view.Who, g)
				stuck = stuck || g.Stuck
			}
		}
	}
	if at.g.json {
		err = u.json(view)
	} else {
		u.whoAtGate(at, view.Who)
	}
	if stuck {
		return errors.Join(err, &exitError{exitFailure, errTold})
	}
	return err
}

func (u *ui) whoAtGate(at *atGate, grants []api.Grant) {
	if len(grants) == 0 {
		u.line("nobody has any of them open")
		return
	}
	rows := [][]string{{"TARGET", "FROM", "WHO", "BY", "LEFT"}}
	stuck := false
	for _, g := range grants {
		by, left := "the gate", shortDuration(time.Until(at.Here(g.Until)))
		switch {
		case g.Foreign:
			by = "a rule that is not ours, " + g.Rule
		case g.Stuck:
			stuck, left = true, "over"
		case g.State == api.Ending:
			left = "ending"
		case !g.InForce:
			left += ", not in force yet"
		}
		if g.Break {
			by += ", by breaking the glass"
		}
		from := ""
		if g.Prefix.IsValid() {
			from = printable.Prefix(g.Prefix)
		}
		rows = append(rows, []string{g.Target, from, g.Person, by, left})
	}
	u.table(rows)
	if stuck {
		u.warn("what has ended still lets somebody in", "an administrator of the gate finds out why: `sekisho reap` takes it away, too")
	}
}

// codeOf is the exit code of an error.
func codeOf(err error) int {
	if coded, ok := errors.AsType[*exitError](err); ok {
		return coded.code
	}
	return exitFailure
}
