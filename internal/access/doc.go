// Package access decides who may reach which target, and sees to it that the targets'
// security groups say so: for good (fixed addresses: plan, apply, adopt), or for a while
// (leases: open, renew, release, reap). The decision is pure; everything else is held
// against what the groups' own tags say, and needs no other state. A flow: it imports
// package securitygroup and values.
package access

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sekisho/internal/config"
	"sekisho/internal/securitygroup"
)

// Access is the whole of it, for one configuration. Its fields are not changed once it
// is in use; it is safe for concurrent use.
type Access struct {
	Config *config.Config
	Cloud  *securitygroup.Cloud
	// Settle is how long EC2 may take until what was written is read by others too: who
	// shares a rule looks again after it. 0: settle.
	Settle time.Duration
}

// settle is longer than what is seen of EC2's eventual consistency between a write and a
// read of tags.
const settle = time.Second

func (a *Access) settle() time.Duration { return cmp.Or(a.Settle, settle) }

// Error is an error that says what to do about it.
type Error struct {
	Err  error
	Hint string
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Hint is what to do now about an error of this package or of securitygroup, in one line;
// "" where there is nothing to say.
func Hint(err error) string {
	if e, ok := errors.AsType[*Error](err); ok && e.Hint != "" {
		return e.Hint
	}
	if e, ok := errors.AsType[*NoAnswer](err); ok {
		return e.Hint()
	}
	return securitygroup.Hint(err)
}

func hinted(hint, format string, args ...any) error {
	return &Error{Err: fmt.Errorf(format, args...), Hint: hint}
}

// Door is a target with its name.
type Door struct {
	Name string
	config.Target
}

// Place is where its group is. It has one only where it is no host.
func (d Door) Place() securitygroup.Place {
	return securitygroup.Place{Account: d.AWS.Account, Region: d.AWS.Region}
}

func (d Door) String() string { return d.Name }

// Door is the target of that name, or of the host of that name. An error offers the nearest.
func (a *Access) Door(name string) (Door, error) {
	if t, ok := a.Config.Targets[name]; ok {
		return Door{name, t}, nil
	}
	names := slices.Sorted(maps.Keys(a.Config.Targets))
	var found []Door
	for _, n := range names {
		if slices.ContainsFunc(a.Config.Targets[n].Host, func(h string) bool { return strings.EqualFold(h, name) }) {
			found = append(found, Door{n, a.Config.Targets[n]})
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return Door{}, hinted(fmt.Sprintf("say which: %s or %s", found[0].Name, found[1].Name), "%d targets are the host %q", len(found), name)
	}
	return Door{}, unknown("target", name, names)
}

// AllDoors are all targets, by name.
func (a *Access) AllDoors() []Door {
	var doors []Door
	for _, n := range slices.Sorted(maps.Keys(a.Config.Targets)) {
		doors = append(doors, Door{n, a.Config.Targets[n]})
	}
	return doors
}

// Doors are the targets that are security groups, by name: those that this package opens.
func (a *Access) Doors() []Door { return groupsOf(a.AllDoors()) }

// groupsOf are the doors that are security groups.
func groupsOf(doors []Door) []Door {
	return slices.DeleteFunc(slices.Clone(doors), func(d Door) bool { return d.Agent != "" })
}

// Reachable is why a door cannot be looked at or opened here; nil where it can. Those of
// hosts are the gate's.
func (a *Access) Reachable(d Door) error {
	if hint, why := a.ungated(d); why != "" {
		return hinted(hint, "%s", why)
	}
	if d.Agent != "" {
		return hinted("the gate opens it, and knows who is in: "+a.Config.Gate.URL, "%s is the host %s, and opens through the gate only", d.Name, d.Agent)
	}
	return nil
}

// Places are all accounts and regions that the configuration names, in order.
func (a *Access) Places() []securitygroup.Place {
	set := map[securitygroup.Place]bool{}
	for _, d := range a.Doors() {
		set[d.Place()] = true
	}
	for name, account := range a.Config.AWS.Accounts {
		for _, region := range account.Regions {
			set[securitygroup.Place{Account: name, Region: region}] = true
		}
	}
	return slices.SortedFunc(maps.Keys(set), securitygroup.Place.Compare)
}

// unknown says that there is no such target or person, and which may be meant.
func unknown(kind, name string, names []string) error {
	hint := map[string]string{
		"target":  "the configuration names no target yet: see `targets` in docs/configuration.md",
		"person":  "the configuration names nobody under `people`",
		"account": "the configuration names no account under `aws.accounts`: leave it out, and it is the environment's",
	}[kind]
	if near := config.Nearest(name, names); near != "" {
		hint = "did you mean " + near + "?"
	} else if len(names) > 0 {
		hint = "there is: " + list(names)
	}
	return hinted(hint, "there is no %s %q in the configuration", kind, name)
}

// list writes names for people, at most ten of them.
func list(names []string) string {
	if len(names) > 10 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:9], ", "), len(names)-9)
	}
	return strings.Join(names, ", ")
}
