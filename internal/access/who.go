package access

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"sekisho/internal/securitygroup"
)

// Admitted is somebody who gets to a target now, by one rule.
type Admitted struct {
	Target string               `json:"target"`
	Source securitygroup.Source `json:"source"`
	Rule   string               `json:"rule"`
	By     string               `json:"by"`               // "fixed", "lease", "foreign", "over": a lease that has ended, and should be gone
	People []string             `json:"people"`           // whose fixed address, or whose leases; foreign: none
	Until  time.Time            `json:"until,omitzero"`   // of the last lease
	Text   string               `json:"text,omitempty"`   // foreign: the rule's description
	Leases []LeaseView          `json:"leases,omitempty"` // each of them
}

// LeaseView is one lease.
type LeaseView struct {
	ID     string    `json:"id"`
	Person string    `json:"person"`
	Until  time.Time `json:"until"`
}

// Who says who gets to doors right now, but for those of hosts.
func (a *Access) Who(ctx context.Context, doors []Door) (who []Admitted, failed []Failure) {
	there := byPlace(doors)
	who = []Admitted{}
	failed = eachPlace(maps.Keys(there), func(place securitygroup.Place) ([]Admitted, error) {
		return a.whoIn(ctx, place, there[place])
	}, func(found []Admitted) { who = append(who, found...) })
	rank := func(a Admitted) int { return slices.Index([]string{"over", "lease", "fixed", "foreign"}, a.By) }
	slices.SortFunc(who, func(x, y Admitted) int {
		return cmp.Or(strings.Compare(x.Target, y.Target), cmp.Compare(rank(x), rank(y)), strings.Compare(x.Source.String(), y.Source.String()), strings.Compare(x.Rule, y.Rule))
	})
	return who, failed
}

func (a *Access) whoIn(ctx context.Context, place securitygroup.Place, doors []Door) ([]Admitted, error) {
	var groups []string
	for _, d := range doors {
		groups = append(groups, d.AWS.Group)
	}
	var res []Admitted
	err := a.Cloud.Rules(ctx, place, securitygroup.Query{Groups: groups}, func(rules []securitygroup.Rule) error {
		now, _ := a.Cloud.Now(place)
		for _, r := range rules {
			for _, d := range doors {
				if d.AWS.Group == r.Group && r.Opens(d.Port) {
					res = append(res, admitted(d, r, now))
				}
			}
		}
		return nil
	})
	return res, err
}

func admitted(d Door, r securitygroup.Rule, now time.Time) Admitted {
	w := Admitted{Target: d.Name, Source: r.Source, Rule: r.ID, By: "foreign", People: []string{}}
	ours, is := r.Ours()
	if !is {
		w.Text = r.Description
		return w
	}
	for _, l := range ours.Live(now) {
		w.Leases = append(w.Leases, LeaseView(l))
		w.People = append(w.People, l.Person)
		w.Until = later(w.Until, l.Until)
	}
	switch {
	case len(ours.Fixed) > 0:
		w.By, w.Until = "fixed", time.Time{}
		w.People = append(w.People, ours.Fixed...)
	case needless(r, ours, now) != "":
		w.By, w.Until = "over", ours.Until()
	default:
		w.By = "lease"
	}
	slices.Sort(w.People)
	w.People = slices.Compact(w.People)
	return w
}

// Close ends leases by hand: those of person (of everybody where it is "") on doors. It
// returns those that it ended.
func (a *Access) Close(ctx context.Context, doors []Door, person string) (ended []Admitted, err error) {
	who, failed := a.Who(ctx, doors)
	var errs []error
	for _, f := range failed {
		errs = append(errs, f.err)
	}
	var mu sync.Mutex
	var group errgroup.Group
	for _, w := range who {
		for _, l := range w.Leases {
			if person != "" && l.Person != person {
				continue
			}
			group.Go(func() error {
				door, err := a.Door(w.Target)
				if err == nil {
					err = a.Release(ctx, door, Opened{
						Rule:  securitygroup.Rule{ID: w.Rule, Group: door.AWS.Group, Permission: securitygroup.TCP(door.Port, w.Source)},
						Lease: securitygroup.Lease(l),
					})
				}
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					errs = append(errs, err)
					return nil
				}
				ended = append(ended, Admitted{Target: w.Target, Source: w.Source, Rule: w.Rule, By: "lease", People: []string{l.Person}, Until: l.Until})
				return nil
			})
		}
	}
	_ = group.Wait() // errs has them all
	slices.SortFunc(ended, func(x, y Admitted) int {
		return cmp.Or(strings.Compare(x.Target, y.Target), strings.Compare(x.Source.String(), y.Source.String()))
	})
	return ended, errors.Join(errs...)
}
