package firewall

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"sekisho/internal/prefixset"
)

// ErrNotArmed is Confirm's error where no trial is armed any more.
var ErrNotArmed = errors.New("no rule set is on trial")

var errSoon = errors.New("not there yet")

func (k *Kernel) Stage(context.Context, Ruleset) error               { return errSoon }
func (k *Kernel) Arm(context.Context, time.Duration) error           { return errSoon }
func (k *Kernel) Confirm(context.Context) error                      { return errSoon }
func (k *Kernel) Abort(context.Context) error                        { return errSoon }
func (k *Kernel) Standing(context.Context) (Standing, error)         { return Standing{}, errSoon }
func (k *Kernel) Seen(context.Context, netip.AddrPort) (bool, error) { return false, errSoon }
func (k *Kernel) SetCountries(context.Context, prefixset.Set) error  { return errSoon }
func (k *Kernel) Grant(context.Context, []Grant) error               { return errSoon }
func (k *Kernel) Ungrant(context.Context, []netip.Prefix) error      { return errSoon }
func (k *Kernel) Grants(context.Context, func(Grant) error) error    { return errSoon }
func (k *Kernel) Others(context.Context, []uint16, []netip.Addr) (Others, error) {
	return Others{}, errSoon
}

func (f *Fake) Stage(context.Context, Ruleset) error               { return errSoon }
func (f *Fake) Arm(context.Context, time.Duration) error           { return errSoon }
func (f *Fake) Confirm(context.Context) error                      { return errSoon }
func (f *Fake) Abort(context.Context) error                        { return errSoon }
func (f *Fake) Standing(context.Context) (Standing, error)         { return Standing{}, errSoon }
func (f *Fake) Seen(context.Context, netip.AddrPort) (bool, error) { return false, errSoon }
func (f *Fake) SetCountries(context.Context, prefixset.Set) error  { return errSoon }
func (f *Fake) Grant(context.Context, []Grant) error               { return errSoon }
func (f *Fake) Ungrant(context.Context, []netip.Prefix) error      { return errSoon }
func (f *Fake) Grants(context.Context, func(Grant) error) error    { return errSoon }
func (f *Fake) Others(context.Context, []uint16, []netip.Addr) (Others, error) {
	return Others{}, errSoon
}
