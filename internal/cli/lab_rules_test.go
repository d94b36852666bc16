package cli

import (
	"net/netip"
	"testing"

	"sekisho/internal/country"
	"sekisho/internal/iso3166"
)

// The lab's scenes need networks of both countries in the data that the program
// brings along, whenever that is made anew.
func TestLabPlaces(t *testing.T) {
	data, err := country.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	world, err := labPlaces(data, true)
	if err != nil {
		t.Fatal(err)
	}
	for code, addrs := range map[iso3166.Code][]netip.Addr{
		labHome:   {host(world.home[0], 1, 7), host(world.home[0], 2, 255), host(world.home[1], 255, 7)},
		labAbroad: {host(world.abroad[0], 1, 7), host(world.abroad[1], 2, 9)},
	} {
		for _, a := range addrs {
			got, _, _, err := data.Lookup(a)
			if err != nil || got != code {
				t.Errorf("%s is in %s, want %s (%v)", a, got, code, err)
			}
		}
	}
	if world, err := labPlaces(data, false); err != nil || len(world.home) != 1 || len(world.abroad) != 1 {
		t.Errorf("without IPv6: %+v, %v", world, err)
	}
}
