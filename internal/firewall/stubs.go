package firewall

import (
	"context"
	"errors"
	"net/netip"
)

var errSoon = errors.New("not there yet")

func (k *Kernel) Others(context.Context, []uint16, []netip.Addr) (Others, error) {
	return Others{}, errSoon
}

func (f *Fake) Others(context.Context, []uint16, []netip.Addr) (Others, error) {
	return Others{}, errSoon
}
