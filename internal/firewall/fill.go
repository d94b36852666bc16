package firewall

import (
	"context"
	"fmt"
	"slices"

	"sekisho/internal/prefixset"
)

// Fills implements Firewall.
func (k *Kernel) Fills(ctx context.Context) ([]Fill, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	k.writing.Lock()
	if k.wanted == nil {
		k.writing.Unlock()
		return nil, fmt.Errorf("count what is in the sets: %w", ErrAbsent)
	}
	s := *k.wanted
	k.writing.Unlock()
	s.Ruleset.Countries = prefixset.Set{} // what is in those is not asked
	k.reading.Lock()
	defer k.reading.Unlock()
	var fills []Fill
	for _, set := range desired(s, nil, k.features).sets {
		if !set.Dynamic || slices.Contains([]string{knock4Name, knock6Name, came4Name, came6Name}, set.Name) {
			continue
		}
		f := Fill{Set: set.Name, Size: int(set.Size)}
		if err := list(k.readSock, new(message), set.Name, false, func(rawElement) error { f.Used++; return nil }); err != nil {
			return nil, fmt.Errorf("count what is in set %s: %w", set.Name, absent(err))
		}
		fills = append(fills, f)
	}
	return fills, nil
}
