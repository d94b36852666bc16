package cli

import (
	"context"
	"slices"

	"sekisho/internal/access"
)

// toDoor is a command's way to one door: by the gate, or by the security group.
type toDoor struct {
	g       *globals
	door    access.Door
	direct  bool // --direct was given
	passage func(host, ip string) (*access.Passage, error)
	explain func(error) error
}

// toDoor finds the door of that name.
func (g *globals) toDoor(ctx context.Context, direct bool, person, name string, ask asking) (*toDoor, error) {
	at, err := g.gateway(direct)
	if err != nil {
		return nil, err
	}
	if at != nil {
		if err := at.noPerson(person); err != nil {
			return nil, err
		}
		d, me, err := at.see(ctx, name)
		if err != nil {
			return nil, err
		}
		passage := func(host, ip string) (*access.Passage, error) { return at.passage(d, me, host, ip, ask) }
		return &toDoor{g, asDoor(d), direct, passage, at.explain}, nil
	}
	if err := ask.pastGate(); err != nil {
		return nil, err
	}
	c, err := g.cloud(person)
	if err != nil {
		return nil, err
	}
	door, err := c.door(name)
	if err != nil {
		return nil, err
	}
	passage := func(host, ip string) (*access.Passage, error) {
		p, err := c.passage(door, host, ip)
		if err == nil {
			p.Reason = ask.reason
		}
		return p, err
	}
	return &toDoor{g, door, direct, passage, c.explain}, nil
}

// named are the targets of those names; all of them where there are none.
func (g *globals) named(ctx context.Context, names []string) ([]access.Door, error) {
	at, err := g.gateway(false)
	if err != nil {
		return nil, err
	}
	if at == nil {
		c, err := g.cloud("")
		if err != nil {
			return nil, err
		}
		return c.doors(names)
	}
	seen, err := at.doors(ctx, names)
	doors := make([]access.Door, len(seen))
	for i, d := range seen {
		doors[i] = asDoor(d)
	}
	return slices.Clip(doors), err
}
