package firewall

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// knockFor is how long the kernel remembers who asked: a client that gets no answer sends
// its first packet again for as long (net.ipv4.tcp_syn_retries).
const knockFor = 2 * time.Minute

// knockSize bounds how many that are: all of them are read at once.
const knockSize = 1<<12 - 1

// Knocks implements Firewall.
func (k *Kernel) Knocks(ctx context.Context) ([]Knock, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	k.reading.Lock()
	defer k.reading.Unlock()
	var knocks []Knock
	for _, name := range []string{knock4Name, knock6Name, came4Name, came6Name} {
		err := list(k.readSock, new(message), name, false, func(e rawElement) error {
			if a, ok := addr(e.key); ok {
				knocks = append(knocks, Knock{a, name == came4Name || name == came6Name, max(0, knockFor-e.left)})
			}
			return nil
		})
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return nil, fmt.Errorf("read who asked for SSH: %w", explain(err))
		}
	}
	latestFirst(knocks)
	return knocks, nil
}

func latestFirst(knocks []Knock) {
	slices.SortFunc(knocks, func(a, b Knock) int { return cmp.Or(cmp.Compare(a.Ago, b.Ago), a.Addr.Compare(b.Addr)) })
}
