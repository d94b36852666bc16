package firewall

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"sekisho/internal/prefixset"
)

var errSoon = errors.New("not there yet")

func (k *Kernel) Stage(context.Context, Ruleset) error               { return errSoon }
func (k *Kernel) Arm(context.Context, time.Duration) error           { return errSoon }
func (k *Kernel) Confirm(context.Context) error                      { return errSoon }
func (k *Kernel) Abort(context.Context) error                        { return errSoon }
func (k *Kernel) Standing(context.Context) (Standing, error)         { return Standing{}, errSoon }
func (k *Kernel) Seen(context.Context, netip.AddrPort) (bool, error) { return false, errSoon }
func (k *Kernel) SetCountries(context.Context, prefixset.Set) error  { return errSoon }
func (k *Kernel) Others(context.Context, []uint16, []netip.Addr) (Others, error) {
	return Others{}, errSoon
}

func (f *Fake) Others(context.Context, []uint16, []netip.Addr) (Others, error) {
	return Others{}, errSoon
}
