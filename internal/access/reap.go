package access

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"sekisho/internal/securitygroup"
)

// StuckAfter is how long a rule may be there past its end before that is an alarm.
const StuckAfter = 2 * time.Minute

// Ended is a rule of ours that nobody needs any more.
type Ended struct {
	Place securitygroup.Place `json:"place"`
	Group string              `json:"group"`
	Rule  string              `json:"rule"`
	Lets  string              `json:"lets_in"` // whom, and to what
	Since time.Time           `json:"since,omitzero"`
	Why   string              `json:"why"`
	Error string              `json:"error,omitempty"` // why it is still there

	err error
}

// Failure is a place that could not be looked at.
type Failure struct {
	Place securitygroup.Place `json:"place"`
	Error string              `json:"error"`
	Hint  string              `json:"hint,omitempty"`

	err error
}

func (f Failure) Err() error { return f.err }

// Reaped is what a reaper found and did.
type Reaped struct {
	Revoked []Ended   `json:"revoked"`
	Left    []Ended   `json:"left"`   // that could not be taken away
	Stuck   []Ended   `json:"stuck"`  // those of Left that ended longer than StuckAfter ago
	Live    int       `json:"live"`   // rules of ours that somebody needs
	Failed  []Failure `json:"failed"` // places that could not be looked at
}

// Clean reports whether nothing is left that should not be.
func (r Reaped) Clean() bool { return len(r.Left)+len(r.Failed) == 0 }

// Reap takes away, in all places, every rule of ours that nobody needs any more, going by
// the tags alone and by AWS's clock. It does no more than it must: a rule that somebody
// needs stays, and what is not ours is not touched. It may run anywhere, and several at
// once.
func (a *Access) Reap(ctx context.Context, places []securitygroup.Place) Reaped {
	all := Reaped{Revoked: []Ended{}, Left: []Ended{}, Stuck: []Ended{}, Failed: []Failure{}}
	failed := eachPlace(slices.Values(places), func(place securitygroup.Place) (Reaped, error) { return a.reap(ctx, place) }, func(r Reaped) {
		all.Revoked = append(all.Revoked, r.Revoked...)
		all.Left = append(all.Left, r.Left...)
		all.Stuck = append(all.Stuck, r.Stuck...)
		all.Live += r.Live
	})
	all.Failed = append(all.Failed, failed...)
	order := func(x, y Ended) int {
		return cmp.Or(x.Place.Compare(y.Place), strings.Compare(x.Group, y.Group), strings.Compare(x.Rule, y.Rule))
	}
	slices.SortFunc(all.Revoked, order)
	slices.SortFunc(all.Left, order)
	slices.SortFunc(all.Stuck, order)
	return all
}

// reap is Reap for one place.
func (a *Access) reap(ctx context.Context, place securitygroup.Place) (res Reaped, err error) {
	var rules []securitygroup.Rule
	err = a.Cloud.Rules(ctx, place, securitygroup.Query{Tags: securitygroup.ManagedTags()}, func(rs []securitygroup.Rule) error {
		rules = append(rules, rs...)
		return nil
	})
	if err != nil {
		return res, err
	}
	now, _ := a.Cloud.Now(place)
	var over []securitygroup.Rule
	ended := map[string]Ended{}
	for _, r := range rules {
		ours, is := r.Ours()
		if !is {
			continue
		}
		if why := needless(r, ours, now); why != "" {
			over = append(over, r)
			ended[r.ID] = Ended{Place: place, Group: r.Group, Rule: r.ID, Lets: r.Permission.String(), Since: ours.Until(), Why: why}
			continue
		}
		res.Live++
		a.tidy(ctx, place, r, ours, now)
	}
	if len(over) == 0 {
		return res, nil
	}
	for id, fate := range a.end(ctx, place, over, securitygroup.Lease{}) {
		e := ended[id]
		switch {
		case fate.gone:
			res.Revoked = append(res.Revoked, e)
		case fate.err == nil: // it was needed again
			res.Live++
		default:
			e.Error, e.err = fate.err.Error(), fate.err
			res.Left = append(res.Left, e)
			if now.Sub(e.Since) > StuckAfter {
				res.Stuck = append(res.Stuck, e)
			}
		}
	}
	return res, nil
}

// needless says why nobody needs a rule of ours any more; "" where somebody does.
func needless(r securitygroup.Rule, ours securitygroup.Ours, now time.Time) string {
	switch {
	case len(ours.Fixed) > 0:
		return ""
	case ours.Altered(r):
		return "somebody changed it: it was made for " + ours.Source
	case len(ours.Live(now)) > 0:
		return ""
	case len(ours.Leases) > 0:
		return "its last lease has ended"
	case len(ours.Broken) > 0:
		return "its tags say no end that can be read"
	}
	return "its tags say of nobody who needs it"
}

// tidy takes off a rule that somebody needs what has ended on it, so that others have
// room. It may fail.
func (a *Access) tidy(ctx context.Context, place securitygroup.Place, r securitygroup.Rule, ours securitygroup.Ours, now time.Time) {
	if useless := over(ours, now); len(useless) > 0 && a.untag(ctx, place, r.ID, useless...) == nil {
		_ = a.Cloud.SetDescription(ctx, place, r.Group, r.ID, describe(ours.Fixed, ours.Live(now)))
	}
}

func failure(place securitygroup.Place, err error) Failure {
	return Failure{Place: place, Error: err.Error(), Hint: Hint(err), err: err}
}

// Err is why the rule is still there; nil where it is not.
func (e Ended) Err() error { return e.err }

// Revoking is how somebody takes the rule away by hand.
func (e Ended) Revoking() string { return revoking(e.Place, e.Group, e.Rule) }
