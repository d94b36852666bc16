package firewall

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"sekisho/internal/prefixset"
)

// ErrNotArmed is Confirm's error where no trial is armed any more, or it is
// another process's.
var ErrNotArmed = errors.New("no rule set is on trial")

// ErrNotStaged is Arm's error where no rule set is loaded.
var ErrNotStaged = errors.New("no rule set is loaded to be tried")

// checkState refuses what cannot be put in force.
func checkState(s State) error {
	if s.SSHOnly && len(s.Ports) == 0 {
		return errors.New("no port of SSH is given")
	}
	if s.Ruleset.Generation == 0 {
		return nil
	}
	return s.Ruleset.Rules.Validate()
}

// checkStage refuses what cannot be tried in the place of now.
func checkStage(now State, r Ruleset) error {
	if r.Generation <= now.Ruleset.Generation {
		return fmt.Errorf("its generation %d is not above %d, which is in force", r.Generation, now.Ruleset.Generation)
	}
	return r.Rules.Validate()
}

// checkArm refuses a time that the kernel would take for another.
func checkArm(within time.Duration) error {
	if within <= 0 || within > oldTimeout {
		return fmt.Errorf("%v is no time for a trial", within)
	}
	return nil
}

// seenFor is how long the kernel remembers who came through a trial.
const seenFor = 5 * time.Minute

// unmapped is p as the kernel's sets hold it.
func unmapped(p netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(p.Addr().Unmap().WithZone(""), p.Port())
}

// withCountries gives s, and staged if it is about the same countries, other
// addresses.
func withCountries(s State, staged *Ruleset, addrs prefixset.Set) (State, *Ruleset) {
	if s.Ruleset.Generation != 0 && !s.Ruleset.Rules.Countries.None() {
		s.Ruleset.Countries = addrs
	}
	if staged == nil || !sameCountries(s.Ruleset.Rules.Countries, staged.Rules.Countries) {
		return s, staged
	}
	r := *staged
	r.Countries = addrs
	return s, &r
}

func sameCountries(a, b Countries) bool {
	return !a.None() && slices.Equal(slices.Sorted(slices.Values(slices.Concat(a.Allow, a.Deny))), slices.Sorted(slices.Values(slices.Concat(b.Allow, b.Deny))))
}
