package firewall

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Bounds of what is taken. Each port of SSH, admin and open service is looked at
// for each packet that gets so far, or is a rule that a person reads.
const (
	mostPorts  = 16
	mostAdmins = 4096
	mostOpen   = 1024 // rules
	mostPer    = 10_000
)

// Canonical is r with its lists sorted, each entry once, and prefixes masked: two
// that mean the same are equal. It makes nothing valid that is not.
func (r Rules) Canonical() Rules {
	r.Ports = sorted(r.Ports, cmp.Compare[uint16])
	r.Admins = canonicalPrefixes(r.Admins)
	r.Countries.Allow = sorted(r.Countries.Allow, cmp.Compare[string])
	r.Countries.Deny = sorted(r.Countries.Deny, cmp.Compare[string])
	r.Open = slices.Clone(r.Open)
	for i, s := range r.Open {
		r.Open[i].From = canonicalPrefixes(s.From)
	}
	slices.SortStableFunc(r.Open, func(a, b Service) int {
		return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last), slices.CompareFunc(a.From, b.From, netip.Prefix.Compare))
	})
	r.Open = slices.CompactFunc(r.Open, func(a, b Service) bool {
		return a.Proto == b.Proto && a.First == b.First && a.Last == b.Last && slices.Equal(a.From, b.From)
	})
	return r
}

func canonicalPrefixes(prefixes []netip.Prefix) []netip.Prefix {
	masked := slices.Clone(prefixes)
	for i, p := range masked {
		masked[i] = p.Masked()
	}
	return sorted(masked, netip.Prefix.Compare)
}

// sorted is list in order, each entry once; nil where it is empty.
func sorted[T comparable](list []T, compare func(a, b T) int) []T {
	if len(list) == 0 {
		return nil
	}
	return slices.Compact(slices.SortedFunc(slices.Values(list), compare))
}

// Validate says all that is wrong with r, with hints; nil when it can be put in
// force.
func (r Rules) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if r.Mode != ModeGuard && r.Mode != ModeLockdown {
		wrong("mode %q: it is %q or %q", r.Mode, ModeGuard, ModeLockdown)
	}
	switch {
	case len(r.Ports) == 0:
		wrong("no port of SSH is given: whom should it let in, and where?")
	case len(r.Ports) > mostPorts:
		wrong("%d ports of SSH: at most %d", len(r.Ports), mostPorts)
	case slices.Contains(r.Ports, 0):
		wrong("port 0 of SSH: ports are 1 to 65535")
	}

	switch r.Exposure {
	case ExposureFixed:
		if len(r.Admins) == 0 {
			wrong("exposure %s without admins lets nobody in: name your own address in admins", r.Exposure)
		} else if r.NoIPv6 && !slices.ContainsFunc(r.Admins, func(p netip.Prefix) bool { return p.Addr().Is4() }) {
			wrong("exposure %s without IPv6, and all admins are IPv6: nobody is let in", r.Exposure)
		}
	case ExposureOnRequest, ExposurePublic:
	default:
		wrong("exposure %q: it is %q, %q or %q", r.Exposure, ExposureFixed, ExposureOnRequest, ExposurePublic)
	}
	if len(r.Admins) > mostAdmins {
		wrong("%d admins: at most %d prefixes", len(r.Admins), mostAdmins)
	}
	for _, p := range r.Admins {
		if err := checkForm(p); err != nil {
			wrong("admin %v: %w", p, err)
		} else if p.Bits() == 0 {
			wrong("admin %v: that is everyone: exposure %s lets everyone in, and bans them where they misbehave", p, ExposurePublic)
		}
	}

	if len(r.Countries.Allow) > 0 && len(r.Countries.Deny) > 0 {
		wrong("countries: some are let in, some kept out: name one kind, all others are of the other")
	}
	for _, code := range r.Countries.codes() {
		if len(code) != 2 || !isCapital(code[0]) || !isCapital(code[1]) {
			wrong("country %q: a code has two capitals, as JP", code)
		}
	}
	if rate := r.Rate; rate != (Rate{}) && (rate.PerMinute < 1 || rate.PerMinute > mostPer || rate.Burst < 1 || rate.Burst > mostPer) {
		wrong("rate of %d a minute with a burst of %d: both are 1 to %d; without a rate neither is set", rate.PerMinute, rate.Burst, mostPer)
	}

	if r.Mode == ModeGuard && len(r.Open) > 0 {
		wrong("open: mode %s leaves all ports but SSH's as they are: open none, or use mode %s", r.Mode, ModeLockdown)
	}
	if r.Mode == ModeGuard && r.Forward {
		wrong("forward: mode %s leaves what is forwarded as it is: leave it out, or use mode %s", r.Mode, ModeLockdown)
	}
	rules := 0
	for _, s := range r.Open {
		if err := r.checkOpen(s); err != nil {
			wrong("open %v: %w", s, err)
		}
		rules += max(1, len(s.From))
	}
	if rules > mostOpen {
		wrong("open: %d services and sources: at most %d", rules, mostOpen)
	}
	return errors.Join(errs...)
}

func isCapital(b byte) bool { return 'A' <= b && b <= 'Z' }

func (r Rules) checkOpen(s Service) error {
	switch {
	case s.Proto != "tcp" && s.Proto != "udp":
		return fmt.Errorf("protocol %q: it is tcp or udp", s.Proto)
	case s.First == 0:
		return errors.New("ports are 1 to 65535")
	case s.Last < s.First:
		return errors.New("a range begins with its lower port")
	case s.Proto == "tcp" && s.First == s.Last && slices.Contains(r.Ports, s.First):
		return errors.New("that is SSH's own port: exposure says who reaches it")
	}
	for _, p := range s.From {
		if err := checkForm(p); err != nil {
			return fmt.Errorf("from %v: %w", p, err)
		}
		if p.Bits() == 0 {
			return fmt.Errorf("from %v: without a source it is open to everyone", p)
		}
	}
	return nil
}
