package firewall

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
)

// SetOthers makes others what Others finds: the blocks of other ports and peers
// than those asked for are left out of the answer.
func (f *Fake) SetOthers(others Others) {
	k := f.kernel
	k.mu.Lock()
	defer k.mu.Unlock()
	k.others = others
}

// Others implements Firewall.
func (f *Fake) Others(ctx context.Context, ports []uint16, peers []netip.Addr) (Others, error) {
	k := f.kernel
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.ready(ctx, "Others"); err != nil {
		return Others{}, fmt.Errorf("look at other firewalls: %w", err)
	}
	o := Others{Managers: slices.Clone(k.others.Managers), Forwards: slices.Clone(k.others.Forwards)}
	for _, b := range k.others.Blocks {
		if slices.Contains(ports, b.Port) && (!b.Peer.IsValid() || slices.Contains(peers, b.Peer)) {
			o.Blocks = append(o.Blocks, b)
		}
	}
	return o, nil
}
