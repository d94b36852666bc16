package ownaddr

import (
	"context"
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"sekisho/internal/lab"
)

// TestRoute asks the kernel for routes in networks of the test's own.
func TestRoute(t *testing.T) {
	if err := lab.Available(""); err != nil {
		t.Skipf("LEFT OUT: %v", err)
	}
	network, err := lab.NewNetwork()
	if err != nil {
		t.Fatal(err)
	}
	defer network.Close()
	nowhere, err := lab.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer nowhere.Close()
	// A device that just came up has its addresses in a moment.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, to := range []netip.Addr{lab.Gateway4, lab.Gateway6} {
		if to.Is6() && !network.IPv6 {
			continue
		}
		if conn, err := network.Host.Dial(ctx, netip.Addr{}, netip.AddrPortFrom(to, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("%s: got %v, %v where nobody listens", to, conn, err)
		}
	}
	for _, tt := range []struct {
		name   string
		in     *lab.Namespace
		toward netip.Addr
		want   netip.Addr // invalid: there is no route
	}{
		{"the next machine", network.World, lab.Host4, lab.Gateway4},
		{"the next machine, of IPv6", network.Host, lab.Gateway6, lab.Host6},
		{"by the default route", network.Host, netip.MustParseAddr("9.9.9.9"), lab.Host4},
		{"by the default route, of IPv6", network.Host, netip.MustParseAddr("2620:fe::fe"), lab.Host6},
		{"no network", nowhere, lab.Host4, netip.Addr{}},
		{"no network of IPv6", nowhere, lab.Host6, netip.Addr{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.toward.Is6() && !network.IPv6 {
				t.Skip("LEFT OUT: this kernel has no IPv6")
			}
			var got Answer
			err := tt.in.Do(func() (err error) {
				got, err = (&Finder{}).Find(t.Context(), FamilyOf(tt.toward), tt.toward)
				return err
			})
			if !tt.want.IsValid() {
				if !errors.Is(err, ErrNoRoute) {
					t.Errorf("got %+v, %v", got, err)
				}
				return
			}
			if err != nil || got.Addr != tt.want || len(got.By) != 1 || got.By[0] != OwnInterface {
				t.Errorf("got %+v, %v, want %s", got, err, tt.want)
			}
		})
	}
}
