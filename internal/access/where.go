package access

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"sekisho/internal/securitygroup"
)

// Hit is a rule that lets an address in.
type Hit struct {
	Place       securitygroup.Place  `json:"place"`
	Group       string               `json:"group"`
	GroupName   string               `json:"group_name"`
	Rule        string               `json:"rule"`
	Ports       string               `json:"ports"`
	Source      securitygroup.Source `json:"source"`
	Within      netip.Prefix         `json:"within"` // the prefix that holds the address: the rule's own, or the list's entry
	Ours        bool                 `json:"ours"`
	Description string               `json:"description,omitempty"`
	Behind      []Behind             `json:"behind"` // the instances in the group
	Targets     []string             `json:"targets"`
}

// Behind is an instance behind a group.
type Behind struct {
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
}

// Progress is how far a look over all places is.
type Progress struct{ Places, Done, Rules int }

// Where finds every rule of every group in places that lets addr in: by a prefix that
// holds it, or a prefix list that has one. What could not be looked at is in Failed: hits
// may be missing there. told, unless nil, hears how it goes, from several goroutines.
func (a *Access) Where(ctx context.Context, addr netip.Addr, places []securitygroup.Place, told func(Progress)) (hits []Hit, failed []Failure) {
	return a.where(ctx, func(p netip.Prefix) bool { return p.Contains(addr) }, places, told)
}

// where is Where for every prefix that holds says yes to.
func (a *Access) where(ctx context.Context, holds func(netip.Prefix) bool, places []securitygroup.Place, told func(Progress)) (hits []Hit, failed []Failure) {
	var mu sync.Mutex
	progress := Progress{Places: len(places)}
	tell := func(done, rules int) {
		mu.Lock()
		defer mu.Unlock()
		progress.Done += done
		progress.Rules += rules
		if told != nil {
			told(progress)
		}
	}
	hits = []Hit{}
	failed = eachPlace(slices.Values(places), func(place securitygroup.Place) ([]Hit, error) {
		defer tell(1, 0)
		return a.whereIn(ctx, holds, place, func(n int) { tell(0, n) })
	}, func(found []Hit) { hits = append(hits, found...) })
	slices.SortFunc(hits, func(x, y Hit) int {
		return cmp.Or(x.Place.Compare(y.Place), strings.Compare(x.Group, y.Group), strings.Compare(x.Rule, y.Rule))
	})
	return hits, failed
}

// whereIn is Where for one place. Where it fails, the hits are those found until then.
func (a *Access) whereIn(ctx context.Context, holds func(netip.Prefix) bool, place securitygroup.Place, read func(n int)) ([]Hit, error) {
	var hits []Hit
	doors := map[string][]Door{} // by group
	for _, d := range a.Doors() {
		if d.Place() == place {
			doors[d.AWS.Group] = append(doors[d.AWS.Group], d)
		}
	}
	listed := map[string][]securitygroup.Rule{} // rules by the list that they name
	err := a.Cloud.Rules(ctx, place, securitygroup.Query{}, func(rules []securitygroup.Rule) error {
		for _, r := range rules {
			switch {
			case r.Source.Prefix.IsValid() && holds(r.Source.Prefix):
				hits = append(hits, newHit(place, r, r.Source.Prefix, doors[r.Group]))
			case r.Source.PrefixList != "":
				listed[r.Source.PrefixList] = append(listed[r.Source.PrefixList], r)
			}
		}
		read(len(rules))
		return nil
	})
	if err != nil {
		return hits, err
	}
	if len(listed) > 0 {
		lists, err := a.Cloud.Lists(ctx, place, securitygroup.ListQuery{IDs: slices.Sorted(maps.Keys(listed))}, true)
		if err != nil {
			return hits, err
		}
		for _, l := range lists {
			if i := slices.IndexFunc(l.Entries, func(e securitygroup.Entry) bool { return holds(e.Prefix) }); i >= 0 {
				for _, r := range listed[l.ID] {
					hits = append(hits, newHit(place, r, l.Entries[i].Prefix, doors[r.Group]))
				}
			}
		}
	}
	return hits, a.name(ctx, place, hits)
}

func newHit(place securitygroup.Place, r securitygroup.Rule, within netip.Prefix, doors []Door) Hit {
	_, ours := r.Ours()
	h := Hit{
		Place: place, Group: r.Group, Rule: r.ID, Ports: r.Ports(), Source: r.Source, Within: within,
		Ours: ours, Description: r.Description, Behind: []Behind{}, Targets: []string{},
	}
	for _, d := range doors {
		if r.Opens(d.Port) {
			h.Targets = append(h.Targets, d.Name)
		}
	}
	return h
}

// name looks up the groups of hits, and what is behind them.
func (a *Access) name(ctx context.Context, place securitygroup.Place, hits []Hit) error {
	if len(hits) == 0 {
		return nil
	}
	set := map[string]bool{}
	for _, h := range hits {
		set[h.Group] = true
	}
	ids := slices.Sorted(maps.Keys(set))
	names := map[string]string{}
	behind := map[string][]Behind{}
	var group errgroup.Group
	group.Go(func() error {
		groups, err := a.Cloud.Groups(ctx, place, ids)
		for _, g := range groups {
			names[g.ID] = g.Name
		}
		return err
	})
	group.Go(func() error {
		instances, err := a.Cloud.Instances(ctx, place, ids)
		for _, i := range instances {
			for _, g := range i.Groups {
				behind[g] = append(behind[g], Behind{i.ID, i.Name})
			}
		}
		return err
	})
	err := group.Wait()
	for i := range hits {
		hits[i].GroupName = names[hits[i].Group]
		hits[i].Behind = append(hits[i].Behind, behind[hits[i].Group]...)
	}
	return err
}
